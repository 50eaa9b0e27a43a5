//! Which records of a batch stay when a log is compacted, and as what the batch stays.
//!
//! Owns: Kafka's rules (KIP-58, KIP-98, KIP-354, KIP-534). Pure: what it decides on is handed in.
//! Must not know: segments, files.

use std::collections::BTreeMap;
use std::fmt;

use ottla_record::{
    HEADER_BYTES, MalformedRecords, Offset, ProducerEpoch, ProducerId, Record, RecordBatch,
    Timestamp,
};

use super::offset_map::OffsetMap;
use super::transactions::Transactions;

/// The most that is unpacked of one batch.
pub(crate) const UNPACKED_BYTES_MAX: usize = 1 << 30;

/// What the log knows of a producer that is still active.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LastEntry {
    /// The last offset of its last batch with records; `None` if only markers are known.
    pub(crate) data_offset: Option<Offset>,
    pub(crate) epoch: ProducerEpoch,
}

/// What a pass goes by.
pub(crate) struct Rules<'a> {
    pub(crate) last_offsets: &'a OffsetMap,
    pub(crate) active_producers: &'a BTreeMap<ProducerId, LastEntry>,
    /// The offset behind the last one that the pass may touch.
    pub(crate) upper: Offset,
    pub(crate) now: Timestamp,
    /// `delete.retention.ms`
    pub(crate) delete_retention_ms: i64,
}

/// As what a batch stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// Not at all.
    Nothing,
    /// As it is.
    Whole,
    /// With some of its records, or with a delete horizon that it did not have.
    Rewritten(Vec<u8>),
    /// Without records, for the sake of its last offset and sequence.
    Header([u8; HEADER_BYTES]),
}

/// Why a batch cannot be decided on.
#[derive(Debug)]
pub(crate) enum FilterError {
    /// Its records cannot be read.
    Malformed(MalformedRecords),
    /// With timestamps that are relative to its delete horizon, it would outgrow its format.
    TooLarge,
}

impl From<MalformedRecords> for FilterError {
    fn from(error: MalformedRecords) -> Self {
        Self::Malformed(error)
    }
}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(error) => error.fmt(f),
            Self::TooLarge => {
                f.write_str("the batch would outgrow its format with a delete horizon")
            }
        }
    }
}

/// Counts of records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) read: u64,
    pub(crate) kept: u64,
}

