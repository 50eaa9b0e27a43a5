//! Raft's log on disk.
//!
//! `log` begins as a sealed file whose body is the id of the entry *before* the first (u64 term,
//! u64 index; zeros at the very first), and goes on with one record per entry:
//!
//! ```text
//! u32       CRC-32C of all that follows in this record
//! u32       length of what follows this field
//! u64       term
//! u64       index
//! u64       the highest index that was known to be committed when this entry was written
//! payload   u8 kind (0 blank, 1 membership, 2 normal) and what belongs to it
//! ```
//!
//! One record is written and flushed before the next one is begun. So a crash can damage the last
//! record only, and that one was never acknowledged: it is cut off at the next opening. If anything
//! valid follows a damaged record, then the disk lost what was flushed, and the log does not open.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ottla_runtime::disk::{OpenMode, read_file, replace_file};
use ottla_runtime::{Disk, File};

use super::OpenError;
use super::entry::{
    Entry, LogId, Payload, decode_log_id, decode_payload, encode_log_id, encode_payload,
};
use super::sealed::{Damage, body_start, seal, unseal};
use crate::machine::Decoder;

const LINE: &str = "ottla-keeper-log 1\n";
const LOG_ID_BYTES: usize = 16;
/// CRC and length.
const RECORD_HEAD_BYTES: usize = 8;
/// Term, index, committed and the kind: the shortest that can follow a record's length.
const RECORD_BODY_BYTES_MIN: usize = 25;

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
    /// Makes an empty log that follows on `base`, in the place of any other; durable when it
    /// returns.
    pub(super) fn create(disk: Arc<dyn Disk>, path: &Path, base: LogId) -> io::Result<Self> {
        let mut body = Vec::new();
        encode_log_id(base, &mut body);
        let header = seal(LINE, &body);
        replace_file(&*disk, path, &header)?;
        let file = disk.open(path, OpenMode::ReadWrite)?;
        Ok(Self { disk, path: path.to_owned(), file, bytes: header.len() as u64, last: base })
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

    /// The id of the last entry.
    pub(super) fn last(&self) -> LogId {
        self.last
    }

    /// The size of the file.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Appends an entry; durable when it returns. After an error nothing is known about the file:
    /// this log must not be used again.
    pub(super) fn append(
        &mut self,
        term: u64,
        payload: &[u8],
        committed: u64,
    ) -> io::Result<LogId> {
        let id = LogId { term, index: self.last.index + 1 };
        let record = encode_record(id, payload, committed);
        self.file.write_at(&[IoSlice::new(&record)], self.bytes)?;
        self.file.sync_data()?;
        self.bytes += record.len() as u64;
        self.last = id;
        Ok(id)
    }

    /// Drops all entries: a snapshot holds them. Durable when it returns; after an error this log
    /// must not be used again.
    pub(super) fn clear(&mut self) -> io::Result<()> {
        *self = Self::create(Arc::clone(&self.disk), &self.path, self.last)?;
        Ok(())
    }
}

/// The bytes of a payload, as [`Log::append`] takes them.
pub(super) fn payload_bytes(payload: &Payload) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_payload(payload, &mut bytes);
    bytes
}

fn encode_record(id: LogId, payload: &[u8], committed: u64) -> Vec<u8> {
    let len = LOG_ID_BYTES + 8 + payload.len();
    let mut record = vec![0; 4];
    record.reserve(4 + len);
    crate::machine::put_u32(&mut record, len);
    encode_log_id(id, &mut record);
    record.extend_from_slice(&committed.to_be_bytes());
    record.extend_from_slice(payload);
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
    let mut last = base;
    while at < file.len() {
        let Some(record) = checked_record(&file[at..]) else {
            if valid_record_follows(&file[at..], last.index) {
                return Err((at as u64, "the record is damaged, and others follow it"));
            }
            break;
        };
        let mut body = Decoder::new(record, "record");
        let damaged = |e: crate::machine::Corrupt| (at as u64, e.what);
        let id = decode_log_id(&mut body).map_err(damaged)?;
        let committed = body.u64().map_err(damaged)?;
        if last.index.checked_add(1) != Some(id.index) || id.term < last.term {
            return Err((at as u64, "the record does not follow on the one before it"));
        }
        let payload = decode_payload(body).map_err(damaged)?;
        scanned.entries.push(Entry { id, payload });
        scanned.committed = scanned.committed.max(committed);
        last = id;
        at += RECORD_HEAD_BYTES + record.len();
        scanned.bytes = at;
    }
    Ok(scanned)
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
    let records_max = (bytes.len() / (RECORD_HEAD_BYTES + RECORD_BODY_BYTES_MIN)) as u64;
    let index_at = RECORD_HEAD_BYTES + 8;
    (1..bytes.len()).any(|at| {
        let record = &bytes[at..];
        let Some(index) = record.get(index_at..).and_then(<[u8]>::first_chunk::<8>) else {
            return false;
        };
        let ahead = u64::from_be_bytes(*index).saturating_sub(last_index);
        // One more than fits: the damaged record itself may have been shorter than any.
        (1..=records_max + 1).contains(&ahead) && checked_record(record).is_some()
    })
}
