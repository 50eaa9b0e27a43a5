//! The log cleaner: of logs with `cleanup.policy=compact` it keeps the last record of each key.
//!
//! Owns: which log is cleaned next, and how far each one is. Source: KIP-58, KIP-98, KIP-280 of
//! which Kafka has the offset strategy alone, KIP-354, KIP-534. Synchronous: who drives it has the
//! threads, and the waits between. Must not know: requests, replicas, tasks.

mod candidate;
mod filter;
mod offset_map;
mod pass;
mod reader;
mod throttle;
mod transactions;

use std::io;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ottla_record::{Offset, Timestamp};
use ottla_runtime::Clock;
use tracing::{error, info, warn};

use self::candidate::Candidate;
pub(crate) use self::filter::LastEntry;
use self::pass::{Means, Outcome, Pass, PassError};
use self::throttle::Throttle;
use crate::checkpoint::TopicPartition;
use crate::log::Log;
use crate::manager::LogManager;

/// What the log cleaner may use.
#[derive(Clone, Copy, Debug)]
pub struct CleanerSettings {
    /// How many logs are cleaned at once (`log.cleaner.threads`); the bytes below are shared.
    pub threads: usize,
    /// Bytes of the maps from keys to offsets (`log.cleaner.dedupe.buffer.size`).
    pub dedupe_buffer_bytes: u64,
    /// Bytes of the buffers for reading and writing (`log.cleaner.io.buffer.size`).
    pub io_buffer_bytes: usize,
    /// How full a map may be, from 0 to 1 (`log.cleaner.io.buffer.load.factor`).
    pub load_factor: f64,
    /// The most bytes that are read and written per second (`log.cleaner.io.max.bytes.per.second`).
    pub io_max_bytes_per_second: f64,
}

/// How far a log is cleaned, and whether it can be.
pub(crate) struct Cleaning {
    /// The first dirty offset as of the last pass; [`Offset::NONE`] before the first one.
    checkpoint: AtomicI64,
    /// Why the log is not cleaned any more, until it is opened again.
    refusal: OnceLock<String>,
}

impl Default for Cleaning {
    fn default() -> Self {
        let (checkpoint, refusal) = (AtomicI64::new(Offset::NONE.0), OnceLock::new());
        Self { checkpoint, refusal }
    }
}

impl Log {
    /// The offset up to which the log was cleaned (`cleaner-offset-checkpoint`), if it ever was.
    pub(crate) fn cleaner_checkpoint(&self) -> Option<Offset> {
        let offset = Offset(self.cleaning.checkpoint.load(Ordering::Acquire));
        (offset > Offset::NONE).then_some(offset)
    }

    /// Sets the offset up to which the log was cleaned.
    pub(crate) fn set_cleaner_checkpoint(&self, offset: Offset) {
        self.cleaning.checkpoint.store(offset.0, Ordering::Release);
    }

    /// Takes back that the log was cleaned beyond `offset`, as it is cut there.
    pub(crate) fn lower_cleaner_checkpoint(&self, offset: Offset) {
        self.cleaning.checkpoint.fetch_min(offset.0, Ordering::AcqRel);
    }

    /// The end of what may be cleaned. What is not on the disk takes nobody's place there, and what
    /// an open transaction has written may yet be aborted.
    fn cleanable_end(&self) -> Offset {
        let flushed = self.flushed().offset;
        self.first_unstable_offset(flushed).map_or(flushed, |first| first.min(flushed))
    }
}

/// Compacts the logs of a broker, those first of which the greatest share is dirty.
pub struct LogCleaner {
    logs: Arc<LogManager>,
    clock: Arc<dyn Clock>,
    settings: CleanerSettings,
    throttle: Throttle,
    stopping: AtomicBool,
}

impl LogCleaner {
    /// A cleaner of `logs`.
    #[must_use]
    pub fn new(logs: Arc<LogManager>, clock: Arc<dyn Clock>, settings: CleanerSettings) -> Self {
        let throttle = Throttle::new(clock.clone(), settings.io_max_bytes_per_second);
        Self { logs, clock, settings, throttle, stopping: AtomicBool::new(false) }
    }

