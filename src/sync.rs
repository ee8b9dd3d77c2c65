//! The atomics and the lock of what is checked with loom, so that its models replace them and nothing else.
//!
//! Under `--cfg fallway_loom` the unit tests of this crate get loom's, whose every interleaving is tried; everything else
//! gets the real ones. `Arc` stays that of the standard library: who counts references is not what is in question.

#[cfg(all(test, fallway_loom))]
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
#[cfg(all(test, fallway_loom))]
pub(crate) use modelled::Mutex;
#[cfg(not(all(test, fallway_loom)))]
pub(crate) use patient::Mutex;
#[cfg(not(all(test, fallway_loom)))]
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

#[cfg(not(all(test, fallway_loom)))]
mod patient {
    use std::hint::spin_loop;

    /// parking_lot's lock, for what is held for a few instructions. Whoever finds it taken looks away for longer than that, and
    /// then again: each look takes the cache line from where the work is done, and whoever has it goes on with it meanwhile
    /// (T. E. Anderson, 1990). Who has looked often sleeps: the holder is not running.
    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(parking_lot::Mutex<T>);

    /// How often it looks, and for how many hints to the processor it looks away.
    const LOOKS: u32 = 4;
    const AWAY: u32 = 96;

    impl<T> Mutex<T> {
        pub(crate) const fn new(value: T) -> Self {
            Self(parking_lot::Mutex::new(value))
        }

        #[inline]
        pub(crate) fn lock(&self) -> parking_lot::MutexGuard<'_, T> {
            self.0.try_lock().unwrap_or_else(|| self.lock_taken())
        }

        #[cold]
        fn lock_taken(&self) -> parking_lot::MutexGuard<'_, T> {
            for _ in 0..LOOKS {
                (0..AWAY).for_each(|_| spin_loop());
                if let Some(guard) = self.0.try_lock() {
                    return guard;
                }
            }
            self.0.lock()
        }
    }
}

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
