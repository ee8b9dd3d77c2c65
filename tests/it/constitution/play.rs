//! A random play: a fleet, a policy stack, requests, and faults of every kind.

use crate::support::{Act, Cue, LEAVES, Step, leaf, ms, secs};
use fallway::backend::FailureKind;
use fallway::facts::{Capabilities, Price};
use fallway::policy::{FailSafe, PlanContext, PolicyExt, RoutingPolicy, Slate, Window};
use fallway::{CallOptions, Facts, Profile};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::sample::select;
use std::fmt;
use std::time::Duration;

/// Everything that one random run is made of.
#[derive(Clone)]
pub(super) struct Play {
    pub(super) leaf: &'static str,
    pub(super) boxed: bool,
    pub(super) safety: Option<Safety>,
    pub(super) members: Vec<Member>,
    pub(super) asks: Vec<Ask>,
    pub(super) last_resort: Option<Act>,
    /// Retry budget: ratio in percent, and reserve.
    pub(super) budget: (u32, u32),
    pub(super) queue: usize,
    /// Policy, signal and observer panic now and then.
    pub(super) moody: bool,
    pub(super) seed: u64,
}

/// Options of `fail_safe`.
#[derive(Clone, Debug)]
pub(super) struct Safety {
    pub(super) attempts: u32,
    pub(super) panic_threshold: f64,
    pub(super) attempt_limit: Option<Duration>,
}

#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) facts: Static,
    pub(super) acts: Vec<Act>,
}

/// What the checks need to know of a profile.
#[derive(Clone, Debug)]
pub(super) struct Static {
    pub(super) region: Option<&'static str>,
    pub(super) model: &'static str,
    pub(super) tenant: Option<&'static str>,
    pub(super) drained: bool,
    pub(super) tools: Option<bool>,
    pub(super) window: Option<u64>,
    pub(super) price: Option<Price>,
    pub(super) concurrency: Option<u32>,
}

#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) at: Duration,
    pub(super) model: Option<&'static str>,
    pub(super) residency: Option<&'static str>,
    pub(super) tenant: Option<&'static str>,
    pub(super) tools: bool,
    pub(super) prompt: u64,
    pub(super) output: Option<u64>,
    pub(super) cap: Option<u64>,
    pub(super) session: Option<&'static str>,
    pub(super) replay_safe: bool,
    pub(super) deadline: Option<Duration>,
    /// The caller goes away after so many polls.
    pub(super) patience: Option<usize>,
    /// The caller reads the answer as a stream.
    pub(super) reads: bool,
}

impl Play {
    pub(super) fn any() -> impl Strategy<Value = Self> {
        (
            (select(&LEAVES[..]), any::<bool>(), option::weighted(0.8, Safety::any())),
            vec(Member::any(act()), 1..6),
            vec(Ask::any(), 1..16),
            (option::weighted(0.3, act()), (0..100u32, 0..3u32), select(vec![0, 1, 1024])),
            (any::<bool>(), any::<u64>()),
        )
            .prop_map(|((leaf, boxed, safety), members, asks, (last_resort, budget, queue), (moody, seed))| {
                Self { leaf, boxed, safety, members, asks, last_resort, budget, queue, moody, seed }
            })
    }

    /// A play whose backends do only this.
    pub(super) fn of(acts: impl Strategy<Value = Act> + Clone + 'static) -> impl Strategy<Value = Self> {
        (Self::any(), vec(vec(acts, 1..5), 6)).prop_map(|(mut play, acts)| {
            for (member, acts) in play.members.iter_mut().zip(acts) {
                member.acts = acts;
            }
            play
        })
    }

    /// The policy stack.
    pub(super) fn policy(&self) -> Box<dyn RoutingPolicy> {
        let leaf = leaf(self.leaf);
        let leaf = if self.moody { Moody(leaf).boxed() } else { leaf };
        let leaf = if self.boxed { leaf.boxed().boxed() } else { leaf };
        let Some(safety) = &self.safety else { return leaf };
        let mut config = FailSafe::default().attempts(safety.attempts).panic_threshold(safety.panic_threshold);
        if let Some(limit) = safety.attempt_limit {
            config = config.attempt_limit(limit);
        }
        let served = ["m", "n"].into_iter().filter(|model| self.members.iter().any(|it| it.facts.model == *model));
        config = config.tiers("alias", served.clone()).on_context_too_long("alias", served.clone());
        leaf.fail_safe(config.on_content_rejected("alias", served)).boxed()
    }

