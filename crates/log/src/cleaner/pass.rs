//! One pass of the cleaner over one log.
//!
//! First the dirty part is read, and for each key its last offset is noted. Then the log is copied
//! from its start, several segments into one where they fit, without the records that have a later
//! one of their key; each new segment takes the place of its sources at once ([`crate::swap`]). What
//! a crash leaves in between is a log in which some older records are gone and others are not.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use ottla_record::{BatchError, BatchHeader, Batches, Offset, RecordBatch, Timestamp, batches};

use super::candidate::Candidate;
use super::filter::{Counts, Kept, Rules, UNPACKED_BYTES_MAX};
use super::offset_map::{OffsetMap, SLOT_BYTES};
use super::reader::BatchReader;
use super::throttle::Throttle;
use super::transactions::Transactions;
use crate::log::Log;
use crate::scan::no_batch;
use crate::segment::{BatchFacts, Segment};
use crate::swap;

/// Why a pass ended early.
#[derive(Debug)]
pub(crate) enum PassError {
    /// Another wants to change the segments, or the log is closed.
    GaveWay,
    /// The disk refused, or what it holds cannot be read.
    Io(io::Error),
}

impl From<io::Error> for PassError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// What a pass did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// The first offset that was not looked at.
    pub(crate) end: Offset,
    pub(crate) bytes_read: u64,
    pub(crate) bytes_kept: u64,
    pub(crate) records: Counts,
    pub(crate) keys: usize,
}

/// What a pass may use.
pub(crate) struct Means<'a> {
    pub(crate) throttle: &'a Throttle,
    /// Blocks for so long.
    pub(crate) pause: &'a dyn Fn(Duration),
    /// Whether to end before the work is done.
    pub(crate) is_stopping: &'a dyn Fn() -> bool,
    /// The most that is read at once, and about the most that is written at once.
    pub(crate) buffer_bytes: usize,
    /// The most that the offset map takes.
    pub(crate) map_bytes: usize,
    pub(crate) load_factor: f64,
}

/// The longest time between two looks at whether to end.
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// A pass over `log`, of which nobody else may replace or remove segments meanwhile.
pub(crate) struct Pass<'a> {
    log: &'a Log,
    candidate: &'a Candidate,
    means: &'a Means<'a>,
    now: Timestamp,
    reader: BatchReader,
    unpacked: Vec<u8>,
    outcome: Outcome,
}

impl<'a> Pass<'a> {
    pub(crate) fn new(log: &'a Log, candidate: &'a Candidate, means: &'a Means<'a>) -> Self {
        let now = Timestamp(log.volume.world.clock.wall_ms());
        let (reader, outcome) = (BatchReader::new(means.buffer_bytes), Outcome::default());
        Self { log, candidate, means, now, reader, unpacked: Vec::new(), outcome }
    }

    /// Does all of it.
    pub(crate) fn run(mut self) -> Result<Outcome, PassError> {
        let map = self.map_offsets()?;
        self.outcome.end = map.latest() + 1;
        self.outcome.keys = map.len();
        let producers = self.log.appender.lock().producers.last_entries();
        let config = self.log.config();
        let rules = Rules {
            last_offsets: &map,
            active_producers: &producers,
            upper: self.candidate.first_uncleanable,
            now: self.now,
            delete_retention_ms: config.delete_retention_ms,
        };
        let segments = self.log.segments.load_full();
        let end = segments.partition_point(|s| s.base_offset() < self.outcome.end);
        let limits = [config.segment_bytes, config.segment_index_bytes].map(|max| max as u64);
        let mut transactions = Transactions::default();
        for group in groups(&segments[..end], self.candidate.first_uncleanable, limits) {
            self.clean(group, &rules, &mut transactions)?;
        }
        Ok(self.outcome)
    }

    /// Notes the last offset of each key of the dirty part, as far as there is room.
    fn map_offsets(&mut self) -> Result<OffsetMap, PassError> {
        let Candidate { first_dirty, first_uncleanable, .. } = *self.candidate;
        let segments = self.log.segments.load_full();
        let first = segments.partition_point(|s| s.base_offset() <= first_dirty).saturating_sub(1);
        let end = segments.partition_point(|s| s.base_offset() < first_uncleanable);
        let offsets = usize::try_from(first_uncleanable - first_dirty).unwrap_or(0);
        let slots = (offsets as f64 / self.means.load_factor).ceil() as usize + 1;
        let slots = slots.min(self.means.map_bytes / SLOT_BYTES);
        let seed = self.log.volume.world.random.bytes16();
        let mut map = OffsetMap::new(slots, self.means.load_factor, seed);
        map.advance(Offset(first_dirty.0 - 1));
        let mut transactions = Transactions::default();
        transactions.add(self.log.aborted_transactions(first_dirty, first_uncleanable)?);
        for (at, segment) in segments.iter().enumerate().take(end).skip(first) {
            if !self.map_segment(segment, &mut map, &mut transactions)? {
                break;
            }
            // What is missing at the end of the segment was compacted before.
            let next = segments.get(at + 1).map_or(first_uncleanable, |s| s.base_offset());
            map.advance(Offset(next.0 - 1));
        }
        Ok(map)
    }

