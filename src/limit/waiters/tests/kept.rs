//! What is kept at a backend for one that waits.

use super::*;
use crate::facts::Facts;
use crate::limit::{Bulkheads, Share, Spent};

/// Whether it has found out that it lacks a quota, or finds it out as it is its turn for the slot.
#[test]
fn what_refills_is_kept_for_the_first_that_has_the_time() {
    let profile = Profile::new("a").requests_per_minute(60).request_burst(1);
    for lack in [Lack::Quota, Lack::Slot] {
        let (waiters, gauge, quotas) = (queue::<()>(9, &[]), Gauge::default(), Quotas::default());
        quotas.tell(&profile);
        let _used = quotas.take(Need::default(), at(0)).unwrap();
        let deadlines = [500_000_000, 1_500_000_000, u64::MAX];
        let turns = deadlines.map(|deadline| {
            let mut turn = waiters.join(standing(Priority::Standard, "", 0, deadline)).unwrap();
            assert_eq!(turn.wish(vec![Want { backend: A, lack }]).0, Wished::New);
            turn
        });
        let (at_a, undivided) =
            (Freed { backend: A, gauge: &gauge, quotas: &quotas, asked: false }, Shares::new(None, None, 0));
        let call = |now| waiters.call_one(Some(at_a), (&undivided, true), &Passed::default(), at(now), |_| ());
        assert_eq!((call(1), gauge.is_promised()), (Handed::Promised, true), "{lack:?}");
        // Nobody decides for that; for whom it is too late looks by itself.
        let alarms = turns.each_ref().map(|turn| turn.alarm(at(1)));
        assert_eq!(alarms, [Some(at(1_000_000_001)), Some(at(1_000_000_000)), None], "{lack:?}");
        let [late, mut first, mut second] = turns;
        drop(late);
        assert_eq!(call(1_000_000_000), Handed::Slot, "{lack:?}");
        assert_eq!([has_slot(&mut first), has_slot(&mut second)], [true, false], "{lack:?}");
    }
}

/// They are looked at once, however many they are; what a call gives back is for those who have the time, and then for them.
#[test]
fn for_whom_a_quota_refills_too_late_stands_behind() {
    let profile = Profile::new("a").requests_per_minute(60).request_burst(1);
    let (waiters, gauge, quotas) = (queue(99, &[]), Gauge::default(), Quotas::default());
    quotas.tell(&profile);
    let used = quotas.take(Need::default(), at(0)).unwrap();
    let wait = |deadline| {
        let mut turn = waiters.join(standing(Priority::Standard, "", 0, deadline)).unwrap();
        assert_eq!(turn.wish(vec![Want { backend: A, lack: Lack::Quota }, slot_of(B)]).0, Wished::New);
        turn
    };
    let mut late: Vec<_> = (0..20).map(|nth| wait(500_000_000 + nth)).collect();
    let mut timely = wait(u64::MAX);
    let (at_a, undivided) =
        (Freed { backend: A, gauge: &gauge, quotas: &quotas, asked: false }, Shares::new(None, None, 0));
    let call =
        || waiters.call_one(Some(at_a), (&undivided, true), &Passed::default(), at(1), |given| given.held?.claim);
    assert_eq!((call(), timely.alarm(at(1))), (Handed::Promised, Some(at(1_000_000_000))));
    // They look by themselves as well.
    assert!(
        late.iter_mut().all(|turn| turn.alarm(at(1)) == Some(at(1_000_000_001)) && turn.decides() && !turn.decides())
    );
    quotas.settle(&used, Spent::Nothing);
    assert_eq!((call(), fetched(&mut late[0]).is_none()), (Handed::Slot, true));
    let used = fetched(&mut timely).flatten().unwrap();
    assert_eq!((call(), gauge.is_promised()), (Handed::Nobody, false));
    quotas.settle(&used, Spent::Nothing);
    assert_eq!((call(), fetched(&mut late[0]).flatten().is_some()), (Handed::Slot, true));
    // What they wait for elsewhere they are handed as before.
    call_one(&waiters, B, &Passed::default(), at(1), |_| None);
    assert!(has_slot(&mut late[1]));
}

