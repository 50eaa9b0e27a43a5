//! What a partition remembers of its producers: the epoch and the last five batches of each, so that
//! a retried batch is stored once and a gap is refused; and which transactions are open.
//!
//! Pure. Source: KIP-98, KIP-360.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::ops::RangeInclusive;

use ottla_record::{
    BatchHeader, ControlRecord, EndTransactionMarker, Offset, ProducerEpoch, ProducerId,
    RecordBatch, Sequence, Timestamp, crc32c,
};

use crate::cleaner::LastEntry;
use crate::txn_index::AbortedTransaction;

/// How many batches of a producer are remembered: the most that it may have in flight.
const WINDOW: usize = 5;

/// How many ended transactions are told apart while the high watermark has not passed them.
const ENDED_MAX: usize = 4096;

/// A marker has one record of a few bytes; larger control batches are none.
pub(crate) const MARKER_BYTES_MAX: usize = 1024;

/// Where a remembered batch is in the log, and which sequences it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Batch {
    first_sequence: Sequence,
    last_sequence: Sequence,
    last_offset: Offset,
    offset_delta: i32,
    timestamp: Timestamp,
}

impl Batch {
    fn of(header: &BatchHeader<'_>) -> Self {
        Self {
            first_sequence: header.base_sequence(),
            last_sequence: header.last_sequence(),
            last_offset: header.last_offset(),
            offset_delta: header.last_offset_delta(),
            timestamp: header.max_timestamp(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Producer {
    epoch: ProducerEpoch,
    coordinator_epoch: i32,
    last_timestamp: Timestamp,
    batches: VecDeque<Batch>,
    /// Where the open transaction began.
    transaction_start: Option<Offset>,
}

/// A batch that is in the log already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Duplicate {
    /// The offset of its first record.
    pub base_offset: Offset,
    /// The timestamp remembered for it: its append time if the topic stamps on append.
    pub timestamp: Timestamp,
}

/// Why a producer's batch is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SequenceError {
    /// A newer instance of the producer has written with a higher epoch.
    StaleEpoch {
        /// The epoch of the batch.
        got: ProducerEpoch,
        /// The highest epoch seen.
        current: ProducerEpoch,
    },
    /// A batch before this one is missing.
    OutOfOrder {
        /// The first sequence of the batch.
        got: Sequence,
        /// The sequence that would follow.
        expected: Sequence,
    },
}

impl fmt::Display for SequenceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StaleEpoch { got, current } => write!(
                f,
                "producer epoch {got} is older than {current}: another producer with the same id took over"
            ),
            Self::OutOfOrder { got, expected } => {
                write!(f, "sequence {got} does not follow: {expected} is expected")
            }
        }
    }
}

/// The producers of one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ProducerState {
    producers: BTreeMap<ProducerId, Producer>,
    /// The open transactions by the offsets of their first records.
    open: BTreeMap<Offset, ProducerId>,
    /// First and last offsets of transactions that ended, until the high watermark passes the last.
    ended: VecDeque<(Offset, Offset)>,
}

impl ProducerState {
    /// Checks a batch that a client sends. `Some` says that it is in the log already.
    pub(crate) fn check(
        &self,
        batch: &BatchHeader<'_>,
    ) -> Result<Option<Duplicate>, SequenceError> {
        let Some(producer) = self.producers.get(&batch.producer_id()) else {
            // Nothing is known, or all was forgotten with age: any sequence may begin (KIP-360).
            return Ok(None);
        };
        let (epoch, first) = (batch.producer_epoch(), batch.base_sequence());
        if epoch == producer.epoch {
            let known = producer
                .batches
                .iter()
                .find(|b| b.first_sequence == first && b.last_sequence == batch.last_sequence());
            if let Some(known) = known {
                return Ok(Some(Duplicate {
                    base_offset: Offset(
                        known.last_offset.0.wrapping_sub(i64::from(known.offset_delta)),
                    ),
                    timestamp: known.timestamp,
                }));
            }
        }
        if epoch < producer.epoch {
            return Err(SequenceError::StaleEpoch { got: epoch, current: producer.epoch });
        }
        let expected = match producer.batches.back() {
            Some(last) if epoch == producer.epoch => last.last_sequence.advance(1),
            _ => Sequence(0),
        };
        if first != expected {
            return Err(SequenceError::OutOfOrder { got: first, expected });
        }
        Ok(None)
    }

