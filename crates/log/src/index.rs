//! The sparse indexes of a segment: offset → byte position, and timestamp → offset.
//!
//! Byte for byte Kafka's `.index` and `.timeindex`: fixed-size entries, no header, no checksum. New
//! entries gather in memory and are written in blocks; the log itself can rebuild what a crash
//! takes, so an index is never synced before its segment is sealed.

use std::io::{self, IoSlice};
use std::ops::Range;
use std::sync::Arc;

use ottla_record::Timestamp;
use ottla_runtime::disk::{Disk, File, OpenMode, pin, replace_file};

use crate::segment::{FilePath, remove_if_there};

/// Entries that gather in memory before they are written together.
const PENDING_MAX: usize = 512;

/// Entries that are read at once.
const BLOCK_ENTRIES: usize = 512;
/// How far before the end of the last search the next one begins: a fetch looks for its end last,
/// and its first batch that does not fit is where the next fetch begins.
const NEAR_ENTRIES: usize = 8;
/// [`Entry::SIZE`] of the largest.
const ENTRY_BYTES_MAX: usize = 12;

/// One fixed-size entry of an index.
pub(crate) trait Entry: Copy + PartialEq {
    /// Bytes on disk.
    const SIZE: usize;
    /// Reads an entry from exactly [`Entry::SIZE`] bytes.
    fn read(bytes: &[u8]) -> Self;
    /// Appends the entry's bytes.
    fn write(self, out: &mut Vec<u8>);
    /// Whether these are the zeros of a preallocated tail, as a crashed Kafka leaves them. The
    /// first entry of an offset index may truly be zero.
    fn is_blank(self) -> bool;
}

/// An entry of `.index`: the last offset of the batch that begins at `position`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OffsetEntry {
    /// Offset minus the segment's base offset.
    pub(crate) relative_offset: u32,
    /// Byte position in the segment's log file.
    pub(crate) position: u32,
}

impl Entry for OffsetEntry {
    const SIZE: usize = 8;

    fn read(bytes: &[u8]) -> Self {
        Self { relative_offset: be32(bytes, 0), position: be32(bytes, 4) }
    }

    fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.relative_offset.to_be_bytes());
        out.extend_from_slice(&self.position.to_be_bytes());
    }

    fn is_blank(self) -> bool {
        self.relative_offset == 0 && self.position == 0
    }
}

/// An entry of `.timeindex`: no record up to the offset has a greater timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimeEntry {
    /// The greatest timestamp so far.
    pub(crate) timestamp: Timestamp,
    /// Offset minus the segment's base offset.
    pub(crate) relative_offset: u32,
}

impl Entry for TimeEntry {
    const SIZE: usize = 12;

    fn read(bytes: &[u8]) -> Self {
        let timestamp = (u64::from(be32(bytes, 0)) << 32) | u64::from(be32(bytes, 4));
        Self { timestamp: Timestamp(timestamp as i64), relative_offset: be32(bytes, 8) }
    }

    fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.timestamp.0.to_be_bytes());
        out.extend_from_slice(&self.relative_offset.to_be_bytes());
    }

    fn is_blank(self) -> bool {
        self.timestamp.0 == 0 && self.relative_offset == 0
    }
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].iter().fold(0, |value, &byte| (value << 8) | u32::from(byte))
}

/// An index file with its tail in memory. Entries ascend.
pub(crate) struct Index<E> {
    disk: Arc<dyn Disk>,
    path: FilePath,
    /// Opened when first read or written, so that an empty or sealed index costs no descriptor.
    file: Option<Arc<dyn File>>,
    /// Entries in the file.
    written: usize,
    /// Entries behind those of the file.
    pending: Vec<E>,
    last: Option<E>,
    /// Where the last search of the file ended: whoever reads a log reads on behind it.
    near: usize,
    entries_max: usize,
    /// The file would be believed if it were there: it comes to be as a whole or not at all.
    is_replacement: bool,
}

impl<E: Entry> Index<E> {
    /// An index without entries. A file at `path` is replaced when the first block is written.
    pub(crate) fn empty(disk: Arc<dyn Disk>, path: FilePath, bytes_max: usize) -> Self {
        Self {
            disk,
            path,
            file: None,
            written: 0,
            pending: Vec::new(),
            last: None,
            near: 0,
            entries_max: bytes_max / E::SIZE,
            is_replacement: false,
        }
    }

