//! The threads of the log cleaner: each compacts one log after the other, and waits when none needs it.

use std::sync::Arc;
use std::time::Duration;

use ottla_log::{CleanerSettings, LogCleaner};
use ottla_runtime::{Spawner, Task, task, time};
use tracing::error;

use crate::config::CleanerConfig;
use crate::dispatch::Services;

/// A thread that found nothing waits at least so long: a backoff of 0 would spin.
const BACKOFF_MIN: Duration = Duration::from_millis(100);

/// Starts the cleaner on the present runtime. It ends when the tasks are dropped.
pub(crate) fn start(services: &Services) -> Vec<Task<()>> {
    let config = &services.config.cleaner;
    if !config.log_cleaner_enable {
        return Vec::new();
    }
    let clock = services.world.clock.clone();
    let cleaner = Arc::new(LogCleaner::new(services.logs.clone(), clock, settings(config)));
    let backoff = Duration::from_millis(config.log_cleaner_backoff_ms.unsigned_abs());
    (0..config.log_cleaner_threads)
        .map(|_| Spawner::current().spawn(clean(cleaner.clone(), backoff.max(BACKOFF_MIN))))
        .collect()
}

fn settings(config: &CleanerConfig) -> CleanerSettings {
    CleanerSettings {
        threads: usize::try_from(config.log_cleaner_threads).unwrap_or(0),
        dedupe_buffer_bytes: u64::try_from(config.log_cleaner_dedupe_buffer_size).unwrap_or(0),
        io_buffer_bytes: usize::try_from(config.log_cleaner_io_buffer_size).unwrap_or(0),
        load_factor: config.log_cleaner_io_buffer_load_factor,
        io_max_bytes_per_second: config.log_cleaner_io_max_bytes_per_second,
    }
}

async fn clean(cleaner: Arc<LogCleaner>, backoff: Duration) {
    // A pass that is under way ends with the task that waits for it.
    let cleaner = StopOnDrop(cleaner);
    loop {
        let thread = cleaner.0.clone();
        match task::blocking("log-cleaner", move || thread.clean_filthiest(&task::pause)).await {
            Ok(true) => continue,
            Ok(false) => {}
            Err(error) => error!(%error, "could not start a thread of the log cleaner"),
        }
        time::sleep(backoff).await;
    }
}

struct StopOnDrop(Arc<LogCleaner>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.stop();
    }
}