    /// Returns whether there was room for all keys of the segment.
    fn map_segment(
        &mut self,
        segment: &Segment,
        map: &mut OffsetMap,
        transactions: &mut Transactions,
    ) -> Result<bool, PassError> {
        let start = self.candidate.first_dirty;
        let size = segment.size();
        let mut position = segment.position_of(start, size)?.unwrap_or(size);
        while position < size {
            give_way(self.log, self.means)?;
            let bytes = self.reader.read(segment, position)?;
            let mut chunk = batches(bytes);
            while let Some(batch) = next_batch(&mut chunk, segment, position)? {
                let is_dropped = transactions
                    .note(&batch)
                    .map_err(|error| unreadable(segment, &batch, &error))?;
                let has_keys = !batch.attributes().is_control() && !is_dropped;
                if has_keys && !note_keys(&batch, segment, start, map, &mut self.unpacked)? {
                    return Ok(false);
                }
                if batch.last_offset() >= start {
                    map.advance(batch.last_offset());
                }
            }
            let read = chunk.position();
            position += read as u64;
            wait(self.means, self.means.throttle.note(read), self.log)?;
        }
        Ok(true)
    }

    /// Copies neighbours into one segment that takes their place.
    fn clean(
        &mut self,
        group: &[Arc<Segment>],
        rules: &Rules<'_>,
        transactions: &mut Transactions,
    ) -> Result<(), PassError> {
        let Some((first, last)) = group.first().zip(group.last()) else { return Ok(()) };
        let options = self.log.options();
        let cleaned = Segment::cleaned(&options, first.base_offset())?;
        let copied = self.copy(group, &cleaned, rules, transactions).and_then(|is_changed| {
            if !is_changed && group.len() == 1 {
                return Ok(false);
            }
            transactions.take_kept().into_iter().for_each(|kept| cleaned.note_aborted(kept));
            cleaned.seal()?;
            // The age of records without timestamps, for retention.
            cleaned.file().set_modified_ms(last.file().modified_ms()?)?;
            Ok(true)
        });
        match copied {
            Ok(true) => Ok(swap::replace(self.log, group, &cleaned)?),
            Ok(false) => Ok(swap::discard(&options, &cleaned)?),
            Err(error) => {
                // What stays of it now, the next pass overwrites and the next load removes.
                let _ = swap::discard(&options, &cleaned);
                Err(error)
            }
        }
    }

    /// Copies what stays of the sources. Returns whether anything became different.
    fn copy(
        &mut self,
        sources: &[Arc<Segment>],
        cleaned: &Segment,
        rules: &Rules<'_>,
        transactions: &mut Transactions,
    ) -> Result<bool, PassError> {
        let segments = self.log.segments.load_full();
        let mut is_changed = false;
        for source in sources {
            let base = source.base_offset();
            let next = segments.iter().map(|s| s.base_offset()).find(|&next| next > base);
            let upper = next.unwrap_or(rules.upper);
            transactions.add(self.log.aborted_transactions(base, upper)?);
            is_changed |= self.copy_segment(source, cleaned, rules, transactions)?;
        }
        Ok(is_changed)
    }

    fn copy_segment(
        &mut self,
        source: &Segment,
        cleaned: &Segment,
        rules: &Rules<'_>,
        transactions: &mut Transactions,
    ) -> Result<bool, PassError> {
        let (mut position, mut is_changed) = (0, false);
        let interval = self.log.config().index_interval_bytes as u64;
        let (mut out, mut facts) = (Vec::new(), Vec::new());
        while position < source.size() {
            give_way(self.log, self.means)?;
            let bytes = self.reader.read(source, position)?;
            let mut chunk = batches(bytes);
            let start = position;
            while let Some(batch) = next_batch(&mut chunk, source, start)? {
                let (unpacked, counts) = (&mut self.unpacked, &mut self.outcome.records);
                let kept = rules
                    .keep(&batch, transactions, unpacked, counts)
                    .map_err(|error| unreadable(source, &batch, &error))?;
                is_changed |= kept != Kept::Whole;
                let before = out.len();
                match &kept {
                    Kept::Nothing => continue,
                    Kept::Whole => out.extend_from_slice(batch.as_bytes()),
                    Kept::Rewritten(bytes) => out.extend_from_slice(bytes),
                    Kept::Header(bytes) => out.extend_from_slice(bytes),
                }
                let header = BatchHeader::parse(&out[before..])
                    .map_err(|error| unreadable(source, &batch, &error))?;
                facts.push(fitting(cleaned, out.len(), &header)?);
            }
            let read = chunk.position();
            position += read as u64;
            self.outcome.bytes_read += read as u64;
            self.outcome.bytes_kept += out.len() as u64;
            if !out.is_empty() {
                cleaned.append_copied(&out, &facts, interval)?;
            }
            let written = out.len();
            out.clear();
            facts.clear();
            out.shrink_to(self.means.buffer_bytes);
            wait(self.means, self.means.throttle.note(read + written), self.log)?;
        }
        // A batch that was large once must not be held for ever.
        self.unpacked.shrink_to(self.means.buffer_bytes);
        Ok(is_changed)
    }
}

