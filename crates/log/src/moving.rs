//! Moving a log to another directory while it is written to (KIP-113).
//!
//! ```text
//! begin_move     advance_move …                    the last advance_move
//! ───────────────────────────────────────────────────────────────────────────────────────
//! noted          <name>.<32 hex>-future in the     appends wait: the rest is copied, all is
//!                target: batches are copied as     made durable, -future → <name> in the target,
//!                they stand in the log             <name> → -delete in the source; appends go on
//! ```
//!
//! A crash before the first rename leaves the log where it was. Between the two renames there are
//! two logs that hold the same; the new one names the old one in a file, `moved-from`, and so the
//! next start knows what it sees, and keeps the one that goes further.
//!
//! A `-future` that a start finds is begun anew: what it holds beyond the recovery point of the log
//! may be what a power cut took from the log, and so need not be what the log holds there now.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ottla_record::{Offset, batches};
use ottla_runtime::World;
use ottla_runtime::disk::{read_file, replace_file};
use parking_lot::Mutex;
use tracing::{error, info};

use crate::LogConfig;
use crate::checkpoint::TopicPartition;
use crate::directory::{Checkpoints, Noted, write_topic_id};
use crate::log::{Appender, Log, Opening, ReadError};
use crate::manager::{LogManager, LogUsage, Offline, Placed};
use crate::segment::remove_if_there;

/// The file in a log's directory that names the directory which it was moved from.
const MOVED_FROM: &str = "moved-from";

/// At most so much is copied while appends wait.
const TAIL_BYTES_MAX: usize = 1 << 20;

/// The longest file name that file systems take.
const NAME_BYTES_MAX: usize = 255;

/// Of so many partitions without a log it is remembered where they are to lie.
const PREFERRED_MAX: usize = 10_000;

/// Why a log is not moved.
#[derive(Debug)]
pub enum MoveError {
    /// `log.dirs` does not have the directory.
    UnknownDirectory,
    /// The directory does not work.
    DirectoryOffline {
        /// Why.
        reason: String,
    },
    /// The name of the copy's directory would be longer than a name can be.
    NameTooLong,
    /// The log is not served.
    Offline {
        /// Why.
        reason: Arc<str>,
    },
    /// The partition has no log here. When it gets one, it will lie in the directory.
    NoLog,
    /// The copy of an earlier move could not be removed.
    Io(io::Error),
}

impl fmt::Display for MoveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownDirectory => f.write_str("the directory is not one of log.dirs"),
            Self::DirectoryOffline { reason } => write!(f, "the directory is offline: {reason}"),
            Self::NameTooLong => f.write_str("the topic's name is too long for a log to be moved"),
            Self::Offline { reason } => write!(f, "the log is offline: {reason}"),
            Self::NoLog => f.write_str("the partition has no log here yet"),
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for MoveError {}

/// What [`LogManager::advance_move`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MoveStep {
    /// So many bytes were copied; there may be more.
    Copied(u64),
    /// The log lies in the other directory now.
    Done,
    /// There is no such move, or no more.
    Gone,
}

/// The moves that are going on, by partition.
#[derive(Default)]
pub(crate) struct Moves(Mutex<BTreeMap<TopicPartition, Arc<Move>>>);

struct Move {
    source: Placed,
    /// Index of the directory that the log is moved to.
    target: usize,
    /// What was copied so far. Locked for a moment only.
    copy: Mutex<Option<Copied>>,
    /// Locked by who works on the move; `true` once it has ended.
    has_ended: Mutex<bool>,
}

#[derive(Clone)]
struct Copied {
    copy: Arc<Log>,
    /// How often the log had been cut when the copy was begun: after that, what was copied need not be
    /// what the log holds.
    truncations: u64,
}

impl Moves {
    fn get(&self, partition: &TopicPartition) -> Option<Arc<Move>> {
        self.0.lock().get(partition).cloned()
    }

    fn all(&self) -> Vec<(TopicPartition, Arc<Move>)> {
        self.0.lock().iter().map(|(p, moving)| (p.clone(), moving.clone())).collect()
    }

