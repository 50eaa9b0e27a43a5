//! Waiting for time to pass. Tokio's timers, so that a simulation can pause and move them.

use std::future::Future;
use std::time::Duration;

pub use tokio::time::Instant;
pub use tokio::time::error::Elapsed;

/// Waits for `duration`.
#[expect(clippy::disallowed_methods, reason = "this is the door")]
pub async fn sleep(duration: Duration) {
    tokio::time::sleep(duration).await;
}

/// Waits until `deadline`.
pub async fn sleep_until(deadline: Instant) {
    tokio::time::sleep_until(deadline).await;
}

/// Waits for `future`, but not longer than `duration`.
pub async fn timeout<F: Future>(duration: Duration, future: F) -> Result<F::Output, Elapsed> {
    tokio::time::timeout(duration, future).await
}

/// The present moment, to compute deadlines from.
#[must_use]
pub fn now() -> Instant {
    Instant::now()
}
