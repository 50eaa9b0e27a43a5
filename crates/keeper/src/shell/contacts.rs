//! Whom a voter talks to: those whom its log names, and those who have called themselves.

use std::collections::BTreeMap;

use crate::machine::quorum::{Membership, Peer, QuorumId, Voter, VoterId};
use crate::machine::{Corrupt, Decoder};

/// How many may call that this voter's log does not name.
const GUESTS_MAX: usize = 16;

/// How a voter introduces itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Greeting {
    /// The quorum that it belongs to; zeros if none yet.
    pub(super) quorum: QuorumId,
    /// The entry of its log that says who belongs to it.
    pub(super) changed: u64,
    /// Itself.
    pub(super) from: Peer,
    /// Whom it means.
    pub(super) to: Voter,
}

/// Why a voter does not listen to one who calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Refusal {
    /// It is another voter than the one that was meant.
    OtherVoter = 1,
    /// It belongs to another quorum.
    OtherQuorum = 2,
    /// It knows the voter who calls with another directory.
    OtherDirectory = 3,
    /// It knows too many already.
    Full = 4,
}

impl Refusal {
    pub(super) fn of(code: u8) -> Self {
        match code {
            2 => Self::OtherQuorum,
            3 => Self::OtherDirectory,
            4 => Self::Full,
            _ => Self::OtherVoter,
        }
    }

    /// What it is, for people.
    pub(super) fn why(self) -> &'static str {
        match self {
            Self::OtherVoter => "its directory or its id is not the voter's, but a new one",
            Self::OtherQuorum => "it belongs to another quorum",
            Self::OtherDirectory => "it knows this voter with another directory",
            Self::Full => "it talks to too many already",
        }
    }
}

impl Greeting {
    /// Appends it: 16 bytes of quorum id, u64 index, who calls, whom it means.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.quorum.0);
        out.extend_from_slice(&self.changed.to_be_bytes());
        self.from.encode(out);
        self.to.encode(out);
    }

    /// Reads what [`Greeting::encode`] wrote.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Corrupt> {
        let mut input = Decoder::new(bytes, "greeting");
        let greeting = Self {
            quorum: QuorumId(input.array()?),
            changed: input.u64()?,
            from: Peer::decode(&mut input)?,
            to: Voter::decode(&mut input)?,
        };
        input.end().map(|()| greeting)
    }
}

/// The contacts of one voter.
pub(super) struct Contacts {
    own: Peer,
    callers: BTreeMap<VoterId, Caller>,
    membership: Membership,
    /// The entry of the log that says so.
    changed: u64,
}

/// One who has called.
struct Caller {
    /// The number of the connection.
    connection: u64,
    peer: Peer,
    /// How new its knowledge of the quorum is.
    changed: u64,
}

impl Contacts {
    pub(super) fn new(own: Peer) -> Self {
        Self { own, callers: BTreeMap::new(), membership: Membership::default(), changed: 0 }
    }

    /// This voter, and where it listens.
    pub(super) fn own(&self) -> &Peer {
        &self.own
    }

    /// How this voter introduces itself.
    pub(super) fn greeting(&self, to: Voter) -> Greeting {
        let (quorum, from) = (self.membership.quorum, self.own.clone());
        Greeting { quorum, changed: self.changed, from, to }
    }

    /// Notes who belongs to the quorum; tells whether that is news.
    pub(super) fn note_membership(&mut self, changed: u64, membership: &Membership) -> bool {
        let is_news = self.membership != *membership;
        self.changed = changed;
        if is_news {
            self.membership.clone_from(membership);
            self.callers.retain(|id, caller| {
                caller.changed > changed || is_known(membership, *id, caller.peer.voter)
            });
        }
        is_news
    }

