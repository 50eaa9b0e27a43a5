//! One segment beside its indexes, batch by batch.

use std::io;
use std::ops::ControlFlow;

use ottla_record::{BatchError, ControlRecord, LeaderEpoch, Offset};

use super::Report;
use super::indexes::{
    Fault, OffsetIndexCheck, TimeIndexCheck, TransactionIndexCheck, Transactions,
};
use super::partition::Partition;
use crate::inspect::finding::{Cut, Finding, Fix, Meaning};
use crate::inspect::{
    BatchReader, Step, StoredBatch, aborted_transactions, offset_entries, time_entries,
};

/// Records of a larger batch are not looked at.
const BATCH_BYTES_MAX: u64 = 256 << 20;

/// What is carried from segment to segment of a log.
#[derive(Clone, Debug, Default)]
pub(super) struct Carried {
    /// The offset behind the last batch; `None` before the first segment.
    pub(super) next: Option<Offset>,
    pub(super) transactions: Transactions,
    /// Not all of the log's batches were seen.
    pub(super) has_gaps: bool,
    /// The next start ends the log here: what follows was lost with the power, and never known.
    pub(super) ends: bool,
    /// The history of leader epochs was told to be wrong.
    pub(super) epochs_told: bool,
}

pub(super) struct SegmentWalk<'a, 'r> {
    partition: &'a Partition<'a>,
    report: &'a mut Report<'r>,
    carried: &'a mut Carried,
    base: Offset,
    /// Where the next segment begins; `None` in the last one.
    next_base: Option<Offset>,
    /// The broker believes the indexes.
    is_trusted: bool,
    offsets: Option<OffsetIndexCheck>,
    times: Option<TimeIndexCheck>,
    transactions: TransactionIndexCheck,
}

/// Walks over the segment at `base`.
pub(super) fn walk(
    partition: &Partition<'_>,
    report: &mut Report<'_>,
    carried: &mut Carried,
    base: Offset,
    next_base: Option<Offset>,
) -> io::Result<()> {
    let disk = partition.disk;
    let path = |suffix: &str| partition.dir.join(format!("{:020}.{suffix}", base.0));
    let offsets = if_there(offset_entries(disk, &path("index"), base))?;
    let times = if_there(time_entries(disk, &path("timeindex"), base))?;
    let aborted = if_there(aborted_transactions(disk, &path("txnindex")))?;
    let is_exact = partition.begins_at_zero && !carried.has_gaps && !partition.known.is_compacted;
    let is_trusted =
        partition.known.is_clean || next_base.is_some_and(|n| n < partition.known.recovery_point);
    let mut walk = SegmentWalk {
        partition,
        report,
        carried,
        base,
        next_base,
        is_trusted,
        offsets: offsets.map(OffsetIndexCheck::new),
        times: times.map(TimeIndexCheck::new),
        transactions: TransactionIndexCheck::new(aborted, is_exact),
    };
    let mut reader = BatchReader::open(disk, &path("log"), BATCH_BYTES_MAX)?;
    walk.report.file();
    walk.begin(&reader);
    if walk.carried.ends {
        return Ok(());
    }
    let is_whole = walk.batches(&mut reader)?;
    walk.finish(&reader, is_whole)
}

fn if_there<T>(opened: io::Result<T>) -> io::Result<Option<T>> {
    match opened {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        opened => opened.map(Some),
    }
}

impl SegmentWalk<'_, '_> {
    /// How the segment joins the one before.
    fn begin(&mut self, reader: &BatchReader) {
        let Some(next) = self.carried.next else { return };
        if self.base < next {
            let what = format!("it begins below {next}, where the segment before ends");
            self.find(reader, 0, self.base, what, Meaning::Lost, Fix::None);
        } else if self.base > next && self.is_unknown(next) && !self.partition.known.is_compacted {
            let what =
                format!("the offsets from {next} on were lost: the next start ends the log there");
            self.find(reader, 0, next, what, Meaning::Harmless, Fix::None);
            self.carried.ends = true;
            return;
        } else if self.base > next {
            self.gap(reader, 0, next, self.base);
        }
        self.carried.next = Some(self.base.max(next));
    }

