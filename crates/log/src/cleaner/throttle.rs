//! How fast the log cleaner may read and write (`log.cleaner.io.max.bytes.per.second`).

use std::sync::Arc;
use std::time::Duration;

use ottla_runtime::Clock;
use parking_lot::Mutex;

/// Waits that are shorter gather until they are worth it.
const WORTH_A_WAIT: Duration = Duration::from_millis(20);

/// Paces all cleaner threads together.
pub(crate) struct Throttle {
    clock: Arc<dyn Clock>,
    bytes_per_second: f64,
    /// When all that was read and written so far is paid for, by the clock's elapsed time.
    paid_at: Mutex<Duration>,
}

impl Throttle {
    pub(crate) fn new(clock: Arc<dyn Clock>, bytes_per_second: f64) -> Self {
        Self { clock, bytes_per_second, paid_at: Mutex::default() }
    }

    /// Notes bytes that were read or written. Returns how long to wait before the next ones.
    pub(crate) fn note(&self, bytes: usize) -> Duration {
        let price = Duration::try_from_secs_f64(bytes as f64 / self.bytes_per_second);
        let now = self.clock.elapsed();
        let mut paid_at = self.paid_at.lock();
        // Time in which nothing was read is not saved up.
        *paid_at = now.max(*paid_at).saturating_add(price.unwrap_or(Duration::MAX));
        let wait = paid_at.saturating_sub(now);
        if wait < WORTH_A_WAIT { Duration::ZERO } else { wait }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ottla_fake::FakeClock;

    /// How long it takes to move a hundred times `bytes`, in milliseconds.
    fn took_ms(bytes_per_second: f64, bytes: usize, threads: usize) -> u64 {
        let clock = Arc::new(FakeClock::at(1_000));
        let throttle = Throttle::new(clock.clone(), bytes_per_second);
        for _ in 0..100 {
            let wait = (0..threads).map(|_| throttle.note(bytes)).max().unwrap();
            clock.advance(wait.as_millis() as i64);
        }
        clock.elapsed_ms()
    }

    #[test]
    fn the_rate_is_kept_by_all_together() {
        let close_to = |found: u64, expected: u64| found.abs_diff(expected) <= 20;
        assert!(close_to(took_ms(1000.0, 100, 1), 10_000));
        assert!(close_to(took_ms(1000.0, 100, 3), 30_000));
        // A little at a time is not let through.
        assert!(close_to(took_ms(1000.0, 1, 1), 100));
        assert_eq!(took_ms(f64::MAX, 1 << 30, 1), 0);
    }

    #[test]
    fn idle_time_is_not_saved_up() {
        let clock = Arc::new(FakeClock::at(0));
        let throttle = Throttle::new(clock.clone(), 1000.0);
        clock.advance(60_000);
        assert_eq!(throttle.note(500), Duration::from_millis(500));
    }
}