    /// An index without entries, of a segment whose indexes are believed. It stays in memory until
    /// it is sealed, and then replaces the file at `path`.
    pub(crate) fn replacement(disk: Arc<dyn Disk>, path: FilePath, bytes_max: usize) -> Self {
        Self { is_replacement: true, ..Self::empty(disk, path, bytes_max) }
    }

    /// Opens the index at `path`; `None` if there is no such file, or one that no index can be.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        path: FilePath,
        bytes_max: usize,
    ) -> io::Result<Option<Self>> {
        if !disk.exists(&path.get()) {
            return Ok(None);
        }
        let mut index = Self::empty(disk, path, bytes_max);
        let len = index.open_file(OpenMode::ReadWrite)?.len()? as usize;
        if !len.is_multiple_of(E::SIZE) {
            return Ok(None);
        }
        index.written = len / E::SIZE;
        index.written = index.without_preallocated_tail()?;
        index.last = match index.written {
            0 => None,
            n => Some(index.entry(n - 1)?),
        };
        Ok(Some(index))
    }

    /// How many entries there are before the zeros that Kafka preallocates, which are at the end,
    /// and only there.
    fn without_preallocated_tail(&mut self) -> io::Result<usize> {
        let (mut low, mut high) = (1.min(self.written), self.written);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.entry(middle)?.is_blank() { high = middle } else { low = middle + 1 }
        }
        // A first entry that is truly zero cannot be told from the zeros behind it. Without it a
        // look-up begins at the same place.
        if low == 1 && self.written > 1 && self.entry(0)?.is_blank() { Ok(0) } else { Ok(low) }
    }

    pub(crate) fn last(&self) -> Option<E> {
        self.last
    }

    pub(crate) fn len(&self) -> usize {
        self.written + self.pending.len()
    }

    /// Whether it holds all the entries that `segment.index.bytes` allows, less `reserved`.
    pub(crate) fn is_full(&self, reserved: usize) -> bool {
        self.len() + reserved >= self.entries_max
    }

    /// Adds an entry. It cannot fail: what the disk refuses now stays in memory, and the error is
    /// told when the index is sealed.
    pub(crate) fn push(&mut self, entry: E) {
        self.pending.push(entry);
        self.last = Some(entry);
        if self.pending.len() >= PENDING_MAX && !self.is_replacement {
            let _ = self.flush();
        }
    }

    /// The last entry for which `before` holds; `before` must hold for a prefix of the entries.
    /// `None` also if the file was removed under a reader, whose look-up then begins at the start of
    /// the segment.
    pub(crate) fn floor(&mut self, before: impl Fn(E) -> bool) -> io::Result<Option<E>> {
        match self.search(before) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            found => found.map(|(_, floor)| floor),
        }
    }

    /// The first entry for which `before` does not hold.
    pub(crate) fn ceiling(&mut self, before: impl Fn(E) -> bool) -> io::Result<Option<E>> {
        let (position, _) = self.search(before)?;
        if position < self.len() { self.entry(position).map(Some) } else { Ok(None) }
    }

    /// For how many entries `before` holds, and the last of those.
    fn search(&mut self, before: impl Fn(E) -> bool) -> io::Result<(usize, Option<E>)> {
        // Readers are mostly near the end: look in memory first.
        let in_memory = self.pending.partition_point(|&e| before(e));
        if let Some(last) = in_memory.checked_sub(1) {
            return Ok((self.written + in_memory, Some(self.pending[last])));
        }
        let found = match self.search_block(self.near.saturating_sub(NEAR_ENTRIES), &before)? {
            Some(found) => found,
            None => self.search_file(&before)?,
        };
        self.near = found.0;
        Ok(found)
    }

    /// [`Index::search`] among all entries of the file.
    fn search_file(&mut self, before: &impl Fn(E) -> bool) -> io::Result<(usize, Option<E>)> {
        let (mut low, mut high) = (0, self.written);
        // A read costs more than to look at a block of entries.
        while high - low >= BLOCK_ENTRIES {
            let middle = low + (high - low) / 2;
            if before(self.entry(middle)?) { low = middle } else { high = middle }
        }
        Ok(self.search_block(low, before)?.unwrap_or_default())
    }

    /// [`Index::search`] among the entries of the file from `first` on, as many as are read at once;
    /// `None` if it ends elsewhere.
    fn search_block(
        &mut self,
        first: usize,
        before: &impl Fn(E) -> bool,
    ) -> io::Result<Option<(usize, Option<E>)>> {
        let end = self.written.min(first + BLOCK_ENTRIES);
        if first >= end {
            return Ok(None);
        }
        let mut block = [0; BLOCK_ENTRIES * ENTRY_BYTES_MAX];
        let entries = self.read_entries(first..end, &mut block)?.map(E::read);
        let (mut count, mut floor) = (0, None);
        for entry in entries.take_while(|&entry| before(entry)) {
            (count, floor) = (count + 1, Some(entry));
        }
        let (begins, ends) = (count > 0, first + count < end || end == self.written);
        Ok((begins && ends).then_some((first + count, floor)))
    }

    /// Writes what has gathered. The file then has exactly the entries, no preallocated tail.
    fn flush(&mut self) -> io::Result<Arc<dyn File>> {
        let bytes = self.pending_bytes();
        let end = self.written * E::SIZE;
        let file = self.open_file(OpenMode::Create)?;
        file.write_at(&[IoSlice::new(&bytes)], end as u64)?;
        file.set_len((end + bytes.len()) as u64)?;
        self.written += self.pending.len();
        self.pending.clear();
        Ok(file)
    }

    /// Writes what has gathered and gives the file up, for the caller to sync it: the segment is
    /// sealed.
    pub(crate) fn seal(&mut self) -> io::Result<Arc<dyn File>> {
        if self.is_replacement {
            replace_file(&*self.disk, &self.path.get(), &self.pending_bytes())?;
            self.is_replacement = false;
        }
        let file = self.flush()?;
        self.pending.shrink_to_fit();
        self.give_up_file();
        Ok(file)
    }

    /// Removes the file as long as nothing was written to it: it is what another process left.
    pub(crate) fn remove_unwritten(&mut self) -> io::Result<()> {
        if self.written > 0 || self.is_replacement {
            return Ok(());
        }
        self.give_up_file();
        remove_if_there(&*self.disk, &self.path.get())
    }

    /// Opens the file, if there is one, so that it is read on when its name goes to another.
    pub(crate) fn hold(&mut self) -> io::Result<()> {
        if self.written > 0 {
            self.file = Some(pin(&self.open_file(OpenMode::ReadWrite)?)?);
        }
        Ok(())
    }

    pub(crate) fn give_up_file(&mut self) {
        self.file = None;
    }

    fn pending_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.pending.len() * E::SIZE);
        self.pending.iter().for_each(|entry| entry.write(&mut bytes));
        bytes
    }

    fn entry(&mut self, position: usize) -> io::Result<E> {
        if let Some(&entry) = position.checked_sub(self.written).and_then(|p| self.pending.get(p)) {
            return Ok(entry);
        }
        let mut bytes = [0; ENTRY_BYTES_MAX];
        let mut entries = self.read_entries(position..position + 1, &mut bytes)?.map(E::read);
        Ok(entries.next().expect("one was read"))
    }

    /// Reads entries of the file into `buffer`, and returns the bytes of each.
    fn read_entries<'b>(
        &mut self,
        positions: Range<usize>,
        buffer: &'b mut [u8],
    ) -> io::Result<impl Iterator<Item = &'b [u8]>> {
        let bytes = &mut buffer[..positions.len() * E::SIZE];
        let file = self.open_file(OpenMode::ReadWrite)?;
        let read = file.read_at(bytes, (positions.start * E::SIZE) as u64)?;
        if read < bytes.len() {
            let (path, entry) = (self.path.get(), positions.start + read / E::SIZE);
            let message = format!("{} ends within entry {entry}", path.display());
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, message));
        }
        Ok(bytes.chunks_exact(E::SIZE))
    }

    fn open_file(&mut self, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        if let Some(file) = &self.file {
            return Ok(file.clone());
        }
        let file = self.disk.open(&self.path.get(), mode)?;
        self.file = Some(file.clone());
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    use ottla_fake::FakeDisk;
    use ottla_record::Offset;

    fn path(suffix: &'static str) -> FilePath {
        FilePath::new(&Arc::from(Path::new("/d")), Offset(0), suffix)
    }

    fn offsets(disk: &Arc<dyn Disk>) -> Index<OffsetEntry> {
        Index::empty(disk.clone(), path("index"), 10 * 1024 * 1024)
    }

    fn entry(n: u32) -> OffsetEntry {
        OffsetEntry { relative_offset: n * 10, position: n * 4096 }
    }

    #[test]
    fn looks_up_in_memory_and_in_the_file() {
        let disk: Arc<dyn Disk> = FakeDisk::with_dir("/d");
        let mut index = offsets(&disk);
        assert_eq!(index.floor(|_| true).unwrap(), None);
        for n in 1..2000 {
            index.push(entry(n));
        }
        let targets = (0..2000).flat_map(|n| [n * 10, n * 10 + 1, n * 10 + 9]);
        for target in targets.clone().chain(targets.rev()) {
            let before = |e: OffsetEntry| e.relative_offset <= target;
            let [below, above] =
                [target / 10, target / 10 + 1].map(|n| (1..2000).contains(&n).then(|| entry(n)));
            assert_eq!(index.floor(before).unwrap(), below, "floor of {target}");
            assert_eq!(index.ceiling(before).unwrap(), above, "ceiling of {target}");
        }
    }

    #[test]
    fn a_sealed_file_holds_exactly_the_entries_and_a_preallocated_tail_is_ignored() {
        let disk: Arc<dyn Disk> = FakeDisk::with_dir("/d");
        let mut index = offsets(&disk);
        (1..=3).for_each(|n| index.push(entry(n)));
        index.seal().unwrap();
        let file = disk.open(&path("index").get(), OpenMode::ReadWrite).unwrap();
        assert_eq!(file.len().unwrap(), 24);
        file.set_len(8192).unwrap();
        let mut opened =
            Index::<OffsetEntry>::open(disk.clone(), path("index"), 10 << 20).unwrap().unwrap();
        assert_eq!((opened.len(), opened.last()), (3, Some(entry(3))));
        opened.push(entry(4));
        opened.seal().unwrap();
        assert_eq!(file.len().unwrap(), 32);
    }

    #[test]
    fn full_counts_the_reserved_slot() {
        let disk: Arc<dyn Disk> = FakeDisk::with_dir("/d");
        let mut index = Index::<TimeEntry>::empty(disk, path("timeindex"), 24);
        assert!(!index.is_full(1));
        index.push(TimeEntry { timestamp: Timestamp(5), relative_offset: 1 });
        assert!(index.is_full(1) && !index.is_full(0));
    }

    #[test]
    fn a_first_entry_of_zeros_counts_unless_only_zeros_follow() {
        let disk: Arc<dyn Disk> = FakeDisk::with_dir("/d");
        let zero = TimeEntry { timestamp: Timestamp(0), relative_offset: 0 };
        let one = TimeEntry { timestamp: Timestamp(1), relative_offset: 1 };
        for (entries, tail, expected) in
            [(vec![zero], 0, 1), (vec![zero], 5, 0), (vec![zero, one], 5, 2), (vec![], 5, 0)]
        {
            let mut index = Index::empty(disk.clone(), path("timeindex"), 1200);
            entries.iter().for_each(|&entry| index.push(entry));
            let file = index.seal().unwrap();
            file.set_len(((entries.len() + tail) * TimeEntry::SIZE) as u64).unwrap();
            let opened = Index::<TimeEntry>::open(disk.clone(), path("timeindex"), 1200).unwrap();
            assert_eq!(opened.unwrap().len(), expected, "{entries:?} and {tail} zeros");
        }
    }

    #[test]
    fn what_the_disk_refuses_stays_in_memory_and_is_told_when_sealed() {
        let fake = FakeDisk::with_dir("/d");
        let disk: Arc<dyn Disk> = fake.clone();
        let mut index = offsets(&disk);
        fake.fail_after(0);
        (1..=600).for_each(|n| index.push(entry(n)));
        assert_eq!(index.floor(|e| e.relative_offset <= 100).unwrap(), Some(entry(10)));
        assert!(index.seal().is_err());
        fake.heal();
        let file = index.seal().unwrap();
        assert_eq!(file.len().unwrap(), 600 * 8);
        assert_eq!(index.floor(|e| e.relative_offset <= 100).unwrap(), Some(entry(10)));
    }

    #[test]
    fn a_file_removed_under_a_reader_is_no_error_and_does_not_come_back() {
        let disk: Arc<dyn Disk> = FakeDisk::with_dir("/d");
        let mut index = offsets(&disk);
        index.push(entry(1));
        index.seal().unwrap();
        disk.remove_file(&path("index").get()).unwrap();
        assert_eq!(index.floor(|_| true).unwrap(), None);
        assert!(!disk.exists(&path("index").get()));
    }
}
