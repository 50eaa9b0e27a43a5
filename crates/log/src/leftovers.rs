//! The files of a log's directory by their names, and what earlier crashes left among them.
//!
//! | suffix | it was | now |
//! |---|---|---|
//! | `.deleted` | removed by Kafka, for its readers to finish | is removed |
//! | `.tmp` | being written, to replace a file | is removed |
//! | `.cleaned` | being written by the log cleaner | is removed, with what depends on it |
//! | `.swap` | finished by the cleaner, to replace one or more segments | replaces them |
//!
//! An index without a log is removed too.

use std::io;
use std::path::{Path, PathBuf};

use ottla_record::Offset;
use ottla_runtime::disk::{DirEntry, OpenMode};
use tracing::info;

use crate::scan::Scan;
use crate::segment::SegmentOptions;

const SWAP: &str = ".swap";
const CLEANED: &str = ".cleaned";

/// The base offsets of the segments, ascending, once leftovers are gone for good.
pub(crate) fn list_segments(options: &SegmentOptions) -> io::Result<Vec<Offset>> {
    let (disk, dir) = (&*options.disk, &options.dir);
    let mut leftovers = Leftovers { options, entries: disk.read_dir(dir)?, changed: false };
    leftovers.remove(|name| name.ends_with(".deleted") || name.ends_with(".tmp"))?;
    leftovers.finish_swaps()?;
    let bases = leftovers.offsets("log");
    leftovers.remove(|name| {
        ["index", "timeindex", "txnindex"]
            .iter()
            .find_map(|suffix| offset_of(name, suffix))
            .is_some_and(|base| bases.binary_search(&base).is_err())
    })?;
    if leftovers.changed {
        disk.sync_dir(dir)?;
    }
    Ok(bases)
}

/// The offsets of the producer snapshots, ascending.
pub(crate) fn list_snapshots(options: &SegmentOptions) -> io::Result<Vec<Offset>> {
    let entries = options.disk.read_dir(&options.dir)?;
    Ok(entries.iter().filter_map(|entry| offset_of(&entry.name, "snapshot")).collect())
}

/// The offset that a name has before its suffix: twenty digits.
fn offset_of(name: &str, suffix: &str) -> Option<Offset> {
    leading_offset(name).filter(|_| name[20..].strip_prefix('.') == Some(suffix))
}

fn leading_offset(name: &str) -> Option<Offset> {
    let (digits, rest) = name.split_at_checked(20)?;
    let is_number = rest.starts_with('.') && digits.bytes().all(|digit| digit.is_ascii_digit());
    if is_number { digits.parse().ok().map(Offset) } else { None }
}

struct Leftovers<'a> {
    options: &'a SegmentOptions,
    entries: Vec<DirEntry>,
    changed: bool,
}

