//! The coordinator of groups: the partitions of `__consumer_offsets` that this broker leads.

mod admin;
mod fetch;
mod machine;
mod members;
mod reply;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ottla_group::{GroupConfig, GroupMachine, Request, Response};
use ottla_protocol::ErrorCode;
use ottla_runtime::{Clock, Random};
use parking_lot::RwLock;

pub use reply::{Later, Reply};

use crate::log::StateLog;
use crate::runner::{Answer, LoadError, Runner, RunnerConfig, Unavailable, Wake};

/// How groups are coordinated.
#[derive(Clone, Debug)]
pub struct GroupsConfig {
    /// The rules of groups.
    pub group: GroupConfig,
    /// How the logs are treated.
    pub runner: RunnerConfig,
    /// How many partitions `__consumer_offsets` has, or will be created with
    /// (`offsets.topic.num.partitions`); at least 1, and never changed.
    pub partitions: i32,
}

/// The coordinator of the groups whose partition of `__consumer_offsets` this broker leads.
pub struct Groups {
    config: Arc<GroupConfig>,
    runner_config: RunnerConfig,
    partition_count: i32,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    wake: Arc<Wake>,
    is_active: AtomicBool,
    runners: RwLock<BTreeMap<i32, Arc<Runner<GroupMachine>>>>,
}

