//! One partition's directory.

use std::io;
use std::path::Path;

use ottla_record::{LeaderEpoch, Offset, ProducerId, Uuid};
use ottla_runtime::disk::{DirEntry, Disk};

use super::Report;
use super::segment::{Carried, walk};
use crate::checkpoint;
use crate::directory::PARTITION_METADATA;
use crate::inspect::finding::{Finding, Fix, Meaning};
use crate::inspect::{FileKind, SnapshotError, base_offset_of, producers_of_snapshot, read_text};

/// The directories that a repair keeps originals in.
pub(crate) const KEPT_PREFIX: &str = ".damaged-";

/// What is known of a log from outside of its directory.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    /// `recovery-point-offset-checkpoint`; 0 if it is not there.
    pub(super) recovery_point: Offset,
    /// `replication-offset-checkpoint`; 0 if it is not there.
    pub(super) high_watermark: Offset,
    /// `log-start-offset-checkpoint`; 0 if it is not there.
    pub(super) log_start: Offset,
    /// The broker stopped cleanly, so that it believes all it finds.
    pub(super) is_clean: bool,
    /// A broker writes to it.
    pub(super) is_running: bool,
    /// Records are missing in it by right.
    pub(super) is_compacted: bool,
}

/// A partition that is looked at.
pub(super) struct Partition<'a> {
    pub(super) disk: &'a dyn Disk,
    pub(super) dir: &'a Path,
    pub(super) known: Known,
    /// A repair took bytes out of it.
    pub(super) was_cut: bool,
    /// The log has all its segments since it was made.
    pub(super) begins_at_zero: bool,
    epochs: Vec<(LeaderEpoch, Offset)>,
}

/// Looks at a partition. Returns where its log ends.
pub(super) fn verify(
    disk: &dyn Disk,
    dir: &Path,
    known: Known,
    report: &mut Report<'_>,
) -> io::Result<Offset> {
    let entries = disk.read_dir(dir)?;
    let bases = offsets_of(&entries, FileKind::Log);
    let mut partition = Partition {
        disk,
        dir,
        known,
        was_cut: entries.iter().any(|e| e.is_dir && e.name.starts_with(KEPT_PREFIX)),
        begins_at_zero: bases.first() == Some(&Offset::ZERO),
        epochs: Vec::new(),
    };
    partition.names(&entries, &bases, report);
    partition.metadata(report)?;
    let epochs_are_readable = partition.read_epochs(report);
    let mut carried = Carried { epochs_told: !epochs_are_readable, ..Carried::default() };
    partition.open_transactions(&bases, &mut carried);
    for (at, &base) in bases.iter().enumerate() {
        let next = bases.get(at + 1).copied();
        match walk(&partition, report, &mut carried, base, next) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && partition.known.is_running => {
            }
            walked => walked?,
        }
        if carried.ends {
            break;
        }
    }
    let end = carried.next.unwrap_or(partition.known.log_start);
    partition.ends(end, report);
    for offset in offsets_of(&entries, FileKind::Snapshot) {
        partition.snapshot(offset, end, report)?;
    }
    Ok(end)
}

pub(crate) fn offsets_of(entries: &[DirEntry], kind: FileKind) -> Vec<Offset> {
    let of_kind = |entry: &&DirEntry| {
        !entry.is_dir && entry.name.len() > 20 && FileKind::of(Path::new(&entry.name)) == Some(kind)
    };
    entries.iter().filter(of_kind).filter_map(|e| base_offset_of(Path::new(&e.name))).collect()
}

