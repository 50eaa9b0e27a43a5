//! The transactions that were aborted in a segment: `.txnindex`, which a `read_committed` consumer's
//! fetch is answered from.
//!
//! Byte for byte Kafka's: entries of 34 bytes (version i16 = 0, producer id i64, first offset i64, last
//! offset i64, last stable offset i64), in the order of their last offsets. There is no file where
//! nothing was aborted. Entries are written as they come, and synced when the segment is sealed.

use std::io::{self, IoSlice};
use std::sync::Arc;

use ottla_record::{Offset, ProducerId};
use ottla_runtime::disk::{Disk, File, OpenMode, pin, read_file, replace_file};

use crate::log::Log;
use crate::segment::{FilePath, remove_if_there};

/// Bytes of an entry.
const ENTRY_BYTES: usize = 34;

/// Entries that are read at once.
const READ_ENTRIES: usize = 120;

/// A transaction that was aborted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortedTransaction {
    /// Whose it was.
    pub producer_id: ProducerId,
    /// The offset of its first record.
    pub first_offset: Offset,
    /// The offset of the marker that ended it.
    pub last_offset: Offset,
    /// Where the first transaction began that was still open then, or the offset behind the marker.
    pub last_stable_offset: Offset,
}

impl AbortedTransaction {
    fn to_bytes(self) -> [u8; ENTRY_BYTES] {
        let mut bytes = [0; ENTRY_BYTES];
        let fields = [
            self.producer_id.0,
            self.first_offset.0,
            self.last_offset.0,
            self.last_stable_offset.0,
        ];
        for (place, field) in bytes[2..].chunks_exact_mut(8).zip(fields) {
            place.copy_from_slice(&field.to_be_bytes());
        }
        bytes
    }

    /// Reads an entry; `None` if it is of another version.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let field = |n: usize| {
            bytes.get(2 + 8 * n..)?.first_chunk().map(|bytes| i64::from_be_bytes(*bytes))
        };
        if bytes.first_chunk() != Some(&[0, 0]) {
            return None;
        }
        Some(Self {
            producer_id: ProducerId(field(0)?),
            first_offset: Offset(field(1)?),
            last_offset: Offset(field(2)?),
            last_stable_offset: Offset(field(3)?),
        })
    }
}

/// The `.txnindex` of a segment.
pub(crate) struct TransactionIndex {
    disk: Arc<dyn Disk>,
    path: FilePath,
    /// Entries in the file.
    written: usize,
    /// What the disk refused so far.
    pending: Vec<AbortedTransaction>,
    file: Option<Arc<dyn File>>,
}

impl TransactionIndex {
    /// The index at `path`, of which nothing is believed.
    pub(crate) fn empty(disk: Arc<dyn Disk>, path: FilePath) -> Self {
        Self { disk, path, written: 0, pending: Vec::new(), file: None }
    }