    /// Walks over all batches. Returns whether all bytes were batches.
    fn batches(&mut self, reader: &mut BatchReader) -> io::Result<bool> {
        let mut is_whole = true;
        while let Some(step) = reader.step()? {
            let mut is_cut_off = false;
            let (position, after, what) = match step {
                Step::Batch(batch) => match self.refusal(&batch) {
                    None => {
                        self.batch(reader, &batch, is_whole)?;
                        continue;
                    }
                    Some(what) => (batch.position, Some(batch.position + batch.size), what),
                },
                Step::NoBatch { position, error, .. } => {
                    is_cut_off = matches!(error, BatchError::Truncated { .. });
                    let what = match error {
                        BatchError::Truncated { .. } => "the file ends within a batch".to_owned(),
                        error => error.to_string(),
                    };
                    (position, None, what)
                }
            };
            is_whole = false;
            self.carried.has_gaps = true;
            if self.damage(reader, position, after, &what, is_cut_off)?.is_break() {
                break;
            }
        }
        Ok(is_whole)
    }

    /// Why a whole batch is none of this log's.
    fn refusal(&self, batch: &StoredBatch) -> Option<String> {
        let next = self.next();
        let (first, last) = (batch.first_field_offset(), batch.last_offset());
        if !batch.is_valid {
            return Some("the checksum of the batch is wrong".to_owned());
        }
        let span = last.0.checked_sub(self.base.0);
        if first < next {
            Some(format!(
                "the batch begins at offset {first}, below {next} where the one before ends"
            ))
        } else if last < first || span.is_none_or(|span| span > i64::from(i32::MAX)) {
            Some(format!("the batch claims the offsets {first} to {last}"))
        } else {
            None
        }
    }

    /// A batch that the log can hold.
    fn batch(
        &mut self,
        reader: &BatchReader,
        batch: &StoredBatch,
        has_indexes: bool,
    ) -> io::Result<()> {
        let (first, last) = (batch.first_field_offset(), batch.last_offset());
        let next = self.next();
        if first > next && batch.magic() == 2 {
            self.gap(reader, batch.position, next, first);
        }
        if has_indexes {
            if let Some(offsets) = &mut self.offsets {
                offsets.batch(batch.position, first, last)?;
            }
            if let Some(times) = &mut self.times {
                // Before magic 2 a batch tells only its last offset.
                let base = if batch.magic() == 2 { first } else { next };
                times.batch(base, last, batch.max_timestamp())?;
            }
        }
        self.epoch(reader, batch, first);
        self.records(reader, batch)?;
        self.carried.next = Some(last + 1);
        self.report.batch(batch.size);
        Ok(())
    }

    fn epoch(&mut self, reader: &BatchReader, batch: &StoredBatch, first: Offset) {
        let (epoch, known) = (batch.leader_epoch(), self.partition.epoch_at(first));
        if epoch <= LeaderEpoch::NONE || known == Some(epoch) || self.carried.epochs_told {
            return;
        }
        self.carried.epochs_told = true;
        let path = self.partition.dir.join("leader-epoch-checkpoint");
        let known = known.map_or("none".to_owned(), |known| known.to_string());
        let what = format!(
            "it has epoch {known} for offset {first}, whose batch ({} at byte {}) has {epoch}",
            reader.path().display(),
            batch.position
        );
        let (meaning, fix) = (self.derived(), Fix::Epochs);
        let finding = Finding { path, position: None, offset: Some(first), what, meaning, fix };
        self.report.find(finding);
    }

