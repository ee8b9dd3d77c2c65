//! Who has a right to what is free.

use super::{ask, facts};
use crate::support::{Act, Script, TestRouter, World, always, ms, secs};
use fallway::facts::Priority;
use fallway::limit::{Bulkheads, Share};
use fallway::policy::{Capacity, FailSafe, PolicyExt, ordered};
use fallway::{Facts, Profile};

/// A backend of four slots, of which three are for those who are not critical. Two are busy for long, one for a second and one for five.
fn four_slots(world: &World, bounded: bool) -> TestRouter {
    let policy = ordered().capacity_aware(Capacity::default()).fail_safe(FailSafe::default());
    let a = Profile::new("a").concurrency(4);
    // Nobody comes near it.
    let a = if bounded { a.max_total_tokens(1_000_000) } else { a };
    // So that those who can be shed have something to wait for.
    let b = Profile::new("b").requests_per_minute(1).request_burst(1);
    let of_a: Script = Box::new(|cue| {
        Act::Answer(match cue.call {
            0 | 1 => secs(300),
            3 => secs(5),
            _ => secs(1),
        })
    });
    let builder = world.router(policy).longest_wait(secs(400));
    let (router, _) = world.fleet(builder, [(a, of_a), (b, always(Act::Answer(secs(400))))]);
    for _ in 0..5 {
        drop(ask(world, &router, facts("t", 10).priority(Priority::Critical), secs(450)));
    }
    assert_eq!((router.in_flight("a"), router.in_flight("b")), (Some(4), Some(1)));
    router
}

#[test]
fn who_matters_less_is_not_kept_a_slot_that_who_matters_more_needs() {
    for bounded in [false, true] {
        let world = World::new();
        let router = four_slots(&world, bounded);
        let call = |priority| ask(&world, &router, facts("t", 10).priority(priority), secs(250));
        let standard = call(Priority::Standard);
        // One that can be shed waits at every moment, and there are never two.
        let mut others = Vec::new();
        for _ in 0..400 {
            if router.waiting() < 1 + usize::from(!standard.is_done()) {
                others.push(call(Priority::Sheddable));
            }
            world.run_for(ms(100));
        }
        let before = others.iter().filter(|other| other.is_done()).count();
        assert!(standard.is_done(), "bounded: {bounded}; {before} that can be shed were answered before it");
    }
}

#[test]
fn equals_start_in_the_order_in_which_they_came() {
    for bounded in [false, true] {
        let world = World::new();
        let router = four_slots(&world, bounded);
        let start = world.now();
        let calls: Vec<_> = (0..12)
            .map(|_| {
                let task = ask(&world, &router, facts("t", 10), secs(250));
                world.run_for(ms(1));
                task
            })
            .collect();
        world.run();
        let ends: Vec<_> = calls.into_iter().map(|call| call.take().map(|end| end - start)).collect();
        assert!(ends.is_sorted(), "bounded: {bounded}; {ends:?}");
    }
}

/// Two of a tenant wait for its share, a large one that is first and a small one that fits.
#[test]
fn who_is_too_large_speaks_for_nobody_who_is_small() {
    for aware in [false, true] {
        let world = World::new();
        let bulkheads = Bulkheads::of(10, Share::at_most(2));
        let builder = if aware {
            world.router(ordered().capacity_aware(Capacity::default()).fail_safe(FailSafe::default()))
        } else {
            world.router(ordered().fail_safe(FailSafe::default()))
        };
        let builder = builder.longest_wait(secs(300)).tenant_bulkheads(bulkheads);
        let of_a: Script = Box::new(|cue| Act::Answer(if cue.call == 0 { secs(100) } else { secs(1) }));
        let (router, [_]) = world.fleet(builder, [(Profile::new("a").max_total_tokens(2_500), of_a)]);
        let start = world.now();
        let call = |tokens, priority, within| {
            let task = ask(&world, &router, facts("t", tokens).priority(priority), within);
            world.run_for(ms(1));
            task
        };
        let _long = call(1_500, Priority::Standard, secs(200));
        let _short = call(100, Priority::Standard, secs(200));
        let large = call(1_200, Priority::Standard, secs(150));
        let small = call(100, Priority::Standard, secs(200));
        world.run();
        let (large, small) =
            (large.take().expect("it is answered") - start, small.take().expect("it is answered") - start);
        assert!(small < secs(5), "aware: {aware}; large {large:?}, small {small:?}");
    }
}

/// Of one tenant, a standard request waits for a slot, and a batch request for a call of the tenant's share, of which the next is
/// guaranteed.
#[test]
fn a_guarantee_is_first_for_who_matters_more() {
    for share in [Share::at_most(2), Share::at_least(2).up_to(2)] {
        let world = World::new();
        let bulkheads = Bulkheads::of(2, Share::at_most(2)).share("t", share);
        let builder = world.router(ordered().fail_safe(FailSafe::default()));
        let builder = builder.longest_wait(secs(300)).tenant_bulkheads(bulkheads);
        let m = |id| Profile::new(id).model("m").concurrency(1);
        let n = Profile::new("n").model("n").concurrency(1);
        let backends = [(m("a"), always(Act::Answer(secs(1)))), (n, always(Act::Answer(secs(5))))];
        let (router, [_, _]) = world.fleet(builder, backends);
        let call = |model: &str, priority| {
            let facts = Facts::model(model).tenant("t").prompt_tokens(10).priority(priority);
            ask(&world, &router, facts, secs(200))
        };
        let _one = call("m", Priority::Standard);
        // There is a call of the share for it: it waits for the slot.
        let standard = call("m", Priority::Standard);
        // The other call of the share, for five seconds.
        let _two = call("n", Priority::Standard);
        // For the share.
        let batch = call("m", Priority::Batch);
        world.run();
        let (batch, standard) = (batch.take().expect("it is answered"), standard.take().expect("it is answered"));
        assert!(standard < batch, "{share:?}: standard {standard:?}, batch {batch:?}");
    }
}
