//! What the log cleaner must know of transactions as it goes over a log: whose records were aborted,
//! and whether a marker still has records that it is about.

use std::collections::{BTreeMap, BTreeSet};

use ottla_record::{ControlRecord, EndTransactionMarker, MalformedRecords, Offset, ProducerId};
use ottla_record::{RecordBatch, RecordFault};

use crate::txn_index::AbortedTransaction;

/// The transactions of a log, as far as a walk over its batches has come.
#[derive(Default)]
pub(crate) struct Transactions {
    /// Those that are still ahead, by their first offsets.
    ahead: BTreeMap<Offset, AbortedTransaction>,
    /// Those that the walk is in, and whether a batch of theirs was seen.
    aborted: BTreeMap<ProducerId, (AbortedTransaction, bool)>,
    /// Producers with a batch that no marker has followed yet, and that is not aborted.
    committed: BTreeSet<ProducerId>,
    /// Aborted transactions whose markers stay because records of theirs were seen.
    kept: Vec<AbortedTransaction>,
}

impl Transactions {
    /// Makes aborted transactions known before their first batch is noted.
    pub(crate) fn add(&mut self, aborted: impl IntoIterator<Item = AbortedTransaction>) {
        self.ahead.extend(aborted.into_iter().map(|aborted| (aborted.first_offset, aborted)));
    }

    /// Notes the next batch of the log. Returns whether its records may be dropped: they were
    /// aborted, or they are a marker of a transaction of which no batch was seen.
    ///
    /// # Errors
    /// The batch is a marker that cannot be read.
    pub(crate) fn note(&mut self, batch: &RecordBatch<'_>) -> Result<bool, MalformedRecords> {
        self.enter_up_to(batch.last_offset());
        if batch.attributes().is_control() {
            return self.note_marker(batch);
        }
        if !batch.attributes().is_transactional() {
            return Ok(false);
        }
        if let Some((transaction, is_seen)) = self.aborted.get_mut(&batch.producer_id())
            && batch.last_offset() < transaction.last_offset
        {
            *is_seen = true;
            return Ok(true);
        }
        self.committed.insert(batch.producer_id());
        Ok(false)
    }

    fn note_marker(&mut self, batch: &RecordBatch<'_>) -> Result<bool, MalformedRecords> {
        let producer = batch.producer_id();
        match marker(batch)? {
            // What was in it went in an earlier pass.
            None => Ok(true),
            Some(ControlRecord::EndTransaction(EndTransactionMarker {
                committed: true, ..
            })) => Ok(!self.committed.remove(&producer)),
            Some(ControlRecord::EndTransaction(_)) => match self.aborted.remove(&producer) {
                Some((transaction, true)) => {
                    self.kept.push(transaction);
                    Ok(false)
                }
                _ => Ok(true),
            },
            Some(ControlRecord::Other { .. }) => Ok(false),
        }
    }

    /// Takes the aborted transactions whose marker was kept since this was last asked.
    pub(crate) fn take_kept(&mut self) -> Vec<AbortedTransaction> {
        std::mem::take(&mut self.kept)
    }

    fn enter_up_to(&mut self, offset: Offset) {
        while let Some(next) = self.ahead.first_entry().filter(|next| *next.key() <= offset) {
            let transaction = next.remove();
            let entry = self.aborted.entry(transaction.producer_id);
            let known = entry.or_insert((transaction, false));
            // The marker of the one before was not come across.
            if known.0.last_offset < transaction.first_offset {
                *known = (transaction, false);
            }
        }
    }
}

/// The record of a control batch; `None` if compaction has taken it.
fn marker(batch: &RecordBatch<'_>) -> Result<Option<ControlRecord>, MalformedRecords> {
    let mut unpacked = Vec::new();
    // Control batches are never compressed.
    let Some(record) = batch.records(&mut unpacked, 0)?.next() else { return Ok(None) };
    let fault = |_| MalformedRecords::Record { index: 0, fault: RecordFault::Truncated };
    ControlRecord::parse(&record?).map(Some).map_err(fault)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ottla_record::{BatchBuilder, BatchOptions, ProducerEpoch, Sequence, Timestamp};

    const PRODUCER: ProducerId = ProducerId(5);

    fn data(base: i64) -> Vec<u8> {
        let mut builder = BatchBuilder::new(BatchOptions {
            base_offset: Offset(base),
            producer_id: PRODUCER,
            producer_epoch: ProducerEpoch(0),
            base_sequence: Sequence(0),
            is_transactional: true,
            ..BatchOptions::default()
        });
        builder.append(Timestamp(1), Some(b"k"), Some(b"v"), &[]);
        builder.build()
    }

    fn end(base: i64, committed: bool) -> Vec<u8> {
        let marker = EndTransactionMarker { committed, coordinator_epoch: 0 };
        let mut batch = marker.batch(PRODUCER, ProducerEpoch(0), Timestamp(1));
        batch[..8].copy_from_slice(&base.to_be_bytes());
        batch
    }

    fn aborted(first: i64, last: i64) -> AbortedTransaction {
        AbortedTransaction {
            producer_id: PRODUCER,
            first_offset: Offset(first),
            last_offset: Offset(last),
            last_stable_offset: Offset(first),
        }
    }

    fn walk(aborted: &[AbortedTransaction], batches: &[Vec<u8>]) -> (Vec<bool>, usize) {
        let mut transactions = Transactions::default();
        transactions.add(aborted.iter().copied());
        let droppable = batches.iter().map(|bytes| {
            let (batch, _) = RecordBatch::parse(bytes).unwrap();
            transactions.note(&batch).unwrap()
        });
        (droppable.collect(), transactions.take_kept().len())
    }

    /// A name, the aborted transactions, the batches, which of them may go, how many markers stay.
    type Case<'a> = (&'a str, &'a [AbortedTransaction], &'a [Vec<u8>], &'a [bool], usize);

    #[test]
    fn aborted_records_go_before_their_marker_and_committed_ones_keep_theirs() {
        let cases: &[Case<'_>] = &[
            ("committed", &[], &[data(0), data(1), end(2, true)], &[false, false, false], 0),
            ("committed, records gone", &[], &[end(2, true)], &[true], 0),
            ("aborted", &[aborted(0, 1)], &[data(0), end(1, false)], &[true, false], 1),
            ("aborted, records gone", &[aborted(0, 1)], &[end(1, false)], &[true], 0),
            ("aborted, forgotten", &[], &[end(1, false)], &[true], 0),
            (
                "first aborted, then committed",
                &[aborted(0, 1)],
                &[data(0), end(1, false), data(2), end(3, true)],
                &[true, false, false, false],
                1,
            ),
            (
                "committed, then aborted twice",
                &[aborted(2, 3), aborted(4, 5)],
                &[data(0), end(1, true), data(2), end(3, false), data(4), end(5, false)],
                &[false, false, true, false, true, false],
                2,
            ),
        ];
        for (name, aborted, batches, droppable, kept) in cases {
            assert_eq!(walk(aborted, batches), (droppable.to_vec(), *kept), "{name}");
        }
    }

    #[test]
    fn a_marker_without_its_record_may_go() {
        let bytes = end(3, true);
        let empty = RecordBatch::parse(&bytes).unwrap().0.without_records();
        assert_eq!(walk(&[], &[data(1), empty.to_vec()]).0, [false, true]);
    }
}
