//! Moves logs to other directories, as AlterReplicaLogDirs asked for.
//!
//! Owns: how many move at a time and how fast. Must not know: how a log is moved.

use std::sync::Arc;
use std::time::Duration;

use ottla_log::{MoveStep, TopicPartition};
use ottla_runtime::{Spawner, Task, task, time};
use parking_lot::Mutex;
use tracing::error;

use crate::dispatch::Services;

/// How much is copied between two looks at the rate.
const STEP_BYTES: usize = 1 << 20;

/// How often an idle mover looks for work. A move takes far longer.
const IDLE: Duration = Duration::from_secs(1);

/// Starts the movers on the present runtime. They end when they are dropped; what they were copying
/// goes on with the next start.
pub(crate) fn start(services: &Arc<Services>) -> Vec<Task<()>> {
    let (config, storage) = (&services.config, &services.config.storage);
    let movers = match storage.num_replica_alter_log_dirs_threads {
        Some(threads) => threads.unsigned_abs() as usize,
        None => config.log_dirs.len(),
    };
    let rate = storage.replica_alter_log_dirs_io_max_bytes_per_second.unsigned_abs();
    let throttle = Arc::new(Throttle { rate, free_at: Mutex::new(time::now()) });
    let mover = |index| {
        let mover = Mover { services: services.clone(), index, movers, throttle: throttle.clone() };
        Spawner::current().spawn(mover.run())
    };
    (0..movers).map(mover).collect()
}

/// The bytes per second that all movers share.
struct Throttle {
    rate: u64,
    /// When more may be copied.
    free_at: Mutex<time::Instant>,
}

impl Throttle {
    fn spend(&self, bytes: u64) {
        // A rate beyond all disks has no debt to wait for.
        let debt = Duration::from_secs_f64(bytes as f64 / self.rate as f64);
        let mut free_at = self.free_at.lock();
        *free_at = (*free_at).max(time::now()) + debt;
    }

    async fn wait(&self) {
        let free_at = *self.free_at.lock();
        if free_at > time::now() {
            time::sleep_until(free_at).await;
        }
    }

    /// The bytes of one step: no more than a second's.
    fn step(&self) -> usize {
        usize::try_from(self.rate).unwrap_or(usize::MAX).min(STEP_BYTES)
    }
}

/// One of the movers. Each has its share of the partitions, so that none is copied by two.
struct Mover {
    services: Arc<Services>,
    index: usize,
    movers: usize,
    throttle: Arc<Throttle>,
}

impl Mover {
    async fn run(self) {
        loop {
            let moves = self.services.logs.moves();
            let own: Vec<_> = moves.into_iter().filter(|p| self.is_own(p)).collect();
            if own.is_empty() {
                time::sleep(IDLE).await;
            }
            for partition in own {
                self.throttle.wait().await;
                self.advance(partition).await;
            }
        }
    }

    fn is_own(&self, partition: &TopicPartition) -> bool {
        let sum = partition.topic.bytes().fold(partition.partition.0 as usize, |sum, byte| {
            sum.wrapping_mul(31).wrapping_add(usize::from(byte))
        });
        sum % self.movers == self.index
    }

    async fn advance(&self, partition: TopicPartition) {
        let (logs, bytes_max) = (self.services.logs.clone(), self.throttle.step());
        let name = partition.clone();
        let advance = move || logs.advance_move(&name, bytes_max);
        match task::blocking("log-mover", advance).await.and_then(|advanced| advanced) {
            Ok(MoveStep::Copied(bytes)) => self.throttle.spend(bytes),
            Ok(MoveStep::Done | MoveStep::Gone) => {}
            Err(error) => error!(%partition, %error, "could not move a log to another directory"),
        }
    }
}
