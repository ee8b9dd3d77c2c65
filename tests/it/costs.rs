//! Money: the ledger of attempts, the cap of a request, spend limits, and how a decision shows them.

mod caps;
mod hedges;
mod ledger;
mod limits;
mod shown;

use crate::support::{Act, Script, TestRouter, World, always, plain};
use fallway::backend::Usage;
use fallway::event::{Event, Observer};
use fallway::facts::Price;
use fallway::policy::{FailSafe, PolicyExt, ordered};
use fallway::router::Builder;
use fallway::time::Instant;
use fallway::{CallOptions, Facts, Profile};
use std::sync::{Arc, Mutex};

/// A dollar for a million tokens of the prompt, two for those of the answer.
fn price() -> Price {
    Price::per_million(1.0, 2.0).unwrap()
}

/// A thousand tokens, and five hundred of the answer at most: two tenths of a cent at [`price`].
fn facts() -> Facts {
    plain().prompt_tokens(1_000).max_output_tokens(500)
}

const MOST: u64 = 2_000_000_000;

/// A backend that does this, after it told its usage.
fn tells(prompt: i64, output: i64, act: Act) -> Script {
    Box::new(move |cue| {
        cue.attempt.used(Usage::new(prompt, output));
        act.clone()
    })
}

fn priced(id: &str) -> Profile {
    Profile::new(id).price(price())
}

/// `a` with this script and `b` that answers, both at [`price`].
fn pair(
    world: &World,
    a: Script,
    configure: impl FnOnce(Builder<str, crate::support::Reply>) -> Builder<str, crate::support::Reply>,
) -> TestRouter {
    let members = [(priced("a"), a), (priced("b"), always(crate::support::ANSWER))];
    world.fleet(configure(world.router(ordered().fail_safe(FailSafe::default()))), members).0
}

fn asks(facts: Facts) -> CallOptions {
    crate::support::within(crate::support::secs(8)).facts(facts)
}

/// What the end of every attempt told: its request, its number, what it used and what it cost.
#[derive(Clone, Debug, Default)]
struct Ends(Arc<Mutex<Vec<End>>>);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct End {
    request: u64,
    attempt: u32,
    tokens: fallway::decision::Tokens,
    cost: fallway::decision::Cost,
}

impl Observer for Ends {
    fn on_event(&self, event: &Event<'_>, _: Instant) {
        if let Event::Ended { request, attempt, tokens, cost, .. } = *event {
            self.0.lock().unwrap().push(End { request, attempt, tokens, cost });
        }
    }
}

impl Ends {
    fn all(&self) -> Vec<End> {
        self.0.lock().unwrap().clone()
    }
}
