//! What backends can take, and who gets it.

mod learned;

use crate::support::{Act, Cue, Script, ms};
use fallway::FailureKind;
use std::time::Duration;

/// Takes so many calls at once, each for 100 ms, and refuses the others with 429 and a Retry-After.
fn takes(limit: u32) -> Script {
    Box::new(move |cue: &Cue<'_>| match cue.in_flight <= limit {
        true => Act::Answer(ms(100)),
        false => Act::Hint(FailureKind::RateLimited, Duration::from_micros(500), Duration::from_secs(1)),
    })
}
