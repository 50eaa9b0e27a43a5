//! What the entries hold. The library knows their places only.

use std::collections::BTreeMap;

use noraft::{LogEntries, LogEntry, LogIndex, LogPosition, Term};

use super::entry::{Entry, LogId, Payload};
use super::membership::Membership;

/// The entries from some place of the log on, and who belongs to the quorum.
#[derive(Debug)]
pub(super) struct Payloads {
    entries: BTreeMap<u64, Entry>,
    /// By the index of the entry that tells it: the last one at or before the first entry, and all
    /// behind that.
    memberships: BTreeMap<u64, Membership>,
}

impl Payloads {
    /// Nothing behind a snapshot.
    pub(super) fn new(snapshot: LogId, membership: Membership) -> Self {
        let memberships = BTreeMap::from([(snapshot.index, membership)]);
        Self { entries: BTreeMap::new(), memberships }
    }

    /// Keeps an entry, in the place of any other at its index and all that followed on that.
    pub(super) fn put(&mut self, entry: Entry) {
        let index = entry.id.index;
        if self.entries.get(&index).is_none_or(|known| known.id != entry.id) {
            self.memberships.split_off(&index);
            if let Payload::Membership(membership) = &entry.payload {
                self.memberships.insert(index, membership.clone());
            }
        }
        self.entries.insert(index, entry);
    }

    /// The entry at an index.
    pub(super) fn get(&self, index: u64) -> Option<&Entry> {
        self.entries.get(&index)
    }

    /// Who belongs to the quorum: it counts from the moment it is in the log, committed or not
    /// (Raft §4.1). With the index of the entry that tells it.
    pub(super) fn membership(&self) -> (u64, &Membership) {
        let (&index, membership) = self.memberships.last_key_value().expect("there is always one");
        (index, membership)
    }

    /// Forgets the entries up to an index.
    pub(super) fn forget(&mut self, index: u64) {
        self.entries = self.entries.split_off(&(index + 1));
        let kept = self.memberships.range(..=index).next_back().map_or(0, |(&kept, _)| kept);
        self.memberships = self.memberships.split_off(&kept);
    }

    /// Puts a snapshot in the place of the entries that it holds, or of all if none follows on it.
    pub(super) fn install(&mut self, last: LogId, membership: Membership) {
        let follows = self.entries.get(&last.index).is_some_and(|entry| entry.id == last);
        if !follows {
            self.entries.clear();
            self.memberships.clear();
        }
        self.forget(last.index);
        self.memberships = self.memberships.split_off(&(last.index + 1));
        self.memberships.insert(last.index, membership);
    }

    /// Keeps those entries at `places` that the library makes itself.
    pub(super) fn adopt(&mut self, places: &LogEntries) {
        self.of(places).into_iter().for_each(|entry| self.put(entry));
    }

    /// The entries at `places`. A term's first one and the end of a joint consensus the library makes
    /// itself.
    pub(super) fn of(&self, places: &LogEntries) -> Vec<Entry> {
        let of = |(place, kind): (LogPosition, LogEntry)| {
            let id = log_id(place);
            let known = self.entries.get(&id.index).filter(|entry| entry.id == id);
            let payload = match kind {
                LogEntry::Term(_) => Payload::Blank,
                LogEntry::ClusterConfig(_) => match known {
                    Some(known) => known.payload.clone(),
                    None => Payload::Membership(self.membership().1.settled()),
                },
                LogEntry::Command => {
                    known.expect("an entry comes with what it holds").payload.clone()
                }
            };
            Entry { id, payload }
        };
        places.iter_with_positions().map(of).collect()
    }
}

/// The places of entries that follow on `after`, if their terms are such as Raft gives.
pub(super) fn places(after: LogId, entries: &[Entry]) -> Option<LogEntries> {
    let kind = |entry: &Entry| match &entry.payload {
        Payload::Blank => LogEntry::Term(Term::new(entry.id.term)),
        Payload::Membership(membership) => LogEntry::ClusterConfig(membership.config()),
        Payload::Normal(_) => LogEntry::Command,
    };
    let places = LogEntries::from_iter(position(after), entries.iter().map(kind));
    let agree = places.iter_with_positions().zip(entries).all(|((p, _), e)| log_id(p) == e.id);
    agree.then_some(places)
}

pub(super) fn position(id: LogId) -> LogPosition {
    LogPosition::new(Term::new(id.term), LogIndex::new(id.index))
}

pub(super) fn log_id(position: LogPosition) -> LogId {
    LogId { term: position.term.get(), index: position.index.get() }
}