/// Notes the keys of a batch from `start` on. Returns whether there was room for all.
fn note_keys(
    batch: &RecordBatch<'_>,
    segment: &Segment,
    start: Offset,
    map: &mut OffsetMap,
    unpacked: &mut Vec<u8>,
) -> io::Result<bool> {
    let records = batch.records(unpacked, UNPACKED_BYTES_MAX);
    for record in records.map_err(|error| unreadable(segment, batch, &error))? {
        let record = record.map_err(|error| unreadable(segment, batch, &error))?;
        let key = record.key.filter(|_| record.offset >= start);
        if key.is_some_and(|key| !map.put(key, record.offset)) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The next whole batch of a chunk that begins at `start`.
fn next_batch<'b>(
    chunk: &mut Batches<'b>,
    segment: &Segment,
    start: u64,
) -> io::Result<Option<RecordBatch<'b>>> {
    let position = start + Batches::position(chunk) as u64;
    match chunk.next() {
        None | Some(Err(BatchError::Truncated { .. })) => Ok(None),
        Some(Err(error)) => Err(no_batch(segment.path(), position, &error)),
        Some(Ok(batch)) => match batch.verify_crc() {
            // What is damaged must not get a checksum that is right.
            Err(error) => Err(no_batch(segment.path(), position, &error)),
            Ok(()) => Ok(Some(batch)),
        },
    }
}

fn unreadable(
    segment: &Segment,
    batch: &RecordBatch<'_>,
    error: &dyn std::fmt::Display,
) -> io::Error {
    let (path, offset) = (segment.path(), batch.base_offset());
    let message = format!("{path}: the batch at offset {offset}: {error}");
    io::Error::new(io::ErrorKind::InvalidData, message)
}

/// The facts of a batch that ends `end` bytes behind what the segment holds, if an index can tell
/// where it is.
fn fitting(cleaned: &Segment, end: usize, header: &BatchHeader<'_>) -> io::Result<BatchFacts> {
    let span = header.last_offset().0.checked_sub(cleaned.base_offset().0);
    let fits_span = span.is_some_and(|span| (0..=i64::from(i32::MAX)).contains(&span));
    if !fits_span || cleaned.size() + end as u64 > i32::MAX as u64 {
        let (path, offset) = (cleaned.path(), header.base_offset());
        let message = format!("{path} cannot take the batch at offset {offset}: it would be full");
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    Ok(BatchFacts::of(header))
}

/// Neighbours that fit into one segment: by their bytes, their indexes and their offsets. `upper` is
/// where the last of them ends.
fn groups(
    segments: &[Arc<Segment>],
    upper: Offset,
    [bytes_max, index_bytes_max]: [u64; 2],
) -> impl Iterator<Item = &[Arc<Segment>]> {
    let mut rest = segments;
    std::iter::from_fn(move || {
        let first = rest.first()?;
        let sizes = |segment: &Segment| {
            let [offsets, times] = segment.index_sizes().map(|size| size as u64);
            [segment.size(), offsets, times]
        };
        let mut sum = sizes(first);
        let mut count = 1;
        while let Some(segment) = rest.get(count) {
            let next = rest.get(count + 1).map_or(upper, |s| s.base_offset());
            let fits_span = next.0 - 1 - first.base_offset().0 <= i64::from(i32::MAX);
            sizes(segment).iter().zip(&mut sum).for_each(|(size, sum)| *sum += size);
            let fits = sum[0] <= bytes_max && sum[1].max(sum[2]) <= index_bytes_max;
            // An empty one leaves no trace: else one would stay for each 2³¹ offsets.
            if !fits || !(fits_span || segment.size() == 0) {
                break;
            }
            count += 1;
        }
        let (group, behind) = rest.split_at(count);
        rest = behind;
        Some(group)
    })
}

fn give_way(log: &Log, means: &Means<'_>) -> Result<(), PassError> {
    if log.upkeep.is_wanted() || (means.is_stopping)() { Err(PassError::GaveWay) } else { Ok(()) }
}

fn wait(means: &Means<'_>, mut left: Duration, log: &Log) -> Result<(), PassError> {
    while !left.is_zero() {
        give_way(log, means)?;
        let now = left.min(PAUSE_MAX);
        (means.pause)(now);
        left -= now;
    }
    Ok(())
}
