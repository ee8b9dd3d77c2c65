//! Sleeps on the timer wheel of tokio (feature `tokio`).

use crate::time::{Clock, Instant, Sleep, Timer};

/// A [`Timer`] for hosts that run on tokio: cheaper sleeps than the portable default's. Use it inside a runtime
/// whose time driver is enabled.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use fallway::{Profile, Router, backend::{BackendError, backend_fn}, policy::ordered};
/// use fallway::adapt::tokio::TokioTimer;
/// # let echo = backend_fn(|request: &str, _: &_| { let answer = request.to_owned(); async { Ok::<_, BackendError>(answer) } });
/// let router = Router::builder(ordered()).backend(Profile::new("a"), echo).timer(TokioTimer::default()).build()?;
/// # assert_eq!(router.call("hi", Default::default()).await?.into_inner(), "hi");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct TokioTimer {
    clock: Clock,
}

impl Timer for TokioTimer {
    fn now(&self) -> Instant {
        self.clock.now()
    }

    fn sleep_until(&self, at: Instant) -> Sleep {
        Box::pin(::tokio::time::sleep(at - self.clock.now()))
    }
}
