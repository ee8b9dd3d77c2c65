//! Tokens in flight, against the bounds that routers are told of.

use super::books::Books;
use crate::facts::Need;

/// Tokens that a server takes at once: of prompts without their first token, and of all calls; none where it does not say.
pub(in super::super) type Bounds = (Option<u64>, Option<u64>);

/// What a call takes of the bounds of its server: its prompt, and all of it where its answer is guessed to be longer.
pub(super) fn taken(need: Need, (_, total): Bounds) -> (u64, u64) {
    (need.prefill, total.map_or(0, |bound| need.expected.min(bound)))
}

impl Books {
    /// A call of `own` tokens was sent: those in flight stay within the bounds, and within the `ceiling`, in thousandths, unless
    /// it is there alone.
    pub(super) fn hold_tokens(&mut self, router: usize, server: usize, own: (u64, u64), ceiling: u32) {
        let seat = &self.desks[router].seats[server];
        let (prefill, total) = self.rules.tokens[server];
        for (what, bound, taken, own) in
            [("of prompts", prefill, seat.waiting_tokens, own.0), ("in all", total, seat.total_tokens, own.1)]
        {
            let Some(bound) = bound.filter(|_| own > 0) else { continue };
            let most = if taken == own { bound } else { (u128::from(bound) * u128::from(ceiling) / 1000) as u64 };
            if taken > most {
                self.find("I2", || format!("router {router} has {taken} tokens {what} at server {server}, of {most}"));
            }
        }
    }
}