    /// Cleans the log that needs it most. `false` if none needs it, or none could be cleaned.
    /// `pause` blocks the thread for so long; it is called with at most a tenth of a second.
    ///
    /// Several threads may do this at once: a log is cleaned by one of them.
    pub fn clean_filthiest(&self, pause: &dyn Fn(Duration)) -> bool {
        let mut due: Vec<_> =
            self.logs.logs().into_iter().filter_map(|log| self.due(log)).collect();
        due.sort_by(|(a, ..), (b, ..)| b.total_cmp(a));
        let is_stopping = || self.stopping.load(Ordering::Relaxed);
        due.iter().any(|(_, partition, log)| !is_stopping() && self.clean(partition, log, pause))
    }

    /// Ends the passes that are under way at their next step, and begins no other.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// The share of the log that is dirty, if it is to be cleaned.
    fn due(
        &self,
        (partition, log): (TopicPartition, Arc<Log>),
    ) -> Option<(f64, TopicPartition, Arc<Log>)> {
        let candidate = self.candidate(&partition, &log)?;
        Some((candidate.ratio(), partition, log))
    }

    fn candidate(&self, partition: &TopicPartition, log: &Log) -> Option<Candidate> {
        let config = log.config();
        let is_refused = log.cleaning.refusal.get().is_some() || log.change().is_err();
        if !config.cleanup_policy.compact || is_refused || self.logs.is_moving(partition) {
            return None;
        }
        let now = Timestamp(self.clock.wall_ms());
        match Candidate::of(log, log.cleaner_checkpoint(), now) {
            Ok(candidate) => candidate.is_due(&config).then_some(candidate),
            Err(error) => {
                refuse(partition, log, &error);
                None
            }
        }
    }

    /// Cleans a log, unless another does something to its segments. Returns whether that was done.
    fn clean(&self, partition: &TopicPartition, log: &Log, pause: &dyn Fn(Duration)) -> bool {
        let Some(upkeep) = log.upkeep.try_begin() else { return false };
        // Another thread may just have done it.
        let Some(candidate) = self.candidate(partition, log) else { return false };
        let CleanerSettings { threads, dedupe_buffer_bytes, io_buffer_bytes, load_factor, .. } =
            self.settings;
        let threads = threads.max(1);
        let means = Means {
            throttle: &self.throttle,
            pause,
            is_stopping: &|| self.stopping.load(Ordering::Relaxed),
            // One half is for reading, the other for writing.
            buffer_bytes: io_buffer_bytes / threads / 2,
            map_bytes: usize::try_from(dedupe_buffer_bytes / threads as u64).unwrap_or(usize::MAX),
            load_factor,
        };
        let started = self.clock.elapsed();
        match Pass::new(log, &candidate, &means).run() {
            Ok(outcome) => {
                log.set_cleaner_checkpoint(outcome.end);
                let took = self.clock.elapsed().saturating_sub(started);
                report(partition, &candidate, &outcome, took);
            }
            Err(PassError::GaveWay) => return false,
            // It was closed, or its directory went offline, which was said.
            Err(PassError::Io(_)) if log.change().is_err() => return false,
            Err(PassError::Io(error)) if error.kind() == io::ErrorKind::StorageFull => {
                warn!(%partition, %error, "could not clean the log now");
                return false;
            }
            Err(PassError::Io(error)) => {
                refuse(partition, log, &error);
                return false;
            }
        }
        drop(upkeep);
        if let Err(error) = log.delete_old_segments(log.flushed().offset) {
            error!(%partition, %error, "could not delete old segments");
        }
        // Without it the next start cleans the same once more, to no harm.
        if let Err(error) = self.logs.write_checkpoints() {
            error!(%error, "could not write checkpoints");
        }
        true
    }
}

/// Gives a log up until it is opened again.
fn refuse(partition: &TopicPartition, log: &Log, error: &io::Error) {
    if log.cleaning.refusal.set(error.to_string()).is_ok() {
        error!(%partition, %error, "the log is not compacted any more until the next start");
    }
}

fn report(partition: &TopicPartition, candidate: &Candidate, outcome: &Outcome, took: Duration) {
    let mb = |bytes: u64| bytes as f64 / 1e6;
    let Outcome { end, bytes_read, bytes_kept, records, keys } = *outcome;
    let from = candidate.first_dirty;
    let seconds = took.as_secs_f64();
    let kept = if bytes_read == 0 { 1.0 } else { bytes_kept as f64 / bytes_read as f64 };
    info!(
        %partition, %from, %end, keys, records_in = records.read, records_out = records.kept,
        "compacted {:.1} MB to {:.1} MB ({:.0} %) in {seconds:.1} s",
        mb(bytes_read), mb(bytes_kept), kept * 100.0,
    );
}
