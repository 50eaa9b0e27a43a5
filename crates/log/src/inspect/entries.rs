//! Walks over the entries of index files and producer snapshots.

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::path::Path;
use std::sync::Arc;

use ottla_record::{Crc32c, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};
use ottla_runtime::disk::{Disk, File, OpenMode};

use crate::index::{Entry as _, OffsetEntry, TimeEntry};

/// Entries that are read at a time.
const PIECE_ENTRIES: usize = 4096;

/// Bytes of a producer in a snapshot.
const PRODUCER_BYTES: usize = 46;

/// An entry of `.index`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexEntry {
    /// The last offset of the batch at `position`.
    pub offset: Offset,
    /// Bytes from the start of the log file.
    pub position: u64,
}

/// An entry of `.timeindex`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeIndexEntry {
    /// The greatest timestamp up to the offset.
    pub timestamp: Timestamp,
    /// The last offset of the batch that has it.
    pub offset: Offset,
}

/// An entry of `.txnindex`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortedTransaction {
    /// 0.
    pub version: i16,
    /// Whose transaction it was.
    pub producer_id: ProducerId,
    /// Its first record in this partition.
    pub first_offset: Offset,
    /// Its marker.
    pub last_offset: Offset,
    /// The last stable offset once the marker stood.
    pub last_stable_offset: Offset,
}

impl AbortedTransaction {
    /// Bytes of an entry.
    pub(crate) const SIZE: usize = 34;

    fn read(bytes: &[u8]) -> Self {
        let i64_at = |at: usize| i64::from_be_bytes(std::array::from_fn(|i| bytes[at + i]));
        Self {
            version: i16::from_be_bytes([bytes[0], bytes[1]]),
            producer_id: ProducerId(i64_at(2)),
            first_offset: Offset(i64_at(10)),
            last_offset: Offset(i64_at(18)),
            last_stable_offset: Offset(i64_at(26)),
        }
    }

    /// Appends the entry's bytes.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.version.to_be_bytes());
        for number in
            [self.producer_id.0, self.first_offset.0, self.last_offset.0, self.last_stable_offset.0]
        {
            out.extend_from_slice(&number.to_be_bytes());
        }
    }
}

/// The entries of an index file, in their order. The zeros that Kafka preallocates are left out.
pub struct Entries<T> {
    file: Arc<dyn File>,
    /// Bytes of the file.
    len: u64,
    entry_bytes: usize,
    next: u64,
    piece: Vec<u8>,
    at: usize,
    read: Read<T>,
    kind: PhantomData<T>,
}

/// Reads an entry at its index; `None` where the preallocated tail begins.
type Read<T> = Box<dyn Fn(u64, &[u8]) -> Option<T>>;

impl<T> Entries<T> {
    fn open(disk: &dyn Disk, path: &Path, entry_bytes: usize, read: Read<T>) -> io::Result<Self> {
        let file = disk.open(path, OpenMode::Read)?;
        let len = file.len()?;
        let (piece, kind) = (Vec::new(), PhantomData);
        Ok(Self { file, len, entry_bytes, next: 0, piece, at: 0, read, kind })
    }

    /// Bytes of the file.
    #[must_use]
    pub fn file_bytes(&self) -> u64 {
        self.len
    }

    /// Bytes behind the last whole entry.
    #[must_use]
    pub fn surplus_bytes(&self) -> u64 {
        self.len % self.entry_bytes as u64
    }

    /// The byte position of the entry that was read last.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.next.saturating_sub(1) * self.entry_bytes as u64
    }
}

impl<T> Entries<T> {
    fn refill(&mut self) -> io::Result<()> {
        let from = self.next * self.entry_bytes as u64;
        let wanted = (self.len.saturating_sub(from)).min((PIECE_ENTRIES * self.entry_bytes) as u64);
        self.piece.resize(wanted as usize, 0);
        let read = self.file.read_at(&mut self.piece, from)?;
        self.piece.truncate(read - read % self.entry_bytes);
        self.at = 0;
        Ok(())
    }
}

impl<T> Iterator for Entries<T> {
    type Item = io::Result<T>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.piece.len() {
            if let Err(error) = self.refill() {
                self.len = 0;
                return Some(Err(error));
            }
            if self.piece.is_empty() {
                return None;
            }
        }
        let bytes = &self.piece[self.at..self.at + self.entry_bytes];
        let entry = (self.read)(self.next, bytes);
        if entry.is_none() {
            (self.len, self.at) = (0, self.piece.len());
            return None;
        }
        self.at += self.entry_bytes;
        self.next += 1;
        entry.map(Ok)
    }
}

/// The entries of an offset index of a segment that begins at `base`.
///
/// # Errors
/// The disk's.
pub fn offset_entries(
    disk: &dyn Disk,
    path: &Path,
    base: Offset,
) -> io::Result<Entries<IndexEntry>> {
    let read = move |nth, bytes: &[u8]| {
        let entry = OffsetEntry::read(bytes);
        let (offset, position) = (
            Offset(base.0.wrapping_add(i64::from(entry.relative_offset))),
            u64::from(entry.position),
        );
        (nth == 0 || entry.relative_offset != 0).then_some(IndexEntry { offset, position })
    };
    Entries::open(disk, path, OffsetEntry::SIZE, Box::new(read))
}

/// The entries of a time index of a segment that begins at `base`.
///
/// # Errors
/// The disk's.
pub fn time_entries(
    disk: &dyn Disk,
    path: &Path,
    base: Offset,
) -> io::Result<Entries<TimeIndexEntry>> {
    let read = move |nth, bytes: &[u8]| {
        let entry = TimeEntry::read(bytes);
        let offset = Offset(base.0.wrapping_add(i64::from(entry.relative_offset)));
        let is_tail = nth > 0 && entry.relative_offset == 0;
        (!is_tail).then_some(TimeIndexEntry { timestamp: entry.timestamp, offset })
    };
    Entries::open(disk, path, TimeEntry::SIZE, Box::new(read))
}

