//! Whether the files of log directories agree with themselves and each other.
//!
//! All of a directory is read once, front to back: what is held of a partition is a piece of each
//! file, its history of leader epochs and its open transactions.

mod indexes;
mod partition;
mod segment;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use ottla_record::Offset;
use ottla_runtime::disk::Disk;

use super::FileKind;
use super::finding::{Finding, Fix, Meaning};
use crate::checkpoint::{self, TopicPartition};
use crate::directory::{
    CLEAN_MARKER, HIGH_WATERMARKS, LOG_START_OFFSETS, Offsets, RECOVERY_POINTS, SubDirectory,
};
pub(crate) use indexes::Transactions;
use partition::Known;
pub(crate) use partition::{KEPT_PREFIX, offsets_of};

const CLEANER_OFFSETS: &str = "cleaner-offset-checkpoint";
/// Topics that are compacted whatever a checkpoint says.
const COMPACTED_TOPICS: [&str; 2] = ["__consumer_offsets", "__transaction_state"];

/// How closely is looked.
#[derive(Clone, Copy, Debug, Default)]
pub struct VerifyOptions {
    /// Batches are not unpacked: their checksums alone are believed.
    pub shallow: bool,
    /// A broker runs on the directories: what is at the end of a log may be being written.
    pub is_running: bool,
}

/// How far a walk has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Segments and snapshots.
    pub files: u64,
    /// Bytes of batches.
    pub bytes: u64,
}

/// What a walk came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// How much was read.
    pub read: Progress,
    /// Partitions that were looked at.
    pub partitions: u64,
    /// Batches in their logs.
    pub batches: u64,
    /// Records in these; 0 if they were not unpacked.
    pub records: u64,
    /// Findings that mean no harm.
    pub harmless: u64,
    /// The others.
    pub inconsistencies: u64,
}

/// Looks at directories, each a log directory or that of one partition; `found` is given what is
/// wrong, `progress` how far it came, every few MiB.
///
/// # Errors
/// A directory or file cannot be read.
pub fn verify(
    disk: &dyn Disk,
    dirs: &[PathBuf],
    options: VerifyOptions,
    found: &mut dyn FnMut(Finding),
    progress: &mut dyn FnMut(Progress),
) -> io::Result<Summary> {
    let summary = Summary::default();
    let mut report = Report { options, found, progress, summary, told_bytes: 0 };
    let mut places = BTreeMap::new();
    for dir in dirs {
        match partition_at(disk, dir)? {
            Some((data, partition)) => {
                let known = Checkpointed::read(disk, &data, &mut report).known(
                    &partition,
                    disk.exists(&data.join(CLEAN_MARKER)),
                    options,
                );
                report.partition(disk, dir, known)?;
            }
            None => directory(disk, dir, &mut places, &mut report)?,
        }
    }
    Ok(report.summary)
}

/// Whether `dir` is that of one partition; with its log directory.
pub(crate) fn partition_at(
    disk: &dyn Disk,
    dir: &Path,
) -> io::Result<Option<(PathBuf, TopicPartition)>> {
    let dir = std::path::absolute(dir)?;
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    let Some(SubDirectory::Log(partition)) = SubDirectory::parse(&name) else { return Ok(None) };
    let holds_segments = |name: &str| FileKind::of(Path::new(name)) == Some(FileKind::Log);
    if !disk.read_dir(&dir)?.iter().any(|entry| holds_segments(&entry.name)) {
        return Ok(None);
    }
    Ok(dir.parent().map(|data| (data.to_owned(), partition)))
}

/// Whom findings are told, and what was counted.
struct Report<'r> {
    options: VerifyOptions,
    found: &'r mut dyn FnMut(Finding),
    progress: &'r mut dyn FnMut(Progress),
    summary: Summary,
    told_bytes: u64,
}

impl Report<'_> {
    fn is_shallow(&self) -> bool {
        self.options.shallow
    }

    fn find(&mut self, finding: Finding) {
        match finding.meaning {
            Meaning::Harmless => self.summary.harmless += 1,
            _ => self.summary.inconsistencies += 1,
        }
        (self.found)(finding);
    }

    fn file(&mut self) {
        self.summary.read.files += 1;
        (self.progress)(self.summary.read);
    }

    fn batch(&mut self, bytes: u64) {
        const TELL_EVERY_BYTES: u64 = 4 << 20;
        self.summary.batches += 1;
        self.summary.read.bytes += bytes;
        if self.summary.read.bytes - self.told_bytes >= TELL_EVERY_BYTES {
            self.told_bytes = self.summary.read.bytes;
            (self.progress)(self.summary.read);
        }
    }

    fn records(&mut self, records: u64) {
        self.summary.records += records;
    }

    fn partition(&mut self, disk: &dyn Disk, dir: &Path, known: Known) -> io::Result<()> {
        self.summary.partitions += 1;
        let is_running = known.is_running;
        match partition::verify(disk, dir, known, self) {
            // Deleted under us.
            Err(error) if error.kind() == io::ErrorKind::NotFound && is_running => Ok(()),
            verified => verified.map(drop),
        }
    }
}