    /// Opens the index at `path`, of a segment that begins at `base`; `None` if it cannot be one.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        path: FilePath,
        base: Offset,
    ) -> io::Result<Option<Self>> {
        let mut index = Self::empty(disk, path);
        if !index.disk.exists(&index.path.get()) {
            return Ok(Some(index));
        }
        let len = index.file(OpenMode::ReadWrite)?.len()?;
        index.written = (len / ENTRY_BYTES as u64) as usize;
        let (mut last, mut right) = (base.0 - 1, len.is_multiple_of(ENTRY_BYTES as u64));
        let whole = index.visit(|entry| {
            right &= entry.last_offset.0 > last
                && entry.last_offset.0.saturating_sub(base.0) <= i64::from(i32::MAX)
                && (0..entry.last_offset.0).contains(&entry.first_offset.0)
                && entry.last_stable_offset.0 <= entry.last_offset.0.saturating_add(1)
                && entry.producer_id > ProducerId::NONE;
            last = entry.last_offset.0;
            right
        })?;
        index.file = None;
        Ok((right && whole).then_some(index))
    }

    /// Adds an entry. It cannot fail: what the disk refuses now stays in memory, and the error is
    /// told when the index is sealed.
    pub(crate) fn push(&mut self, entry: AbortedTransaction) {
        self.pending.push(entry);
        let _ = self.flush();
    }

    /// Makes these the entries, of a segment that was read anew. The file is touched only if it has
    /// others.
    pub(crate) fn replace(&mut self, entries: &[AbortedTransaction]) -> io::Result<()> {
        let bytes: Vec<u8> = entries.iter().flat_map(|entry| entry.to_bytes()).collect();
        let found = match self.disk.exists(&self.path.get()) {
            true => read_file(&*self.disk, &self.path.get())?,
            false => Vec::new(),
        };
        if bytes.is_empty() {
            remove_if_there(&*self.disk, &self.path.get())?;
        } else if found != bytes {
            replace_file(&*self.disk, &self.path.get(), &bytes)?;
        }
        (self.written, self.file) = (entries.len(), None);
        self.pending.clear();
        Ok(())
    }

    /// Calls `each` with the entries in their order until it answers `false`. Returns whether all of
    /// them could be read.
    pub(crate) fn visit(
        &mut self,
        mut each: impl FnMut(AbortedTransaction) -> bool,
    ) -> io::Result<bool> {
        let mut bytes = [0; READ_ENTRIES * ENTRY_BYTES];
        let mut at = 0;
        while at < self.written {
            let wanted = (self.written - at).min(READ_ENTRIES) * ENTRY_BYTES;
            let file = match self.file(OpenMode::ReadWrite) {
                // The segment was removed under a reader, whose records are gone too.
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
                file => file?,
            };
            let read = file.read_at(&mut bytes[..wanted], (at * ENTRY_BYTES) as u64)?;
            for entry in bytes[..wanted].chunks_exact(ENTRY_BYTES) {
                match AbortedTransaction::parse(entry).filter(|_| read == wanted) {
                    None => return Ok(false),
                    Some(entry) if !each(entry) => return Ok(true),
                    Some(_) => {}
                }
            }
            at += wanted / ENTRY_BYTES;
        }
        let _ = self.pending.iter().all(|&entry| each(entry));
        Ok(true)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let bytes: Vec<u8> = self.pending.iter().flat_map(|entry| entry.to_bytes()).collect();
        let end = self.written * ENTRY_BYTES;
        let file = self.file(OpenMode::Create)?;
        file.write_at(&[IoSlice::new(&bytes)], end as u64)?;
        file.set_len((end + bytes.len()) as u64)?;
        self.written += self.pending.len();
        self.pending.clear();
        Ok(())
    }

    /// Writes what is left, and gives the file up for the caller to sync it, if there is one.
    pub(crate) fn seal(&mut self) -> io::Result<Option<Arc<dyn File>>> {
        self.flush()?;
        if self.written > 0 {
            self.file(OpenMode::ReadWrite)?;
        }
        Ok(self.file.take())
    }

    /// Opens the file, if there is one, so that it is read on when its name goes to another.
    pub(crate) fn hold(&mut self) -> io::Result<()> {
        if self.written > 0 {
            self.file = Some(pin(&self.file(OpenMode::ReadWrite)?)?);
        }
        Ok(())
    }

    fn file(&mut self, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        if let Some(file) = &self.file {
            return Ok(file.clone());
        }
        let file = self.disk.open(&self.path.get(), mode)?;
        self.file = Some(file.clone());
        Ok(file)
    }
}

