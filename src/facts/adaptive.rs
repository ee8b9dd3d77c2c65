//! [`Adaptive`]: how a limit of calls in flight is learned.

/// How a router learns the most calls that may be in flight to a backend, from how the backend takes them; set by
/// [`Profile::adaptive_concurrency`](super::Profile::adaptive_concurrency).
///
/// Nothing is limited until something was learned, so a backend that never refuses and never slows down is called as if
/// this were off. Each refusal (429, 503, 529, or a timeout where the peers do not time out) then sets the limit to nine
/// tenths of what the backend had in flight, or of the limit where that is less, and never below one: once for all calls
/// that were sent before, for they met the same queue. Where less than half of the limit was in flight, the refusal says
/// little of it, and only halves it. What only says that a request was wrong moves nothing, nor does the
/// refusal of a call that was alone there: fewer could not have been in flight.
///
/// ```
/// use fallway::Profile;
/// use fallway::facts::Adaptive;
/// let profile = Profile::new("gpu-7").concurrency(64).adaptive_concurrency(Adaptive::Aimd);
/// assert_eq!(profile.adaptive_limit(), Some(Adaptive::Aimd));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Adaptive {
    /// Additive increase, multiplicative decrease: while at least half of the limit is in flight, [`ANSWERS`](Self::ANSWERS)
    /// answers raise it by one; and up to the last limit that was met, each answer does. For backends that *refuse* what they can not take.
    Aimd,
    /// By the time to first token, never by the whole time, which grows with the length of the answers: while it is usual,
    /// a limit that is half used grows by its square root with each turn of its calls; while it is more than
    /// [`SLOWER`](Self::SLOWER) times what is usual, the limit shrinks in proportion, to half in a turn at most, and not below
    /// four. For backends that *queue* what they can not take. Refusals count as well. A queue that lasts becomes usual after some
    /// thousand answers, and is no longer seen: this is a brake, no bound.
    Gradient,
}

impl Adaptive {
    /// What a refusal leaves of the limit.
    pub const KEEPS: f64 = 0.9;
    /// How many answers it takes to raise the limit by one. Each rise may end in a refusal, so this bounds how many
    /// requests are refused for the sake of learning.
    pub const ANSWERS: u32 = 50;
    /// How many times the usual time to first token is too long.
    pub const SLOWER: f64 = 2.0;
}
