//! On real threads: nobody sleeps while what it waits for is there.

use fallway::backend::{BackendError, backend_fn};
use fallway::limit::{Bulkheads, Share};
use fallway::policy::{FailSafe, PolicyExt, least_loaded};
use fallway::{CallOptions, Facts, Profile, Router};
use futures::executor::block_on;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

static IN_FLIGHT: AtomicU32 = AtomicU32::new(0);

/// Answers after it has let others run.
async fn answer() -> Result<(), BackendError> {
    assert!(IN_FLIGHT.fetch_add(1, Ordering::SeqCst) < 5, "more than the whole");
    let mut polls = 0;
    std::future::poll_fn(|cx| {
        polls += 1;
        cx.waker().wake_by_ref();
        std::thread::yield_now();
        if polls < 3 { std::task::Poll::Pending } else { std::task::Poll::Ready(()) }
    })
    .await;
    IN_FLIGHT.fetch_sub(1, Ordering::SeqCst);
    Ok(())
}

#[test]
fn no_wake_up_is_lost() {
    let tenants =
        Bulkheads::of(5, Share::at_most(2)).share("a", Share::at_least(2).lends(1)).share("b", Share::at_least(1));
    let mut builder = Router::builder(least_loaded().fail_safe(FailSafe::default())).tenant_bulkheads(tenants);
    builder = builder.longest_wait(Duration::from_secs(20));
    for (id, model) in [("x1", "x"), ("x2", "x"), ("y", "y")] {
        let profile = Profile::new(id).model(model).concurrency(2);
        builder = builder.backend(profile, backend_fn(|_: &str, _: &_| answer()));
    }
    let router = builder.build().unwrap();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let router = &router;
            scope.spawn(move || {
                for n in 0..1_500 {
                    let (tenant, model) = (["a", "b", "c", "d"][(thread + n) % 4], ["x", "y"][(thread + n / 3) % 2]);
                    let options =
                        CallOptions::within(Duration::from_secs(30)).facts(Facts::model(model).tenant(tenant));
                    // Whom nobody wakes is refused after its longest wait.
                    block_on(router.call("", options)).unwrap();
                }
            });
        }
    });
    assert!(["a", "b", "c", "d"].into_iter().all(|tenant| router.tenant_in_flight(tenant) == Some(0)));
    assert_eq!((router.total_in_flight(), router.waiting()), (0, 0));
}
