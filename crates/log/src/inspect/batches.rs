//! A walk over the batches of a `.log` file, of any format, valid or not.

use std::fmt;
use std::io;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ottla_record::legacy::{LegacyEntry, LegacyError};
use ottla_record::{
    BatchError, BatchHeader, ControlRecord, Crc32c, HEADER_BYTES, Headers, LeaderEpoch,
    MalformedRecords, Offset, RecordBatch, Sequence, Timestamp, TimestampType, crc32,
};
use ottla_runtime::disk::{Disk, File, OpenMode};

/// Offset and length, which a batch's length does not count.
const LOG_OVERHEAD: u64 = 12;
/// Bytes up to and with the magic, which every format has.
const TO_MAGIC: usize = 17;
/// Where the bytes begin that the checksum of magic 2 covers.
const CRC_FROM: u64 = 21;
/// How much of a file is held at a time.
const PIECE_BYTES: usize = 128 * 1024;
/// The most that is unpacked of one batch. It is unpacked piece by piece.
const UNPACKED_BYTES_MAX: usize = 1 << 30;

/// What stands at a position of a log.
#[derive(Debug)]
pub enum Step {
    /// A whole batch, whose checksum may be wrong.
    Batch(StoredBatch),
    /// No batch: too few bytes are left, or what is there cannot be one.
    NoBatch {
        /// Where, in bytes from the start of the file.
        position: u64,
        /// Bytes from there to the end of the file.
        bytes: u64,
        /// What is wrong with them.
        error: BatchError,
    },
}

/// A batch in a log file: its header, and whether its checksum is right.
#[derive(Clone)]
pub struct StoredBatch {
    /// Where it begins, in bytes from the start of the file.
    pub position: u64,
    /// Its bytes, header included.
    pub size: u64,
    /// The checksum agrees with the bytes.
    pub is_valid: bool,
    /// A message with magic 0 or 1 may have fewer bytes than this; zeros follow then.
    header: [u8; HEADER_BYTES],
}

impl fmt::Debug for StoredBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { position, size, is_valid, .. } = self;
        write!(f, "StoredBatch({} at {position}, {size} bytes, {is_valid})", self.last_offset())
    }
}

impl StoredBatch {
    /// The header of a batch with magic 2; `None` for the formats before.
    #[must_use]
    pub fn header(&self) -> Option<BatchHeader<'_>> {
        BatchHeader::parse(&self.header).ok()
    }

    /// 0, 1 or 2.
    #[must_use]
    pub fn magic(&self) -> i8 {
        self.header[16] as i8
    }

    /// The offset in the first field: that of the first record, or of the last before magic 2.
    #[must_use]
    pub fn first_field_offset(&self) -> Offset {
        Offset(i64::from_be_bytes(std::array::from_fn(|i| self.header[i])))
    }

    /// The offset of the last record. Wraps on nonsense.
    #[must_use]
    pub fn last_offset(&self) -> Offset {
        self.header().map_or(self.first_field_offset(), |header| header.last_offset())
    }

    /// The leader epoch, unknown before magic 2.
    #[must_use]
    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.header().map_or(LeaderEpoch::NONE, |header| header.leader_epoch())
    }

    /// The greatest timestamp as the header tells it; none with magic 0.
    #[must_use]
    pub fn max_timestamp(&self) -> Timestamp {
        match (self.header(), self.magic()) {
            (Some(header), _) => header.max_timestamp(),
            (None, 1) => {
                Timestamp(i64::from_be_bytes(std::array::from_fn(|i| self.header[18 + i])))
            }
            (None, _) => Timestamp::NONE,
        }
    }

    /// The timestamp type; `None` with magic 0, which has no timestamps.
    #[must_use]
    pub fn timestamp_type(&self) -> Option<TimestampType> {
        match (self.header(), self.magic()) {
            (Some(header), _) => Some(header.attributes().timestamp_type()),
            (None, 0) => None,
            (None, _) if self.header[17] & 0b1000 != 0 => Some(TimestampType::LogAppendTime),
            (None, _) => Some(TimestampType::CreateTime),
        }
    }

    /// The number of the codec.
    #[must_use]
    pub fn codec_id(&self) -> u8 {
        self.header().map_or(self.header[17] & 0b111, |header| header.attributes().codec_id())
    }

    /// The checksum that the batch claims.
    #[must_use]
    pub fn crc(&self) -> u32 {
        let legacy = u32::from_be_bytes(std::array::from_fn(|i| self.header[12 + i]));
        self.header().map_or(legacy, |header| header.crc())
    }
}