impl Partition<'_> {
    /// The epoch that the checkpoint has for an offset.
    pub(super) fn epoch_at(&self, offset: Offset) -> Option<LeaderEpoch> {
        let above = self.epochs.partition_point(|&(_, start)| start <= offset);
        Some(self.epochs[above.checked_sub(1)?].0)
    }

    fn find(
        &self,
        report: &mut Report<'_>,
        name: &str,
        offset: Option<Offset>,
        what: String,
        meaning: Meaning,
        fix: Fix,
    ) {
        let path = if name.is_empty() { self.dir.to_owned() } else { self.dir.join(name) };
        report.find(Finding { path, position: None, offset, what, meaning, fix });
    }

    fn names(&self, entries: &[DirEntry], bases: &[Offset], report: &mut Report<'_>) {
        for DirEntry { name, is_dir, .. } in entries {
            let kind = FileKind::of(Path::new(name));
            let base = base_offset_of(Path::new(name));
            let (what, fix) = match (kind, base) {
                _ if *is_dir && name.starts_with(KEPT_PREFIX) => continue,
                (
                    Some(FileKind::OffsetIndex | FileKind::TimeIndex | FileKind::TransactionIndex),
                    Some(base),
                ) => match bases.contains(&base) {
                    true => continue,
                    false => {
                        ("an index without a log, which the next start removes", Fix::SetAside)
                    }
                },
                (Some(FileKind::Log | FileKind::Snapshot), Some(_)) => continue,
                (Some(FileKind::Checkpoint | FileKind::Text), _) => continue,
                _ if [".deleted", ".cleaned", ".swap", ".tmp"]
                    .iter()
                    .any(|s| name.ends_with(s)) =>
                {
                    ("left where the broker ended, the next start tidies it up", Fix::None)
                }
                _ => ("it is no file of a log, and is not read", Fix::None),
            };
            self.find(report, name, base, what.to_owned(), Meaning::Harmless, fix);
        }
        if bases.is_empty() && self.known.recovery_point > Offset::ZERO {
            let what = format!(
                "there is no segment, and {} offsets were written",
                self.known.recovery_point
            );
            self.find(report, "", None, what, Meaning::Lost, Fix::None);
        }
    }

    fn metadata(&self, report: &mut Report<'_>) -> io::Result<()> {
        let path = self.dir.join(PARTITION_METADATA);
        let (what, meaning) = if self.disk.exists(&path) {
            let text = read_text(self.disk, &path)?;
            let id = text.lines().find_map(|line| line.strip_prefix("topic_id:")).map(str::trim);
            if id.and_then(Uuid::parse).is_some_and(|id| !id.is_zero()) {
                return Ok(());
            }
            ("it has no topic id: move it away, and the broker writes it anew", Meaning::Operator)
        } else {
            ("it is missing; the broker writes it when it next serves the topic", Meaning::Harmless)
        };
        self.find(report, PARTITION_METADATA, None, what.to_owned(), meaning, Fix::None);
        Ok(())
    }

    /// Returns whether the history could be read.
    fn read_epochs(&mut self, report: &mut Report<'_>) -> bool {
        const NAME: &str = "leader-epoch-checkpoint";
        let lines = match checkpoint::read_lines(self.disk, &self.dir.join(NAME)) {
            Ok(lines) => lines,
            Err(error) => {
                self.find(report, NAME, None, error.to_string(), Meaning::Derived, Fix::Epochs);
                return false;
            }
        };
        for line in lines {
            let entry = line.split_once(' ').and_then(|(epoch, start)| {
                Some((LeaderEpoch(epoch.parse().ok()?), Offset(start.trim().parse().ok()?)))
            });
            let ascends = |&(epoch, start): &(LeaderEpoch, Offset)| {
                self.epochs.last().is_none_or(|&(e, s)| e < epoch && s < start)
            };
            match entry.filter(ascends) {
                Some(entry) => self.epochs.push(entry),
                None => {
                    let what = format!("line {line:?} is no epoch above the one before");
                    self.find(report, NAME, None, what, Meaning::Derived, Fix::Epochs);
                    return false;
                }
            }
        }
        true
    }

    /// The transactions that were open where the log begins.
    fn open_transactions(&self, bases: &[Offset], carried: &mut Carried) {
        let Some(first) = bases.first() else { return };
        let path = self.dir.join(format!("{:020}.snapshot", first.0));
        // A snapshot that cannot be read is told of later.
        let _ = producers_of_snapshot(self.disk, &path, |producer| {
            if producer.current_txn_first_offset >= Offset::ZERO {
                let (id, first) = (producer.producer_id, producer.current_txn_first_offset);
                carried.transactions.data(ProducerId(id.0), first);
            }
        });
    }

    /// What has to lie within the log.
    fn ends(&self, end: Offset, report: &mut Report<'_>) {
        if let Some(&(epoch, start)) = self.epochs.last().filter(|(_, start)| *start > end) {
            let what = format!("epoch {epoch} begins at {start}, beyond the end of the log, {end}");
            let name = "leader-epoch-checkpoint";
            self.find(report, name, Some(start), what, Meaning::Harmless, Fix::Epochs);
        }
        if self.known.is_running {
            return;
        }
        for (name, offset, lost) in [
            ("recovery point", self.known.recovery_point, "what lay before it was on the disk"),
            ("high watermark", self.known.high_watermark, "what lay before it was committed"),
            ("log start offset", self.known.log_start, "the next start empties the log"),
        ] {
            if offset > end {
                let what = format!("its {name} is {offset}, and its log ends at {end}: {lost}");
                self.find(report, "", Some(end), what, Meaning::Lost, Fix::Checkpoint);
            }
        }
    }

    fn snapshot(&self, offset: Offset, end: Offset, report: &mut Report<'_>) -> io::Result<()> {
        let name = format!("{:020}.snapshot", offset.0);
        let mut beyond = None;
        let read = producers_of_snapshot(self.disk, &self.dir.join(&name), |producer| {
            if producer.last_offset >= offset {
                beyond.get_or_insert((producer.producer_id, producer.last_offset));
            }
        });
        report.file();
        let (what, meaning, fix) = match (read, beyond) {
            (Err(SnapshotError::Io(error)), _) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(());
            }
            (Err(SnapshotError::Io(error)), _) => return Err(error),
            // The next start goes without it; after a clean stop nobody looks.
            (Err(error), _) if !self.known.is_clean => {
                (error.to_string(), Meaning::Harmless, Fix::Snapshot(offset))
            }
            (Err(error), _) => (error.to_string(), Meaning::Derived, Fix::Snapshot(offset)),
            (Ok(()), Some((producer, last))) => {
                let what =
                    format!("producer {producer} has offset {last}, which it cannot know of");
                (what, Meaning::Derived, Fix::Snapshot(offset))
            }
            (Ok(()), None) if offset > end && !self.known.is_running => {
                let what =
                    format!("it lies beyond the end of the log, {end}: the next start removes it");
                (what, Meaning::Harmless, Fix::SetAside)
            }
            (Ok(()), None) => return Ok(()),
        };
        self.find(report, &name, Some(offset), what, meaning, fix);
        Ok(())
    }
}
