//! Planted bugs, to show that the tests would find real ones: each is on only under `--cfg fallway_bug="…"`.
//!
//! A campaign that never failed proves nothing. Every constant here is a line of the library broken on purpose;
//! `docs/simulator.md` says how soon the campaign finds each. Without the flag they are `false`, and cost nothing.

macro_rules! planted {
    ($($(#[$doc:meta])* $bug:ident = $name:tt;)*) => {$(
        $(#[$doc])*
        // What breaks a feature is used where that is.
        #[cfg_attr(not(feature = "registry"), allow(dead_code))]
        pub(crate) const $bug: bool = cfg!(fallway_bug = $name);
    )*};
}

planted! {
    /// A request may make one attempt more than it is allowed.
    ATTEMPTS_PLUS_ONE = "attempts_plus_one";
    /// A second canary of a request is given up early, and does not count either.
    CANARY_TWICE = "canary_twice";
    /// A backend may have one call more in flight than it can take.
    LIMIT_PLUS_ONE = "limit_plus_one";
    /// A request forgets when it has to end.
    NO_DEADLINE = "no_deadline";
    /// A caller who goes away takes its slot along.
    PERMIT_LEAKED_ON_CANCEL = "permit_leaked_on_cancel";
    /// A slot that was freed for a request which does not need it any more stays taken.
    SLOT_NOT_HANDED_BACK = "slot_not_handed_back";
    /// A caller who goes away takes its call of the shares along.
    SHARE_NOT_RETURNED = "share_not_returned";
    /// A freed slot is not handed to whoever waits for it.
    SLOT_NOT_HANDED_OVER = "slot_not_handed_over";
    /// Who has waited for a slot while its quota was used up decides again, and forgets what it lacks.
    CALLED_FOR_A_QUOTA = "called_for_a_quota";
    /// Who can not use what it is given is given the same again, without end.
    NO_REST = "no_rest";
    /// Where nobody in the first region may be used, nobody looks how full the next is.
    NEXT_REGION_OVERRUN = "next_region_overrun";
    /// A request is called, and nobody wakes it.
    LOST_WAKEUP = "lost_wakeup";
    /// The permit of a probe that ended without a verdict is not given back.
    PROBE_STUCK = "probe_stuck";
    /// What was sent before a backend went out brings it back.
    STALE_GENERATION_CLOSES = "stale_generation_closes";
    /// The books get back less prefill work than they were charged.
    CHARGE_NOT_REFUND = "charge_not_refund";
    /// What is promised to one that waits stays promised after all were called.
    PROMISE_KEPT = "promise_kept";
    /// A backend's word when to come back is not heard.
    HINT_IGNORED = "hint_ignored";
    /// An answer that broke after its first token is asked for again.
    RETRY_AFTER_FIRST_TOKEN = "retry_after_first_token";
    /// A stream that was cut looks as if it had ended.
    SILENT_END = "silent_end";
    /// A host is not told of the first item of a stream, and asks for it again when the stream breaks.
    HOOK_NOT_TOLD = "hook_not_told";
    /// Nobody pays for the attempt that goes on with a broken stream.
    RESUME_FREE = "resume_free";
    /// A request that may not be executed twice is repeated after a failure that leaves open whether it was.
    RETRY_UNSAFE = "retry_unsafe";
    /// Hedges are not counted.
    HEDGE_FREE = "hedge_free";
    /// A request is hedged although its answer has begun.
    HEDGE_AFTER_COMMIT = "hedge_after_commit";
    /// A request is hedged that may not be executed twice.
    HEDGE_UNSAFE = "hedge_unsafe";
    /// The slower of two attempts keeps its slot.
    LOSER_KEPT = "loser_kept";
    /// A retry goes where the request has just failed, and does not say why.
    RETRY_SAME_BACKEND = "retry_same_backend";
    /// A retry asks the registry again where its name leads.
    RESOLVED_AGAIN = "resolved_again";
    /// What callers did wrong speaks against a version.
    ROLLBACK_COUNTS_CALLERS = "rollback_counts_callers";
    /// The shared retry budget pays for everything.
    BUDGET_FREE = "budget_free";
    /// An attempt that was given up costs nothing.
    ABANDONED_NOT_BOOKED = "abandoned_not_booked";
    /// Whether there is money for it is asked for the first attempt of a request, and no other.
    SPEND_CHECKED_ONCE = "spend_checked_once";
    /// Who was too slow once is not looked after any more.
    LATE_FOR_GOOD = "late_for_good";
    /// Panic mode sends a request where it may not be served.
    RESIDENCY_IN_PANIC = "residency_in_panic";
    /// A failure domain that goes out takes along who stands elsewhere.
    DOMAIN_CROSSED = "domain_crossed";
    /// A comparison with its peers takes out a backend although enough of them are out.
    CAP_IGNORED = "cap_ignored";
    /// The slots that are kept for higher priorities go to whoever comes.
    RESERVE_GIVEN_AWAY = "reserve_given_away";
    /// A replay sees attempts that came after the decision.
    REPLAY_SEES_LATER = "replay_sees_later";
}