/// A record as it is shown.
#[derive(Clone, Debug)]
pub struct RecordView<'a> {
    /// Its offset.
    pub offset: Offset,
    /// Its timestamp; -1 with magic 0.
    pub timestamp: Timestamp,
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its value.
    pub value: Option<&'a [u8]>,
    /// The sequence of an idempotent producer, or -1; `None` before magic 2.
    pub sequence: Option<Sequence>,
    /// Its headers.
    pub headers: Headers<'a>,
    /// What a control record says; `None` for data, and for a control record that says nothing.
    pub control: Option<ControlRecord>,
}

/// Why the records of a batch cannot be read.
#[derive(Debug)]
pub enum UnreadableRecords {
    /// They are not what the header says.
    Malformed(MalformedRecords),
    /// The same, before magic 2.
    Legacy(LegacyError),
    /// The batch is larger than the reader may hold.
    TooLarge {
        /// Bytes of the batch.
        size: u64,
        /// Bytes that are allowed.
        max: u64,
    },
}

impl fmt::Display for UnreadableRecords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(error) => error.fmt(f),
            Self::Legacy(error) => error.fmt(f),
            Self::TooLarge { size, max } => {
                write!(f, "the batch has {size} bytes, and at most {max} are read")
            }
        }
    }
}

/// Reads a log file batch by batch. It holds a piece of the file and, while its records are read,
/// one batch.
pub struct BatchReader {
    file: Arc<dyn File>,
    path: PathBuf,
    position: u64,
    end: u64,
    piece: Vec<u8>,
    /// Where `piece` begins in the file.
    piece_at: u64,
    batch_bytes_max: u64,
}

