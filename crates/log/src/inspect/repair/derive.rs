//! Making anew what is derived from the batches of a log.

use std::io;
use std::path::Path;
use std::sync::Arc;

use ottla_record::{ControlRecord, EndTransactionMarker, LeaderEpoch, Offset, ProducerId};
use ottla_runtime::disk::{read_file, replace_file};

use super::{Repair, log_path, parent};
use crate::checkpoint;
use crate::inspect::finding::{Finding, Fix, Meaning};
use crate::inspect::verify::{Transactions, offsets_of};
use crate::inspect::{BatchReader, FileKind, Step, StoredBatch, producers_of_snapshot};
use crate::producer_state::ProducerState;
use crate::segment::{Segment, SegmentOptions};

/// A marker is far smaller.
const MARKER_BYTES_MAX: u64 = 1 << 20;

impl Repair {
    /// Does what findings ask for, but for cutting.
    pub(super) fn derive<'f>(&self, findings: impl Iterator<Item = &'f Finding>) -> io::Result<()> {
        for finding in findings.filter(|finding| finding.meaning != Meaning::Harmless) {
            let dir = parent(&finding.path);
            match finding.fix {
                Fix::None | Fix::Cut(_) => {}
                Fix::Indexes(base) => self.make_indexes(dir, base)?,
                Fix::TransactionIndex(base) => self.make_transaction_index(dir, base)?,
                Fix::Snapshot(offset) => self.make_snapshot(dir, offset)?,
                Fix::Epochs => self.make_epochs(dir)?,
                Fix::SetAside => self.set_aside(&finding.path)?,
                Fix::Checkpoint => {
                    self.lower_checkpoints(&finding.path, finding.offset.unwrap_or_default())?;
                }
            }
        }
        Ok(())
    }

    /// As a broker that finds none.
    fn make_indexes(&self, dir: &Path, base: Offset) -> io::Result<()> {
        for suffix in ["index", "timeindex"] {
            self.set_aside(&dir.join(format!("{:020}.{suffix}", base.0)))?;
        }
        let options = SegmentOptions {
            disk: self.disk.clone(),
            dir: Arc::from(dir),
            index_interval_bytes: self.options.index_interval_bytes,
            index_bytes_max: self.options.index_bytes_max,
        };
        let (segment, _) = Segment::open(&options, base, true)?;
        segment.walk(self.options.index_interval_bytes, Offset::ZERO, |_, _| None)?;
        segment.seal()?;
        self.disk.sync_dir(dir)
    }

    fn make_transaction_index(&self, dir: &Path, base: Offset) -> io::Result<()> {
        let path = dir.join(format!("{:020}.txnindex", base.0));
        let mut entries = Vec::new();
        let mut transactions = self.transactions_at_start(dir)?;
        self.each_batch(dir, base, |reader, batch, segment| {
            let Some(header) = batch.header() else { return Ok(()) };
            let (producer, attributes) = (header.producer_id(), header.attributes());
            if !attributes.is_transactional() || producer <= ProducerId::NONE {
                return Ok(());
            }
            if !attributes.is_control() {
                transactions.data(producer, header.base_offset());
                return Ok(());
            }
            let ended = marker_of(reader, batch)?
                .and_then(|(at, marker)| transactions.end(producer, at, marker.committed));
            if let Some(aborted) = ended.filter(|_| segment == base) {
                aborted.write(&mut entries);
            }
            Ok(())
        })?;
        self.set_aside(&path)?;
        if entries.is_empty() { Ok(()) } else { replace_file(&*self.disk, &path, &entries) }
    }

    fn transactions_at_start(&self, dir: &Path) -> io::Result<Transactions> {
        let mut transactions = Transactions::default();
        let bases = offsets_of(&self.disk.read_dir(dir)?, FileKind::Log);
        if let Some(first) = bases.first() {
            let path = dir.join(format!("{:020}.snapshot", first.0));
            // Without it, nothing is known of a transaction that began before.
            let _ = producers_of_snapshot(&*self.disk, &path, |producer| {
                if producer.current_txn_first_offset >= Offset::ZERO {
                    transactions.data(producer.producer_id, producer.current_txn_first_offset);
                }
            });
        }
        Ok(transactions)
    }

    /// From the snapshot before it and the batches in between; not without these: a broker does
    /// better without a snapshot than with half of one.
    fn make_snapshot(&self, dir: &Path, offset: Offset) -> io::Result<()> {
        self.set_aside(&dir.join(format!("{:020}.snapshot", offset.0)))?;
        let entries = self.disk.read_dir(dir)?;
        let (mut state, mut from) = (ProducerState::default(), Offset::ZERO);
        let mut is_complete = offsets_of(&entries, FileKind::Log).first() == Some(&Offset::ZERO);
        for before in offsets_of(&entries, FileKind::Snapshot).into_iter().rev() {
            let path = dir.join(format!("{:020}.snapshot", before.0));
            if before < offset
                && let Some(found) = ProducerState::from_snapshot(&read_file(&*self.disk, &path)?)
            {
                (state, from, is_complete) = (found, before, true);
                break;
            }
        }
        self.each_batch(dir, offset, |reader, batch, _| {
            if let Some(header) = batch.header()
                && (from..offset).contains(&header.base_offset())
            {
                let marker = marker_of(reader, batch)?.map(|(_, marker)| marker);
                state.replay(&header, marker);
            }
            Ok(())
        })?;
        if !is_complete {
            return Ok(());
        }
        let path = dir.join(format!("{:020}.snapshot", offset.0));
        replace_file(&*self.disk, &path, &state.to_snapshot())
    }

    fn make_epochs(&self, dir: &Path) -> io::Result<()> {
        let path = dir.join("leader-epoch-checkpoint");
        let mut epochs: Vec<(LeaderEpoch, Offset)> = Vec::new();
        self.each_batch(dir, Offset(i64::MAX), |_, batch, _| {
            let epoch = batch.leader_epoch();
            if epoch > epochs.last().map_or(LeaderEpoch::NONE, |&(last, _)| last) {
                epochs.push((epoch, batch.first_field_offset()));
            }
            Ok(())
        })?;
        self.set_aside(&path)?;
        let lines = epochs.iter().map(|(epoch, start)| format!("{epoch} {start}"));
        checkpoint::write_lines(&*self.disk, &path, lines)
    }

    /// Calls `each` with every batch of the segments up to the one at `last`, and with the segment's
    /// base offset.
    fn each_batch(
        &self,
        dir: &Path,
        last: Offset,
        mut each: impl FnMut(&BatchReader, &StoredBatch, Offset) -> io::Result<()>,
    ) -> io::Result<()> {
        for base in offsets_of(&self.disk.read_dir(dir)?, FileKind::Log) {
            if base > last {
                break;
            }
            let path = log_path(dir, base);
            let mut reader = BatchReader::open(&*self.disk, &path, MARKER_BYTES_MAX)?;
            while let Some(Step::Batch(batch)) = reader.step()? {
                if batch.is_valid {
                    each(&reader, &batch, base)?;
                }
            }
        }
        Ok(())
    }
}

/// What a control batch says of the end of a transaction, and at which offset.
fn marker_of(
    reader: &BatchReader,
    batch: &StoredBatch,
) -> io::Result<Option<(Offset, EndTransactionMarker)>> {
    let mut marker = None;
    if batch.header().is_some_and(|header| header.attributes().is_control()) {
        let _ = reader.visit_records(batch, |record| {
            if let Some(ControlRecord::EndTransaction(end)) = record.control {
                marker = Some((record.offset, end));
            }
        })?;
    }
    Ok(marker)
}
