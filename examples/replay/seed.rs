//! Reproducible choices: the same seed gives the same faults at the same times to the same requests.

use fallway::rng::Rng;

/// An independent stream of numbers per purpose, so that one more draw for the faults does not change which requests
/// stream.
pub(crate) fn for_purpose(seed: u64, purpose: &str) -> Rng {
    purpose.bytes().fold(Rng::new(seed), |mut mixed, byte| Rng::new(mixed.next_u64() ^ u64::from(byte)))
}