/// The entries of a transaction index.
///
/// # Errors
/// The disk's.
pub fn aborted_transactions(
    disk: &dyn Disk,
    path: &Path,
) -> io::Result<Entries<AbortedTransaction>> {
    let read = |_, bytes: &[u8]| Some(AbortedTransaction::read(bytes));
    Entries::open(disk, path, AbortedTransaction::SIZE, Box::new(read))
}

/// A producer as a snapshot has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerSnapshot {
    /// Its id.
    pub producer_id: ProducerId,
    /// Its epoch.
    pub producer_epoch: ProducerEpoch,
    /// The last sequence of its last batch, or -1.
    pub last_sequence: Sequence,
    /// The last offset of its last batch, or -1.
    pub last_offset: Offset,
    /// Last offset − first offset of that batch.
    pub offset_delta: i32,
    /// When it last wrote.
    pub timestamp: Timestamp,
    /// The epoch of the coordinator of its last transaction, or -1.
    pub coordinator_epoch: i32,
    /// Where its open transaction begins, or -1.
    pub current_txn_first_offset: Offset,
}

impl ProducerSnapshot {
    /// The first sequence of the last batch, as Kafka computes it.
    #[must_use]
    pub fn first_sequence(&self) -> Sequence {
        let first = i64::from(self.last_sequence.0) - i64::from(self.offset_delta);
        let wrapped =
            if first < 0 && self.last_sequence.0 >= 0 { first + (1 << 31) } else { first };
        Sequence(wrapped as i32)
    }

    fn read(bytes: &[u8]) -> Self {
        let i64_at = |at: usize| i64::from_be_bytes(std::array::from_fn(|i| bytes[at + i]));
        let i32_at = |at: usize| i32::from_be_bytes(std::array::from_fn(|i| bytes[at + i]));
        Self {
            producer_id: ProducerId(i64_at(0)),
            producer_epoch: ProducerEpoch(i16::from_be_bytes([bytes[8], bytes[9]])),
            last_sequence: Sequence(i32_at(10)),
            last_offset: Offset(i64_at(14)),
            offset_delta: i32_at(22),
            timestamp: Timestamp(i64_at(26)),
            coordinator_epoch: i32_at(34),
            current_txn_first_offset: Offset(i64_at(38)),
        }
    }
}

/// Why a snapshot is not believed.
#[derive(Debug)]
pub enum SnapshotError {
    /// The disk refused.
    Io(io::Error),
    /// It is of a version that is not known.
    Version(i16),
    /// The checksum disagrees with the bytes.
    Crc {
        /// What the file says.
        claimed: u32,
        /// What its bytes give.
        computed: u32,
    },
    /// The number of bytes is not what the number of entries takes.
    Length(u64),
}

impl fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Version(version) => {
                write!(f, "snapshot version {version} is not known, only 1 is")
            }
            Self::Crc { claimed, computed } => {
                write!(f, "snapshot checksum is {claimed:#010x}, its bytes give {computed:#010x}")
            }
            Self::Length(bytes) => write!(f, "{bytes} bytes are not what its entries take"),
        }
    }
}

/// Reads a producer snapshot: first all of it for its checksum, then entry by entry.
///
/// # Errors
/// See [`SnapshotError`]; `visit` was not called then, but for the disk's.
pub fn producers_of_snapshot(
    disk: &dyn Disk,
    path: &Path,
    mut visit: impl FnMut(ProducerSnapshot),
) -> Result<(), SnapshotError> {
    const HEADER: u64 = 10;
    let file = disk.open(path, OpenMode::Read).map_err(SnapshotError::Io)?;
    let len = file.len().map_err(SnapshotError::Io)?;
    let mut header = [0; HEADER as usize];
    if file.read_at(&mut header, 0).map_err(SnapshotError::Io)? < header.len() {
        return Err(SnapshotError::Length(len));
    }
    let [v0, v1, c0, c1, c2, c3, n0, n1, n2, n3] = header;
    let version = i16::from_be_bytes([v0, v1]);
    if version != 1 {
        return Err(SnapshotError::Version(version));
    }
    let mut crc = Crc32c::new().update(&header[6..]);
    each_piece(&*file, HEADER, len, |bytes| crc = std::mem::take(&mut crc).update(bytes))?;
    let (claimed, computed) = (u32::from_be_bytes([c0, c1, c2, c3]), crc.finish());
    if claimed != computed {
        return Err(SnapshotError::Crc { claimed, computed });
    }
    let count = i64::from(i32::from_be_bytes([n0, n1, n2, n3]));
    if i64::try_from(len - HEADER).ok() != Some(count * PRODUCER_BYTES as i64) {
        return Err(SnapshotError::Length(len));
    }
    each_piece(&*file, HEADER, len, |bytes| {
        bytes.chunks_exact(PRODUCER_BYTES).for_each(|entry| visit(ProducerSnapshot::read(entry)));
    })
}

/// Calls `each` with the bytes from `from` to `to`, a whole number of entries at a time.
fn each_piece(
    file: &dyn File,
    from: u64,
    to: u64,
    mut each: impl FnMut(&[u8]),
) -> Result<(), SnapshotError> {
    let mut piece = vec![0; PIECE_ENTRIES * PRODUCER_BYTES];
    let mut at = from;
    while at < to {
        let read = file.read_at(&mut piece, at).map_err(SnapshotError::Io)?;
        if read == 0 {
            break;
        }
        each(&piece[..read]);
        at += read as u64;
    }
    Ok(())
}
