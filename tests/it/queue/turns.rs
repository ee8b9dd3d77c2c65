//! Who waits longest is next, and deciding so costs no more the more wait.

use super::fleet;
use crate::support::{ANSWER, Answer, Log, Task, TestRouter, Told, VirtualTimer, World, always, ms, secs, within};
use fallway::Profile;
use fallway::policy::{FailSafe, PolicyExt, ordered};
use fallway::time::{Instant, Timer};
use std::cell::RefCell;
use std::rc::Rc;

/// Who was answered, and when, in order.
type Answers = Rc<RefCell<Vec<(usize, Instant)>>>;

/// A caller who asks again as soon as it is answered, until there are so many answers in all.
async fn ask_again(router: TestRouter, timer: VirtualTimer, who: usize, answers: Answers, enough: usize) {
    while answers.borrow().len() < enough {
        drop(router.call("ask", within(secs(5))).await.unwrap());
        answers.borrow_mut().push((who, timer.now()));
    }
}

#[test]
fn callers_in_a_loop_share_one_slot_alike() {
    let world = World::new();
    let (router, [a]) = fleet(&world, [(Profile::new("a").concurrency(1), always(ANSWER))]);
    let (start, answers) = (world.now(), Answers::default());
    for who in 0..4 {
        world.spawn(ask_again(router.clone(), world.timer().clone(), who, answers.clone(), 200));
    }
    world.run();
    let answers = answers.take();
    let counts = [0, 1, 2, 3].map(|who| answers[..200].iter().filter(|(by, _)| *by == who).count());
    assert!(counts.iter().all(|count| count.abs_diff(50) <= 2), "{counts:?}");
    // The slot was never idle, and never taken twice.
    assert_eq!((answers[199].1 - start, a.backstage().peak()), (secs(4), 1));
}

#[test]
fn newcomers_do_not_overtake_who_waits() {
    let world = World::new();
    let (router, [a]) = fleet(&world, [(Profile::new("a").concurrency(8), always(ANSWER))]);
    let busy = Answers::default();
    for who in 0..8 {
        world.spawn(ask_again(router.clone(), world.timer().clone(), who, busy.clone(), 1200));
    }
    world.settle();
    assert_eq!(router.in_flight("a"), Some(8));
    let waiting: Vec<_> = (0..100).map(|_| world.ask(&router, within(secs(3)))).collect();
    world.run();
    // Eight in each 20 ms, in the order of arrival, however often the eight callers come back meanwhile.
    for (n, answer) in (1..).zip(waiting.into_iter().map(Task::take)) {
        let rounds: u32 = n / 8 + u32::from(n % 8 > 0);
        assert_eq!((answer.ok(), answer.took), (true, ms(20) + ms(20) * rounds), "waiter {n}");
    }
    assert_eq!(a.backstage().peak(), 8);
}

#[test]
fn deciding_costs_the_same_however_many_wait() {
    for (backends, slots) in [(1, 1), (1, 8), (5, 2)] {
        let (world, log) = (World::new(), Log::default());
        let mut builder = world.router(ordered().fail_safe(FailSafe::default())).observer(log.clone());
        for n in 0..backends {
            let id = n.to_string();
            builder = builder.backend(Profile::new(&id).concurrency(slots), world.backend(&id, always(ANSWER)));
        }
        let router = builder.build().unwrap();
        let calls: Vec<_> = (0..500).map(|_| world.ask(&router, within(secs(60)))).collect();
        world.run();
        let answered = calls.into_iter().map(Task::take).filter(Answer::ok).count();
        assert_eq!(answered, 500);
        let decisions = log.count(|told| matches!(told, Told::Decided(_))) as f64 / 500.0;
        assert!(decisions <= 3.5, "{backends} backends of {slots}: {decisions} decisions for each call");
    }
}