    /// The directories that logs are on their way to.
    pub(crate) fn targets(&self) -> Vec<usize> {
        self.0.lock().values().map(|moving| moving.target).collect()
    }

    pub(crate) fn set_config(&self, topic: &str, config: &Arc<LogConfig>) {
        for (_, moving) in self.all().iter().filter(|(p, _)| p.topic == topic) {
            moving.copied().inspect(|copy| copy.set_config(config.clone()));
        }
    }

    /// The copies by the index of their directory.
    pub(crate) fn usage(&self) -> Vec<(usize, LogUsage)> {
        let usage = |(partition, moving): (TopicPartition, Arc<Move>)| {
            let copy = moving.copied();
            let size = copy.as_ref().map_or(0, |copy| copy.size_in_bytes());
            let log = &moving.source.log;
            let copied = copy.map_or(log.log_start_offset(), |copy| copy.end().offset);
            let lag = (log.end().offset - copied).max(0);
            (moving.target, LogUsage { partition, size, lag, is_future: true })
        };
        self.all().into_iter().map(usage).collect()
    }

    /// What must be known of the copies as soon as they have taken the places of their logs.
    pub(crate) fn note(&self, checkpoints: &mut [Checkpoints]) {
        for (partition, moving) in self.all() {
            if let Some(copy) = moving.copied() {
                let start = moving.source.log.log_start_offset();
                let noted = Noted {
                    recovery_point: Some(copy.recovery_point()),
                    log_start_offset: Some(start).filter(|&s| s > copy.first_base_offset()),
                    high_watermark: Some(copy.recovery_point()),
                    // It may have what was compacted away since it was copied.
                    cleaner_offset: None,
                };
                checkpoints[moving.target].note(&partition, noted);
            }
        }
    }
}

impl Move {
    fn new(source: Placed, target: usize) -> Arc<Self> {
        Arc::new(Self { source, target, copy: Mutex::default(), has_ended: Mutex::new(false) })
    }

    fn copied(&self) -> Option<Arc<Log>> {
        self.copy.lock().as_ref().map(|copied| copied.copy.clone())
    }

    /// Whether the log was cut since the copy was begun.
    fn is_outdated(&self) -> bool {
        let cut = |copied: &Copied| copied.truncations != self.source.log.truncations();
        self.copy.lock().as_ref().is_some_and(cut)
    }
}

impl Log {
    /// The log that took this one's place: the same log, in another directory. Nothing is appended
    /// here any more.
    #[must_use]
    pub fn successor(&self) -> Option<&Arc<Self>> {
        self.successor.get()
    }

    /// Hands over to `log`, which has all that this one has, on the disk. Appends must have ended. The
    /// listener is to be notified afterwards.
    pub(crate) fn hand_over(&self, log: Arc<Self>) {
        self.advance_flushed(self.end(), &[], self.truncations());
        if let Some(listener) = self.listener.get() {
            log.set_listener(listener.clone());
        }
        // A log is moved once: its successor is moved the next time.
        let _ = self.successor.set(log);
    }

    /// Takes over what is known of `log` beside its batches, all of which this one has.
    pub(crate) fn take_over(&self, log: &Self, known: &Appender) {
        let mut appender = self.appender.lock();
        self.raise_log_start_offset(&mut appender, log.log_start_offset());
        appender.producers = known.producers.clone();
        // A snapshot that was taken at this end has the producers of the copied batches alone.
        appender.snapshot_offset = Offset::NONE;
        appender.epochs.take_over(&known.epochs);
    }
}

