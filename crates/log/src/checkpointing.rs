//! What all logs have written down, at checkpoints and at the end.
//!
//! The logs of a directory share the syncs of its file system: each writes, one sync makes all of it
//! durable, and only then does anything say that it is. So a stop costs what there is to write, and
//! not a few syncs for each of many thousand logs.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::checkpoint::TopicPartition;
use crate::directory::{Checkpoints, DirectoryError, LogDirectory, Noted};
use crate::flush::{Extent, Written};
use crate::log::Log;
use crate::manager::{LogManager, Placed};

/// What a log wrote.
struct Writing {
    partition: TopicPartition,
    log: Arc<Log>,
    written: Written,
}

impl LogManager {
    /// Makes all logs durable up to now and writes the checkpoints, so that little is scanned after
    /// a crash. A log whose disk refuses does not keep the others from it; its error is returned.
    pub fn checkpoint(&self) -> Result<(), DirectoryError> {
        let written = self.write_out(Extent::All, |_| true).into_iter().collect();
        self.write_checkpoints().and(written)
    }

    /// Writes the checkpoints up to what is durable already.
    pub fn checkpoint_flushed(&self) -> Result<(), DirectoryError> {
        let has_moved = |log: &Log| log.recovery_point() < log.flushed().offset;
        let written = self.write_out(Extent::Flushed, has_moved).into_iter().collect();
        self.write_checkpoints().and(written)
    }

    /// Closes all logs and says so on the disk, but not of a directory that has a log which could
    /// not be opened or closed. Nothing may be appended afterwards.
    pub fn close(&self) -> Result<(), DirectoryError> {
        let mut closed = self.write_out(Extent::Closing, |_| true);
        let mut is_clean: Vec<bool> = closed.iter().map(Result::is_ok).collect();
        self.logs.lock().offline.values().for_each(|log| is_clean[log.directory] = false);
        closed.push(self.write_checkpoints());
        for (directory, is_clean) in self.directories.iter().zip(is_clean) {
            if is_clean && directory.is_online() {
                closed.push(directory.mark_clean());
            }
        }
        closed.into_iter().collect()
    }

    /// Writes the logs out for which `is_due`, and makes that durable. Returns how it went, by
    /// directory: a log whose disk refuses keeps no other from it.
    fn write_out(
        &self,
        extent: Extent,
        is_due: impl Fn(&Log) -> bool,
    ) -> Vec<Result<(), DirectoryError>> {
        let mut all: Vec<_> = self.directories.iter().map(|_| (Vec::new(), Ok(()))).collect();
        for (partition, Placed { log, directory, .. }) in self.snapshot() {
            if !self.directories[directory].is_online() || !is_due(&log) {
                continue;
            }
            let (writings, outcome) = &mut all[directory];
            match log.write_out(extent) {
                Ok(written) => writings.push(Writing { partition, log, written }),
                Err(error) => self.note_failure(outcome, &partition, &log, error),
            }
        }
        let finish = |(directory, (writings, mut outcome)): (&LogDirectory, _)| {
            let finished = self.finish(directory, writings, &mut outcome);
            outcome.and(finished)
        };
        self.directories.iter().zip(all).map(finish).collect()
    }

    /// Makes durable what the logs of a directory wrote, and lets them know.
    fn finish(
        &self,
        directory: &LogDirectory,
        mut writings: Vec<Writing>,
        outcome: &mut Result<(), DirectoryError>,
    ) -> Result<(), DirectoryError> {
        if writings.is_empty() {
            return Ok(());
        }
        let sync = || directory.volume().sync_all().map_err(|e| io_error(directory.path(), e));
        // Mostly the flusher did all there is to do.
        if writings.iter().any(|writing| writing.written.needs_sync) {
            sync()?;
        }
        let mut has_put = false;
        writings.retain(|Writing { partition, log, written }| match log.put_epochs(written) {
            Ok(put) => {
                has_put |= put;
                true
            }
            Err(error) => {
                self.note_failure(outcome, partition, log, error);
                false
            }
        });
        if has_put {
            sync()?;
        }
        writings.into_iter().for_each(|Writing { log, written, .. }| log.advance(written));
        Ok(())
    }

    /// Keeps the first failure of a log that is still there: one that was deleted or moved since is
    /// of no concern.
    fn note_failure(
        &self,
        outcome: &mut Result<(), DirectoryError>,
        partition: &TopicPartition,
        log: &Arc<Log>,
        error: io::Error,
    ) {
        if outcome.is_ok() && self.get(partition).is_some_and(|now| Arc::ptr_eq(&now, log)) {
            *outcome = Err(io_error(log.dir(), error));
        }
    }

    /// Writes the checkpoints as things stand: log start offsets, recovery points, high watermarks. A
    /// directory that refuses goes offline and does not keep the others from it; but one that is full
    /// has its old checkpoints, which are right, though there is more to scan after them.
    pub fn write_checkpoints(&self) -> Result<(), DirectoryError> {
        let _checkpointing = self.checkpointing.lock();
        let mut checkpoints = vec![Checkpoints::default(); self.directories.len()];
        for (partition, Placed { log, directory, .. }) in self.snapshot() {
            let start = log.log_start_offset();
            let noted = Noted {
                recovery_point: Some(log.recovery_point()),
                log_start_offset: Some(start).filter(|&start| start > log.first_base_offset()),
                // A log that ends below its high watermark is damaged: so it is what no crash takes.
                high_watermark: Some(log.flushed().offset),
                cleaner_offset: log.cleaner_checkpoint(),
            };
            checkpoints[directory].note(&partition, noted);
        }
        for (partition, offline) in &self.logs.lock().offline {
            checkpoints[offline.directory].note(partition, offline.noted);
        }
        self.moves.note(&mut checkpoints);
        let mut written = Ok(());
        for (directory, checkpoints) in self.directories.iter().zip(&checkpoints) {
            if directory.is_online()
                && let Err(error) = directory.write_checkpoints(checkpoints)
            {
                if !is_full(&error) {
                    directory.volume().fail(&error);
                }
                written = written.and(Err(error));
            }
        }
        written
    }
}

fn is_full(error: &DirectoryError) -> bool {
    matches!(error, DirectoryError::Io { error, .. } if error.kind() == io::ErrorKind::StorageFull)
}

fn io_error(path: &Path, error: io::Error) -> DirectoryError {
    DirectoryError::Io { path: path.to_owned(), error }
}
