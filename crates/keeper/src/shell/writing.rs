//! A snapshot that is being written, and the log that will begin behind it: in steps, each of which a
//! quorum can wait for.
//!
//! `snapshot.new` gets the tree as it was when this began (see [`Tree::freeze`]) and takes the place of
//! `snapshot`. Then `log.new` gets the entries behind it, and takes the place of `log`. A crash in between
//! leaves a snapshot that holds some or all entries of the log, which recovery skips; what was left
//! beside is written over.

use std::io;
use std::path::Path;
use std::sync::Arc;

use ottla_runtime::disk::OpenMode;
use ottla_runtime::{Disk, File};

use super::log::Log;
use super::sealed::Seal;
use super::snapshot;
use crate::machine::Tree;
use crate::machine::quorum::{Appended, Entry, LogId, Membership};

/// How much of the log one step copies.
const STEP_BYTES: usize = 1 << 20;

/// What it comes to after a step.
pub(super) enum Step {
    /// There is more to do.
    More,
    /// The snapshot of so many bytes is in its place.
    Snapshot(u64),
    /// The new log holds what the old one does, and is to take its place.
    Log(Log),
}

pub(super) struct Writing {
    /// The last entry that the snapshot holds.
    pub(super) last: LogId,
    stage: Stage,
}

enum Stage {
    Tree {
        file: Arc<dyn File>,
        seal: Box<Seal>,
    },
    /// The last entry that the new log has; it is there once it has one.
    Log {
        copied: LogId,
        log: Option<Log>,
    },
}

impl Writing {
    /// Freezes the tree and begins to write it.
    pub(super) fn begin(
        disk: &dyn Disk,
        path: &Path,
        last: LogId,
        membership: &Membership,
        tree: &mut Tree,
    ) -> io::Result<Self> {
        let file = disk.open(path, OpenMode::Create)?;
        file.set_len(0)?;
        let mut head = Vec::new();
        snapshot::encode_head(last, membership, &mut head);
        tree.freeze(&mut head);
        let mut seal = Box::new(Seal::new(snapshot::LINE));
        seal.append(&*file, &head)?;
        Ok(Self { last, stage: Stage::Tree { file, seal } })
    }

    /// Goes on. `behind` tells the entries of the log behind one of them.
    pub(super) fn step(
        &mut self,
        disk: &Arc<dyn Disk>,
        (snapshot_new, snapshot, log_new): (&Path, &Path, &Path),
        part: &mut dyn FnMut(&mut Vec<u8>) -> bool,
        behind: impl FnOnce(LogId) -> Vec<Entry>,
    ) -> io::Result<Step> {
        match &mut self.stage {
            Stage::Tree { file, seal } => {
                let mut bytes = Vec::new();
                if part(&mut bytes) {
                    seal.append(&**file, &bytes)?;
                    return Ok(Step::More);
                }
                let bytes = seal.finish(&**file)?;
                file.sync_data()?;
                disk.rename(snapshot_new, snapshot)?;
                disk.sync_dir(snapshot.parent().unwrap_or(Path::new("/")))?;
                self.stage = Stage::Log { copied: self.last, log: None };
                Ok(Step::Snapshot(bytes))
            }
            Stage::Log { copied, log } => {
                let mut entries = behind(*copied);
                let count = fitting(&entries);
                let is_all = count == entries.len();
                entries.truncate(count);
                let after = *copied;
                *copied = entries.last().map_or(after, |entry| entry.id);
                match log {
                    Some(_) if entries.is_empty() => {}
                    Some(log) => log.append(&Appended { after, entries }, self.last.index)?,
                    None => *log = Some(Log::create(Arc::clone(disk), log_new, after, entries)?),
                }
                Ok(log.take_if(|_| is_all).map_or(Step::More, Step::Log))
            }
        }
    }

    /// Notes that the log has got entries: those behind `after` are others than before.
    pub(super) fn note_append(&mut self, after: LogId) {
        if let Stage::Log { copied, .. } = &mut self.stage
            && after.index < copied.index
        {
            *copied = after;
        }
    }
}

/// How many of the entries one step takes: at least one.
fn fitting(entries: &[Entry]) -> usize {
    let mut bytes = 0;
    let fits = entries.iter().take_while(|entry| {
        let is_room = bytes < STEP_BYTES;
        bytes += entry.bytes();
        is_room
    });
    fits.count()
}