impl BatchReader {
    /// A reader from the start of the file at `path` to where it ends now. The records of batches
    /// with more than `batch_bytes_max` bytes are not read.
    ///
    /// # Errors
    /// The disk's.
    pub fn open(disk: &dyn Disk, path: &Path, batch_bytes_max: u64) -> io::Result<Self> {
        let file = disk.open(path, OpenMode::Read)?;
        let end = file.len()?;
        let (path, piece) = (path.to_owned(), Vec::new());
        Ok(Self { file, path, position: 0, end, piece, piece_at: 0, batch_bytes_max })
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of the file when it was opened.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Goes on at a position.
    pub fn seek(&mut self, position: u64) {
        self.position = position;
    }

    /// What stands at the position; `None` at the end. The walk goes on behind a batch, and stays
    /// where there is none.
    ///
    /// # Errors
    /// The disk's.
    pub fn step(&mut self) -> io::Result<Option<Step>> {
        if self.position >= self.end {
            return Ok(None);
        }
        let step = self.batch_at(self.position)?;
        if let Step::Batch(batch) = &step {
            self.position += batch.size;
        }
        Ok(Some(step))
    }

    /// The batch at `position`, if a whole one with a right checksum begins there.
    ///
    /// # Errors
    /// The disk's.
    pub fn valid_at(&mut self, position: u64) -> io::Result<Option<StoredBatch>> {
        match self.batch_at(position)? {
            Step::Batch(batch) if batch.is_valid => Ok(Some(batch)),
            _ => Ok(None),
        }
    }

    /// The first batch at or behind `from` with a right checksum and its first offset in `offsets`.
    ///
    /// # Errors
    /// The disk's.
    pub fn find_valid(
        &mut self,
        from: u64,
        offsets: RangeInclusive<Offset>,
    ) -> io::Result<Option<StoredBatch>> {
        let mut at = from;
        while at + TO_MAGIC as u64 <= self.end {
            let bytes = self.bytes(at, TO_MAGIC)?;
            let Ok(prefix) = <[u8; TO_MAGIC]>::try_from(bytes) else { break };
            let base = Offset(i64::from_be_bytes(std::array::from_fn(|i| prefix[i])));
            if (0..=2).contains(&prefix[16])
                && offsets.contains(&base)
                && let Some(batch) = self.valid_at(at)?
            {
                return Ok(Some(batch));
            }
            at += 1;
        }
        Ok(None)
    }

    /// Whether a sector in `range` reads as zeros, as one does that was appended and that the disk
    /// lost with the power; the first may have had bytes of a batch before `range`.
    ///
    /// # Errors
    /// The disk's.
    pub fn has_lost_sector(&mut self, range: Range<u64>) -> io::Result<bool> {
        const SECTOR_BYTES: u64 = 512;
        let mut at = range.start;
        while at < range.end {
            let boundary = (at / SECTOR_BYTES + 1) * SECTOR_BYTES;
            let sector = self.bytes(at, (boundary.min(self.end) - at) as usize)?;
            if !sector.is_empty() && sector.iter().all(|&byte| byte == 0) {
                return Ok(true);
            }
            at = boundary;
        }
        Ok(false)
    }

    fn batch_at(&mut self, position: u64) -> io::Result<Step> {
        let left = self.end.saturating_sub(position);
        let wanted = (HEADER_BYTES as u64).min(left) as usize;
        let mut header = [0; HEADER_BYTES];
        let bytes = self.bytes(position, wanted)?;
        let got = bytes.len();
        header[..got].copy_from_slice(bytes);
        let no_batch = |error| Step::NoBatch { position, bytes: left, error };
        let error = match BatchHeader::parse(&header[..got]) {
            Ok(_) => None,
            // Before magic 2 a message may be shorter than that header.
            Err(BatchError::Magic { got: 0 | 1 }) => None,
            Err(error) => Some(error),
        };
        if let Some(error) = error {
            return Ok(no_batch(error));
        }
        let length = u32::from_be_bytes(std::array::from_fn(|i| header[8 + i]));
        let size = LOG_OVERHEAD + u64::from(length);
        if size > left {
            let (needed, got) = (size as usize, left as usize);
            return Ok(no_batch(BatchError::Truncated { needed, got }));
        }
        let mut batch = StoredBatch { position, size, is_valid: false, header };
        batch.is_valid = self.checksum_is_right(&batch)?;
        Ok(Step::Batch(batch))
    }

    fn checksum_is_right(&mut self, batch: &StoredBatch) -> io::Result<bool> {
        let end = batch.position + batch.size;
        if batch.magic() < 2 {
            if batch.size > self.batch_bytes_max {
                return Ok(false);
            }
            let covered = self.copy(batch.position + 16, (batch.size - 16) as usize)?;
            return Ok(crc32(&covered) == batch.crc());
        }
        let mut crc = Crc32c::new();
        let mut at = batch.position + CRC_FROM;
        while at < end {
            let wanted = (end - at).min(PIECE_BYTES as u64) as usize;
            let bytes = self.bytes(at, wanted)?;
            if bytes.is_empty() {
                return Ok(false);
            }
            at += bytes.len() as u64;
            crc = crc.update(bytes);
        }
        Ok(crc.finish() == batch.crc())
    }

    /// Calls `visit` with each record of a batch that this reader found.
    ///
    /// # Errors
    /// The disk's. The inner one tells why the records cannot be read; `visit` has seen those
    /// before the fault.
    pub fn visit_records(
        &self,
        batch: &StoredBatch,
        mut visit: impl FnMut(&RecordView<'_>),
    ) -> io::Result<Result<(), UnreadableRecords>> {
        if batch.size > self.batch_bytes_max {
            let (size, max) = (batch.size, self.batch_bytes_max);
            return Ok(Err(UnreadableRecords::TooLarge { size, max }));
        }
        let bytes = self.copy(batch.position, batch.size as usize)?;
        if batch.magic() < 2 {
            let visited = LegacyEntry::parse(&bytes).and_then(|(entry, _)| {
                entry.visit_records(UNPACKED_BYTES_MAX, |record| {
                    let (offset, timestamp) = (record.offset, record.timestamp);
                    let (key, value, headers) = (record.key, record.value, Headers::default());
                    let (sequence, control) = (None, None);
                    visit(&RecordView {
                        offset,
                        timestamp,
                        key,
                        value,
                        sequence,
                        headers,
                        control,
                    });
                })
            });
            return Ok(visited.map_err(UnreadableRecords::Legacy));
        }
        let Ok((whole, _)) = RecordBatch::parse(&bytes) else {
            // The file was cut since the batch was found.
            return Ok(Ok(()));
        };
        let base = whole.base_sequence();
        let visited = whole.visit_records(UNPACKED_BYTES_MAX, |record| {
            let is_control = whole.attributes().is_control();
            visit(&RecordView {
                offset: record.offset,
                timestamp: record.timestamp,
                key: record.key,
                value: record.value,
                sequence: Some(match base {
                    Sequence::NONE => base,
                    base => base.advance(record.offset_delta),
                }),
                headers: record.headers,
                control: is_control.then(|| ControlRecord::parse(record).ok()).flatten(),
            });
        });
        Ok(visited.map_err(UnreadableRecords::Malformed))
    }

    fn copy(&self, at: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        let read = self.file.read_at(&mut bytes, at)?;
        bytes.truncate(read);
        Ok(bytes)
    }

    /// `len` bytes from `at`, at most [`PIECE_BYTES`]; fewer if the file became shorter.
    fn bytes(&mut self, at: u64, len: usize) -> io::Result<&[u8]> {
        let held = self.piece_at..self.piece_at + self.piece.len() as u64;
        if at < held.start || at + len as u64 > held.end {
            let wanted = (self.end.saturating_sub(at)).min(PIECE_BYTES as u64) as usize;
            self.piece.resize(wanted, 0);
            let read = self.file.read_at(&mut self.piece, at)?;
            self.piece.truncate(read);
            self.piece_at = at;
        }
        let from = (at - self.piece_at) as usize;
        let to = (from + len).min(self.piece.len());
        Ok(&self.piece[from.min(to)..to])
    }
}
