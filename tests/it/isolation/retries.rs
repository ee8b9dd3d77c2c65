//! The retry budget is shared, and nobody's retries are those of another.

use super::of;
use crate::support::{ANSWER, Act, World, ms};
use fallway::Profile;
use fallway::backend::FailureKind;
use fallway::budget::RetryBudget;
use fallway::policy::{FailSafe, PolicyExt, ordered};
use fallway::recover::Ejection;
use fallway::time::Timer;

/// Ten requests a second of "ill", whose every attempt fails, and as many of "well", of which one in ten fails once.
/// Returns the retries of each, and how many of "well" were answered.
fn play(budget: RetryBudget) -> ([usize; 2], usize) {
    let world = World::new();
    let policy = ordered().fail_safe(FailSafe::default().attempts(3));
    let script = || -> crate::support::Script {
        Box::new(|cue| {
            let well = cue.request.strip_prefix("well-").map(|n| n.parse::<u32>().unwrap());
            match well {
                Some(n) if n % 10 != 0 || cue.attempt.number() > 1 => ANSWER,
                _ => Act::Fail(FailureKind::ServerError, ms(1)),
            }
        })
    };
    let builder = world.router(policy).retry_budget(budget).ejection(Ejection::off());
    let members = ["a", "b", "c"].map(|id| (Profile::new(id), script()));
    let (router, _) = world.fleet(builder, members);
    let start = world.now();
    let tasks: Vec<_> = (0..12_000u32)
        .flat_map(|n| [("ill", n), ("well", n)])
        .map(|(tenant, n)| {
            let (router, timer) = (router.clone(), world.timer().clone());
            world.spawn(async move {
                timer.sleep_until(start + ms(5) * n).await;
                let answered = router.call(&*format!("{tenant}-{n}"), of(tenant)).await;
                let attempts = match &answered {
                    Ok(routed) => routed.attempts().len(),
                    Err(error) => error.attempts().len(),
                };
                (tenant, attempts - 1, answered.is_ok())
            })
        })
        .collect();
    world.run();
    let ended: Vec<_> = tasks.into_iter().map(crate::support::Task::take).collect();
    let retries = |name| ended.iter().filter(|(tenant, ..)| *tenant == name).map(|(_, retries, _)| retries).sum();
    let ok = ended.iter().filter(|(tenant, _, ok)| *tenant == "well" && *ok).count();
    ([retries("ill"), retries("well")], ok)
}

#[test]
fn one_tenants_failures_do_not_use_up_the_retries_of_another() {
    // A tenth of "well" needs a retry, and earned just that; "ill" gets its own tenth and no more.
    let ([ill, well], ok) = play(RetryBudget::new(0.11, 0).unwrap());
    assert!((1_300..=1_320).contains(&ill), "{ill} retries of 12,000 requests at 11 %");
    assert!(well >= 1_188 && ok >= 11_988, "{well} of 1,200 were retried, {ok} of 12,000 answered");
    // Of the reserve it leaves as much as it takes: of 800 in ten seconds, 200 of which are those of "well", about 300.
    let ([ill, well], ok) = play(RetryBudget::new(0.0, 80).unwrap());
    assert_eq!((well, ok), (1_200, 12_000), "beside {ill}");
    assert!((1_750..=2_000).contains(&ill), "{ill}");
}
