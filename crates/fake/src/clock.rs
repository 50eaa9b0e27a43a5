//! A clock that stands still until it is moved, and one that runs and can jump.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use ottla_runtime::Clock;
use ottla_runtime::time::{self, Instant};

/// A clock that stands still until it is moved. Its elapsed time counts from its first wall time.
pub struct FakeClock {
    origin_ms: i64,
    wall_ms: AtomicI64,
}

impl FakeClock {
    /// A clock that shows `wall_ms` milliseconds since 1970-01-01 UTC.
    #[must_use]
    pub fn at(wall_ms: i64) -> Self {
        Self { origin_ms: wall_ms, wall_ms: AtomicI64::new(wall_ms) }
    }

    /// Moves the clock on by `ms` milliseconds.
    pub fn advance(&self, ms: i64) {
        self.wall_ms.fetch_add(ms, Ordering::Relaxed);
    }
}

impl Clock for FakeClock {
    fn wall_ms(&self) -> i64 {
        self.wall_ms.load(Ordering::Relaxed)
    }

    fn elapsed(&self) -> Duration {
        let ms = self.wall_ms().saturating_sub(self.origin_ms);
        Duration::from_millis(u64::try_from(ms).unwrap_or(0))
    }
}

/// A clock whose elapsed time is tokio's, so that a paused runtime moves it, and whose wall time can
/// jump.
pub struct RunningClock {
    origin: Instant,
    /// The wall time at the origin.
    wall_ms: AtomicI64,
}

impl RunningClock {
    /// A clock that shows `wall_ms` milliseconds since 1970-01-01 UTC at this moment.
    #[must_use]
    pub fn at(wall_ms: i64) -> Self {
        Self { origin: time::now(), wall_ms: AtomicI64::new(wall_ms) }
    }

    /// Sets the wall time forward by `ms` milliseconds, or back if that is negative.
    pub fn jump(&self, ms: i64) {
        self.wall_ms.fetch_add(ms, Ordering::Relaxed);
    }
}

impl Clock for RunningClock {
    fn wall_ms(&self) -> i64 {
        self.wall_ms.load(Ordering::Relaxed) + self.elapsed().as_millis() as i64
    }

    fn elapsed(&self) -> Duration {
        time::now() - self.origin
    }
}
