//! Putting right what [`verify`] finds: what is derived is made anew from the log, and damaged bytes
//! are cut out if that is asked for.
//!
//! Nothing is deleted. What is replaced or cut is first kept: in `.damaged-<milliseconds>` within the
//! partition's directory, which brokers do not look into, or beside a file of the log directory, with
//! that at the end of its name.
//!
//! Whatever moment a crash picks, the log is as it was before or after a step, and another repair
//! goes on from there: copies are durable before a file is changed, segments go from the last to the
//! first, a file is replaced by one rename, and the checkpoints follow the log. The marker of a clean
//! stop goes first, so that a broker believes the checkpoints and no more.

mod derive;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IoSlice};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ottla_record::Offset;
use ottla_runtime::disk::{DirLock, Disk, LockError, OpenMode};

use super::finding::{Cut, Finding, Fix, Meaning};
use super::verify::{KEPT_PREFIX, Progress, VerifyOptions, offsets_of, partition_at, verify};
use super::{FileKind, Summary};
use crate::checkpoint::{self, TopicPartition};
use crate::directory::{
    CLEAN_MARKER, DirectoryError, HIGH_WATERMARKS, LOCK, LOG_START_OFFSETS, RECOVERY_POINTS,
    SubDirectory, make_dir,
};

/// What is done about bytes that are no batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damaged {
    /// They stay, and are told of.
    Leave,
    /// The log ends at the first of them.
    Truncate,
    /// They are taken out, and what stands behind them is kept.
    Skip,
}

/// How a repair is done.
#[derive(Clone, Copy, Debug)]
pub struct RepairOptions {
    /// What is done about damaged bytes.
    pub damaged: Damaged,
    /// How far apart the entries of a new index are, in bytes (`index.interval.bytes`).
    pub index_interval_bytes: u64,
    /// The size that a new index may have, in bytes (`segment.index.bytes`).
    pub index_bytes_max: usize,
    /// The time, in milliseconds since 1970-01-01 UTC, by which what is kept is named.
    pub now_ms: i64,
}

/// A directory that nobody else uses while it is repaired.
pub struct Repair {
    disk: Arc<dyn Disk>,
    /// The log directory.
    data: PathBuf,
    /// That, or the directory of one partition in it.
    dir: PathBuf,
    options: RepairOptions,
    _lock: Box<dyn DirLock>,
}

/// What a repair is going to do.
#[derive(Debug)]
pub struct RepairPlan {
    /// What is going to be done, in words.
    pub steps: Vec<String>,
    /// What stays as it is.
    pub left: Vec<Finding>,
    findings: Vec<Finding>,
}

/// What a repair came to.
#[derive(Debug)]
pub struct Repaired {
    /// What was done, in words.
    pub done: Vec<String>,
    /// What is still wrong.
    pub left: Vec<Finding>,
    /// What the last look at the directory counted.
    pub summary: Summary,
}

