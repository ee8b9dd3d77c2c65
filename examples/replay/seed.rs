//! Reproducible choices: the same seed gives the same faults at the same times to the same requests.

/// `SplitMix64`: one multiplication chain per number, good enough for choosing victims and moving windows.
#[derive(Debug, Clone)]
pub(crate) struct Seed(u64);

impl Seed {
    /// An independent stream of numbers per purpose, so that one more draw for the faults does not change which requests
    /// stream.
    pub(crate) fn for_purpose(seed: u64, purpose: &str) -> Self {
        let mut mixed = Self(seed);
        for byte in purpose.bytes() {
            mixed = Self(mixed.next() ^ u64::from(byte));
        }
        mixed
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform in `0.0..1.0`.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Uniform in `0..bound`; the bias of the multiplication is far below what a replay could show.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }
}
