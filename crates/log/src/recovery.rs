//! Reading a segment of which little is known, and telling what a crash left from what is damaged.
//!
//! A walk goes from header to header and builds the indexes anew. Past the recovery point it reads
//! the batches as well, for their checksums. Where it must stop, one of these is true:
//!
//! - **the batch was torn**: behind it is nothing. The process or the power failed while it was
//!   written;
//! - **the disk lost a write**: of what was not synced, a power cut may spare what was written later
//!   and take what was written before. What is appended and then lost reads as zeros, a sector at a
//!   time. A sync covers all that was appended to the file before it, so nothing from there on was
//!   acknowledged;
//! - **the file is damaged**: neither zeros nor the end explain it, and batches follow. Of these
//!   nobody knows whether they were acknowledged.

use std::io;

use ottla_record::legacy::LegacyEntry;
use ottla_record::{
    BatchError, BatchHeader, Crc32c, EndTransactionMarker, HEADER_BYTES, Offset, RecordBatch,
};

use crate::scan::{READ_AHEAD_BYTES, Window, no_batch};
use crate::segment::{BatchFacts, Segment};
use crate::txn_index::AbortedTransaction;

/// What a disk writes whole or not at all.
const SECTOR_BYTES: u64 = 512;

/// Where the checksum of a batch begins to count.
const CRC_FROM: usize = 21;

/// The attributes that are defined.
const ATTRIBUTES: i16 = 0b111_1111;

/// The most that is read to compare checksums when a batch is looked for at every byte. Bytes that
/// look like so many headers are taken for a batch.
const SEARCH_BYTES_MAX: u64 = 256 << 20;

/// What a walk found.
#[derive(Debug)]
pub(crate) struct Walked {
    /// Bytes of good batches.
    pub(crate) size: u64,
    /// The offset behind the last of them.
    pub(crate) next_offset: Offset,
    /// What stands behind them, if it is no batch that can follow.
    pub(crate) bad: Option<Bad>,
    /// How the offsets lie.
    pub(crate) density: Density,
    /// The transactions that were aborted.
    pub(crate) aborted: Vec<AbortedTransaction>,
}

/// Why there is no batch.
#[derive(Debug)]
pub(crate) struct Bad {
    pub(crate) what: String,
    /// The file ends within it.
    pub(crate) is_cut_off: bool,
}

impl Bad {
    fn of(error: &BatchError) -> Self {
        let is_cut_off = matches!(error, BatchError::Truncated { .. });
        Self { what: error.to_string(), is_cut_off }
    }

    fn other(what: String) -> Self {
        Self { what, is_cut_off: false }
    }
}

/// The offsets that are missing in a segment, which compaction takes and nothing else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Density {
    /// Where the first batch stands that does not begin where the one before ends: its position, and
    /// the offset that is missing.
    pub(crate) first_gap: Option<(u64, Offset)>,
    /// Batches that do not begin where the one before ends.
    pub(crate) gaps: u32,
    /// A batch has fewer records than offsets.
    pub(crate) is_sparse: bool,
}

impl Density {
    fn note(&mut self, position: u64, expected: Offset, batch: &BatchHeader<'_>) {
        if batch.base_offset() != expected {
            self.gaps += 1;
            self.first_gap.get_or_insert((position, expected));
        }
        self.is_sparse |= i64::from(batch.count()) != i64::from(batch.last_offset_delta()) + 1;
    }
}

impl Segment {
    /// Walks over the segment up to the first batch that cannot follow, comparing the checksums of
    /// those that reach beyond `known`, and makes the indexes anew.
    ///
    /// # Errors
    /// The disk refused, or there is a batch of a format before 2.
    pub(crate) fn walk(
        &self,
        index_interval_bytes: u64,
        known: Offset,
        mut visit: impl FnMut(
            &BatchHeader<'_>,
            Option<EndTransactionMarker>,
        ) -> Option<AbortedTransaction>,
    ) -> io::Result<Walked> {
        let mut walked = Walked {
            size: 0,
            next_offset: self.base_offset(),
            bad: None,
            density: Density::default(),
            aborted: Vec::new(),
        };
        let mut window = Window::new(&**self.file());
        let end = self.size();
        while walked.size < end {
            let left = ((end - walked.size) as usize).min(HEADER_BYTES);
            let mut bytes = [0; HEADER_BYTES];
            let found = window.at(walked.size, left)?;
            let (bytes, found) = (&mut bytes[..found.len()], found);
            bytes.copy_from_slice(found);
            let batch = match BatchHeader::parse(bytes) {
                Ok(batch) => batch,
                Err(error) => {
                    self.refuse_legacy(walked.size, &error)?;
                    walked.bad = Some(Bad::of(&error));
                    break;
                }
            };
            walked.bad = self.misfit(&batch, walked.next_offset, end - walked.size);
            if walked.bad.is_none()
                && batch.next_offset() > known
                && !self.crc_matches(&mut window, walked.size, &batch)?
            {
                walked.bad = Some(Bad::other("the checksum of a record batch is wrong".to_owned()));
            }
            if walked.bad.is_some() {
                break;
            }
            walked.density.note(walked.size, walked.next_offset, &batch);
            let facts = BatchFacts::of(&batch);
            let base = self.base_offset();
            self.summary.lock().note(base, walked.size, facts, index_interval_bytes);
            let marker = self.marker_at(walked.size, &batch)?;
            walked.aborted.extend(visit(&batch, marker));
            walked.next_offset = batch.next_offset();
            walked.size += facts.size as u64;
        }
        Ok(walked)
    }