    /// Notes one who calls, or tells why it is not listened to.
    ///
    /// One that is known with another directory is listened to only if its knowledge of the quorum is
    /// newer: then it was taken in since, in the place of the one that is known.
    pub(super) fn greet(&mut self, connection: u64, greeting: Greeting) -> Result<(), Refusal> {
        let Greeting { quorum, changed, from: peer, to } = greeting;
        let from = peer.voter;
        if to != self.own.voter || from.id == self.own.voter.id {
            return Err(Refusal::OtherVoter);
        }
        let quorums = [quorum, self.membership.quorum];
        if quorums[0] != quorums[1] && !quorums.contains(&QuorumId::default()) {
            return Err(Refusal::OtherQuorum);
        }
        if !is_known(&self.membership, from.id, from) && changed <= self.changed {
            return Err(Refusal::OtherDirectory);
        }
        if self.membership.peer(from.id).is_none() && self.guests().count() >= GUESTS_MAX {
            return Err(Refusal::Full);
        }
        self.callers.insert(from.id, Caller { connection, peer, changed });
        Ok(())
    }

    /// Whether a connection is that of one who called and is listened to.
    pub(super) fn has_called(&self, connection: u64) -> bool {
        self.callers.values().any(|caller| caller.connection == connection)
    }

    /// Notes that the connection of one who called has ended. Returns whether it has no other one.
    pub(super) fn leave(&mut self, id: VoterId, connection: u64) -> bool {
        let is_last = self.callers.get(&id).is_some_and(|it| it.connection == connection);
        if is_last {
            self.callers.remove(&id);
        }
        is_last
    }

    /// Whether letters of this voter count: its id is not that of another directory.
    pub(super) fn counts(&self, voter: Voter) -> bool {
        match self.callers.get(&voter.id) {
            Some(caller) => caller.peer.voter == voter,
            None => is_known(&self.membership, voter.id, voter),
        }
    }

    /// One who belongs to the quorum and listens elsewhere than the log has it.
    pub(super) fn moved(&self) -> Option<Peer> {
        let callers = self.callers.values().map(|caller| &caller.peer);
        let mut known = callers.chain([&self.own]).filter(|peer| !peer.address.is_empty());
        let is_moved = |peer: &&Peer| {
            let known = self.membership.peer(peer.voter.id);
            known.is_some_and(|(known, _)| {
                known.voter == peer.voter && known.address != peer.address
            })
        };
        known.find(is_moved).cloned()
    }

    /// Whom to dial. What somebody says of itself is newer than what the log says of it.
    pub(super) fn book(&self) -> BTreeMap<VoterId, Peer> {
        let named = self.membership.peers.iter().map(|(peer, _)| peer);
        let others = named.chain(self.guests()).filter(|peer| peer.voter.id != self.own.voter.id);
        let dial = |named: &Peer| {
            let caller = self.callers.get(&named.voter.id).map(|caller| &caller.peer);
            (named.voter.id, caller.unwrap_or(named).clone())
        };
        others.map(dial).collect()
    }

    /// Who has called without belonging to the quorum, as far as this voter knows: it needs an answer
    /// all the same, for it may be a leader who belongs to it by now.
    fn guests(&self) -> impl Iterator<Item = &Peer> {
        let callers = self.callers.values().map(|caller| &caller.peer);
        callers.filter(|peer| self.membership.peer(peer.voter.id).is_none())
    }
}

