//! The history of leader epochs of one partition: which epoch began at which offset.
//!
//! Kept in `leader-epoch-checkpoint`. A follower and a consumer use it to find where their log
//! stops agreeing with the leader's.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ottla_record::{LeaderEpoch, Offset};
use ottla_runtime::disk::{Disk, put_replacement, replace_file, write_replacement};

use crate::checkpoint;

/// Epochs with their first offsets; both ascend.
pub(crate) struct LeaderEpochs {
    disk: Arc<dyn Disk>,
    /// Shared by all that have a file in it.
    dir: Arc<Path>,
    entries: Vec<(LeaderEpoch, Offset)>,
    /// The file has other entries.
    is_dirty: bool,
}

const FILE: &str = "leader-epoch-checkpoint";

/// The last epoch of the history in `dir`, without opening it; `None` where it has none, or one that
/// cannot be right.
pub(crate) fn latest_in(disk: &dyn Disk, dir: &Path) -> io::Result<Option<LeaderEpoch>> {
    match checkpoint::read_lines(disk, &dir.join(FILE)) {
        Ok(lines) => Ok(parse(&lines).and_then(|entries| Some(entries.last()?.0))),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(None),
        Err(error) => Err(error),
    }
}

impl LeaderEpochs {
    /// Reads the history in `dir`. The second value is `false` if there is none, or one that cannot
    /// be right: it must be made anew from the batches.
    pub(crate) fn open(disk: Arc<dyn Disk>, dir: Arc<Path>) -> io::Result<(Self, bool)> {
        let path = dir.join(FILE);
        let entries = match checkpoint::read_lines(&*disk, &path) {
            Ok(lines) => parse(&lines).filter(|_| disk.exists(&path)),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => None,
            Err(error) => return Err(error),
        };
        let is_known = entries.is_some();
        let entries = entries.unwrap_or_default();
        Ok((Self { disk, dir, entries, is_dirty: !is_known }, is_known))
    }

    pub(crate) fn latest(&self) -> Option<(LeaderEpoch, Offset)> {
        self.entries.last().copied()
    }

    /// Notes that `epoch` begins at `start`, unless it is known already. Entries that contradict it
    /// go: they stem from a log that was cut. In memory only: the batches have their epochs, so it is
    /// early enough if the file follows ([`LeaderEpochs::unwritten`]) before the recovery point
    /// passes them.
    pub(crate) fn assign(&mut self, epoch: LeaderEpoch, start: Offset) {
        if self.latest().is_some_and(|(last, first)| last == epoch && first <= start) {
            return;
        }
        self.entries.retain(|&(e, s)| e < epoch && s < start);
        self.entries.push((epoch, start));
        self.is_dirty = true;
    }

    /// Forgets epochs that begin at `end` or behind, where the log is cut.
    pub(crate) fn truncate_from_end(&mut self, end: Offset) {
        let known = self.entries.len();
        self.entries.retain(|&(_, first)| first < end);
        self.is_dirty |= self.entries.len() < known;
    }

    /// Forgets all.
    pub(crate) fn clear(&mut self) {
        self.entries.clear();
        self.is_dirty = true;
    }

    /// What the file lacks, to be written by the caller at once, who need not hold a lock for it.
    pub(crate) fn unwritten(&mut self) -> Option<UnwrittenEpochs> {
        let is_dirty = std::mem::take(&mut self.is_dirty);
        is_dirty.then(|| UnwrittenEpochs {
            disk: self.disk.clone(),
            path: self.dir.join(FILE),
            entries: self.entries.clone(),
        })
    }

    /// What was taken to be written could not be.
    pub(crate) fn mark_unwritten(&mut self) {
        self.is_dirty = true;
    }

    /// Where the greatest epoch not above `epoch` ends, with that epoch. An epoch above the latest
    /// is unknown: `None`. (KIP-101, KIP-279)
    pub(crate) fn end_of(&self, epoch: LeaderEpoch, leo: Offset) -> Option<(LeaderEpoch, Offset)> {
        let (latest, _) = self.latest()?;
        if epoch > latest {
            return None;
        }
        if epoch == latest {
            return Some((epoch, leo));
        }
        match self.entries.partition_point(|&(e, _)| e <= epoch) {
            // Below everything known: the log begins after that epoch ended.
            0 => Some((epoch, self.entries[0].1)),
            n => Some((self.entries[n - 1].0, self.entries[n].1)),
        }
    }