    /// Notes a batch of the log; `marker` is what it says if it ends a transaction. Returns the
    /// transaction that was aborted by that.
    pub(crate) fn replay(
        &mut self,
        batch: &BatchHeader<'_>,
        marker: Option<EndTransactionMarker>,
    ) -> Option<AbortedTransaction> {
        let is_control = batch.attributes().is_control();
        if !batch.has_producer_id() || (is_control && marker.is_none()) {
            return None;
        }
        let epoch = batch.producer_epoch();
        let producer = self.producers.entry(batch.producer_id()).or_insert(Producer {
            epoch,
            coordinator_epoch: -1,
            last_timestamp: Timestamp::NONE,
            batches: VecDeque::new(),
            transaction_start: None,
        });
        if producer.epoch != epoch {
            producer.epoch = epoch;
            producer.batches.clear();
        }
        producer.last_timestamp = batch.max_timestamp();
        let Some(marker) = marker else {
            if producer.batches.len() == WINDOW {
                producer.batches.pop_front();
            }
            producer.batches.push_back(Batch::of(batch));
            if batch.attributes().is_transactional() && producer.transaction_start.is_none() {
                producer.transaction_start = Some(batch.base_offset());
                self.open.insert(batch.base_offset(), batch.producer_id());
            }
            return None;
        };
        producer.coordinator_epoch = marker.coordinator_epoch;
        // A transaction may end here without a record in this partition.
        let first_offset = producer.transaction_start.take()?;
        self.open.remove(&first_offset);
        let last_offset = batch.last_offset();
        self.note_end(first_offset, last_offset);
        let first_open = self.open.first_key_value().map(|(&offset, _)| offset);
        (!marker.committed).then(|| AbortedTransaction {
            producer_id: batch.producer_id(),
            first_offset,
            last_offset,
            last_stable_offset: first_open.unwrap_or(last_offset + 1),
        })
    }

    /// Takes over the windows of `seen`, which replayed the last batches that this state stands
    /// for: a snapshot has but one batch of each producer.
    pub(crate) fn adopt_windows(&mut self, seen: Self) {
        for (id, seen) in seen.producers {
            if let Some(producer) = self.producers.get_mut(&id)
                && producer.epoch == seen.epoch
                && producer.batches.back() == seen.batches.back()
            {
                producer.batches = seen.batches;
            }
        }
    }

    fn note_end(&mut self, first: Offset, last: Offset) {
        self.ended.push_back((first, last));
        if self.ended.len() > ENDED_MAX
            && let (Some((oldest, _)), Some(next)) =
                (self.ended.pop_front(), self.ended.front_mut())
        {
            // Two count as one, which ends with the later.
            next.0 = next.0.min(oldest);
        }
    }

    /// The offset of the first record whose transaction is open, or ended at or behind
    /// `high_watermark`: consumers that want committed records alone read up to there.
    pub(crate) fn first_unstable_offset(&mut self, high_watermark: Offset) -> Option<Offset> {
        while self.ended.front().is_some_and(|&(_, last)| last < high_watermark) {
            self.ended.pop_front();
        }
        let open = self.open.keys().next().copied();
        self.ended.iter().map(|&(first, _)| first).chain(open).min()
    }

    /// Whether [`ProducerState::first_unstable_offset`] may find any.
    pub(crate) fn has_transactions(&self) -> bool {
        !self.open.is_empty() || !self.ended.is_empty()
    }

