//! An index beside the batches that it is about. Both ascend, so one walk compares them.

use std::collections::BTreeMap;
use std::io;
use std::iter::Peekable;

use ottla_record::{Offset, ProducerId, Timestamp};

use crate::inspect::{AbortedTransaction, Entries, IndexEntry, TimeIndexEntry};

/// The first thing that is wrong with an index: where, for which offset, what. The index is made
/// anew as a whole, so more of it would not help.
#[derive(Debug, Default)]
pub(super) struct Fault(pub(super) Option<(u64, Option<Offset>, String)>);

impl Fault {
    fn set(&mut self, position: u64, offset: impl Into<Option<Offset>>, what: String) {
        self.0.get_or_insert((position, offset.into(), what));
    }
}

/// An index's entries, numbered, up to the first that the disk refuses.
struct Cursor<T> {
    entries: Peekable<Entries<T>>,
    entry_bytes: u64,
    nth: u64,
}

impl<T: Copy> Cursor<T> {
    fn new(entries: Entries<T>, entry_bytes: u64) -> Self {
        Self { entries: entries.peekable(), entry_bytes, nth: 0 }
    }

    fn peek(&mut self) -> io::Result<Option<T>> {
        match self.entries.peek() {
            Some(Ok(entry)) => Ok(Some(*entry)),
            Some(Err(error)) => Err(io::Error::new(error.kind(), error.to_string())),
            None => Ok(None),
        }
    }

    fn advance(&mut self) {
        self.entries.next();
        self.nth += 1;
    }

    fn position(&self) -> u64 {
        self.nth * self.entry_bytes
    }
}

/// Each entry has to name the last offset of the batch at its position. An entry of Kafka's
/// followers may name that of a later batch, up to which all were appended together: a look-up
/// then still begins early enough.
pub(super) struct OffsetIndexCheck {
    cursor: Cursor<IndexEntry>,
    previous: Option<IndexEntry>,
    /// The batch of the entry was met, but not yet its offset.
    open: Option<IndexEntry>,
    pub(super) fault: Fault,
}

impl OffsetIndexCheck {
    pub(super) fn new(entries: Entries<IndexEntry>) -> Self {
        let mut fault = Fault::default();
        if entries.surplus_bytes() > 0 {
            fault.set(entries.file_bytes(), None, "it ends within an entry".to_owned());
        }
        Self { cursor: Cursor::new(entries, 8), previous: None, open: None, fault }
    }

    pub(super) fn batch(&mut self, position: u64, base: Offset, last: Offset) -> io::Result<()> {
        while self.fault.0.is_none()
            && let Some(entry) = self.cursor.peek()?
            && entry.position <= position
        {
            let at = self.cursor.position();
            let IndexEntry { offset, position: found } = entry;
            if self.previous.is_some_and(|p| p.offset >= offset || p.position >= found) {
                self.fault.set(at, offset, format!("entry {offset} at {found} does not ascend"));
            } else if found < position {
                self.fault.set(at, offset, format!("no batch begins at byte {found}"));
            } else if offset < base {
                let what = format!("offset {offset} is below the batch at byte {found}");
                self.fault.set(at, offset, what);
            } else {
                self.open = Some(entry);
            }
            self.previous = Some(entry);
            self.cursor.advance();
        }
        if let Some(entry) = self.open.filter(|entry| entry.offset <= last) {
            if entry.offset < last && entry.offset >= base {
                let what = format!("no batch ends at offset {}", entry.offset);
                let at = self.cursor.position().saturating_sub(8);
                self.fault.set(at, entry.offset, what);
            }
            self.open = None;
        }
        Ok(())
    }

    pub(super) fn finish(&mut self) -> io::Result<()> {
        if self.fault.0.is_none()
            && let Some(entry) = self.cursor.peek()?
        {
            let what = format!("byte {} lies beyond the end of the log", entry.position);
            self.fault.set(self.cursor.position(), entry.offset, what);
        }
        if let Some(entry) = self.open {
            let what = format!("offset {} lies beyond the end of the segment", entry.offset);
            self.fault.set(self.cursor.position().saturating_sub(8), entry.offset, what);
        }
        Ok(())
    }
}

/// Each entry has to tell the greatest timestamp up to the batch with its offset.
pub(super) struct TimeIndexCheck {
    cursor: Cursor<TimeIndexEntry>,
    previous: Option<TimeIndexEntry>,
    max: Timestamp,
    pub(super) fault: Fault,
}

impl TimeIndexCheck {
    pub(super) fn new(entries: Entries<TimeIndexEntry>) -> Self {
        let mut fault = Fault::default();
        if entries.surplus_bytes() > 0 {
            fault.set(entries.file_bytes(), None, "it ends within an entry".to_owned());
        }
        Self { cursor: Cursor::new(entries, 12), previous: None, max: Timestamp::NONE, fault }
    }