/// The checkpoints of a log directory.
#[derive(Default)]
struct Checkpointed {
    recovery_points: Offsets,
    high_watermarks: Offsets,
    log_starts: Offsets,
    cleaned: Offsets,
}

impl Checkpointed {
    fn read(disk: &dyn Disk, dir: &Path, report: &mut Report<'_>) -> Self {
        let mut read = |name: &str, fix: Fix| {
            let path = dir.join(name);
            checkpoint::read_offsets(disk, &path).unwrap_or_else(|error| {
                let meaning = if fix == Fix::None { Meaning::Operator } else { Meaning::Derived };
                let what = match fix {
                    Fix::None => format!("{error}; without it deleted records come back"),
                    _ => error.to_string(),
                };
                let (position, offset) = (None, None);
                report.find(Finding { path, position, offset, what, meaning, fix });
                Offsets::new()
            })
        };
        Self {
            recovery_points: read(RECOVERY_POINTS, Fix::SetAside),
            high_watermarks: read(HIGH_WATERMARKS, Fix::SetAside),
            log_starts: read(LOG_START_OFFSETS, Fix::None),
            cleaned: read(CLEANER_OFFSETS, Fix::SetAside),
        }
    }

    fn known(&self, partition: &TopicPartition, is_clean: bool, options: VerifyOptions) -> Known {
        let of = |offsets: &Offsets| offsets.get(partition).copied().unwrap_or_default();
        Known {
            recovery_point: of(&self.recovery_points),
            high_watermark: of(&self.high_watermarks),
            log_start: of(&self.log_starts),
            is_clean,
            is_running: options.is_running,
            is_compacted: self.cleaned.contains_key(partition)
                || COMPACTED_TOPICS.contains(&partition.topic.as_str()),
        }
    }
}

fn directory(
    disk: &dyn Disk,
    dir: &Path,
    places: &mut BTreeMap<TopicPartition, PathBuf>,
    report: &mut Report<'_>,
) -> io::Result<()> {
    let checkpoints = Checkpointed::read(disk, dir, report);
    let is_clean = disk.exists(&dir.join(CLEAN_MARKER));
    let mut present = BTreeSet::new();
    for entry in disk.read_dir(dir)?.into_iter().filter(|entry| entry.is_dir) {
        let path = dir.join(&entry.name);
        let partition = match SubDirectory::parse(&entry.name) {
            Some(SubDirectory::Log(partition)) => partition,
            Some(SubDirectory::Deleted | SubDirectory::SetAside | SubDirectory::Future(_)) => {
                // Its entries in the checkpoints may not be gone yet.
                let name = entry.name.rsplit_once('.').map_or("", |(name, _)| name);
                if let Some(SubDirectory::Log(partition)) = SubDirectory::parse(name) {
                    present.insert(partition);
                }
                continue;
            }
            Some(SubDirectory::Other) => continue,
            None => {
                let what = "it is not named <topic>-<partition>: the broker does not start until \
                            it is moved out of the log directory";
                report.find(named(path, what.to_owned(), Meaning::Operator));
                continue;
            }
        };
        if let Some(twin) = places.insert(partition.clone(), path.clone()) {
            let what = format!("{partition} lies in {} too", twin.display());
            report.find(named(path.clone(), what, Meaning::Operator));
        }
        let known = checkpoints.known(&partition, is_clean, report.options);
        present.insert(partition);
        report.partition(disk, &path, known)?;
    }
    missing(dir, &checkpoints, &present, report);
    Ok(())
}

/// Logs that the checkpoints know, and that are not there.
fn missing(
    dir: &Path,
    checkpoints: &Checkpointed,
    present: &BTreeSet<TopicPartition>,
    report: &mut Report<'_>,
) {
    let written = |offsets: &Offsets| -> Vec<(TopicPartition, Offset)> {
        let missing = offsets
            .iter()
            .filter(|(partition, offset)| **offset > Offset::ZERO && !present.contains(*partition));
        missing.map(|(partition, offset)| (partition.clone(), *offset)).collect()
    };
    let mut missing: BTreeMap<_, _> = written(&checkpoints.recovery_points).into_iter().collect();
    missing.extend(written(&checkpoints.high_watermarks));
    if report.options.is_running {
        return;
    }
    for (partition, offset) in missing {
        let what = format!("the log is missing, and the checkpoints know it up to offset {offset}");
        report.find(named(dir.join(partition.to_string()), what, Meaning::Lost));
    }
}

fn named(path: PathBuf, what: String, meaning: Meaning) -> Finding {
    Finding { path, position: None, offset: None, what, meaning, fix: Fix::None }
}