impl Repair {
    /// Takes the lock of the log directory that `dir` is, or that it is a partition of.
    ///
    /// # Errors
    /// A broker uses it, or the disk refuses.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: RepairOptions,
    ) -> Result<Self, DirectoryError> {
        let failed = |error| DirectoryError::Io { path: dir.to_owned(), error };
        let partition = partition_at(&*disk, dir).map_err(failed)?;
        let data = partition.map_or_else(|| dir.to_owned(), |(data, _)| data);
        disk.read_dir(&data).map_err(failed)?;
        let lock = disk.lock(&data.join(LOCK)).map_err(|error| match error {
            LockError::Held { pid } => DirectoryError::InUse { dir: data.clone(), pid },
            LockError::Io(error) => DirectoryError::Io { path: data.join(LOCK), error },
        })?;
        Ok(Self { disk, data, dir: dir.to_owned(), options, _lock: lock })
    }

    /// Looks at all of the directory. It changes nothing.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn plan(&self, progress: &mut dyn FnMut(Progress)) -> io::Result<RepairPlan> {
        let (findings, _) = self.look(progress)?;
        let mut plan = RepairPlan { steps: Vec::new(), left: Vec::new(), findings: Vec::new() };
        let mut ends: BTreeSet<PathBuf> = BTreeSet::new();
        let damaged: BTreeSet<PathBuf> = match self.options.damaged {
            Damaged::Leave => findings.iter().filter(|f| f.is_damage()).map(dir_of).collect(),
            Damaged::Truncate | Damaged::Skip => BTreeSet::new(),
        };
        for finding in findings {
            let is_cut = matches!(finding.fix, Fix::Cut(_));
            let dir = dir_of(&finding);
            if damaged.contains(&dir) && finding.meaning != Meaning::Harmless {
                // Derived from half a log, it would be half of what it has to be; and a recovery
                // point brought back to the damage would let the next start cut what lies behind.
                plan.left.push(finding);
                continue;
            }
            if is_cut && ends.contains(&dir) {
                // It lies behind the new end.
                continue;
            }
            match self.step(&finding)? {
                Some(step) => {
                    if is_cut && self.options.damaged == Damaged::Truncate {
                        ends.insert(dir);
                    }
                    plan.steps.push(step);
                    plan.findings.push(finding);
                }
                None if finding.meaning == Meaning::Harmless => {}
                None => plan.left.push(finding),
            }
        }
        Ok(plan)
    }

    fn look(&self, progress: &mut dyn FnMut(Progress)) -> io::Result<(Vec<Finding>, Summary)> {
        let mut findings = Vec::new();
        let options = VerifyOptions { shallow: false, is_running: false };
        let dirs = std::slice::from_ref(&self.dir);
        let summary =
            verify(&*self.disk, dirs, options, &mut |finding| findings.push(finding), progress)?;
        Ok((findings, summary))
    }

    /// What puts a finding right, in words; `None` if nothing may or need be done.
    fn step(&self, finding: &Finding) -> io::Result<Option<String>> {
        let path = finding.path.display();
        if finding.meaning == Meaning::Harmless {
            return Ok(None);
        }
        Ok(Some(match &finding.fix {
            Fix::None => return Ok(None),
            Fix::Indexes(base) => format!("make the indexes of segment {base} anew ({path})"),
            Fix::TransactionIndex(_) => format!("make {path} anew"),
            Fix::Snapshot(_) => format!("make {path} anew, or go without it"),
            Fix::Epochs => format!("make the history of leader epochs anew ({path})"),
            Fix::SetAside => format!("move {path} to the side"),
            Fix::Checkpoint => {
                format!("bring the checkpointed offsets of {path} back to the end of its log")
            }
            Fix::Cut(cut) => match self.options.damaged {
                Damaged::Leave => return Ok(None),
                Damaged::Skip => {
                    let bytes = cut.bytes.end - cut.bytes.start;
                    let next = cut.next.map_or_else(
                        || format!("the offsets from {} on in this segment", cut.first),
                        |next| format!("the offsets {} to {}", cut.first, next.0 - 1),
                    );
                    format!(
                        "take {bytes} bytes at byte {} out of {path}: {next} are lost",
                        cut.bytes.start
                    )
                }
                Damaged::Truncate => self.truncation(parent(&finding.path), cut)?,
            },
        }))
    }

    fn truncation(&self, dir: &Path, cut: &Cut) -> io::Result<String> {
        let entries = self.disk.read_dir(dir)?;
        let mut bytes = 0;
        let mut segments = 0;
        for base in offsets_of(&entries, FileKind::Log).into_iter().filter(|&b| b >= cut.base) {
            let len = self.disk.open(&log_path(dir, base), OpenMode::Read)?.len()?;
            bytes += if base == cut.base { len.saturating_sub(cut.bytes.start) } else { len };
            segments += u64::from(base > cut.base);
        }
        let partition = dir.display();
        Ok(format!(
            "end {partition} at offset {}: {bytes} bytes are lost, in its segment {} from byte {} \
             on and in {segments} whole segments behind",
            cut.first, cut.base, cut.bytes.start
        ))
    }

    /// Does what was planned, and looks again.
    ///
    /// # Errors
    /// The disk's; another repair goes on from there.
    pub fn apply(
        &self,
        plan: RepairPlan,
        progress: &mut dyn FnMut(Progress),
    ) -> io::Result<Repaired> {
        let RepairPlan { mut steps, findings, left } = plan;
        if findings.is_empty() {
            let (_, summary) = self.look(progress)?;
            return Ok(Repaired { done: steps, left, summary });
        }
        let marker = self.data.join(CLEAN_MARKER);
        if self.disk.exists(&marker) {
            self.set_aside(&marker)?;
        }
        self.cut(&findings)?;
        self.derive(findings.iter())?;
        // A log that was cut has other ends, and perhaps indexes to make.
        let again = self.plan(progress)?;
        self.derive(again.findings.iter())?;
        steps.extend(
            again.steps.into_iter().filter(|step| !steps.contains(step)).collect::<Vec<_>>(),
        );
        let (mut left, summary) = self.look(progress)?;
        left.retain(|finding| finding.meaning != Meaning::Harmless);
        Ok(Repaired { done: steps, left, summary })
    }

    fn cut(&self, findings: &[Finding]) -> io::Result<()> {
        let mut skipped: BTreeMap<(PathBuf, Offset), Vec<Range<u64>>> = BTreeMap::new();
        for finding in findings {
            let Fix::Cut(cut) = &finding.fix else { continue };
            let dir = parent(&finding.path);
            match self.options.damaged {
                Damaged::Leave => {}
                Damaged::Truncate => self.truncate(dir, cut)?,
                Damaged::Skip => {
                    let key = (dir.to_owned(), cut.base);
                    skipped.entry(key).or_default().push(cut.bytes.clone());
                }
            }
        }
        skipped.iter().try_for_each(|((dir, base), ranges)| self.skip(dir, *base, ranges))
    }

    /// Ends a log at a position.
    fn truncate(&self, dir: &Path, cut: &Cut) -> io::Result<()> {
        let path = log_path(dir, cut.base);
        let file = self.disk.open(&path, OpenMode::ReadWrite)?;
        let tail = cut.bytes.start..file.len()?;
        self.keep_bytes(&path, &tail)?;
        let entries = self.disk.read_dir(dir)?;
        for base in offsets_of(&entries, FileKind::Log).into_iter().rev() {
            if base > cut.base {
                self.set_aside_indexes(dir, base)?;
                self.set_aside(&log_path(dir, base))?;
            }
        }
        for offset in offsets_of(&entries, FileKind::Snapshot) {
            if offset > cut.first {
                self.set_aside(&dir.join(format!("{:020}.snapshot", offset.0)))?;
            }
        }
        self.set_aside_indexes(dir, cut.base)?;
        file.set_len(cut.bytes.start)?;
        file.sync_data()
    }

    /// Takes ranges out of a segment.
    fn skip(&self, dir: &Path, base: Offset, ranges: &[Range<u64>]) -> io::Result<()> {
        let path = log_path(dir, base);
        for range in ranges {
            self.keep_bytes(&path, range)?;
        }
        self.set_aside_indexes(dir, base)?;
        let from = self.disk.open(&path, OpenMode::Read)?;
        // A broker that finds this after a crash removes it.
        let new = dir.join(format!("{:020}.log.tmp", base.0));
        let to = self.disk.open(&new, OpenMode::Create)?;
        to.set_len(0)?;
        let (mut at, mut written) = (0, 0);
        for range in ranges.iter().cloned().chain(std::iter::once(from.len()?..u64::MAX)) {
            written += copy(&*from, at..range.start, &*to, written)?;
            at = range.end;
        }
        to.sync_data()?;
        self.disk.rename(&new, &path)?;
        self.disk.sync_dir(dir)
    }

    /// Copies bytes of a segment to where they are kept.
    fn keep_bytes(&self, path: &Path, range: &Range<u64>) -> io::Result<()> {
        let kept = self.kept(parent(path))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let copied = kept.join(format!("{name}.bytes-{}-to-{}", range.start, range.end));
        let from = self.disk.open(path, OpenMode::Read)?;
        let to = self.disk.open(&copied, OpenMode::Create)?;
        copy(&*from, range.clone(), &*to, 0)?;
        to.sync_data()?;
        self.disk.sync_dir(&kept)
    }

    fn set_aside_indexes(&self, dir: &Path, base: Offset) -> io::Result<()> {
        for suffix in ["index", "timeindex", "txnindex"] {
            self.set_aside(&dir.join(format!("{:020}.{suffix}", base.0)))?;
        }
        Ok(())
    }

    /// Moves a file to where it is kept, if it is there.
    fn set_aside(&self, path: &Path) -> io::Result<()> {
        if !self.disk.exists(path) {
            return Ok(());
        }
        let dir = parent(path);
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if dir == self.data {
            let kept = dir.join(format!("{name}{KEPT_PREFIX}{}", self.options.now_ms));
            self.disk.rename(path, &kept)?;
        } else {
            let kept = self.kept(dir)?;
            self.disk.rename(path, &kept.join(&*name))?;
            self.disk.sync_dir(&kept)?;
        }
        self.disk.sync_dir(dir)
    }

    /// The directory that the originals of a partition are kept in.
    fn kept(&self, dir: &Path) -> io::Result<PathBuf> {
        let kept = dir.join(format!("{KEPT_PREFIX}{}", self.options.now_ms));
        make_dir(&*self.disk, &kept)?;
        Ok(kept)
    }

    /// Brings the checkpointed offsets of a log back to its end.
    fn lower_checkpoints(&self, dir: &Path, end: Offset) -> io::Result<()> {
        let name = dir.file_name().unwrap_or_default().to_string_lossy();
        let Some(SubDirectory::Log(partition)) = SubDirectory::parse(&name) else { return Ok(()) };
        for name in [RECOVERY_POINTS, HIGH_WATERMARKS, LOG_START_OFFSETS] {
            self.lower(&self.data.join(name), &partition, end)?;
        }
        Ok(())
    }

    fn lower(&self, path: &Path, partition: &TopicPartition, end: Offset) -> io::Result<()> {
        let mut offsets = checkpoint::read_offsets(&*self.disk, path)?;
        match offsets.get_mut(partition) {
            Some(offset) if *offset > end => *offset = end,
            _ => return Ok(()),
        }
        let kept = format!("{}{KEPT_PREFIX}{}", path.display(), self.options.now_ms);
        let kept = Path::new(&kept);
        if !self.disk.exists(kept) {
            let from = self.disk.open(path, OpenMode::Read)?;
            let to = self.disk.open(kept, OpenMode::Create)?;
            copy(&*from, 0..from.len()?, &*to, 0)?;
            to.sync_data()?;
        }
        checkpoint::write_offsets(&*self.disk, path, &offsets)
    }
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}

/// The directory of the partition that a finding is about.
fn dir_of(finding: &Finding) -> PathBuf {
    match finding.fix {
        Fix::Checkpoint => finding.path.clone(),
        _ => parent(&finding.path).to_owned(),
    }
}

fn log_path(dir: &Path, base: Offset) -> PathBuf {
    dir.join(format!("{:020}.log", base.0))
}

/// Copies a range of a file to a position of another. Returns its bytes.
fn copy(
    from: &dyn ottla_runtime::File,
    range: Range<u64>,
    to: &dyn ottla_runtime::File,
    mut at: u64,
) -> io::Result<u64> {
    let mut piece = vec![0; 1 << 20];
    let mut position = range.start;
    while position < range.end {
        let wanted = (range.end - position).min(piece.len() as u64) as usize;
        let read = from.read_at(&mut piece[..wanted], position)?;
        if read == 0 {
            break;
        }
        to.write_at(&[IoSlice::new(&piece[..read])], at)?;
        position += read as u64;
        at += read as u64;
    }
    Ok(position - range.start)
}