    /// Forgets producers that wrote nothing for `expiration_ms` (`producer.id.expiration.ms`) and
    /// have no open transaction.
    pub(crate) fn expire(&mut self, now: Timestamp, expiration_ms: i64) {
        self.producers.retain(|_, p| {
            let is_young = now.0.saturating_sub(p.last_timestamp.0) < expiration_ms;
            is_young || p.transaction_start.is_some()
        });
    }

    /// Those of these ids that are remembered.
    pub(crate) fn ids_within(
        &self,
        ids: RangeInclusive<ProducerId>,
    ) -> impl Iterator<Item = ProducerId> {
        self.producers.range(ids).map(|(&id, _)| id)
    }

    /// The last entry of each producer, which the log cleaner must leave a trace of.
    pub(crate) fn last_entries(&self) -> BTreeMap<ProducerId, LastEntry> {
        let entry = |producer: &Producer| LastEntry {
            data_offset: producer.batches.back().map(|batch| batch.last_offset),
            epoch: producer.epoch,
        };
        self.producers.iter().map(|(&id, producer)| (id, entry(producer))).collect()
    }

    /// How many producers are remembered.
    #[must_use]
    pub(crate) fn len(&self) -> usize {
        self.producers.len()
    }

    /// The bytes of a `.snapshot` file: version i16 = 1, CRC-32C u32 over what follows, count i32,
    /// then per producer: id i64, epoch i16, last sequence i32, last offset i64, offset delta i32,
    /// timestamp i64, coordinator epoch i32, first offset of the open transaction i64.
    #[must_use]
    pub(crate) fn to_snapshot(&self) -> Vec<u8> {
        let mut entries = (self.producers.len() as i32).to_be_bytes().to_vec();
        for (id, producer) in &self.producers {
            let last = producer.batches.back();
            let last_sequence = last.map_or(Sequence::NONE, |b| b.last_sequence);
            let last_offset = last.map_or(Offset::NONE, |b| b.last_offset);
            entries.extend_from_slice(&id.0.to_be_bytes());
            entries.extend_from_slice(&producer.epoch.0.to_be_bytes());
            entries.extend_from_slice(&last_sequence.0.to_be_bytes());
            entries.extend_from_slice(&last_offset.0.to_be_bytes());
            entries.extend_from_slice(&last.map_or(0, |b| b.offset_delta).to_be_bytes());
            entries.extend_from_slice(&producer.last_timestamp.0.to_be_bytes());
            entries.extend_from_slice(&producer.coordinator_epoch.to_be_bytes());
            let transaction_start = producer.transaction_start.unwrap_or(Offset::NONE);
            entries.extend_from_slice(&transaction_start.0.to_be_bytes());
        }
        let mut snapshot = SNAPSHOT_VERSION.to_be_bytes().to_vec();
        snapshot.extend_from_slice(&crc32c(&entries).to_be_bytes());
        snapshot.extend_from_slice(&entries);
        snapshot
    }

