//! Every interleaving of two calls.

use super::*;
use std::sync::Arc;

/// Of two calls one is kept for `a`; two of its calls and one of another come and go at once.
#[test]
fn the_whole_is_never_exceeded_and_nothing_is_lost() {
    loom::model(|| {
        let bulkheads = Bulkheads::of(2, Share::at_most(2)).share("a", Share::at_least(1));
        let shares = Arc::new(Shares::new(Some(bulkheads), None, 7));
        let all = Arc::new(AtomicU32::new(0));
        let call = |tenant: &'static str| {
            let (shares, all) = (shares.clone(), all.clone());
            move || {
                let cells = shares.cells(&Facts::any().tenant(tenant));
                if let Some(stake) = shares.take(cells).stake {
                    assert!(all.fetch_add(1, Ordering::SeqCst) < 2);
                    all.fetch_sub(1, Ordering::SeqCst);
                    shares.give_back(stake);
                    return true;
                }
                false
            }
        };
        let threads = [call("a"), call("x")].map(loom::thread::spawn);
        let own = call("a")();
        let [other, _] = threads.map(|thread| thread.join().unwrap());
        assert!(own || other, "one call is kept for it");
        assert_eq!(shares.of_tenant("a"), Some(0));
        assert_eq!(shares.tenants.as_ref().unwrap().taken.0.load(Ordering::SeqCst), 0);
    });
}