impl LogManager {
    /// Begins to move the log of a partition to the directory `dir`. A move to another directory
    /// ends without effect; if the log lies in `dir` already, that is all.
    pub fn begin_move(&self, partition: &TopicPartition, dir: &Path) -> Result<(), MoveError> {
        let target = self.directories.iter().position(|directory| directory.path() == dir);
        let target = target.ok_or(MoveError::UnknownDirectory)?;
        if let Some(reason) = self.directories[target].failure() {
            return Err(MoveError::DirectoryOffline { reason: reason.to_owned() });
        }
        if future_name_bytes(partition) > NAME_BYTES_MAX {
            return Err(MoveError::NameTooLong);
        }
        if self.moves.get(partition).is_some_and(|moving| moving.target != target) {
            self.cancel_move(partition).map_err(MoveError::Io)?;
        }
        let mut logs = self.logs.lock();
        if let Some(offline) = logs.offline.get(partition) {
            return Err(MoveError::Offline { reason: offline.reason.clone() });
        }
        let Some(placed) = logs.placed.get(partition).cloned() else {
            if logs.preferred.len() < PREFERRED_MAX {
                logs.preferred.insert(partition.clone(), target);
            }
            return Err(MoveError::NoLog);
        };
        if let Some(reason) = self.directories[placed.directory].failure() {
            return Err(MoveError::Offline { reason: reason.into() });
        }
        if placed.directory != target {
            let log = placed.log.clone();
            let mut moves = self.moves.0.lock();
            moves.entry(partition.clone()).or_insert_with(|| Move::new(placed, target));
            drop((moves, logs));
            // A pass of the cleaner that has begun gives way; none begins until the move has ended.
            drop(log.upkeep.interrupt());
        }
        Ok(())
    }

    /// Begins the moves anew that an earlier process had begun, each to the directory with its index.
    pub(crate) fn resume_moves(&self, moving: Vec<(TopicPartition, usize)>) {
        for (partition, target) in moving {
            let dir = self.directories[target].path();
            match self.begin_move(&partition, dir) {
                Ok(()) => info!(%partition, dir = %dir.display(), "the move of a log begins anew"),
                Err(error) => error!(%partition, %error, "the move of a log cannot go on"),
            }
        }
    }

    /// The partitions whose logs are being moved.
    #[must_use]
    pub fn moves(&self) -> Vec<TopicPartition> {
        self.moves.0.lock().keys().cloned().collect()
    }

    /// Whether the log of a partition is being moved. Until that has ended it must not be compacted:
    /// the copy may have a record already whose tombstone would be gone before it is copied.
    #[must_use]
    pub fn is_moving(&self, partition: &TopicPartition) -> bool {
        self.moves.0.lock().contains_key(partition)
    }

    /// Ends the move of a partition's log without effect, if there is one.
    pub fn cancel_move(&self, partition: &TopicPartition) -> io::Result<()> {
        let Some(moving) = self.moves.get(partition) else { return Ok(()) };
        let mut has_ended = moving.has_ended.lock();
        if *has_ended {
            return Ok(());
        }
        self.drop_copy(partition, &moving)?;
        *has_ended = true;
        self.moves.0.lock().remove(partition);
        info!(%partition, "the move of a log was given up");
        Ok(())
    }

    fn drop_copy(&self, partition: &TopicPartition, moving: &Move) -> io::Result<()> {
        if let Some(copy) = moving.copied() {
            copy.retire();
            // Under its old name the next start would go on with it.
            let renamed = self.rename_away(copy.dir(), partition, "delete")?;
            self.unlink_later(renamed, Duration::ZERO);
            *moving.copy.lock() = None;
        }
        Ok(())
    }

    /// Copies up to about `bytes_max` bytes more of a log that is being moved. Once nothing is left,
    /// the copy takes the log's place. It blocks on the disk.
    ///
    /// # Errors
    /// The move was given up; the log is where it was.
    pub fn advance_move(
        &self,
        partition: &TopicPartition,
        bytes_max: usize,
    ) -> io::Result<MoveStep> {
        let Some(moving) = self.moves.get(partition) else { return Ok(MoveStep::Gone) };
        let advanced = {
            let mut has_ended = moving.has_ended.lock();
            if *has_ended {
                return Ok(MoveStep::Gone);
            }
            let advanced = self.advance(partition, &moving, bytes_max);
            *has_ended = matches!(advanced, Ok(MoveStep::Done | MoveStep::Gone));
            advanced
        };
        if advanced.is_err() {
            self.cancel_move(partition).inspect_err(|_| {
                // Nothing can be done in a directory that does not work.
                self.moves.0.lock().remove(partition);
                *moving.has_ended.lock() = true;
            })?;
        }
        advanced
    }