    /// Reads a `.snapshot` file; `None` if it is not whole or of another version, in which case an
    /// older one and the log itself serve.
    #[must_use]
    pub(crate) fn from_snapshot(bytes: &[u8]) -> Option<Self> {
        let (version, rest) = bytes.split_first_chunk::<2>()?;
        let (crc, entries) = rest.split_first_chunk::<4>()?;
        let (count, entries_bytes) = entries.split_first_chunk::<4>()?;
        let whole = i16::from_be_bytes(*version) == SNAPSHOT_VERSION
            && u32::from_be_bytes(*crc) == crc32c(entries)
            && entries_bytes.len()
                == usize::try_from(i32::from_be_bytes(*count)).ok()?.checked_mul(ENTRY_BYTES)?;
        if !whole {
            return None;
        }
        let mut state = Self::default();
        for entry in entries_bytes.chunks_exact(ENTRY_BYTES) {
            let i64_at = |at: usize| i64::from_be_bytes(std::array::from_fn(|i| entry[at + i]));
            let i32_at = |at: usize| i32::from_be_bytes(std::array::from_fn(|i| entry[at + i]));
            let (last_sequence, last_offset, offset_delta) =
                (Sequence(i32_at(10)), Offset(i64_at(14)), i32_at(22));
            let timestamp = Timestamp(i64_at(26));
            let batch = (last_offset >= Offset::ZERO).then(|| Batch {
                first_sequence: first_sequence(last_sequence, offset_delta),
                last_sequence,
                last_offset,
                offset_delta,
                timestamp,
            });
            let transaction_start = Some(Offset(i64_at(38))).filter(|&o| o >= Offset::ZERO);
            let id = ProducerId(i64_at(0));
            state.open.extend(transaction_start.map(|offset| (offset, id)));
            let producer = Producer {
                epoch: ProducerEpoch(i16::from_be_bytes([entry[8], entry[9]])),
                coordinator_epoch: i32_at(34),
                last_timestamp: timestamp,
                batches: batch.into_iter().collect(),
                transaction_start,
            };
            state.producers.insert(id, producer);
        }
        Some(state)
    }
}

/// What a batch says if it is one that ends a transaction. `payload` may be missing if it is no
/// control batch.
pub(crate) fn marker_of(batch: &BatchHeader<'_>, payload: &[u8]) -> Option<EndTransactionMarker> {
    if !batch.attributes().is_control() || batch.size_in_bytes() > MARKER_BYTES_MAX {
        return None;
    }
    let bytes = [batch.as_bytes(), payload].concat();
    let (batch, _) = RecordBatch::parse(&bytes).ok()?;
    let mut found = None;
    // What cannot be read as a marker ends nothing: Kafka's log passes over it as well.
    let _ = batch.visit_records(MARKER_BYTES_MAX, |record| {
        if let Ok(ControlRecord::EndTransaction(marker)) = ControlRecord::parse(record) {
            found.get_or_insert(marker);
        }
    });
    found
}

const SNAPSHOT_VERSION: i16 = 1;
const ENTRY_BYTES: usize = 46;

