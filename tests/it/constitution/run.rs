//! Plays a random play and keeps what happened.

use super::play::{Ask, Play};
use crate::support::{Log, Reply, Scripted, Task, TestRouter, VirtualTimer, World, dropped_after, scripted_panic};
use fallway::backend::BackendId;
use fallway::budget::RetryBudget;
use fallway::event::{Event, Observer};
use fallway::router::{Interrupted, Streamed};
use fallway::signal::{HealthSignal, Reading, Score};
use fallway::time::{Instant, Timer};
use fallway::{Decision, RouteError, Routed};
use futures::StreamExt;

/// A play that is over.
pub(super) struct Run {
    pub(super) world: World,
    pub(super) router: TestRouter,
    pub(super) backends: Vec<Scripted>,
    pub(super) log: Log,
    pub(super) ends: Vec<End>,
}

/// How one request ended.
pub(super) struct End {
    pub(super) started: Instant,
    pub(super) ended: Instant,
    pub(super) result: Ended,
}

pub(super) enum Ended {
    /// Answered; kept without the answer itself, so that its lease is back.
    Answered {
        decision: Decision,
        degraded: bool,
        interrupted: Option<Interrupted>,
    },
    Refused(RouteError),
    /// The caller went away.
    Gone,
}

impl Run {
    pub(super) fn of(play: &Play) -> Self {
        let world = World::new();
        let log = Log::default();
        let budget = RetryBudget::new(f64::from(play.budget.0) / 100.0, play.budget.1).unwrap();
        let mut builder =
            world.router(play.policy()).seed(play.seed).observer(log.clone()).retry_budget(budget).queue(play.queue);
        if play.moody {
            builder = builder.observer(Moody).signal(Moody);
        }
        if let Some(act) = &play.last_resort {
            builder = builder.last_resort(world.backend("last", crate::support::always(act.clone())));
        }
        let mut backends = Vec::new();
        for (n, member) in play.members.iter().enumerate() {
            let profile = member.facts.profile(n);
            let backend = world.backend(profile.id(), Box::new(member.script()));
            builder = builder.backend(profile, backend.clone());
            backends.push(backend);
        }
        let router = builder.build().expect("the play is well-formed");
        let tasks: Vec<_> = (0..).zip(&play.asks).map(|(n, ask)| spawn(&world, &router, n, ask.clone())).collect();
        world.run();
        let ends = tasks.into_iter().map(Task::take).collect();
        Self { world, router, backends, log, ends }
    }

    /// The decisions that came with answers, or with errors.
    pub(super) fn final_decisions(&self, answered: bool) -> Vec<Decision> {
        let last = self.ends.iter().filter_map(|end| match &end.result {
            Ended::Answered { decision, .. } if answered => Some(decision.clone()),
            Ended::Refused(error) if !answered => Some(error.decision().clone()),
            _ => None,
        });
        last.collect()
    }
}

/// The request's text is its number, which tells the backends who asks.
fn spawn(world: &World, router: &TestRouter, number: usize, ask: Ask) -> Task<End> {
    let (router, timer) = (router.clone(), world.timer().clone());
    world.spawn(async move {
        timer.sleep(ask.at).await;
        let started = timer.now();
        let work = async {
            let request = number.to_string();
            if !ask.reads {
                return router.call(&request, ask.options()).await.map_or_else(Ended::Refused, |it| answered(&it));
            }
            match router.stream(&request, ask.options()).await {
                Ok(stream) => finish(stream).await,
                Err(error) => Ended::Refused(error),
            }
        };
        let result = match ask.patience {
            Some(polls) => dropped_after(polls, work).await.unwrap_or(Ended::Gone),
            None => work.await,
        };
        End { started, ended: now(&timer), result }
    })
}

fn answered(routed: &Routed<Reply>) -> Ended {
    Ended::Answered { decision: routed.decision().clone(), degraded: routed.is_degraded(), interrupted: None }
}

async fn finish(mut stream: Streamed<str, Reply>) -> Ended {
    let (decision, degraded) = (stream.decision().clone(), stream.is_degraded());
    let mut interrupted = None;
    while let Some(item) = stream.next().await {
        interrupted = item.err().or(interrupted);
    }
    // Of a last resort no attempt breaks: it is the host's own.
    Ended::Answered { decision, degraded, interrupted: interrupted.filter(|_| !degraded) }
}

fn now(timer: &VirtualTimer) -> Instant {
    timer.now()
}

/// An observer and a signal that panic now and then.
#[derive(Debug)]
struct Moody;

impl Observer for Moody {
    fn on_event(&self, _: &Event<'_>, now: Instant) {
        if (now.as_nanos() / 1_000_000).is_multiple_of(3) {
            scripted_panic();
        }
    }
}

impl HealthSignal for Moody {
    fn name(&self) -> &'static str {
        "moody"
    }

    fn read(&self, backend: BackendId, now: Instant) -> Reading<Score> {
        match (now.as_nanos() / 1_000_000 + backend.slot() as u64) % 5 {
            0 => scripted_panic(),
            1 => Reading::Missing,
            2 => Reading::Fresh { value: Score::DEAD, at: now },
            3 => Reading::Stale { value: Score::WELL, at: now },
            _ => Reading::Fresh { value: Score::WELL, at: now },
        }
    }

    fn observe(&self, _: &Event<'_>, now: Instant) {
        if (now.as_nanos() / 1_000_000).is_multiple_of(4) {
            scripted_panic();
        }
    }
}