    fn advance(
        &self,
        partition: &TopicPartition,
        moving: &Move,
        bytes_max: usize,
    ) -> io::Result<MoveStep> {
        let log = &moving.source.log;
        if moving.is_outdated() {
            self.drop_copy(partition, moving)?;
        }
        let copy = match moving.copied() {
            Some(copy) if copy.end().offset >= log.log_start_offset() => copy,
            Some(copy) if copy.end().offset >= first_batch(log)? => copy,
            // Retention was faster: what is to be copied next is not there any more.
            Some(_) => {
                self.drop_copy(partition, moving)?;
                self.begin_copy(partition, moving)?
            }
            None => self.begin_copy(partition, moving)?,
        };
        match copy_batches(log, &copy, bytes_max) {
            // The next step begins anew.
            _ if moving.is_outdated() => return Ok(MoveStep::Copied(0)),
            Ok(0) => {}
            copied => return copied.map(MoveStep::Copied),
        }
        copy.flush()?;
        if unread_bytes(log, &copy)? >= TAIL_BYTES_MAX {
            return Ok(MoveStep::Copied(0));
        }
        let from = log.dir().display().to_string();
        replace_file(&*self.world.disk, &copy.dir().join(MOVED_FROM), from.as_bytes())?;
        self.write_checkpoints().map_err(io::Error::other)?;
        self.swap(partition, moving, &copy)
    }

    fn begin_copy(&self, partition: &TopicPartition, moving: &Move) -> io::Result<Arc<Log>> {
        let log = &moving.source.log;
        let truncations = log.truncations();
        let directory = &self.directories[moving.target];
        let dir = directory.path().join(self.unique_name(partition, "future"));
        let log_start_offset = first_batch(log)?;
        let (recovery_point, high_watermark) = (Offset::ZERO, Offset::ZERO);
        let opening = Opening { clean: false, recovery_point, log_start_offset, high_watermark };
        let copy = Log::open(directory.volume(), &dir, log.config(), opening)?;
        *moving.copy.lock() = Some(Copied { copy: copy.clone(), truncations });
        if let Some(id) = moving.source.topic_id {
            write_topic_id(&self.world, &dir, id)?;
        }
        Ok(copy)
    }

    /// Puts the copy in the place of the log. Appends wait for this, reads do not.
    fn swap(
        &self,
        partition: &TopicPartition,
        moving: &Move,
        copy: &Arc<Log>,
    ) -> io::Result<MoveStep> {
        let log = &moving.source.log;
        let (source, target) =
            (&self.directories[moving.source.directory], &self.directories[moving.target]);
        let mut logs = self.logs.lock();
        let _upkeep = log.upkeep.interrupt();
        let mut appender = log.change()?;
        if moving.is_outdated() {
            return Ok(MoveStep::Copied(0));
        }
        copy_batches(log, copy, usize::MAX)?;
        copy.take_over(log, &appender);
        copy.close()?;
        // From here on nobody can say which name the disk holds, if it fails: there is no way back.
        appender.is_closed = true;
        let live = target.path().join(partition.to_string());
        let renamed = self
            .world
            .disk
            .rename(copy.dir(), &live)
            .and_then(|()| self.world.disk.sync_dir(target.path()))
            .and_then(|()| {
                let log_start_offset = log.log_start_offset();
                let recovery_point = copy.recovery_point();
                let high_watermark = recovery_point;
                let opening =
                    Opening { clean: true, recovery_point, log_start_offset, high_watermark };
                Ok(Log::open(target.volume(), &live, log.config(), opening)?)
            });
        self.moves.0.lock().remove(partition);
        let moved = match renamed {
            Ok(moved) => moved,
            Err(error) => {
                target.volume().fail(&error);
                let (directory, path) = (moving.target, Some(live));
                let reason = "its move to another directory failed: start the broker again".into();
                let offline = Offline { directory, path, reason, noted: Noted::default() };
                logs.placed.remove(partition);
                logs.offline.insert(partition.clone(), offline);
                return Ok(MoveStep::Gone);
            }
        };
        moved.appender.lock().producers = appender.producers.clone();
        let placed =
            Placed { log: moved.clone(), directory: moving.target, ..moving.source.clone() };
        logs.placed.insert(partition.clone(), placed);
        log.hand_over(moved);
        drop((appender, logs));
        log.notify_listener();
        match self.rename_away(log.dir(), partition, "delete") {
            Ok(renamed) => {
                let delay_ms = log.config().file_delete_delay_ms.unsigned_abs();
                self.unlink_later(renamed, Duration::from_millis(delay_ms));
                // Of no use any more, and no harm if it stays.
                let _ = remove_if_there(&*self.world.disk, &live.join(MOVED_FROM));
            }
            Err(error) => source.volume().fail(&error),
        }
        // Where this fails, a directory is offline.
        let _ = self.write_checkpoints();
        info!(%partition, dir = %target.path().display(), "moved a log");
        Ok(MoveStep::Done)
    }
}

