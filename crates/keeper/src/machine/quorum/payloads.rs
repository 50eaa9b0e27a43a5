//! What the entries hold. The library knows their places only.

use std::collections::{BTreeMap, BTreeSet};

use noraft::{ClusterConfig, LogEntries, LogEntry, LogIndex, LogPosition, NodeId, Term};

use super::entry::{DirectoryId, Entry, LogId, Payload, Voter, VoterId};

/// The entries from some place of the log on, and the directories of the voters that they name.
#[derive(Debug)]
pub(super) struct Payloads {
    entries: BTreeMap<u64, Entry>,
    directories: BTreeMap<VoterId, DirectoryId>,
}

impl Payloads {
    pub(super) fn new(voters: &[Voter]) -> Self {
        let mut payloads = Self { entries: BTreeMap::new(), directories: BTreeMap::new() };
        payloads.note_voters(voters);
        payloads
    }

    /// Keeps an entry, in the place of any other at its index.
    pub(super) fn put(&mut self, entry: Entry) {
        if let Payload::Membership(voters) = &entry.payload {
            self.note_voters(voters);
        }
        self.entries.insert(entry.id.index, entry);
    }

    /// The entry at an index.
    pub(super) fn get(&self, index: u64) -> Option<&Entry> {
        self.entries.get(&index)
    }

    /// Forgets the entries up to an index.
    pub(super) fn forget(&mut self, index: u64) {
        self.entries = self.entries.split_off(&(index + 1));
    }

    /// Keeps those entries at `places` that the library makes itself.
    pub(super) fn adopt(&mut self, places: &LogEntries) {
        self.of(places).into_iter().for_each(|entry| self.put(entry));
    }

    /// The entries at `places`. Those that hold no commands the library makes itself.
    pub(super) fn of(&self, places: &LogEntries) -> Vec<Entry> {
        let of = |(place, kind): (LogPosition, LogEntry)| {
            let id = log_id(place);
            let payload = match kind {
                LogEntry::Term(_) => Payload::Blank,
                LogEntry::ClusterConfig(config) => Payload::Membership(self.voters(&config)),
                LogEntry::Command => {
                    let known = self.entries.get(&id.index).filter(|entry| entry.id == id);
                    known.expect("an entry comes with what it holds").payload.clone()
                }
            };
            Entry { id, payload }
        };
        places.iter_with_positions().map(of).collect()
    }

    fn voters(&self, config: &ClusterConfig) -> Vec<Voter> {
        let voter = |id: &NodeId| {
            let directory = self.directories.get(&id.get()).expect("a voter has a directory");
            Voter { id: id.get(), directory: *directory }
        };
        config.voters.iter().map(voter).collect()
    }

    /// Notes the directories of voters.
    pub(super) fn note_voters(&mut self, voters: &[Voter]) {
        self.directories.extend(voters.iter().map(|voter| (voter.id, voter.directory)));
    }
}

/// The places of entries that follow on `after`, if their terms are such as Raft gives.
pub(super) fn places(after: LogId, entries: &[Entry]) -> Option<LogEntries> {
    let kind = |entry: &Entry| match &entry.payload {
        Payload::Blank => LogEntry::Term(Term::new(entry.id.term)),
        Payload::Membership(voters) => LogEntry::ClusterConfig(config(voters)),
        Payload::Normal(_) => LogEntry::Command,
    };
    let places = LogEntries::from_iter(position(after), entries.iter().map(kind));
    let agree = places.iter_with_positions().zip(entries).all(|((p, _), e)| log_id(p) == e.id);
    agree.then_some(places)
}

pub(super) fn config(voters: &[Voter]) -> ClusterConfig {
    let mut config = ClusterConfig::new();
    config.voters = voters.iter().map(|voter| NodeId::new(voter.id)).collect::<BTreeSet<_>>();
    config
}

pub(super) fn position(id: LogId) -> LogPosition {
    LogPosition::new(Term::new(id.term), LogIndex::new(id.index))
}

pub(super) fn log_id(position: LogPosition) -> LogId {
    LogId { term: position.term.get(), index: position.index.get() }
}