impl Log {
    /// The aborted transactions that have records in what is read from `from` on and below `upper`,
    /// in the order of their ends: a `read_committed` consumer leaves their records out.
    ///
    /// # Errors
    /// The disk refused, or an index is damaged.
    pub fn aborted_transactions(
        &self,
        from: Offset,
        upper: Offset,
    ) -> io::Result<Vec<AbortedTransaction>> {
        let segments = self.segments.load();
        let first = segments.partition_point(|s| s.base_offset() <= from).saturating_sub(1);
        let mut found = Vec::new();
        for segment in &segments[first..] {
            let mut is_complete = false;
            segment.visit_aborted(|entry| {
                if entry.last_offset >= from && entry.first_offset < upper {
                    found.push(entry);
                }
                is_complete = entry.last_stable_offset >= upper;
                !is_complete
            })?;
            if is_complete {
                break;
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    use ottla_fake::FakeDisk;

    const PATH: &str = "/d/00000000000000000010.txnindex";

    fn aborted(n: i64) -> AbortedTransaction {
        AbortedTransaction {
            producer_id: ProducerId(n),
            first_offset: Offset(10 * n),
            last_offset: Offset(10 * n + 5),
            last_stable_offset: Offset(10 * n + 6),
        }
    }

    fn path() -> FilePath {
        FilePath::new(&Arc::from(Path::new("/d")), Offset(10), "txnindex")
    }

    fn open(disk: &Arc<FakeDisk>) -> Option<TransactionIndex> {
        TransactionIndex::open(disk.clone(), path(), Offset(10)).unwrap()
    }

    fn entries(index: &mut TransactionIndex) -> Vec<AbortedTransaction> {
        let mut found = Vec::new();
        let whole = index.visit(|entry| {
            found.push(entry);
            true
        });
        assert!(whole.unwrap());
        found
    }

    #[test]
    fn a_file_comes_with_the_first_entry_and_has_kafkas_bytes() {
        let disk = FakeDisk::with_dir("/d");
        let mut index = open(&disk).unwrap();
        assert!(index.seal().unwrap().is_none() && !disk.exists(Path::new(PATH)));
        index.push(aborted(1));
        let bytes = read_file(&*disk, Path::new(PATH)).unwrap();
        let field = |n: u8| [0, 0, 0, 0, 0, 0, 0, n];
        assert_eq!(bytes, [&[0, 0][..], &field(1), &field(10), &field(15), &field(16)].concat());
        (2..300).for_each(|n| index.push(aborted(n)));
        let all: Vec<_> = (1..300).map(aborted).collect();
        assert_eq!(entries(&mut index), all);
        assert!(index.seal().unwrap().is_some());
        assert_eq!(entries(&mut open(&disk).unwrap()), all);
    }

    #[test]
    fn what_no_index_can_hold_is_not_believed() {
        let disk = FakeDisk::with_dir("/d");
        open(&disk).unwrap().replace(&[aborted(1), aborted(2)]).unwrap();
        let good = read_file(&*disk, Path::new(PATH)).unwrap();
        let below = AbortedTransaction { last_offset: Offset(9), ..aborted(1) };
        let backwards = AbortedTransaction { first_offset: Offset(16), ..aborted(1) };
        for bad in [
            good[..35].to_vec(),
            [&[1], &good[1..]].concat(),
            [aborted(2).to_bytes(), aborted(1).to_bytes()].concat(),
            below.to_bytes().to_vec(),
            backwards.to_bytes().to_vec(),
        ] {
            replace_file(&*disk, Path::new(PATH), &bad).unwrap();
            assert!(open(&disk).is_none(), "{bad:?}");
        }
        let mut index = TransactionIndex::empty(disk.clone(), path());
        index.replace(&[aborted(1), aborted(2)]).unwrap();
        assert_eq!(read_file(&*disk, Path::new(PATH)).unwrap(), good);
        index.replace(&[]).unwrap();
        assert!(!disk.exists(Path::new(PATH)));
    }

    #[test]
    fn what_the_disk_refuses_stays_in_memory() {
        let disk = FakeDisk::with_dir("/d");
        let mut index = open(&disk).unwrap();
        disk.fail_after(0);
        index.push(aborted(1));
        assert!(index.seal().is_err());
        assert_eq!(entries(&mut index), [aborted(1)]);
        disk.heal();
        index.push(aborted(2));
        assert_eq!(entries(&mut open(&disk).unwrap()), [aborted(1), aborted(2)]);
    }
}