    /// The epoch that the record at `offset` was written in, if that is known.
    pub(crate) fn at(&self, offset: Offset) -> Option<LeaderEpoch> {
        let above = self.entries.partition_point(|&(_, start)| start <= offset);
        Some(self.entries[above.checked_sub(1)?].0)
    }

    /// Takes over the history of the same log in another directory.
    pub(crate) fn take_over(&mut self, other: &Self) {
        self.entries.clone_from(&other.entries);
        self.is_dirty = true;
    }

    /// Forgets what lies outside of the log, which was found to have `start..end`. What the file has
    /// too many is forgotten again when the log is loaded.
    pub(crate) fn clamp(&mut self, start: Offset, end: Offset) {
        let known = self.entries.len();
        self.entries.retain(|&(_, first)| first < end);
        self.is_dirty |= self.entries.len() < known;
        self.truncate_from_start(start);
    }

    /// Forgets what ended before `start`, where the log now begins. In memory only: what the file
    /// has too many is forgotten again when the log is loaded.
    pub(crate) fn truncate_from_start(&mut self, start: Offset) {
        let covered = self.entries.partition_point(|&(_, first)| first <= start);
        if let Some((epoch, _)) = self.entries[..covered].last().copied() {
            self.entries.splice(..covered, [(epoch, start)]);
        }
    }
}

/// What the file of a history is to hold.
pub(crate) struct UnwrittenEpochs {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    entries: Vec<(LeaderEpoch, Offset)>,
}

impl UnwrittenEpochs {
    /// Replaces the file, durably.
    pub(crate) fn write(self) -> io::Result<()> {
        replace_file(&*self.disk, &self.path, self.text().as_bytes())
    }

    /// Writes what is to replace the file once it is on the disk: then follows
    /// [`UnwrittenEpochs::put`].
    pub(crate) fn prepare(&self) -> io::Result<()> {
        write_replacement(&*self.disk, &self.path, self.text().as_bytes()).map(drop)
    }

    /// Replaces the file by what was prepared. Durable with the next sync of the directory.
    pub(crate) fn put(&self) -> io::Result<()> {
        put_replacement(&*self.disk, &self.path)
    }

    fn text(&self) -> String {
        checkpoint::text_of(self.entries.iter().map(|(epoch, start)| format!("{epoch} {start}")))
    }
}