/// The sequence `delta` before `last`, wrapping from 0 to 2³¹−1.
fn first_sequence(last: Sequence, delta: i32) -> Sequence {
    let first = i64::from(last.0) - i64::from(delta);
    let modulus = i64::from(i32::MAX) + 1;
    Sequence(first.rem_euclid(modulus) as i32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ottla_record::HEADER_BYTES;

    /// A header with the fields that matter here.
    fn header(id: i64, epoch: i16, first: i32, count: i32) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[8..12].copy_from_slice(&49i32.to_be_bytes());
        bytes[16] = 2;
        bytes[23..27].copy_from_slice(&(count - 1).to_be_bytes());
        bytes[43..51].copy_from_slice(&id.to_be_bytes());
        bytes[51..53].copy_from_slice(&epoch.to_be_bytes());
        bytes[53..57].copy_from_slice(&first.to_be_bytes());
        bytes[57..61].copy_from_slice(&count.to_be_bytes());
        bytes
    }

    struct Log {
        state: ProducerState,
        leo: i64,
    }

    impl Log {
        fn send(&mut self, id: i64, epoch: i16, first: i32, count: i32) -> Result<i64, String> {
            let bytes = header(id, epoch, first, count);
            let batch = BatchHeader::parse(&bytes).unwrap();
            match self.state.check(&batch) {
                Err(error) => Err(format!("{error:?}")),
                Ok(Some(duplicate)) => Ok(duplicate.base_offset.0),
                Ok(None) => {
                    let base = self.leo;
                    let mut bytes = bytes;
                    bytes[..8].copy_from_slice(&base.to_be_bytes());
                    bytes[35..43].copy_from_slice(&base.to_be_bytes());
                    self.state.replay(&BatchHeader::parse(&bytes).unwrap(), None);
                    self.leo += i64::from(count);
                    Ok(base)
                }
            }
        }
    }

    fn log() -> Log {
        Log { state: ProducerState::default(), leo: 0 }
    }

    #[test]
    fn a_retry_within_the_window_gets_its_first_offset_and_an_older_one_is_refused() {
        let mut log = log();
        for n in 0..7 {
            assert_eq!(log.send(1, 0, n * 10, 10), Ok(i64::from(n) * 10));
        }
        for n in 2..7 {
            assert_eq!(log.send(1, 0, n * 10, 10), Ok(i64::from(n) * 10), "batch {n}");
        }
        let refused = log.send(1, 0, 10, 10).unwrap_err();
        assert_eq!(refused, "OutOfOrder { got: 10, expected: 70 }");
        assert_eq!(log.leo, 70);
    }

    #[test]
    fn gaps_and_stale_epochs_are_refused_and_a_new_epoch_begins_at_zero() {
        let mut log = log();
        assert_eq!(log.send(1, 0, 0, 5), Ok(0));
        assert_eq!(log.send(1, 0, 6, 5).unwrap_err(), "OutOfOrder { got: 6, expected: 5 }");
        assert_eq!(log.send(1, 1, 5, 5).unwrap_err(), "OutOfOrder { got: 5, expected: 0 }");
        assert_eq!(log.send(1, 1, 0, 5), Ok(5));
        assert_eq!(log.send(1, 0, 5, 5).unwrap_err(), "StaleEpoch { got: 0, current: 1 }");
    }

    #[test]
    fn an_unknown_producer_may_begin_anywhere_and_sequences_wrap() {
        let mut log = log();
        assert_eq!(log.send(9, 3, i32::MAX - 1, 4), Ok(0));
        assert_eq!(log.send(9, 3, 2, 1), Ok(4));
        assert_eq!(log.send(9, 3, i32::MAX - 1, 4), Ok(0));
    }

    #[test]
    fn producers_expire_with_age() {
        let mut log = log();
        log.send(1, 0, 0, 100).unwrap();
        log.send(2, 0, 0, 1).unwrap();
        log.state.expire(Timestamp(150), 100);
        assert_eq!(log.state.len(), 1);
        log.state.expire(Timestamp(200), 100);
        assert_eq!(log.state.len(), 0);
    }

    #[test]
    fn a_snapshot_keeps_the_last_batch_and_damage_is_seen() {
        let mut log = log();
        log.send(1, 0, 0, 5).unwrap();
        log.send(1, 0, 5, 3).unwrap();
        log.send(7, 2, i32::MAX, 2).unwrap();
        let snapshot = log.state.to_snapshot();
        assert_eq!(snapshot.len(), 10 + 2 * ENTRY_BYTES);
        log.state = ProducerState::from_snapshot(&snapshot).unwrap();
        assert_eq!(log.send(1, 0, 5, 3), Ok(5));
        assert_eq!(log.send(7, 2, i32::MAX, 2), Ok(8));
        assert_eq!(log.send(7, 2, 1, 1), Ok(10));
        for at in 0..snapshot.len() {
            let mut damaged = snapshot.clone();
            damaged[at] ^= 1;
            assert_eq!(ProducerState::from_snapshot(&damaged), None, "byte {at}");
            assert_eq!(ProducerState::from_snapshot(&snapshot[..at]), None);
        }
    }

    /// A transactional batch of one record, or the marker that ends its transaction.
    fn transactional(id: i64, offset: i64, ends: Option<bool>) -> Vec<u8> {
        let bytes = match ends {
            None => {
                let mut bytes = header(id, 0, offset as i32, 1).to_vec();
                bytes[22] = 0x10;
                bytes
            }
            Some(committed) => EndTransactionMarker { committed, coordinator_epoch: 3 }.batch(
                ProducerId(id),
                ProducerEpoch(0),
                Timestamp(offset),
            ),
        };
        [&offset.to_be_bytes()[..], &bytes[8..]].concat()
    }

    fn replay(state: &mut ProducerState, bytes: &[u8]) -> Option<[i64; 4]> {
        let batch = BatchHeader::parse(bytes).unwrap();
        let aborted = state.replay(&batch, marker_of(&batch, &bytes[HEADER_BYTES..]))?;
        let AbortedTransaction { producer_id, first_offset, last_offset, last_stable_offset } =
            aborted;
        Some([producer_id.0, first_offset.0, last_offset.0, last_stable_offset.0])
    }

    #[test]
    fn markers_end_the_transactions_of_their_producers() {
        let mut state = ProducerState::default();
        let unstable = |state: &ProducerState, high_watermark| {
            state.clone().first_unstable_offset(Offset(high_watermark)).map(|o| o.0)
        };
        for (offset, id, ends, aborted, first_unstable) in [
            (0, 1, None, None, Some(0)),
            (1, 2, None, None, Some(0)),
            (2, 1, None, None, Some(0)),
            // Where another one is open, what is stable ends there.
            (3, 1, Some(false), Some([1, 0, 3, 1]), Some(1)),
            (4, 1, None, None, Some(1)),
            (5, 2, Some(true), None, Some(4)),
            (6, 1, Some(false), Some([1, 4, 6, 7]), None),
            // Without a record, nothing was aborted.
            (7, 1, Some(false), None, None),
            (8, 3, Some(true), None, None),
        ] {
            assert_eq!(replay(&mut state, &transactional(id, offset, ends)), aborted, "{offset}");
            assert_eq!(unstable(&state, offset + 1), first_unstable, "behind {offset}");
        }
        // Until the high watermark has passed the markers, the transactions are not stable.
        assert_eq!([0, 4, 6, 7].map(|hw| unstable(&state, hw)), [Some(0), Some(1), Some(4), None]);
    }

    #[test]
    fn a_snapshot_keeps_open_transactions_and_their_producers_do_not_expire() {
        let mut state = ProducerState::default();
        replay(&mut state, &transactional(1, 7, None));
        replay(&mut state, &transactional(2, 8, None));
        replay(&mut state, &transactional(2, 9, Some(true)));
        let mut read = ProducerState::from_snapshot(&state.to_snapshot()).unwrap();
        assert_eq!(read.first_unstable_offset(Offset(10)), Some(Offset(7)));
        assert_eq!(read.to_snapshot(), state.to_snapshot());
        read.expire(Timestamp(1000), 1);
        assert_eq!(read.len(), 1);
        assert_eq!(replay(&mut read, &transactional(1, 20, Some(false))), Some([1, 7, 20, 21]));
        read.expire(Timestamp(1000), 1);
        assert_eq!(read.len(), 0);
    }

    #[test]
    fn ended_transactions_are_bounded() {
        let mut state = ProducerState::default();
        for n in 0..3 * ENDED_MAX as i64 {
            replay(&mut state, &transactional(1, 2 * n, None));
            replay(&mut state, &transactional(1, 2 * n + 1, Some(true)));
        }
        assert!(state.ended.len() <= ENDED_MAX);
        assert_eq!(state.first_unstable_offset(Offset(1)), Some(Offset(0)));
        assert_eq!(state.first_unstable_offset(Offset(6 * ENDED_MAX as i64)), None);
    }

    #[test]
    fn numbers_out_of_all_reason_are_no_panic() {
        let mut state = ProducerState::default();
        let mut bytes = transactional(1, 5, None);
        bytes[23..27].copy_from_slice(&i32::MIN.to_be_bytes());
        replay(&mut state, &bytes);
        let mut read = ProducerState::from_snapshot(&state.to_snapshot()).unwrap();
        let _ = read.check(&BatchHeader::parse(&bytes).unwrap());
        read.expire(Timestamp(i64::MIN), i64::MAX);
    }
}