    /// Why the batch cannot stand where `expected` is the next offset and so many bytes are left.
    fn misfit(&self, batch: &BatchHeader<'_>, expected: Offset, left: u64) -> Option<Bad> {
        let (first, last, size) = (batch.base_offset(), batch.last_offset(), batch.size_in_bytes());
        if size as u64 > left {
            return Some(Bad::of(&BatchError::Truncated { needed: size, got: left as usize }));
        }
        let follows = first >= expected && last >= first && self.reaches(last);
        (!follows).then(|| Bad::other(format!("a record batch has the offsets {first} to {last}")))
    }

    fn crc_matches(
        &self,
        window: &mut Window<'_>,
        position: u64,
        batch: &BatchHeader<'_>,
    ) -> io::Result<bool> {
        let size = batch.size_in_bytes();
        if size <= READ_AHEAD_BYTES {
            let bytes = window.at(position, size)?;
            return Ok(RecordBatch::parse(bytes).is_ok_and(|(b, _)| b.verify_crc().is_ok()));
        }
        let mut crc = Crc32c::new();
        let mut pieces = Window::new(&**self.file());
        let mut at = CRC_FROM;
        while at < size {
            let piece = pieces.at(position + at as u64, (size - at).min(READ_AHEAD_BYTES))?;
            if piece.is_empty() {
                return Ok(false);
            }
            crc = crc.update(piece);
            at += piece.len();
        }
        Ok(crc.finish() == batch.crc())
    }

    /// Fails if there is a batch of a format before 2, which must not be cut for damage.
    fn refuse_legacy(&self, position: u64, error: &BatchError) -> io::Result<()> {
        let left = self.size() - position;
        let prefix = Window::new(&**self.file()).at(position, 12)?.to_vec();
        let Some(length) = prefix.get(8..12).and_then(|bytes| bytes.first_chunk()) else {
            return Ok(());
        };
        let size = 12 + u64::from(u32::from_be_bytes(*length));
        if !matches!(error, BatchError::Magic { got: 0 | 1 }) || size > left {
            return Ok(());
        }
        let bytes = self.bytes_at(position, size as usize)?;
        let legacy = LegacyEntry::parse(&bytes).ok().filter(|(e, _)| e.verify_crc().is_ok());
        match legacy {
            Some(_) => Err(no_batch(self.path(), position, error)),
            None => Ok(()),
        }
    }

    /// Whether what stands behind the walk's last batch was lost by the disk: whether it has zeros
    /// from there to the end of a sector, or over a whole one.
    pub(crate) fn has_lost_write(&self, walked: &Walked) -> io::Result<bool> {
        let (start, end) = (walked.size, self.size());
        let mut window = Window::new(&**self.file());
        let header = window.at(start, HEADER_BYTES)?;
        let size = BatchHeader::parse(header).map_or(HEADER_BYTES, |batch| batch.size_in_bytes());
        let limit = start.saturating_add(size as u64).min(end);
        // What was there before the lost write ended where the batch was to begin.
        let boundary = (start / SECTOR_BYTES + 1) * SECTOR_BYTES;
        let first = window.at(start, (boundary.min(end) - start) as usize)?;
        if is_blank(first) && can_tell(first.len(), walked.next_offset) {
            return Ok(true);
        }
        let mut sector = boundary;
        while sector < limit {
            let bytes = window.at(sector, (end - sector).min(SECTOR_BYTES) as usize)?;
            if is_blank(bytes) {
                return Ok(true);
            }
            sector += SECTOR_BYTES;
        }
        Ok(false)
    }

    /// Whether a good batch stands anywhere behind the walk's last one. `true` also where so much
    /// looks like one that it cannot be told.
    pub(crate) fn has_batch_behind(&self, walked: &Walked) -> io::Result<bool> {
        let end = self.size();
        let mut window = Window::new(&**self.file());
        let mut batches = Window::new(&**self.file());
        let mut position = walked.size + 1;
        let mut compared = 0;
        while position + HEADER_BYTES as u64 <= end {
            let len = ((end - position) as usize).min(READ_AHEAD_BYTES);
            let piece = window.at(position, len)?.to_vec();
            for (at, bytes) in piece.windows(HEADER_BYTES).enumerate() {
                let Ok(batch) = BatchHeader::parse(bytes) else { continue };
                let at = position + at as u64;
                let attributes = batch.attributes();
                let is_plausible = self.misfit(&batch, walked.next_offset, end - at).is_none()
                    && (0..=i64::from(batch.last_offset_delta()) + 1)
                        .contains(&i64::from(batch.count()))
                    && attributes.0 & !ATTRIBUTES == 0
                    && attributes.codec().is_some();
                if !is_plausible {
                    continue;
                }
                compared += batch.size_in_bytes() as u64;
                if compared > SEARCH_BYTES_MAX || self.crc_matches(&mut batches, at, &batch)? {
                    return Ok(true);
                }
            }
            if piece.len() < HEADER_BYTES {
                break;
            }
            position += (piece.len() - HEADER_BYTES + 1) as u64;
        }
        Ok(false)
    }

    /// How the offsets lie in a segment whose batches are good.
    pub(crate) fn density(&self) -> io::Result<Density> {
        let (mut density, mut next) = (Density::default(), self.base_offset());
        self.scan(0, self.size()).find(|position, batch| {
            density.note(position, next, batch);
            next = batch.next_offset();
            None::<()>
        })?;
        Ok(density)
    }
}

fn is_blank(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&byte| byte == 0)
}

/// Whether so many zeros in place of a batch's first bytes differ from what a batch of the next
/// offset begins with: its length is not zero, but its offset may begin with zeros.
fn can_tell(zeros: usize, next: Offset) -> bool {
    zeros >= 12 || !is_blank(&next.0.to_be_bytes()[..zeros.min(8)])
}