    fn records(&mut self, reader: &BatchReader, batch: &StoredBatch) -> io::Result<()> {
        let header = batch.header();
        let attributes = header.map(|header| header.attributes());
        let producer = header.map(|header| header.producer_id()).filter(|id| id.0 >= 0);
        let is_transactional = attributes.is_some_and(|a| a.is_transactional());
        let is_control = attributes.is_some_and(|a| a.is_control());
        if let Some(producer) = producer.filter(|_| is_transactional && !is_control) {
            self.carried.transactions.data(producer, batch.first_field_offset());
        }
        if self.report.is_shallow() && !is_control {
            return Ok(());
        }
        let (mut count, mut marker) = (0_u64, None);
        let mut out_of_range = None;
        let mut previous = None;
        let first = if batch.magic() == 2 { batch.first_field_offset() } else { Offset(0) };
        let visited = reader.visit_records(batch, |record| {
            count += 1;
            let ascends = previous.is_none_or(|previous| previous < record.offset);
            if !ascends || record.offset < first || record.offset > batch.last_offset() {
                out_of_range.get_or_insert(record.offset);
            }
            previous = Some(record.offset);
            if let Some(ControlRecord::EndTransaction(end)) = record.control {
                marker = Some((record.offset, end.committed));
            }
        })?;
        self.report.records(count);
        if let Err(error) = visited {
            let what = format!("the records of the batch cannot be read: {error}");
            self.find(reader, batch.position, first, what, Meaning::Lost, Fix::None);
        } else if let Some(offset) = out_of_range {
            let what = format!("record {offset} is not in the order of its batch");
            self.find(reader, batch.position, offset, what, Meaning::Lost, Fix::None);
        }
        if let (Some(producer), Some((offset, committed))) = (producer, marker) {
            let expected = self.carried.transactions.end(producer, offset, committed);
            if !committed {
                self.transactions.marker(producer, offset, expected)?;
            }
        }
        Ok(())
    }

    /// Bytes that hold no batch. The walk goes on at the next one, if there is one.
    fn damage(
        &mut self,
        reader: &mut BatchReader,
        position: u64,
        after: Option<u64>,
        what: &str,
        is_cut_off: bool,
    ) -> io::Result<ControlFlow<()>> {
        let first = self.next();
        let offsets = first..=Offset(self.base.0.saturating_add(i64::from(i32::MAX)));
        // Where the length of the batch is right, its payload is not searched: it may hold batches.
        let behind = match after {
            Some(after) if after == reader.end() => None,
            Some(after) => match reader.valid_at(after)? {
                Some(found) if offsets.contains(&found.first_field_offset()) => Some(found),
                _ => reader.find_valid(position + 1, offsets)?,
            },
            None => reader.find_valid(position + 1, offsets)?,
        };
        let end = behind.as_ref().map_or(reader.end(), |batch| batch.position);
        let next = behind.as_ref().map(|batch| batch.first_field_offset());
        let bytes = end - position;
        let fix = Fix::Cut(Cut { base: self.base, bytes: position..end, first, next });
        if self.is_unknown(first) && reader.has_lost_sector(position..end)? {
            let what =
                format!("{what}; it was lost with the power, and the next start ends the log here");
            self.find(reader, position, first, what, Meaning::Harmless, fix);
            self.carried.ends = true;
            return Ok(ControlFlow::Break(()));
        }
        let Some(next) = next else {
            let (meaning, told) = self.meaning_of_tail(first, is_cut_off);
            let what = format!("{what}; {bytes} bytes up to the end are no batches: {told}");
            self.find(reader, position, first, what, meaning, fix);
            self.carried.ends = meaning == Meaning::Harmless && !self.partition.known.is_running;
            if !self.carried.ends {
                self.carried.next = self.next_base.or(self.carried.next);
            }
            return Ok(ControlFlow::Break(()));
        };
        let what = format!(
            "{what}; {bytes} bytes up to byte {end} cannot be read, behind them offset {next} follows"
        );
        self.find(reader, position, first, what, Meaning::Lost, fix);
        self.carried.next = Some(next);
        reader.seek(end);
        Ok(ControlFlow::Continue(()))
    }