    pub(super) fn batch(&mut self, base: Offset, last: Offset, max: Timestamp) -> io::Result<()> {
        self.max = self.max.max(max);
        while self.fault.0.is_none()
            && let Some(entry) = self.cursor.peek()?
            && entry.offset <= last
        {
            let at = self.cursor.position();
            let TimeIndexEntry { timestamp, offset } = entry;
            if self.previous.is_some_and(|p| p.timestamp >= timestamp || p.offset > offset) {
                let what = format!("timestamp {timestamp} for offset {offset} does not ascend");
                self.fault.set(at, offset, what);
            } else if offset < base {
                self.fault.set(at, offset, format!("no batch holds offset {offset}"));
            } else if timestamp != self.max {
                let max = self.max;
                let what = format!("it tells {timestamp}, the greatest timestamp there is {max}");
                self.fault.set(at, offset, what);
            }
            self.previous = Some(entry);
            self.cursor.advance();
        }
        Ok(())
    }

    pub(super) fn finish(&mut self, is_sealed: bool) -> io::Result<()> {
        let at = self.cursor.position();
        if let Some(entry) = self.cursor.peek()? {
            let what = format!("offset {} lies beyond the end of the segment", entry.offset);
            self.fault.set(at, entry.offset, what);
        }
        let last = self.previous.map_or(Timestamp::NONE, |entry| entry.timestamp);
        if is_sealed && last < self.max {
            let max = self.max;
            let what = format!("it ends with {last}, the segment's greatest timestamp is {max}");
            self.fault.set(at, None, what);
        }
        Ok(())
    }
}

/// The transactions of a partition that are open, as its batches tell.
#[derive(Clone, Debug, Default)]
pub(crate) struct Transactions {
    open: BTreeMap<ProducerId, Offset>,
}

impl Transactions {
    /// Notes records of a transaction.
    pub(crate) fn data(&mut self, producer: ProducerId, base: Offset) {
        self.open.entry(producer).or_insert(base);
    }

    /// Ends a transaction at its marker. Returns what the transaction index has to say of it if it
    /// was aborted; `None` also if none of its records was seen.
    pub(crate) fn end(
        &mut self,
        producer_id: ProducerId,
        marker: Offset,
        committed: bool,
    ) -> Option<AbortedTransaction> {
        let first_offset = self.open.remove(&producer_id)?;
        let last_stable_offset = self.open.values().min().copied().unwrap_or(marker + 1);
        let last_offset = marker;
        (!committed).then_some(AbortedTransaction {
            version: 0,
            producer_id,
            first_offset,
            last_offset,
            last_stable_offset,
        })
    }
}

/// The entries have to be the aborted transactions of the segment.
pub(super) struct TransactionIndexCheck {
    cursor: Option<Cursor<AbortedTransaction>>,
    /// All of the log was seen, so that the entries are known to the byte.
    is_exact: bool,
    pub(super) fault: Fault,
}

impl TransactionIndexCheck {
    pub(super) fn new(entries: Option<Entries<AbortedTransaction>>, is_exact: bool) -> Self {
        let mut fault = Fault::default();
        if let Some(entries) = entries.as_ref().filter(|entries| entries.surplus_bytes() > 0) {
            fault.set(entries.file_bytes(), None, "it ends within an entry".to_owned());
        }
        let size = AbortedTransaction::SIZE as u64;
        Self { cursor: entries.map(|entries| Cursor::new(entries, size)), is_exact, fault }
    }

    /// A marker stands at `marker`, and the index should have `expected` for it.
    pub(super) fn marker(
        &mut self,
        producer: ProducerId,
        marker: Offset,
        expected: Option<AbortedTransaction>,
    ) -> io::Result<()> {
        if self.fault.0.is_some() {
            return Ok(());
        }
        self.extra_below(marker)?;
        let (at, entry) = match &mut self.cursor {
            Some(cursor) => (cursor.position(), cursor.peek()?),
            None => (0, None),
        };
        let entry = entry.filter(|entry| entry.last_offset == marker);
        if let (Some(_), Some(cursor)) = (entry, &mut self.cursor) {
            cursor.advance();
        }
        match (entry, expected) {
            (None, None) => {}
            (None, Some(expected)) => {
                let first = expected.first_offset;
                let what = format!(
                    "the aborted transaction of producer {producer}, offsets {first} to {marker}, \
                     is missing: its records would be taken for committed"
                );
                self.fault.set(at, marker, what);
            }
            (Some(entry), expected) => {
                let agrees = match expected {
                    Some(expected) if self.is_exact => entry == expected,
                    Some(expected) => entry.first_offset <= expected.first_offset,
                    None => !self.is_exact,
                };
                if !agrees || entry.producer_id != producer || entry.version != 0 {
                    let what = "an entry differs from the transaction's batches".to_owned();
                    self.fault.set(at, marker, what);
                }
            }
        }
        Ok(())
    }

    pub(super) fn finish(&mut self) -> io::Result<()> {
        self.extra_below(Offset(i64::MAX))
    }

    fn extra_below(&mut self, marker: Offset) -> io::Result<()> {
        let Some(cursor) = &mut self.cursor else { return Ok(()) };
        if let Some(entry) = cursor.peek()?.filter(|entry| entry.last_offset < marker) {
            let last = entry.last_offset;
            self.fault.set(cursor.position(), last, format!("no abort marker stands at {last}"));
        }
        Ok(())
    }
}