    /// The attempts that one request may make.
    pub(super) fn attempts(&self) -> usize {
        self.safety.as_ref().map_or(1, |safety| safety.attempts as usize)
    }
}

impl fmt::Debug for Play {
    /// A line for each actor, short enough to read a shrunk case.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { leaf, boxed, safety, members, asks, last_resort, budget, queue, moody, seed } = self;
        write!(f, "{leaf}, boxed {boxed}, moody {moody}, queue {queue}, budget {budget:?}, seed {seed}, {safety:?}")?;
        members.iter().try_for_each(|member| write!(f, "\n  {:?} {:?}", member.facts, member.acts))?;
        asks.iter().try_for_each(|ask| write!(f, "\n  {ask:?}"))?;
        write!(f, "\n  last resort {last_resort:?}")
    }
}

impl Safety {
    fn any() -> impl Strategy<Value = Self> {
        (1..5u32, select(vec![0.0, 0.5, 1.0]), option::of((1..500u64).prop_map(ms)))
            .prop_map(|(attempts, panic_threshold, attempt_limit)| Self { attempts, panic_threshold, attempt_limit })
    }
}

impl Member {
    pub(super) fn any(act: impl Strategy<Value = Act>) -> impl Strategy<Value = Self> {
        (Static::any(), vec(act, 1..5)).prop_map(|(facts, acts)| Self { facts, acts })
    }

    /// One act after the other, over and over.
    pub(super) fn script(&self) -> impl Fn(&Cue<'_>) -> Act + Send + Sync + 'static {
        let acts = self.acts.clone();
        move |cue| acts[cue.call as usize % acts.len()].clone()
    }
}

impl Static {
    fn any() -> impl Strategy<Value = Self> {
        let price = option::of(select(vec![0.1, 10.0]).prop_map(|usd| Price::per_million(usd, usd).unwrap()));
        (
            (select(vec![None, Some("eu"), Some("us")]), select(vec!["m", "n"]), option::weighted(0.2, Just("t"))),
            (proptest::bool::weighted(0.1), option::weighted(0.3, any::<bool>())),
            (option::weighted(0.2, Just(100)), price, option::weighted(0.5, 1..4u32)),
        )
            .prop_map(|((region, model, tenant), (drained, tools), (window, price, concurrency))| Self {
                region,
                model,
                tenant,
                drained,
                tools,
                window,
                price,
                concurrency,
            })
    }

    /// The profile of member `n`.
    pub(super) fn profile(&self, n: usize) -> Profile {
        let mut profile = Profile::new(n.to_string()).model(format!("{}@1", self.model)).drained(self.drained);
        profile = profile.weight(1.0 + n as f64);
        if let Some(region) = self.region {
            profile = profile.region(region);
        }
        if let Some(tenant) = self.tenant {
            profile = profile.only_tenants([tenant]);
        }
        if let Some(tools) = self.tools {
            profile = profile.capabilities(if tools { Capabilities::TOOLS } else { Capabilities::NONE });
        }
        if let Some(window) = self.window {
            profile = profile.context_window(window);
        }
        if let Some(price) = self.price.clone() {
            profile = profile.price(price);
        }
        if let Some(concurrency) = self.concurrency {
            profile = profile.concurrency(concurrency);
        }
        profile
    }

    /// The hard line that serving this request would cross.
    pub(super) fn crossed(&self, ask: &Ask) -> Option<&'static str> {
        let facts = ask.facts();
        let context = facts.input_tokens().saturating_add(ask.output.unwrap_or(0));
        let cost = |price: &Price| price.of(facts.input_tokens(), facts.expected_output_tokens());
        let lines = [
            ("drained", self.drained),
            ("residency", ask.residency.is_some() && ask.residency != self.region),
            ("tenant", self.tenant.is_some() && self.tenant != ask.tenant),
            ("capabilities", ask.tools && self.tools == Some(false)),
            ("context", self.window.is_some_and(|window| context > window)),
            ("price cap", ask.cap.is_some_and(|cap| self.price.as_ref().is_none_or(|price| cost(price) > cap))),
            ("model", !matches!(ask.model, None | Some("alias")) && ask.model != Some(self.model)),
        ];
        lines.into_iter().find_map(|(line, crossed)| crossed.then_some(line))
    }
}