    /// Whether nobody was told that the batch at an offset is in the log.
    fn is_unknown(&self, offset: Offset) -> bool {
        let known = &self.partition.known;
        !known.is_clean
            && !known.is_running
            && offset >= known.recovery_point.max(known.high_watermark)
    }

    /// What it means that a segment ends with bytes that hold no batch.
    fn meaning_of_tail(&self, first: Offset, is_cut_off: bool) -> (Meaning, &'static str) {
        let known = &self.partition.known;
        if self.next_base.is_some() && !(is_cut_off && self.is_unknown(first)) {
            (Meaning::Lost, "more segments follow")
        } else if known.is_running {
            (Meaning::Harmless, "they may be being written")
        } else if known.is_clean || first < known.recovery_point {
            (Meaning::Lost, "they were known to be on the disk")
        } else if first < known.high_watermark {
            (Meaning::Lost, "they were committed")
        } else {
            (Meaning::Harmless, "a torn tail, which the next start cuts")
        }
    }

    fn finish(mut self, reader: &BatchReader, is_whole: bool) -> io::Result<()> {
        if is_whole {
            if let Some(offsets) = &mut self.offsets {
                offsets.finish()?;
            }
            if let Some(times) = &mut self.times {
                times.finish(self.next_base.is_some())?;
            }
            self.transactions.finish()?;
        }
        let (is_trusted, has_batches) = (self.is_trusted, reader.end() > 0);
        let offsets = self.offsets.take().map(|check| check.fault);
        let times = self.times.take().map(|check| check.fault);
        let fix = Fix::Indexes(self.base);
        for (suffix, fault) in [("index", offsets), ("timeindex", times)] {
            match fault {
                Some(fault) => self.index(suffix, fault, fix.clone()),
                // One that is being written may not have its file yet.
                None if is_trusted && has_batches => {
                    let fault = Fault(Some((0, None, "it is missing".to_owned())));
                    self.index(suffix, fault, fix.clone());
                }
                None => {}
            }
        }
        let transactions = std::mem::take(&mut self.transactions.fault);
        let fix = Fix::TransactionIndex(self.base);
        self.index("txnindex", transactions, fix);
        Ok(())
    }

    fn index(&mut self, suffix: &str, fault: Fault, fix: Fix) {
        let Some((position, offset, what)) = fault.0 else { return };
        let path = self.partition.dir.join(format!("{:020}.{suffix}", self.base.0));
        let (position, meaning) = (Some(position), self.derived());
        self.report.find(Finding { path, position, offset, what, meaning, fix });
    }

    /// What is wrong with something derived means nothing where the next start makes it anew.
    fn derived(&self) -> Meaning {
        if self.is_trusted { Meaning::Derived } else { Meaning::Harmless }
    }

    fn gap(&mut self, reader: &BatchReader, position: u64, from: Offset, to: Offset) {
        self.carried.has_gaps = true;
        if self.partition.known.is_compacted {
            return;
        }
        let (meaning, told) = match self.partition.was_cut {
            true => (Meaning::Harmless, "where a repair took damaged bytes out"),
            false => (Meaning::Lost, "and the log is not compacted"),
        };
        let what = format!("the offsets {from} to {} are missing, {told}", to.0 - 1);
        self.find(reader, position, from, what, meaning, Fix::None);
    }

    fn next(&self) -> Offset {
        self.carried.next.unwrap_or(self.base)
    }

    fn find(
        &mut self,
        reader: &BatchReader,
        position: u64,
        offset: Offset,
        what: String,
        meaning: Meaning,
        fix: Fix,
    ) {
        let (path, position, offset) = (reader.path().to_owned(), Some(position), Some(offset));
        self.report.find(Finding { path, position, offset, what, meaning, fix });
    }
}
