//! What those do who can not use what they were given.

use super::*;

/// While it had the slot of one in its hands, another had that of the other.
#[test]
fn who_saw_a_slot_taken_looks_once_more_when_nobody_wants_it() {
    let waiters = queue(9, &[]);
    let mut first = wait(&waiters, standing(Priority::Critical, "", 0, 9), &[A, B]);
    let mut second = wait(&waiters, standing(Priority::Standard, "", 1, 9), &[A]);
    let hand = |backend, passed: &Passed| call_one(&waiters, backend, passed, at(1), |passed| passed);
    let pass = |turn: &mut WaitTurn<'_, Passed>, backend| {
        let mut passed = fetched(turn).unwrap();
        turn.pass(&mut passed, Some(backend), true, at(1));
        passed
    };
    hand(A, &Passed::default());
    let by_first = pass(&mut first, A);
    // It decided about that, and has nothing new to say.
    first.wish(vec![slot_of(A), slot_of(B)]);
    assert_eq!(hand(A, &by_first), Handed::Slot);
    hand(B, &Passed::default());
    pass(&mut first, B);
    first.wish(vec![slot_of(A)]);
    // Its last decision saw what the second had in its hands.
    let by_both = pass(&mut second, A);
    second.wish(vec![slot_of(A)]);
    assert_eq!(hand(A, &by_both), Handed::Slot);
    let by_both = pass(&mut first, A);
    first.wish(vec![slot_of(A)]);
    assert_eq!(hand(A, &by_both), Handed::Nobody);
}

#[test]
fn who_can_not_use_what_it_is_given_rests_for_a_moment() {
    let waiters = queue(9, &[]);
    let mut turn = wait(&waiters, standing(Priority::Standard, "", 0, u64::MAX), &[A]);
    let mut give = |now| {
        let handed = call_one(&waiters, A, &Passed::default(), at(now), |passed| passed) == Handed::Slot;
        if handed {
            let mut passed = fetched(&mut turn).unwrap();
            turn.pass(&mut passed, Some(A), true, at(now));
            turn.wish(vec![slot_of(A)]);
        }
        handed
    };
    // A slot each millisecond is none too often.
    assert!((0..100).all(|n| give(n * 1_000_000)));
    let now = 1_000_000_000;
    assert_eq!((0..100).filter(|n| give(now + n)).count(), 16);
    let until = now + 20_000_000;
    assert_eq!((turn.alarm(at(now + 100)), turn.decides()), (Some(at(until)), true));
    turn.wish(vec![slot_of(A)]);
    call_one(&waiters, A, &Passed::default(), at(until), |passed| passed);
    assert!(has_slot(&mut turn));
}