/// It has no need of the quota; nothing was freed for it.
#[test]
fn who_asks_for_quotas_calls_nobody_who_waits_for_something_else() {
    for lack in [Lack::Slot, Lack::Room, Lack::Probe] {
        let (waiters, gauge, quotas) = (queue::<()>(9, &[]), Gauge::default(), Quotas::default());
        let mut first = waiters.join(standing(Priority::Critical, "", 0, 9)).unwrap();
        first.wish(vec![Want { backend: A, lack }]);
        let mut second = waiters.join(standing(Priority::Standard, "", 0, 9)).unwrap();
        second.wish(vec![Want { backend: A, lack: Lack::Quota }]);
        let undivided = Shares::new(None, None, 0);
        let call = |asked| {
            let at_a = Freed { backend: A, gauge: &gauge, quotas: &quotas, asked };
            waiters.call_one(Some(at_a), (&undivided, false), &Passed::default(), at(1), |_| ())
        };
        assert_eq!((call(true), called(&mut first).is_some()), (Handed::Gone, false), "{lack:?}");
        assert!(matches!(call(false), Handed::Slot | Handed::Probe) && has_slot(&mut first), "{lack:?}");
        assert_eq!((call(true), has_slot(&mut second)), (Handed::Slot, true), "{lack:?}");
    }
}

/// It lacks a slot, or what refills, or tokens there; and has another slot meanwhile.
#[test]
fn who_wants_no_more_what_was_kept_for_it_says_so() {
    let profile = Profile::new("a").requests_per_minute(60).request_burst(1).max_total_tokens(1_000);
    let asked_again = |lack, in_flight, has: BackendId, wants: &[BackendId]| {
        let (waiters, gauge, quotas) = (queue(9, &[]), Gauge::default(), Quotas::default());
        gauge.set_bounds(&profile);
        quotas.tell(&profile);
        let need = |tokens| Need { expected: tokens, least: tokens, ..Need::default() };
        let call = gauge.enter(u32::MAX, 1000, need(in_flight), at(0)).unwrap();
        let claim = (in_flight == 0).then(|| quotas.take(need(0), at(0)).unwrap());
        let standing = Standing { need: need(600), ..standing(Priority::Standard, "", 0, u64::MAX) };
        let mut turn = waiters.join(standing).unwrap();
        assert_eq!(turn.wish(vec![Want { backend: A, lack }, slot_of(B)]), (Wished::New, Vec::new()));
        let (at_a, undivided) =
            (Freed { backend: A, gauge: &gauge, quotas: &quotas, asked: false }, Shares::new(None, None, 0));
        let handed = waiters.call_one(Some(at_a), (&undivided, true), &Passed::default(), at(1), |_| ());
        assert_eq!((handed, gauge.is_promised()), (Handed::Promised, true), "{lack:?}");
        call_one(&waiters, has, &Passed::default(), at(1), |_| ());
        assert!(turn.called().is_some());
        let unwanted = turn.wish(wants.iter().copied().map(slot_of).collect()).1;
        gauge.leave(call);
        drop((turn, claim));
        unwanted
    };
    for (lack, in_flight) in [(Lack::Slot, 0), (Lack::Quota, 0), (Lack::Slot, 500)] {
        assert_eq!(asked_again(lack, in_flight, B, &[B]), [A], "{lack:?}");
        assert_eq!(asked_again(lack, in_flight, B, &[A, B]), [], "{lack:?}");
    }
    // What it had itself it passes on, with the names of all who had it.
    for (lack, in_flight) in [(Lack::Quota, 0), (Lack::Slot, 500)] {
        assert_eq!(asked_again(lack, in_flight, A, &[B]), [], "{lack:?}");
    }
}

/// One waits for a slot, of a tenant with a call left and a route with none: for a moment its tenant has none left.
#[test]
fn a_share_that_was_missing_for_a_moment_is_offered() {
    let whole = |most| Some(Bulkheads::of(10, Share::at_most(most)));
    let (waiters, gauge, quotas) = (queue::<()>(9, &[]), Gauge::default(), Quotas::default());
    let shares = Shares::new(whole(1), whole(1), 7);
    let cells = |tenant, route| shares.cells(&Facts::model(route).tenant(tenant));
    let _of_route = shares.take(cells("x", "full")).stake.unwrap();
    let wait = |cells, want| {
        let mut turn = waiters.join(Standing { cells, ..standing(Priority::Standard, "", 0, 9) }).unwrap();
        assert_eq!(turn.wish(vec![want]).0, Wished::New);
        turn
    };
    let mut disturbs = wait(cells("t", "full"), slot_of(A));
    let other = cells("t", "free");
    let mut misses = wait(other, Want::share(other, Kind::default()));
    let at_a = Freed { backend: A, gauge: &gauge, quotas: &quotas, asked: false };
    let handed = waiters.call_one(Some(at_a), (&shares, false), &Passed::default(), at(1), |_| ());
    assert_eq!((handed, has_slot(&mut disturbs), has_slot(&mut misses)), (Handed::Share, false, true));
}
