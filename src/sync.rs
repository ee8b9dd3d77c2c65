//! The atomics and the lock of what is checked with loom, so that its models replace them and nothing else.
//!
//! Under `--cfg fallway_loom` the unit tests of this crate get loom's, whose every interleaving is tried; everything else
//! gets the real ones. `Arc` stays that of the standard library: who counts references is not what is in question.

#[cfg(all(test, fallway_loom))]
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
#[cfg(all(test, fallway_loom))]
pub(crate) use modelled::Mutex;
#[cfg(not(all(test, fallway_loom)))]
pub(crate) use parking_lot::Mutex;
#[cfg(not(all(test, fallway_loom)))]
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

#[cfg(all(test, fallway_loom))]
mod modelled {
    /// loom's lock in the shape of parking_lot's: it is not poisoned.
    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> loom::sync::MutexGuard<'_, T> {
            self.0.lock().expect("a model that panics has failed already")
        }
    }
}