/// Whether an id is not that of another voter.
fn is_known(membership: &Membership, id: VoterId, voter: Voter) -> bool {
    membership.peer(id).is_none_or(|(known, _)| known.voter == voter)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::quorum::DirectoryId;

    const QUORUM: QuorumId = QuorumId([7; 16]);

    fn peer(id: VoterId, directory: u8) -> Peer {
        let voter = Voter { id, directory: DirectoryId([directory; 16]) };
        Peer { voter, address: format!("host-{id}:1") }
    }

    /// Voter 1, which knows of voters 2 and 3 by its tenth entry.
    fn contacts() -> Contacts {
        let mut contacts = Contacts::new(peer(1, 1));
        let membership = Membership::of(QUORUM, (1..=3).map(|id| peer(id, id as u8)));
        assert!(contacts.note_membership(10, &membership));
        contacts
    }

    fn greeting(from: Peer, changed: u64) -> Greeting {
        Greeting { quorum: QUORUM, changed, from, to: peer(1, 1).voter }
    }

    #[test]
    fn a_voter_that_is_known_is_heard_until_its_last_connection_ends() {
        let mut contacts = contacts();
        assert_eq!(contacts.greet(1, greeting(peer(2, 2), 10)), Ok(()));
        assert_eq!(contacts.greet(2, greeting(peer(2, 2), 10)), Ok(()));
        assert!(!contacts.leave(2, 1), "it has called again since");
        assert!(contacts.leave(2, 2));
    }

    #[test]
    fn who_means_another_one_or_comes_of_another_quorum_is_refused() {
        let mut contacts = contacts();
        let meant = Greeting { to: peer(1, 9).voter, ..greeting(peer(2, 2), 10) };
        assert_eq!(contacts.greet(1, meant), Err(Refusal::OtherVoter));
        assert_eq!(contacts.greet(1, greeting(peer(1, 8), 10)), Err(Refusal::OtherVoter));
        let other = Greeting { quorum: QuorumId([8; 16]), ..greeting(peer(2, 2), 10) };
        assert_eq!(contacts.greet(1, other), Err(Refusal::OtherQuorum));
        // One that belongs to none yet may be told of this one.
        let none = Greeting { quorum: QuorumId::default(), ..greeting(peer(2, 2), 0) };
        assert_eq!(contacts.greet(1, none), Ok(()));
    }

    #[test]
    fn another_directory_is_listened_to_only_if_it_knows_more() {
        let mut contacts = contacts();
        let (former, new) = (peer(2, 2), peer(2, 22));
        assert_eq!(contacts.greet(1, greeting(new.clone(), 10)), Err(Refusal::OtherDirectory));
        assert!(contacts.counts(former.voter) && !contacts.counts(new.voter));
        assert_eq!(contacts.greet(1, greeting(new.clone(), 11)), Ok(()));
        assert!(contacts.counts(new.voter) && !contacts.counts(former.voter));
        assert_eq!(contacts.book()[&2], new);
        // What this voter learns meanwhile does not know it: then it was let go again.
        let membership = Membership::of(QUORUM, (1..=3).map(|id| peer(id, id as u8)));
        let grown = Membership {
            peers: [membership.peers, vec![(peer(4, 4), crate::Standing::Voter)]].concat(),
            ..membership
        };
        assert!(contacts.note_membership(12, &grown));
        assert!(contacts.counts(former.voter) && !contacts.counts(new.voter));
    }

    #[test]
    fn strangers_are_answered_up_to_a_number() {
        let mut contacts = contacts();
        for id in 0..GUESTS_MAX as u64 {
            assert_eq!(contacts.greet(id, greeting(peer(100 + id, 1), 0)), Ok(()));
        }
        assert_eq!(contacts.greet(99, greeting(peer(99, 1), 0)), Err(Refusal::Full));
        assert_eq!(contacts.greet(99, greeting(peer(3, 3), 0)), Ok(()), "it is none");
        assert_eq!(contacts.book().len(), 2 + GUESTS_MAX);
    }

    #[test]
    fn who_calls_from_elsewhere_has_moved() {
        let mut contacts = contacts();
        assert_eq!(contacts.moved(), None);
        let moved = Peer { address: "elsewhere:1".to_owned(), ..peer(2, 2) };
        contacts.greet(1, greeting(moved.clone(), 10)).unwrap();
        assert_eq!(contacts.moved(), Some(moved.clone()));
        assert_eq!(contacts.book()[&2], moved);
        // One that nobody can call back has not.
        let nowhere = Peer { address: String::new(), ..peer(2, 2) };
        contacts.greet(2, greeting(nowhere, 10)).unwrap();
        assert_eq!(contacts.moved(), None);
    }
}
