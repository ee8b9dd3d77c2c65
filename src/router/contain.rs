//! [`Contained`]: the host's code, whose panics end here.

use crate::unwind::contain;

/// A future or a stream of the host's, whose panics, at a poll or in its drop, end here.
pub(super) struct Contained<T>(Option<T>);

impl<T> Contained<T> {
    pub(super) const fn new(value: T) -> Self {
        Self(Some(value))
    }

    /// What `work` makes of it; `otherwise` where that panics, or where it is gone.
    pub(super) fn with<R>(&mut self, work: impl FnOnce(&mut T) -> R, otherwise: impl FnOnce() -> R) -> R {
        let Some(value) = &mut self.0 else { return otherwise() };
        contain(|| work(value)).unwrap_or_else(otherwise)
    }

    /// Drops it now.
    pub(super) fn discard(&mut self) {
        let value = self.0.take();
        let _ = contain(|| drop(value));
    }
}

impl<T> Drop for Contained<T> {
    fn drop(&mut self) {
        self.discard();
    }
}
