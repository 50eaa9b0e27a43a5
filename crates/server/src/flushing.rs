//! The threads that make appends durable, and the checkpoints that follow them.
//!
//! A thread per log directory waits for the disk, a round at a time; nothing else runs on it. The
//! recovery point is written down soon after, so that little has to be read when a crash comes.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use ottla_log::{LogManager, Volume};
use ottla_runtime::task::Worker;
use ottla_runtime::{Clock, task, time};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tracing::error;

/// A checkpoint follows the first flush after the last one in so much time …
const CHECKPOINT_AFTER: Duration = Duration::from_secs(1);

/// … or once so many bytes were flushed.
const CHECKPOINT_BYTES: u64 = 64 * 1024 * 1024;

/// How often the room of a log directory is looked at, at least and at most.
const SPACE_CHECK: Duration = Duration::from_secs(1);
const SPACE_CHECK_MIN: Duration = Duration::from_millis(50);

/// What was flushed since the last checkpoint.
#[derive(Default)]
struct Flushed {
    bytes: Mutex<u64>,
    some: Notify,
    many: Notify,
}

impl Flushed {
    fn add(&self, bytes: u64) {
        if bytes == 0 {
            return;
        }
        let mut sum = self.bytes.lock();
        let before = *sum;
        *sum += bytes;
        if before == 0 {
            self.some.notify_one();
        }
        if before < CHECKPOINT_BYTES && *sum >= CHECKPOINT_BYTES {
            self.many.notify_one();
        }
    }
}

/// Starts the flushers of all log directories, and what writes the checkpoints after them.
pub(crate) fn start(
    logs: &Arc<LogManager>,
    clock: &Arc<dyn Clock>,
    min_free: i64,
) -> io::Result<(Vec<Worker>, impl Future<Output = ()> + Send + use<>)> {
    let flushed = Arc::new(Flushed::default());
    let mut workers = Vec::new();
    for (index, volume) in logs.volumes().into_iter().enumerate() {
        let worker = Worker::start(&format!("ottla-flush-{index}"))?;
        volume.check_space(min_free);
        worker.spawner().detach(flush(volume, clock.clone(), flushed.clone(), min_free));
        workers.push(worker);
    }
    Ok((workers, checkpoint(logs.clone(), flushed)))
}

async fn flush(volume: Arc<Volume>, clock: Arc<dyn Clock>, flushed: Arc<Flushed>, min_free: i64) {
    let mut checked = time::now();
    loop {
        let left = |due_ms: u64| Duration::from_millis(due_ms.saturating_sub(clock.elapsed_ms()));
        let longest = volume.next_flush_ms().map_or(SPACE_CHECK, left).min(SPACE_CHECK);
        let _ = time::timeout(longest, poll_fn(|cx| volume.poll_queued(cx))).await;
        flushed.add(task::occupy(|| volume.flush(clock.elapsed_ms())).await.bytes);
        if checked.elapsed() >= SPACE_CHECK_MIN {
            volume.check_space(min_free);
            checked = time::now();
        }
    }
}

async fn checkpoint(logs: Arc<LogManager>, flushed: Arc<Flushed>) {
    loop {
        flushed.some.notified().await;
        let _ = time::timeout(CHECKPOINT_AFTER, flushed.many.notified()).await;
        *flushed.bytes.lock() = 0;
        let logs = logs.clone();
        let written = task::blocking("log-checkpoint", move || logs.checkpoint_flushed()).await;
        match written {
            Ok(Ok(())) => {}
            Ok(Err(error)) => error!(%error, "could not write checkpoints"),
            Err(error) => error!(%error, "could not start a thread for checkpoints"),
        }
    }
}
