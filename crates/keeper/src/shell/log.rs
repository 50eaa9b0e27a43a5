//! Raft's log on disk.
//!
//! `log` begins as a sealed file whose body is the id of the entry *before* the first (u64 term,
//! u64 index; zeros at the very first), and goes on with records:
//!
//! ```text
//! u32       CRC-32C of all that follows in this record
//! u32       length of what follows this field
//! u64, u64  term and index of the entry that these follow on: they replace all behind it
//! u64       the highest index that was known to be committed when the record was written
//! entries   u32 count, per entry u64 term, u32 length, and the payload
//! ```
//!
//! A record is written and flushed before the next one is begun, and holds all entries that share
//! the flush. So a crash can damage the last record only, and that one was never acknowledged: it is
//! cut off at the next opening. If anything valid follows a damaged record, then the disk lost what
//! was flushed, and the log does not open. Nothing is ever overwritten: where a leader replaces
//! entries that were never committed, the file has both, and the later record counts.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ottla_runtime::disk::{OpenMode, read_file, replace_file};
use ottla_runtime::{Disk, File};

use super::OpenError;
use super::sealed::{Damage, body_start, seal, unseal};
use crate::machine::Decoder;
use crate::machine::quorum::{
    Appended, Entry, LogId, decode_entries, decode_log_id, encode_entries, encode_log_id,
};

const LINE: &str = "ottla-keeper-log 3\n";
const LOG_ID_BYTES: usize = 16;
/// CRC and length.
const RECORD_HEAD_BYTES: usize = 8;
/// Where the entries follow on, what was committed, and the count: the shortest that can follow a
/// record's length.
const RECORD_BODY_BYTES_MIN: usize = 28;
/// Term, length and kind.
const ENTRY_BYTES_MIN: usize = 13;

/// The log, open for appending.
pub(super) struct Log {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    file: Arc<dyn File>,
    /// Where the next record goes.
    bytes: u64,
    last: LogId,
}

/// What was read when a log was opened.
pub(super) struct Opened {
    pub(super) log: Log,
    /// The entry before the first of `entries`.
    pub(super) base: LogId,
    pub(super) entries: Vec<Entry>,
    /// The highest index that is known to be committed.
    pub(super) committed: u64,
}

impl Log {
    /// Makes a log of entries that follow on `base`, in the place of any other; durable when it
    /// returns.
    pub(super) fn create(
        disk: Arc<dyn Disk>,
        path: &Path,
        base: LogId,
        entries: Vec<Entry>,
    ) -> io::Result<Self> {
        let mut body = Vec::new();
        encode_log_id(base, &mut body);
        let mut bytes = seal(LINE, &body);
        let last = entries.last().map_or(base, |entry| entry.id);
        if !entries.is_empty() {
            bytes.extend(encode_record(&Appended { after: base, entries }, base.index));
        }
        replace_file(&*disk, path, &bytes)?;
        let file = disk.open(path, OpenMode::ReadWrite)?;
        Ok(Self { disk, path: path.to_owned(), file, bytes: bytes.len() as u64, last })
    }

    /// Reads a log whole (its size is bounded by [`super::Limits::log_bytes`]) and cuts off a last
    /// record that a crash has damaged.
    pub(super) fn open(disk: Arc<dyn Disk>, path: &Path) -> Result<Opened, OpenError> {
        let bytes = read_file(&*disk, path).map_err(OpenError::io(path))?;
        let scanned = scan(&bytes).map_err(|(at, what)| OpenError::corrupt(path, at, what))?;
        let file = disk.open(path, OpenMode::ReadWrite).map_err(OpenError::io(path))?;
        if scanned.bytes < bytes.len() {
            file.set_len(scanned.bytes as u64)
                .and_then(|()| file.sync_data())
                .map_err(OpenError::io(path))?;
        }
        let last = scanned.entries.last().map_or(scanned.base, |entry| entry.id);
        let log = Self { disk, path: path.to_owned(), file, bytes: scanned.bytes as u64, last };
        Ok(Opened {
            log,
            base: scanned.base,
            entries: scanned.entries,
            committed: scanned.committed,
        })
    }

    /// The same log, whose file was renamed.
    pub(super) fn at(self, path: &Path) -> Self {
        Self { path: path.to_owned(), ..self }
    }

    /// The id of the last entry.
    pub(super) fn last(&self) -> LogId {
        self.last
    }

    /// The size of the file.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Puts entries in the place of all behind the one they follow on; durable when it returns. After
    /// an error nothing is known about the file: this log must not be used again.
    pub(super) fn append(&mut self, appended: &Appended, committed: u64) -> io::Result<()> {
        let record = encode_record(appended, committed);
        self.file.write_at(&[IoSlice::new(&record)], self.bytes)?;
        self.file.sync_data()?;
        self.bytes += record.len() as u64;
        self.last = appended.entries.last().map_or(appended.after, |entry| entry.id);
        Ok(())
    }

