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

#[cfg(test)]
mod tests {
    use ottla_fake::FakeDisk;

    use super::*;
    use crate::machine::quorum::{Batch, Payload};

    /// More than half of what one step copies.
    fn entry(term: u64, index: u64) -> Entry {
        let batch = Batch { time_ms: 0, proposals: vec![index as u8; 600 << 10].into() };
        Entry { id: LogId { term, index }, payload: Payload::Normal(batch) }
    }

    #[test]
    fn entries_that_are_replaced_while_they_are_copied_are_replaced_in_the_new_log() {
        let disk: Arc<dyn Disk> = FakeDisk::with_dir("/d");
        let paths =
            (Path::new("/d/snapshot.new"), Path::new("/d/snapshot"), Path::new("/d/log.new"));
        let (last, mut tree) = (LogId { term: 1, index: 10 }, Tree::new());
        let mut entries: Vec<_> = (11..17).map(|index| entry(1, index)).collect();
        let membership = Membership::default();
        let mut writing = Writing::begin(&*disk, paths.0, last, &membership, &mut tree).unwrap();
        let mut part = |out: &mut Vec<u8>| {
            let written = tree.thaw_part(1, out);
            let is_some = written.is_some();
            tree.note_written(written);
            is_some
        };
        let mut step = |writing: &mut Writing, entries: &[Entry]| {
            let is_behind = |last: LogId| move |entry: &&Entry| entry.id.index > last.index;
            let behind = |last| entries.iter().filter(is_behind(last)).cloned().collect();
            writing.step(&disk, paths, &mut part, behind).unwrap()
        };
        while !matches!(step(&mut writing, &entries), Step::Snapshot(_)) {}
        assert!(matches!(step(&mut writing, &entries), Step::More));
        assert!(matches!(step(&mut writing, &entries), Step::More));
        // Four are copied, when the leader of the next term puts others in the place of all but one.
        entries.truncate(1);
        entries.extend((12..14).map(|index| entry(2, index)));
        writing.note_append(entries[0].id);
        let log = loop {
            match step(&mut writing, &entries) {
                Step::More => {}
                Step::Log(log) => break log,
                Step::Snapshot(_) => panic!("it is in its place"),
            }
        };
        assert_eq!(log.last(), LogId { term: 2, index: 13 });
        drop(log);
        let read = Log::open(Arc::clone(&disk), paths.2).unwrap();
        assert_eq!((read.base, read.entries), (last, entries));
    }
}