impl Leftovers<'_> {
    fn offsets(&self, suffix: &str) -> Vec<Offset> {
        self.entries.iter().filter_map(|entry| offset_of(&entry.name, suffix)).collect()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.options.dir.join(name)
    }

    fn remove(&mut self, is_leftover: impl Fn(&str) -> bool) -> io::Result<()> {
        for at in (0..self.entries.len()).rev() {
            let entry = &self.entries[at];
            if !entry.is_dir && is_leftover(&entry.name) {
                self.options.disk.remove_file(&self.path(&entry.name))?;
                self.entries.remove(at);
                self.changed = true;
            }
        }
        Ok(())
    }

    /// Brings to its end what the cleaner had committed, and takes back what it had not. Whatever
    /// says which of the two it is outlasts what it says that of.
    fn finish_swaps(&mut self) -> io::Result<()> {
        let cleaned = |name: &str| leading_offset(name).filter(|_| name.ends_with(CLEANED));
        // The cleaner renames from the last segment to the first: a `.swap` behind a `.cleaned` is
        // of a set that was not committed as a whole.
        if let Some(first) = self.entries.iter().filter_map(|e| cleaned(&e.name)).min() {
            self.remove(|name| {
                name.ends_with(SWAP) && leading_offset(name).is_some_and(|base| base >= first)
            })?;
            self.sync()?;
            self.remove(|name| name.ends_with(CLEANED))?;
            self.sync()?;
        }
        let swapped = self.offsets("log.swap");
        if let (Some(&first), Some(&last)) = (swapped.first(), swapped.last()) {
            let path = self.options.path(last, "log.swap");
            let end = self.next_offset(&path)?.unwrap_or(last);
            info!(path = %path.display(), "finishing what the log cleaner had committed");
            let replaced = |name: &str| {
                let is_within = |base| (first <= base && base < end) || swapped.contains(&base);
                !name.ends_with(SWAP) && leading_offset(name).is_some_and(is_within)
            };
            // A log must not be left without its index of aborted transactions.
            self.remove(|name| name.ends_with(".log") && replaced(name))?;
            self.sync()?;
            self.remove(replaced)?;
            self.sync()?;
            self.drop_swap("log.swap")?;
            self.sync()?;
        }
        // Without its log, an index belongs to one that was renamed already.
        self.drop_swap(SWAP)
    }

    /// Takes [`SWAP`] off the names that end with `suffix`.
    fn drop_swap(&mut self, suffix: &str) -> io::Result<()> {
        let (disk, dir) = (&*self.options.disk, &self.options.dir);
        for entry in self.entries.iter_mut().filter(|entry| entry.name.ends_with(suffix)) {
            let name = entry.name[..entry.name.len() - SWAP.len()].to_owned();
            disk.rename(&dir.join(&entry.name), &dir.join(&name))?;
            entry.name = name;
            self.changed = true;
        }
        self.entries.sort_by(|a, b| a.name.cmp(&b.name));
        self.entries.dedup_by(|a, b| a.name == b.name);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.options.disk.sync_dir(&self.options.dir)
    }

    /// The offset behind the last batch of a log file.
    fn next_offset(&self, path: &Path) -> io::Result<Option<Offset>> {
        let file = self.options.disk.open(path, OpenMode::Read)?;
        let mut next = None;
        Scan::new(&*file, &path.display(), 0..file.len()?)
            .each(|batch| next = Some(batch.next_offset()))?;
        Ok(next)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use ottla_fake::FakeDisk;
    use ottla_record::{BatchBuilder, BatchOptions};
    use ottla_runtime::Disk;

    fn options(disk: &Arc<FakeDisk>) -> SegmentOptions {
        SegmentOptions {
            disk: disk.clone(),
            dir: Path::new("/d").into(),
            index_interval_bytes: 4096,
            index_bytes_max: 1200,
        }
    }

    /// A file that holds one batch with the offsets 10 to 29, under each of the names.
    fn disk_with(names: &[&str]) -> Arc<FakeDisk> {
        let disk = FakeDisk::with_dir("/d");
        let base_offset = Offset(10);
        let mut batch = BatchBuilder::new(BatchOptions { base_offset, ..BatchOptions::default() });
        for _ in 0..20 {
            batch.append(ottla_record::Timestamp(1), None, Some(b"value"), &[]);
        }
        let bytes = batch.build();
        for name in names {
            let path = Path::new("/d").join(name);
            let file = disk.open(&path, OpenMode::Create).unwrap();
            file.write_at(&[io::IoSlice::new(&bytes)], 0).unwrap();
        }
        disk
    }

    fn names(disk: &FakeDisk) -> Vec<String> {
        let entries = disk.read_dir(Path::new("/d")).unwrap();
        entries.into_iter().map(|entry| entry.name).collect()
    }

    fn file(offset: i64, suffix: &str) -> String {
        format!("{offset:020}.{suffix}")
    }

    #[track_caller]
    fn check(before: &[String], after: &[String]) {
        let before: Vec<&str> = before.iter().map(String::as_str).collect();
        let disk = disk_with(&before);
        let bases = list_segments(&options(&disk)).unwrap();
        assert_eq!(names(&disk), after);
        let logs = after.iter().filter_map(|name| offset_of(name, "log")).collect::<Vec<_>>();
        assert_eq!(bases, logs);
    }

    #[test]
    fn what_was_removed_or_half_written_goes() {
        check(
            &[
                file(0, "index"),
                file(0, "index.deleted"),
                file(0, "log"),
                file(0, "log.deleted"),
                file(0, "snapshot.deleted"),
                file(30, "index"),
                file(30, "snapshot"),
                file(40, "timeindex"),
                file(40, "txnindex"),
                "leader-epoch-checkpoint".into(),
                "leader-epoch-checkpoint.tmp".into(),
                "partition.metadata".into(),
                "notes-of-0123456789012.log".into(),
            ],
            &[
                file(0, "index"),
                file(0, "log"),
                file(30, "snapshot"),
                "leader-epoch-checkpoint".into(),
                "notes-of-0123456789012.log".into(),
                "partition.metadata".into(),
            ],
        );
    }

    #[test]
    fn a_swap_replaces_the_segments_within_its_offsets() {
        check(
            &[
                file(0, "log"),
                file(10, "index.swap"),
                file(10, "log"),
                file(10, "log.swap"),
                file(10, "timeindex"),
                file(10, "timeindex.swap"),
                file(20, "log"),
                file(29, "log"),
                file(30, "log"),
            ],
            &[
                file(0, "log"),
                file(10, "index"),
                file(10, "log"),
                file(10, "timeindex"),
                file(30, "log"),
            ],
        );
    }

    #[test]
    fn indexes_follow_a_log_that_was_renamed_before_them() {
        check(
            &[
                file(10, "index.swap"),
                file(10, "log"),
                file(10, "timeindex"),
                file(10, "txnindex.swap"),
                file(30, "log"),
            ],
            &[
                file(10, "index"),
                file(10, "log"),
                file(10, "timeindex"),
                file(10, "txnindex"),
                file(30, "log"),
            ],
        );
    }

    #[test]
    fn a_swap_without_records_replaces_the_segment_of_its_offset() {
        let disk = disk_with(&[&file(10, "index"), &file(10, "log"), &file(30, "log")]);
        for name in [file(10, "index.swap"), file(10, "log.swap")] {
            disk.open(&Path::new("/d").join(name), OpenMode::Create).unwrap();
        }
        assert_eq!(list_segments(&options(&disk)).unwrap(), [Offset(10), Offset(30)]);
        assert_eq!(names(&disk), [file(10, "index"), file(10, "log"), file(30, "log")]);
        for name in [file(10, "index"), file(10, "log")] {
            let file = disk.open(&Path::new("/d").join(name), OpenMode::Read).unwrap();
            assert!(file.is_empty().unwrap());
        }
    }

    #[test]
    fn a_swap_at_or_behind_an_uncommitted_segment_is_taken_back() {
        check(
            &[
                file(0, "log"),
                file(0, "log.cleaned"),
                file(10, "log"),
                file(10, "log.swap"),
                file(10, "timeindex.swap"),
            ],
            &[file(0, "log"), file(10, "log")],
        );
    }
}
