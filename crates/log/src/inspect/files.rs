//! What a file is, by its name.

use std::io;
use std::path::Path;

use ottla_record::Offset;
use ottla_runtime::disk::{Disk, read_file};

/// The kinds of files in a log directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// `<offset>.log`: record batches.
    Log,
    /// `<offset>.index`: offset → byte position.
    OffsetIndex,
    /// `<offset>.timeindex`: timestamp → offset.
    TimeIndex,
    /// `<offset>.txnindex`: aborted transactions.
    TransactionIndex,
    /// `<offset>.snapshot`: the producers up to an offset.
    Snapshot,
    /// A checkpoint of offsets or of leader epochs.
    Checkpoint,
    /// `partition.metadata`, `meta.properties`, or the marker of a clean stop.
    Text,
}

impl FileKind {
    /// The kind of the file at `path`; `None` if a log directory has none of that name.
    #[must_use]
    pub fn of(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?;
        match name {
            "meta.properties" | "partition.metadata" | ".kafka_cleanshutdown" => {
                return Some(Self::Text);
            }
            _ if name.ends_with("-checkpoint") => return Some(Self::Checkpoint),
            _ => {}
        }
        match path.extension()?.to_str()? {
            "log" => Some(Self::Log),
            "index" => Some(Self::OffsetIndex),
            "timeindex" => Some(Self::TimeIndex),
            "txnindex" => Some(Self::TransactionIndex),
            "snapshot" => Some(Self::Snapshot),
            _ => None,
        }
    }
}

/// The offset that a file is named after: the digits before the first dot.
#[must_use]
pub fn base_offset_of(path: &Path) -> Option<Offset> {
    let digits = path.file_name()?.to_str()?.split('.').next()?;
    let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    if is_number { digits.parse().ok().map(Offset) } else { None }
}

/// The text of a small file: a checkpoint, `meta.properties`, `partition.metadata`.
///
/// # Errors
/// The disk's, and [`io::ErrorKind::InvalidData`] for more than 64 MiB.
pub fn read_text(disk: &dyn Disk, path: &Path) -> io::Result<String> {
    const BYTES_MAX: u64 = 64 << 20;
    let len = disk.open(path, ottla_runtime::disk::OpenMode::Read)?.len()?;
    if len > BYTES_MAX {
        let message = format!("{} has {len} bytes, which no such file has", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    Ok(String::from_utf8_lossy(&read_file(disk, path)?).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_kinds_and_offsets() {
        for (name, kind, offset) in [
            ("00000000000000000042.log", Some(FileKind::Log), Some(42)),
            ("00000000000000000042.index", Some(FileKind::OffsetIndex), Some(42)),
            ("7.timeindex", Some(FileKind::TimeIndex), Some(7)),
            ("00000000000000000042.txnindex", Some(FileKind::TransactionIndex), Some(42)),
            ("00000000000000000042.snapshot", Some(FileKind::Snapshot), Some(42)),
            ("leader-epoch-checkpoint", Some(FileKind::Checkpoint), None),
            ("meta.properties", Some(FileKind::Text), None),
            ("99999999999999999999.log", Some(FileKind::Log), None),
            (".lock", None, None),
        ] {
            let path = Path::new("/d").join(name);
            assert_eq!(FileKind::of(&path), kind, "{name}");
            assert_eq!(base_offset_of(&path), offset.map(Offset), "{name}");
        }
    }
}
