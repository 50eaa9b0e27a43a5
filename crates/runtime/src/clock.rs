//! What time it is, and how much has passed.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// Wall time for what is stored, elapsed time for what is waited for.
///
/// Elapsed time is tokio's, so that a paused runtime moves it; wall time is its own, so that a
/// simulation can let it jump.
pub trait Clock: Send + Sync + 'static {
    /// Milliseconds since 1970-01-01 UTC. It may jump and go back.
    fn wall_ms(&self) -> i64;

    /// Time since this clock was made. It never goes back.
    fn elapsed(&self) -> Duration;

    /// [`Clock::elapsed`] in whole milliseconds.
    fn elapsed_ms(&self) -> u64 {
        self.elapsed().as_millis() as u64
    }
}

/// The operating system's clock.
#[derive(Debug)]
pub struct SystemClock {
    origin: Instant,
}

impl SystemClock {
    /// A clock whose elapsed time begins now.
    #[must_use]
    pub fn new() -> Self {
        Self { origin: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the door")]
    fn wall_ms(&self) -> i64 {
        // A clock set before 1970 reads as 0 instead of failing every append.
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64)
    }

    fn elapsed(&self) -> Duration {
        self.origin.elapsed()
    }
}