impl Ask {
    fn any() -> impl Strategy<Value = Self> {
        let deadline = prop_oneof![
            1 => Just(None),
            1 => Just(Some(Duration::ZERO)),
            8 => (1..5000u64).prop_map(|millis| Some(ms(millis))),
        ];
        (
            (0..4000u64, select(vec![None, None, Some("m"), Some("alias"), Some("nowhere")])),
            (option::weighted(0.2, select(vec!["eu", "us", "mars"])), option::weighted(0.3, select(vec!["t", "u"]))),
            (proptest::bool::weighted(0.1), select(vec![0, 20, 20, 500, u64::MAX]), option::weighted(0.2, 1..200u64)),
            (option::weighted(0.1, select(vec![0, 50_000_000, u64::MAX])), option::of(select(vec!["s", "z"]))),
            (proptest::bool::weighted(0.7), deadline, option::weighted(0.2, 0..6usize), any::<bool>()),
        )
            .prop_map(|((at, model), (residency, tenant), (tools, prompt, output), (cap, session), rest)| {
                let (replay_safe, deadline, patience, reads) = rest;
                let at = ms(at);
                Self {
                    at,
                    model,
                    residency,
                    tenant,
                    tools,
                    prompt,
                    output,
                    cap,
                    session,
                    replay_safe,
                    deadline,
                    patience,
                    reads,
                }
            })
    }

    pub(super) fn facts(&self) -> Facts {
        let mut facts = self.model.map_or_else(Facts::any, Facts::model).prompt_tokens(self.prompt);
        if let Some(region) = self.residency {
            facts = facts.residency([region]);
        }
        if let Some(tenant) = self.tenant {
            facts = facts.tenant(tenant);
        }
        if self.tools {
            facts = facts.needs(Capabilities::TOOLS);
        }
        if let Some(output) = self.output {
            facts = facts.output_tokens(output);
        }
        if let Some(cap) = self.cap {
            facts = facts.max_cost(cap);
        }
        if let Some(session) = self.session {
            facts = facts.session(session);
        }
        if self.replay_safe { facts.replay_safe() } else { facts }
    }

    pub(super) fn options(&self) -> CallOptions {
        let options = CallOptions::new(self.facts()).idle_limit(ms(700));
        match self.deadline {
            Some(deadline) => options.deadline(deadline),
            None => options,
        }
    }

    /// What the request has; the router's default where it says nothing.
    pub(super) fn time(&self) -> Duration {
        self.deadline.unwrap_or(secs(60))
    }
}

/// Any act of a backend.
pub(super) fn act() -> impl Strategy<Value = Act> + Clone {
    let after = || (0..300u64).prop_map(ms);
    let kind = || select(&FailureKind::ALL[..]);
    let step = prop_oneof![
        4 => Just(Step::Item),
        3 => (0..400u64).prop_map(|millis| Step::Pause(ms(millis))),
        1 => kind().prop_map(Step::Break),
        1 => Just(Step::Hang),
        1 => Just(Step::Panic),
    ];
    prop_oneof![
        6 => after().prop_map(Act::Answer),
        3 => (after(), vec(step, 0..8)).prop_map(|(after, steps)| Act::Stream(after, steps)),
        5 => (kind(), after()).prop_map(|(kind, after)| Act::Fail(kind, after)),
        2 => (kind(), after(), 1..4u64).prop_map(|(kind, after, hint)| Act::Hint(kind, after, secs(hint))),
        1 => Just(Act::Hang),
        1 => after().prop_map(Act::Panic),
        1 => Just(Act::PanicInCall),
        1 => Just(Act::PanicInDrop),
    ]
}

/// A policy that panics for one decision in eight, always for the same.
#[derive(Debug)]
struct Moody<P>(P);

impl<P: RoutingPolicy> RoutingPolicy for Moody<P> {
    fn name(&self) -> &'static str {
        "moody"
    }

    fn plan(&self, cx: &PlanContext<'_>, slate: &mut Slate<'_>) {
        self.0.plan(cx, slate);
        if cx.rng(0).below(8) == 0 {
            crate::support::scripted_panic();
        }
    }

    fn inner(&self) -> Option<&dyn RoutingPolicy> {
        Some(&self.0)
    }

    fn window(&self) -> Window {
        self.0.window()
    }
}
