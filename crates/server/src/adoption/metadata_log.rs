//! KRaft's metadata log as files: the newest snapshot, and the log behind it.
//!
//! A voter that is alone has everything committed that is on its disk. What a kill left half written
//! at the end of the last segment was never told to anybody, and is passed over; any other fault is
//! an error that names file and position.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use ottla_log::inspect::{BatchReader, Step, StoredBatch, UnreadableRecords};
use ottla_metadata::adoption::{Image, RecordError, Replay};
use ottla_record::Offset;
use ottla_runtime::World;
use tracing::{info, warn};

/// The partition that KRaft keeps its metadata in, as a sub-directory of a log directory.
pub(super) const METADATA_LOG: &str = "__cluster_metadata-0";
/// What `kafka-storage format` left for the first controller, beside that directory.
pub(super) const BOOTSTRAP: &str = "bootstrap.checkpoint";

/// Kafka writes no batch of metadata beyond 8 MiB.
const BATCH_BYTES_MAX: u64 = 64 << 20;

/// Control records of a snapshot, by the second number of their keys.
const SNAPSHOT_HEADER: i16 = 3;
const SNAPSHOT_FOOTER: i16 = 4;

/// Why a metadata log cannot be read.
#[derive(Debug)]
pub struct MetadataLogError {
    path: PathBuf,
    /// Bytes from the start of the file, where one is at fault.
    position: Option<u64>,
    fault: Fault,
}

#[derive(Debug)]
enum Fault {
    Io(io::Error),
    /// Damage, in words.
    Damaged(String),
    Record(Offset, RecordError),
}

impl fmt::Display for MetadataLogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.display().fmt(f)?;
        if let Some(position) = self.position {
            write!(f, " at byte {position}")?;
        }
        match &self.fault {
            Fault::Io(error) => write!(f, ": {error}"),
            Fault::Damaged(what) => write!(
                f,
                ": {what}. Nothing was adopted; put the file back from a backup, or from another \
                 controller of the cluster"
            ),
            Fault::Record(offset, error) => write!(
                f,
                ", the record at offset {offset}: {error}. Nothing was adopted, for nothing may be \
                 lost in silence; take a newer Ottla"
            ),
        }
    }
}

impl std::error::Error for MetadataLogError {}

/// Replays the metadata log in `dir`, its newest snapshot first.
pub(super) fn replay(world: &World, dir: &Path) -> Result<Image, MetadataLogError> {
    let failed = |error| MetadataLogError::new(dir, None, Fault::Io(error));
    let entries = world.disk.read_dir(dir).map_err(failed)?;
    let names = || entries.iter().filter(|entry| !entry.is_dir).map(|entry| &*entry.name);
    let mut reading = Reading { world, replay: Replay::default(), next: Offset(0) };
    if let Some((end, name)) = names().filter_map(|n| Some((snapshot_end(n)?, n))).max() {
        reading.snapshot(&dir.join(name))?;
        reading.next = end.0;
    }
    let mut segments: Vec<(Offset, &str)> =
        names().filter_map(|name| Some((segment_base(name)?, name))).collect();
    segments.sort_unstable();
    for (at, (base, name)) in segments.iter().enumerate() {
        let following = segments.get(at + 1);
        if following.is_some_and(|(next, _)| *next <= reading.next) {
            continue;
        }
        if *base > reading.next {
            return Err(gap(&dir.join(name), None, *base, reading.next));
        }
        reading.segment(&dir.join(name), *base, following.is_none())?;
    }
    let (records, end) = (reading.replay.records(), reading.next);
    info!(dir = %dir.display(), records, %end, "replayed Kafka's metadata log");
    Ok(reading.replay.finish())
}

/// Replays what was laid down for a cluster that has never run.
pub(super) fn replay_bootstrap(world: &World, path: &Path) -> Result<Image, MetadataLogError> {
    let mut reading = Reading { world, replay: Replay::default(), next: Offset(0) };
    reading.snapshot(path)?;
    Ok(reading.replay.finish())
}

/// `<offset>-<epoch>.checkpoint`: end offset and epoch of a whole snapshot.
fn snapshot_end(name: &str) -> Option<(Offset, i32)> {
    let (offset, epoch) = name.strip_suffix(".checkpoint")?.split_once('-')?;
    let is_number = |text: &str, digits| {
        text.len() == digits && text.bytes().all(|digit| digit.is_ascii_digit())
    };
    let is_name = is_number(offset, 20) && is_number(epoch, 10);
    if is_name { Some((Offset(offset.parse().ok()?), epoch.parse().ok()?)) } else { None }
}

fn segment_base(name: &str) -> Option<Offset> {
    let digits = name.strip_suffix(".log").filter(|digits| digits.len() == 20)?;
    digits.parse().ok().map(Offset)
}

impl MetadataLogError {
    fn new(path: &Path, position: Option<u64>, fault: Fault) -> Self {
        Self { path: path.to_owned(), position, fault }
    }
}

struct Reading<'a> {
    world: &'a World,
    replay: Replay,
    /// The offset that has to follow.
    next: Offset,
}