/// The entries of a file; `None` if these lines are none, or do not ascend.
fn parse(lines: &[String]) -> Option<Vec<(LeaderEpoch, Offset)>> {
    let mut entries: Vec<(LeaderEpoch, Offset)> = Vec::new();
    for line in lines {
        let (epoch, start) = line.split_once(' ')?;
        let entry = (LeaderEpoch(epoch.parse().ok()?), Offset(start.trim().parse().ok()?));
        let ascends = entries.last().is_none_or(|last| last.0 < entry.0 && last.1 < entry.1);
        if !ascends || entry.0 < LeaderEpoch(0) || entry.1 < Offset::ZERO {
            return None;
        }
        entries.push(entry);
    }
    Some(entries)
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;

    use super::*;
    use ottla_fake::FakeDisk;
    use ottla_runtime::disk::{OpenMode, read_file};

    fn dir() -> Arc<Path> {
        Path::new("/d").into()
    }

    fn epochs(entries: &[(i32, i64)]) -> LeaderEpochs {
        let mut epochs = LeaderEpochs::open(FakeDisk::with_dir("/d"), dir()).unwrap().0;
        for &(epoch, start) in entries {
            epochs.assign(LeaderEpoch(epoch), Offset(start));
        }
        epochs
    }

    fn end_of(epochs: &LeaderEpochs, epoch: i32) -> Option<(i32, i64)> {
        epochs.end_of(LeaderEpoch(epoch), Offset(100)).map(|(e, o)| (e.0, o.0))
    }

    #[test]
    fn finds_where_an_epoch_ends() {
        let known = epochs(&[(2, 10), (4, 30), (5, 60)]);
        assert_eq!(end_of(&known, 1), Some((1, 10)));
        assert_eq!(end_of(&known, 2), Some((2, 30)));
        assert_eq!(end_of(&known, 3), Some((2, 30)));
        assert_eq!(end_of(&known, 5), Some((5, 100)));
        assert_eq!(end_of(&known, 6), None);
        assert_eq!(end_of(&epochs(&[]), 0), None);
    }

    #[test]
    fn a_new_epoch_replaces_what_contradicts_it() {
        let mut known = epochs(&[(1, 0), (3, 50), (4, 80)]);
        known.assign(LeaderEpoch(4), Offset(90));
        assert_eq!(known.latest(), Some((LeaderEpoch(4), Offset(80))));
        known.assign(LeaderEpoch(5), Offset(60));
        assert_eq!(
            known.entries.iter().map(|e| (e.0.0, e.1.0)).collect::<Vec<_>>(),
            [(1, 0), (3, 50), (5, 60)]
        );
    }

    #[test]
    fn what_could_not_be_written_is_to_be_written_again() {
        let disk = FakeDisk::with_dir("/d");
        let mut known = LeaderEpochs::open(disk.clone(), dir()).unwrap().0;
        known.assign(LeaderEpoch(1), Offset(0));
        for changes in 0..4 {
            disk.fail_after(changes);
            known.unwritten().unwrap().write().unwrap_err();
            known.mark_unwritten();
        }
        disk.heal();
        known.unwritten().unwrap().write().unwrap();
        assert!(known.unwritten().is_none());
        let reopened = LeaderEpochs::open(disk, dir()).unwrap().0;
        assert_eq!(reopened.entries, known.entries);
    }

    #[test]
    fn clamping_keeps_the_epoch_that_covers_the_start() {
        let mut known = epochs(&[(1, 0), (3, 50), (4, 80)]);
        known.clamp(Offset(60), Offset(80));
        known.unwritten().unwrap().write().unwrap();
        assert_eq!(known.entries, [(LeaderEpoch(3), Offset(60))]);
        let text = read_file(&*known.disk, &known.dir.join(FILE)).unwrap();
        assert_eq!(text, b"0\n1\n3 60\n");
        let reopened = LeaderEpochs::open(known.disk.clone(), dir()).unwrap().0;
        assert_eq!(reopened.entries, known.entries);
        known.truncate_from_start(Offset(40));
        assert_eq!(known.entries, [(LeaderEpoch(3), Offset(60))]);
    }

    #[test]
    fn a_record_has_the_epoch_that_began_last_before_it() {
        let known = epochs(&[(2, 10), (4, 30)]);
        let at = |offset| known.at(Offset(offset)).map(|epoch| epoch.0);
        assert_eq!(
            [at(9), at(10), at(29), at(30), at(99)],
            [None, Some(2), Some(2), Some(4), Some(4)]
        );
    }

    #[test]
    fn text_that_is_no_history_is_not_believed() {
        let disk = FakeDisk::with_dir("/d");
        let file = disk.open(Path::new("/d/leader-epoch-checkpoint"), OpenMode::Create).unwrap();
        for (text, expected) in [
            (&b"0\n2\n1 0\n3 5\n"[..], true),
            (b"0\n0\n", true),
            (b"0\n1\n3 x\n", false),
            (b"0\n2\n3 0\n3 5\n", false),
            (b"0\n2\n1 5\n3 5\n", false),
            (b"0\n1\n-3 5\n", false),
            (b"0\n2\n1 5\n", false),
            (b"7\n1\n1 5\n", false),
            (b"\xff", false),
        ] {
            file.set_len(0).unwrap();
            file.write_at(&[IoSlice::new(text)], 0).unwrap();
            let (_, is_known) = LeaderEpochs::open(disk.clone(), dir()).unwrap();
            assert_eq!(is_known, expected, "{text:?}");
        }
        disk.remove_file(Path::new("/d/leader-epoch-checkpoint")).unwrap();
        assert!(!LeaderEpochs::open(disk, dir()).unwrap().1);
    }
}