/// Of two logs of one partition, the one to keep, and then the other; an error if neither was moved
/// from where the other lies.
pub(crate) fn choose_twin(
    world: &World,
    a: Placed,
    b: Placed,
) -> Result<(Placed, Placed), (Placed, Placed)> {
    let is_from = |new: &Placed, old: &Placed| {
        let from = read_file(&*world.disk, &new.log.dir().join(MOVED_FROM)).ok();
        from.is_some_and(|from| from == old.log.dir().display().to_string().as_bytes())
    };
    let (new, old) = match (is_from(&a, &b), is_from(&b, &a)) {
        (true, _) => (a, b),
        (false, true) => (b, a),
        (false, false) => return Err((a, b)),
    };
    if new.log.end().offset >= old.log.end().offset { Ok((new, old)) } else { Ok((old, new)) }
}

fn future_name_bytes(partition: &TopicPartition) -> usize {
    partition.to_string().len() + ".0123456789abcdef0123456789abcdef-future".len()
}

/// Where the first batch begins that has something to read: it may begin before the log does.
fn first_batch(log: &Log) -> io::Result<Offset> {
    let start = log.log_start_offset();
    let bytes = read_batches(log, start, 1)?;
    let base = batches(&bytes).find_map(Result::ok).map(|batch| batch.base_offset());
    Ok(base.map_or(start, |base| base.min(start)))
}

/// Copies what the copy lacks, about `bytes_max` bytes of it; returns how many were copied.
fn copy_batches(log: &Log, copy: &Arc<Log>, bytes_max: usize) -> io::Result<u64> {
    let mut copied = 0;
    while copied < bytes_max {
        let from = copy.end().offset.max(log.log_start_offset());
        let bytes = read_batches(log, from, TAIL_BYTES_MAX.min(bytes_max - copied))?;
        if bytes.is_empty() {
            break;
        }
        let mut whole = batches(&bytes);
        while let Some(Ok(_)) = whole.next() {}
        let whole = &bytes[..whole.position()];
        if whole.is_empty() {
            let message = format!("{}: no batch can be read at offset {from}", log.dir().display());
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        copy.append_as_follower(whole).map_err(io::Error::other)?;
        copied += whole.len();
    }
    Ok(copied as u64)
}

/// Bytes that the copy lacks, as far as one read goes.
fn unread_bytes(log: &Log, copy: &Log) -> io::Result<usize> {
    let from = copy.end().offset.max(log.log_start_offset());
    let slice = log.read(from, TAIL_BYTES_MAX, log.end(), true);
    slice.map(|slice| slice.len).map_err(unreadable)
}

fn read_batches(log: &Log, from: Offset, bytes_max: usize) -> io::Result<Vec<u8>> {
    let slice = log.read(from, bytes_max, log.end(), true).map_err(unreadable)?;
    let mut bytes = vec![0; slice.len];
    let read = slice.file.read_at(&mut bytes, slice.position)?;
    bytes.truncate(read);
    Ok(bytes)
}

fn unreadable(error: ReadError) -> io::Error {
    match error {
        ReadError::Io(error) => error,
        error => io::Error::other(error),
    }
}