impl Reading<'_> {
    fn open(&self, path: &Path) -> Result<BatchReader, MetadataLogError> {
        BatchReader::open(&*self.world.disk, path, BATCH_BYTES_MAX)
            .map_err(|error| MetadataLogError::new(path, None, Fault::Io(error)))
    }

    /// A snapshot counts as a whole: it has its header first and its footer last.
    fn snapshot(&mut self, path: &Path) -> Result<(), MetadataLogError> {
        let mut reader = self.open(path)?;
        let (mut has_header, mut has_footer) = (false, false);
        while let Some(step) = step(&mut reader)? {
            let batch = match step {
                Step::Batch(batch) if batch.is_valid => batch,
                step => return Err(damaged(path, &step)),
            };
            for kind in self.batch(&reader, &batch, Offset(i64::MIN))? {
                has_header |= kind == SNAPSHOT_HEADER;
                has_footer |= kind == SNAPSHOT_FOOTER;
            }
            if !has_header {
                break;
            }
        }
        if has_header && has_footer {
            return Ok(());
        }
        let what = "the snapshot is cut: it has no header, or no footer".to_owned();
        Err(MetadataLogError::new(path, Some(reader.end()), Fault::Damaged(what)))
    }

    /// Offsets of a metadata log have no gaps. What a snapshot covers is checked, not replayed.
    fn segment(
        &mut self,
        path: &Path,
        base: Offset,
        is_last: bool,
    ) -> Result<(), MetadataLogError> {
        let (mut reader, mut expected) = (self.open(path)?, base);
        while let Some(step) = step(&mut reader)? {
            let batch = match step {
                Step::Batch(batch) if batch.is_valid => batch,
                Step::NoBatch { position, bytes, ref error }
                    if is_last && is_torn(&mut reader, position)? =>
                {
                    warn!(path = %path.display(), position, bytes, %error,
                        "passed over what a kill left half written at the end of the metadata log");
                    return Ok(());
                }
                step => return Err(damaged(path, &step)),
            };
            let (first, last) = (batch.first_field_offset(), batch.last_offset());
            if first != expected {
                return Err(gap(path, Some(batch.position), first, expected));
            }
            expected = Offset(last.0.saturating_add(1));
            if last >= self.next {
                self.batch(&reader, &batch, self.next)?;
                self.next = expected;
            }
        }
        Ok(())
    }

    /// Replays the records of a batch from `from` on. Gives the kinds of its control records.
    fn batch(
        &mut self,
        reader: &BatchReader,
        batch: &StoredBatch,
        from: Offset,
    ) -> Result<Vec<i16>, MetadataLogError> {
        let fail = |fault| MetadataLogError::new(reader.path(), Some(batch.position), fault);
        let is_control = batch.header().is_some_and(|header| header.attributes().is_control());
        let (mut kinds, mut failed) = (Vec::new(), None);
        let visited = reader.visit_records(batch, |record| {
            if failed.is_some() || record.offset < from {
                return;
            }
            if is_control {
                kinds.extend(record.key.and_then(control_kind));
                return;
            }
            let applied = record.value.ok_or(RecordError::Empty).and_then(|v| self.replay.apply(v));
            failed = applied.err().map(|error| (record.offset, error));
        });
        visited
            .map_err(|error| fail(Fault::Io(error)))?
            .map_err(|error: UnreadableRecords| fail(Fault::Damaged(error.to_string())))?;
        match failed {
            Some((offset, error)) => Err(fail(Fault::Record(offset, error))),
            None => Ok(kinds),
        }
    }
}

fn gap(path: &Path, position: Option<u64>, found: Offset, expected: Offset) -> MetadataLogError {
    let what = format!("offset {found} is here, and {expected} has to follow");
    MetadataLogError::new(path, position, Fault::Damaged(what))
}

fn step(reader: &mut BatchReader) -> Result<Option<Step>, MetadataLogError> {
    let path = reader.path().to_owned();
    reader.step().map_err(|error| MetadataLogError::new(&path, None, Fault::Io(error)))
}

fn damaged(path: &Path, step: &Step) -> MetadataLogError {
    let (position, what) = match step {
        Step::Batch(batch) => (batch.position, "the checksum does not agree with it".to_owned()),
        Step::NoBatch { position, error, .. } => (*position, error.to_string()),
    };
    MetadataLogError::new(path, Some(position), Fault::Damaged(what))
}

/// Whether no batch follows on what is none: it is the end of the log, half written.
fn is_torn(reader: &mut BatchReader, position: u64) -> Result<bool, MetadataLogError> {
    let path = reader.path().to_owned();
    let found = reader.find_valid(position + 1, Offset(0)..=Offset(i64::MAX));
    let found = found.map_err(|error| MetadataLogError::new(&path, None, Fault::Io(error)))?;
    Ok(found.is_none())
}

/// The kind of a control record: the second number of its key.
fn control_kind(key: &[u8]) -> Option<i16> {
    let kind = key.get(2..4)?;
    Some(i16::from_be_bytes([kind[0], kind[1]]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots_are_known_by_their_names() {
        let name = "00000000000000000179-0000000002.checkpoint";
        assert_eq!(snapshot_end(name), Some((Offset(179), 2)));
        for other in ["bootstrap.checkpoint", "leader-epoch-checkpoint", "179-2.checkpoint"] {
            assert_eq!(snapshot_end(other), None);
        }
        assert_eq!(snapshot_end(&format!("{name}.part")), None);
        assert_eq!(snapshot_end(&format!("{name}.deleted")), None);
        assert_eq!(segment_base("00000000000000000042.log"), Some(Offset(42)));
        assert_eq!(segment_base("00000000000000000042.index"), None);
    }
}
