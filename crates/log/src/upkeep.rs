//! Who may replace or remove segments behind the active one: one at a time.
//!
//! A pass of the log cleaner may take hours and gives way at its next step. All others are short.

use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::{Mutex, MutexGuard};

/// The right to replace or remove the segments of one log.
#[derive(Default)]
pub(crate) struct Upkeep {
    lock: Mutex<()>,
    /// How many wait for the lock.
    waiting: AtomicUsize,
}

impl Upkeep {
    /// Takes the right, once a pass of the cleaner has given way.
    pub(crate) fn interrupt(&self) -> MutexGuard<'_, ()> {
        self.waiting.fetch_add(1, Ordering::Release);
        let guard = self.lock.lock();
        self.waiting.fetch_sub(1, Ordering::Release);
        guard
    }

    /// Takes the right, unless another has it.
    pub(crate) fn try_begin(&self) -> Option<MutexGuard<'_, ()>> {
        self.lock.try_lock()
    }

    /// Whether who has the right should give way.
    pub(crate) fn is_wanted(&self) -> bool {
        self.waiting.load(Ordering::Acquire) > 0
    }
}