impl Rules<'_> {
    /// Decides on the next batch of the log.
    ///
    /// # Errors
    /// The records of the batch cannot be read, or it would outgrow its format.
    pub(crate) fn keep(
        &self,
        batch: &RecordBatch<'_>,
        transactions: &mut Transactions,
        unpacked: &mut Vec<u8>,
        counts: &mut Counts,
    ) -> Result<Kept, FilterError> {
        let is_control = batch.attributes().is_control();
        let may_go = transactions.note(batch)?;
        counts.read += u64::from(batch.count().unsigned_abs());
        let nothing = if self.must_leave_a_trace(batch) {
            Kept::Header(batch.without_records())
        } else {
            Kept::Nothing
        };
        // A marker waits like a tombstone, from when the last record of its transaction has gone.
        if may_go && (!is_control || self.is_past_horizon(batch)) {
            return Ok(nothing);
        }
        let records = batch.records(unpacked, UNPACKED_BYTES_MAX)?;
        let (mut kept, mut has_tombstone) = (Vec::new(), false);
        for record in records.clone() {
            let record = record?;
            let stays = is_control || self.stays(batch, &record);
            has_tombstone |= stays && record.value.is_none();
            kept.push(stays);
        }
        let count = kept.iter().filter(|&&stays| stays).count();
        counts.kept += count as u64;
        if count == 0 {
            return Ok(nothing);
        }
        let begins_to_wait = has_tombstone || (may_go && is_control);
        let horizon = (begins_to_wait && !batch.attributes().has_delete_horizon())
            .then(|| Timestamp(self.now.0.saturating_add(self.delete_retention_ms)));
        if count == kept.len() && horizon.is_none() {
            return Ok(Kept::Whole);
        }
        let records = records.zip(&kept).filter(|(_, stays)| **stays);
        let rewritten = batch.with_records(records.filter_map(|(record, _)| record.ok()), horizon);
        rewritten.map(Kept::Rewritten).ok_or(FilterError::TooLarge)
    }

    /// Whether the record is the last of its key, or may be.
    fn stays(&self, batch: &RecordBatch<'_>, record: &Record<'_>) -> bool {
        if record.offset > self.last_offsets.latest() {
            return true;
        }
        let Some(key) = record.key else { return false };
        let is_last = self.last_offsets.get(key).is_none_or(|last| record.offset >= last);
        is_last && (record.value.is_some() || !self.is_past_horizon(batch))
    }

    fn is_past_horizon(&self, batch: &RecordBatch<'_>) -> bool {
        batch.attributes().has_delete_horizon() && batch.base_timestamp() <= self.now
    }

    /// Whether the batch stays even without records.
    fn must_leave_a_trace(&self, batch: &RecordBatch<'_>) -> bool {
        // The last batch of all, or the log would seem to end before it (KAFKA-17076).
        batch.next_offset() == self.upper
            || self.active_producers.get(&batch.producer_id()).is_some_and(|last| {
                match last.data_offset {
                    // The producer's next sequence is checked against it.
                    Some(offset) => batch.last_offset() == offset,
                    // Its epoch fences earlier instances of the producer.
                    None => batch.attributes().is_control() && batch.producer_epoch() == last.epoch,
                }
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ottla_record::{BatchBuilder, BatchOptions, EndTransactionMarker, Sequence};

    const PRODUCER: ProducerId = ProducerId(5);
    const HORIZON: Timestamp = Timestamp(1_000);

    /// A pass of which the map knows the keys `a` to offset 10 and `b` to offset 11, and no other up
    /// to offset 20.
    struct Scene {
        map: OffsetMap,
        producers: BTreeMap<ProducerId, LastEntry>,
        upper: Offset,
        now: Timestamp,
    }

    fn scene() -> Scene {
        let mut map = OffsetMap::new(16, 0.9, [3; 16]);
        map.put(b"a", Offset(10));
        map.put(b"b", Offset(11));
        map.advance(Offset(20));
        Scene { map, producers: BTreeMap::new(), upper: Offset(100), now: Timestamp(500) }
    }

    impl Scene {
        fn keep(&self, bytes: &[u8]) -> Kept {
            let rules = Rules {
                last_offsets: &self.map,
                active_producers: &self.producers,
                upper: self.upper,
                now: self.now,
                delete_retention_ms: HORIZON.0 - 500,
            };
            let (batch, _) = RecordBatch::parse(bytes).unwrap();
            let mut counts = Counts::default();
            rules.keep(&batch, &mut Transactions::default(), &mut Vec::new(), &mut counts).unwrap()
        }

        /// The keys that stay, each tombstone with a `-`, and the horizon.
        fn kept(&self, bytes: &[u8]) -> String {
            let kept = match self.keep(bytes) {
                Kept::Nothing => return "nothing".to_owned(),
                Kept::Header(_) => return "header".to_owned(),
                Kept::Whole => bytes.to_vec(),
                Kept::Rewritten(bytes) => bytes,
            };
            let (batch, _) = RecordBatch::parse(&kept).unwrap();
            let mut text = String::new();
            batch
                .visit_records(1000, |record| {
                    text.push_str(std::str::from_utf8(record.key.unwrap_or(b"?")).unwrap());
                    text.push_str(if record.value.is_none() { "- " } else { " " });
                })
                .unwrap();
            if batch.attributes().has_delete_horizon() {
                text.push_str(&format!("until {}", batch.base_timestamp()));
            }
            text.trim_end().to_owned()
        }
    }

    /// A batch from offset `base` on: a record for each word, which is its key; `-` behind a key
    /// makes a tombstone, `?` is no key.
    fn batch(base: i64, words: &str) -> Vec<u8> {
        let mut builder = BatchBuilder::new(BatchOptions {
            base_offset: Offset(base),
            producer_id: PRODUCER,
            producer_epoch: ProducerEpoch(2),
            base_sequence: Sequence(0),
            ..BatchOptions::default()
        });
        for word in words.split(' ') {
            let key = word.trim_end_matches('-');
            let value = (key == word).then_some(&b"value"[..]);
            builder.append(Timestamp(1), (key != "?").then_some(key.as_bytes()), value, &[]);
        }
        builder.build()
    }

    #[test]
    fn the_last_of_each_key_stays() {
        for (base, words, kept) in [
            (0, "a b", "nothing"),
            (10, "a b", "a b"),
            (9, "a a", "a"),
            // No later one is known: it was the last before.
            (0, "c", "c"),
            (0, "a c b", "c"),
            // What has no key cannot be asked for.
            (0, "? c", "c"),
            // The map did not come so far.
            (21, "a a ?", "a a ?"),
            (20, "? a", "a"),
            (10, "a-", "a- until 1000"),
            (5, "a- c c-", "c c- until 1000"),
        ] {
            assert_eq!(scene().kept(&batch(base, words)), kept, "{words} at {base}");
        }
    }

    #[test]
    fn a_tombstone_goes_once_its_horizon_has_passed() {
        let Kept::Rewritten(waiting) = scene().keep(&batch(0, "c d-")) else {
            panic!("no horizon")
        };
        for (now, kept) in [(999, "c d- until 1000"), (1000, "c until 1000")] {
            let scene = Scene { now: Timestamp(now), ..scene() };
            assert_eq!(scene.kept(&waiting), kept, "at {now}");
        }
        let again = Scene { now: Timestamp(900), ..scene() };
        assert_eq!(again.keep(&waiting), Kept::Whole, "the horizon is not put off");
    }

    #[test]
    fn a_trace_of_the_last_batch_stays_of_the_log_and_of_each_producer() {
        let gone = batch(0, "a b");
        assert_eq!(scene().kept(&gone), "nothing");
        assert_eq!(Scene { upper: Offset(2), ..scene() }.kept(&gone), "header");
        for (data_offset, kept) in [(Some(1), "header"), (Some(0), "nothing"), (None, "nothing")] {
            let epoch = ProducerEpoch(2);
            let last = LastEntry { data_offset: data_offset.map(Offset), epoch };
            let producers = BTreeMap::from([(PRODUCER, last)]);
            assert_eq!(Scene { producers, ..scene() }.kept(&gone), kept, "{data_offset:?}");
        }
        let other = LastEntry { data_offset: Some(Offset(1)), epoch: ProducerEpoch(2) };
        let producers = BTreeMap::from([(ProducerId(6), other)]);
        assert_eq!(Scene { producers, ..scene() }.kept(&gone), "nothing");
    }

    #[test]
    fn a_marker_without_records_waits_like_a_tombstone() {
        let marker = EndTransactionMarker { committed: true, coordinator_epoch: 0 };
        let marker = marker.batch(PRODUCER, ProducerEpoch(2), Timestamp(1));
        let Kept::Rewritten(waiting) = scene().keep(&marker) else { panic!("no horizon") };
        assert_eq!(Scene { now: Timestamp(999), ..scene() }.keep(&waiting), Kept::Whole);
        let late = Scene { now: HORIZON, ..scene() };
        assert_eq!(late.keep(&waiting), Kept::Nothing);
        // It has the producer's epoch, if nothing else has.
        for (epoch, is_kept) in [(2, true), (1, false)] {
            let last = LastEntry { data_offset: None, epoch: ProducerEpoch(epoch) };
            let producers = BTreeMap::from([(PRODUCER, last)]);
            let kept = Scene { producers, now: HORIZON, ..scene() }.keep(&waiting);
            assert_eq!(matches!(kept, Kept::Header(_)), is_kept, "epoch {epoch}");
        }
    }
}