impl Groups {
    /// A coordinator that leads no partition yet.
    ///
    /// # Panics
    /// `partitions` is below 1.
    pub fn new(config: GroupsConfig, clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Self {
        assert!(config.partitions >= 1, "__consumer_offsets has a partition at least");
        Self {
            config: Arc::new(config.group),
            runner_config: config.runner,
            partition_count: config.partitions,
            clock,
            random,
            wake: Arc::new(Wake::default()),
            is_active: AtomicBool::new(true),
            runners: RwLock::new(BTreeMap::new()),
        }
    }

    /// The partition of `__consumer_offsets` whose leader coordinates the group.
    pub fn partition_of(&self, group_id: &str) -> i32 {
        partition_for(group_id, self.partition_count)
    }

    /// This broker leads the partition from now on. Its groups are answered
    /// COORDINATOR_LOAD_IN_PROGRESS until [`Groups::load`].
    pub fn elect(&self, partition: i32, log: Arc<dyn StateLog>) {
        let config = Arc::clone(&self.config);
        let runner = Runner::new(
            format!("__consumer_offsets-{partition}"),
            self.runner_config,
            log,
            Arc::clone(&self.clock),
            Arc::clone(&self.wake),
            move || GroupMachine::new(Arc::clone(&config)),
        );
        let earlier = self.runners.write().insert(partition, Arc::new(runner));
        if let Some(earlier) = earlier {
            earlier.resign();
        }
        self.wake.wake();
    }

    /// Loads the partition if it needs to be; it blocks on the disk.
    ///
    /// # Errors
    /// The log cannot be read or understood; the groups are answered COORDINATOR_NOT_AVAILABLE
    /// until a later attempt succeeds.
    pub fn load(&self, partition: i32) -> Result<(), LoadError> {
        let runner = self.runners.read().get(&partition).map(Arc::clone);
        runner.map_or(Ok(()), |runner| runner.load())
    }

    /// The partitions that wait for [`Groups::load`]: newly led ones, and those whose log refused
    /// an append.
    pub fn unloaded(&self) -> Vec<i32> {
        let runners = self.runners.read();
        runners.iter().filter(|(_, runner)| runner.needs_load()).map(|(p, _)| *p).collect()
    }

    /// This broker leads the partition no more.
    pub fn resign(&self, partition: i32) {
        let runner = self.runners.write().remove(&partition);
        if let Some(runner) = runner {
            runner.resign();
        }
    }

    /// Everything below some offset that [`StateLog::watch_committed`] asked about is committed.
    /// Not to be called from within a call of that.
    pub fn advance(&self, partition: i32) {
        let runner = self.runners.read().get(&partition).map(Arc::clone);
        if let Some(runner) = runner {
            runner.advance();
        }
    }

    /// Does what is due in all partitions. To be called again at the time that is returned (in
    /// milliseconds of the clock's elapsed time), and whenever [`Groups::wake`] says so.
    pub fn drive(&self) -> Option<u64> {
        self.wake.begin_round();
        let runners: Vec<_> = self.runners.read().values().cloned().collect();
        let next_ms = runners.iter().filter_map(|runner| runner.fire()).min();
        self.wake.end_round(next_ms);
        next_ms
    }

    /// Tells when [`Groups::drive`] and [`Groups::unloaded`] are to be asked before their time.
    pub fn wake(&self) -> &Wake {
        &self.wake
    }

    /// Ends all coordination: from now on the answer is COORDINATOR_NOT_AVAILABLE.
    pub fn shut_down(&self) {
        self.is_active.store(false, Ordering::Release);
        let runners = std::mem::take(&mut *self.runners.write());
        runners.values().for_each(|runner| runner.resign());
    }

    /// The runner of the group's partition.
    fn runner(&self, group_id: &str) -> Result<Arc<Runner<GroupMachine>>, ErrorCode> {
        if !self.is_active.load(Ordering::Acquire) {
            return Err(ErrorCode::COORDINATOR_NOT_AVAILABLE);
        }
        let runners = self.runners.read();
        let runner = runners.get(&self.partition_of(group_id)).map(Arc::clone);
        runner.ok_or(ErrorCode::NOT_COORDINATOR)
    }

    /// Hands a request to the group's machine. `pick` takes the answer out of what the machine
    /// answers, and `fail` makes one of an error.
    fn call<R: Send + 'static>(
        &self,
        group_id: &str,
        request: Request<'_>,
        pick: fn(Response) -> Option<R>,
        fail: impl Fn(ErrorCode) -> R,
    ) -> Reply<R> {
        let runner = match self.runner(group_id) {
            Ok(runner) => runner,
            Err(error) => return Reply::Done(fail(error)),
        };
        match runner.handle(request) {
            Err(unavailable) => Reply::Done(fail(unavailable_code(unavailable))),
            Ok(Answer::Ready(response)) => {
                Reply::Done(pick(response).unwrap_or_else(|| fail(ErrorCode::UNKNOWN_SERVER_ERROR)))
            }
            Ok(Answer::Pending(receiver)) => {
                let lost = fail(ErrorCode::NOT_COORDINATOR);
                Reply::Later(Box::pin(
                    async move { receiver.await.ok().and_then(pick).unwrap_or(lost) },
                ))
            }
        }
    }
}

fn unavailable_code(unavailable: Unavailable) -> ErrorCode {
    match unavailable {
        Unavailable::Loading => ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
        Unavailable::LoadFailed => ErrorCode::COORDINATOR_NOT_AVAILABLE,
        Unavailable::Resigned => ErrorCode::NOT_COORDINATOR,
    }
}

/// The partition of an internal topic with `count` partitions that `id` belongs to: the absolute
/// value of its Java `hashCode`, which is over UTF-16 units, modulo the count.
pub fn partition_for(id: &str, count: i32) -> i32 {
    let hash = id
        .encode_utf16()
        .fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    // The absolute value of the smallest number is 0 to Kafka.
    hash.checked_abs().unwrap_or(0) % count
}

#[cfg(test)]
mod tests {
    use super::partition_for;

    #[test]
    fn partitions_are_those_of_java() {
        // "polygenelubricants".hashCode() is Integer.MIN_VALUE.
        let expected = [
            ("", 0),
            ("a", 47),
            ("console-consumer-1", 24),
            ("my-group", 12),
            ("polygenelubricants", 0),
            ("grüße-😀", 27),
        ];
        for (id, partition) in expected {
            assert_eq!(partition_for(id, 50), partition, "{id}");
        }
    }
}