    /// Drops the entries up to `base`, which a snapshot holds, and keeps those behind it. Durable when
    /// it returns; after an error this log must not be used again.
    pub(super) fn begin_behind(&mut self, base: LogId, entries: Vec<Entry>) -> io::Result<()> {
        *self = Self::create(Arc::clone(&self.disk), &self.path, base, entries)?;
        Ok(())
    }
}

fn encode_record(appended: &Appended, committed: u64) -> Vec<u8> {
    let mut record = vec![0; RECORD_HEAD_BYTES];
    encode_log_id(appended.after, &mut record);
    record.extend_from_slice(&committed.to_be_bytes());
    encode_entries(&appended.entries, &mut record);
    let length = (record.len() - RECORD_HEAD_BYTES) as u32;
    record[4..RECORD_HEAD_BYTES].copy_from_slice(&length.to_be_bytes());
    let crc = crc_fast::crc32_iscsi(&record[4..]);
    record[..4].copy_from_slice(&crc.to_be_bytes());
    record
}

struct Scanned {
    base: LogId,
    entries: Vec<Entry>,
    committed: u64,
    /// Where the valid records end.
    bytes: usize,
}

/// Reads all records.
fn scan(file: &[u8]) -> Result<Scanned, Damage> {
    let (body, _) = unseal(LINE, file)?;
    let mut body = Decoder::new(body, "header");
    let base = decode_log_id(&mut body).map_err(|e| (0, e.what))?;
    body.end().map_err(|e| (0, e.what))?;

    let mut at = body_start(LINE) + LOG_ID_BYTES;
    let mut scanned = Scanned { base, entries: Vec::new(), committed: base.index, bytes: at };
    while at < file.len() {
        let Some(record) = checked_record(&file[at..]) else {
            if valid_record_follows(&file[at..], scanned.last().index) {
                return Err((at as u64, "the record is damaged, and others follow it"));
            }
            break;
        };
        let mut body = Decoder::new(record, "record");
        let damaged = |e: crate::machine::Corrupt| (at as u64, e.what);
        let after = decode_log_id(&mut body).map_err(damaged)?;
        let committed = body.u64().map_err(damaged)?;
        let rest = Decoder::new(body.rest(), "record");
        let entries = decode_entries(after, rest).map_err(damaged)?;
        if !scanned.cut_behind(after) {
            return Err((at as u64, "the record does not follow on those before it"));
        }
        scanned.entries.extend(entries);
        if scanned.last().index < scanned.committed {
            return Err((at as u64, "the record takes back what was committed"));
        }
        scanned.committed = scanned.committed.max(committed);
        at += RECORD_HEAD_BYTES + record.len();
        scanned.bytes = at;
    }
    Ok(scanned)
}

impl Scanned {
    fn last(&self) -> LogId {
        self.entries.last().map_or(self.base, |entry| entry.id)
    }

    /// Drops what is behind an entry, if there is such an entry.
    fn cut_behind(&mut self, after: LogId) -> bool {
        let kept = after.index.checked_sub(self.base.index).and_then(|n| usize::try_from(n).ok());
        let Some(kept) = kept.filter(|&kept| kept <= self.entries.len()) else { return false };
        self.entries.truncate(kept);
        self.last() == after
    }
}

/// What follows the length of the record at the front of `bytes`, if that record is whole.
fn checked_record(bytes: &[u8]) -> Option<&[u8]> {
    let (crc, rest) = bytes.split_first_chunk::<4>()?;
    let (len, body) = rest.split_first_chunk::<4>()?;
    let len = u32::from_be_bytes(*len) as usize;
    if len < RECORD_BODY_BYTES_MIN || len > body.len() {
        return None;
    }
    let checked = &rest[..4 + len];
    (crc_fast::crc32_iscsi(checked) == u32::from_be_bytes(*crc)).then_some(&body[..len])
}

/// Whether a whole record begins anywhere behind the front of `bytes` that could come after the
/// entry of `last_index`. The index is looked at first, for the checksum costs the record's length.
fn valid_record_follows(bytes: &[u8], last_index: u64) -> bool {
    let entries_max = (bytes.len() / ENTRY_BYTES_MIN) as u64;
    let index_at = RECORD_HEAD_BYTES + 8;
    (1..bytes.len()).any(|at| {
        let record = &bytes[at..];
        let Some(after) = record.get(index_at..).and_then(<[u8]>::first_chunk::<8>) else {
            return false;
        };
        u64::from_be_bytes(*after) <= last_index.saturating_add(entries_max)
            && checked_record(record).is_some()
    })
}
