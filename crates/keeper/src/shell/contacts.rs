//! Whom a voter talks to: those whom its log names, and those who have called themselves.

use std::collections::BTreeMap;

use super::peers::Dialled;
use crate::machine::quorum::{Membership, Peer, QuorumId, Voter, VoterId};
use crate::machine::{Corrupt, Decoder};

/// How many may call that this voter's log does not name.
const GUESTS_MAX: usize = 16;

/// How a voter introduces itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Greeting {
    /// The quorum that it belongs to; zeros if none yet.
    pub(super) quorum: QuorumId,
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
    /// Appends it: 16 bytes of quorum id, who calls, whom it means.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.quorum.0);
        self.from.encode(out);
        self.to.encode(out);
    }

    /// Reads what [`Greeting::encode`] wrote.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Corrupt> {
        let mut input = Decoder::new(bytes, "greeting");
        let greeting = Self {
            quorum: QuorumId(input.array()?),
            from: Peer::decode(&mut input)?,
            to: Voter::decode(&mut input)?,
        };
        input.end().map(|()| greeting)
    }
}

/// The contacts of one voter.
pub(super) struct Contacts {
    own: Peer,
    /// Who has called, with the number of the connection.
    callers: BTreeMap<VoterId, (u64, Peer)>,
    membership: Membership,
}

impl Contacts {
    pub(super) fn new(own: Peer) -> Self {
        Self { own, callers: BTreeMap::new(), membership: Membership::default() }
    }

    /// This voter, and where it listens.
    pub(super) fn own(&self) -> &Peer {
        &self.own
    }

    /// Notes who belongs to the quorum; tells whether that is news.
    pub(super) fn note_membership(&mut self, membership: &Membership) -> bool {
        let is_news = self.membership != *membership;
        if is_news {
            self.membership.clone_from(membership);
        }
        is_news
    }

    /// Notes one who calls, or tells why it is not listened to.
    pub(super) fn greet(&mut self, connection: u64, greeting: Greeting) -> Result<(), Refusal> {
        let from = greeting.from.voter;
        if greeting.to != self.own.voter || from.id == self.own.voter.id {
            return Err(Refusal::OtherVoter);
        }
        let quorums = [greeting.quorum, self.membership.quorum];
        if quorums[0] != quorums[1] && !quorums.contains(&QuorumId::default()) {
            return Err(Refusal::OtherQuorum);
        }
        match self.membership.peer(from.id) {
            Some((known, _)) if known.voter != from => return Err(Refusal::OtherDirectory),
            None if self.guests().count() >= GUESTS_MAX => return Err(Refusal::Full),
            _ => {}
        }
        self.callers.insert(from.id, (connection, greeting.from));
        Ok(())
    }

    /// Notes that the connection of one who called has ended.
    pub(super) fn leave(&mut self, id: VoterId, connection: u64) {
        if self.callers.get(&id).is_some_and(|(last, _)| *last == connection) {
            self.callers.remove(&id);
        }
    }

    /// Whether letters of this voter count: its id is not that of another directory.
    pub(super) fn counts(&self, voter: Voter) -> bool {
        self.membership.peer(voter.id).is_none_or(|(known, _)| known.voter == voter)
    }

    /// One who belongs to the quorum and listens elsewhere than the log has it.
    pub(super) fn moved(&self) -> Option<Peer> {
        let callers = self.callers.values().map(|(_, peer)| peer);
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
    pub(super) fn book(&self) -> BTreeMap<VoterId, Dialled> {
        let named = self.membership.peers.iter().map(|(peer, _)| peer);
        let others = named.chain(self.guests()).filter(|peer| peer.voter != self.own.voter);
        let dial = |named: &Peer| {
            let caller = self.callers.get(&named.voter.id).map(|(_, caller)| caller);
            let peer = caller.filter(|caller| caller.voter == named.voter).unwrap_or(named);
            let (quorum, from) = (self.membership.quorum, self.own.clone());
            let greeting = Greeting { quorum, from, to: peer.voter };
            (peer.voter.id, Dialled { peer: peer.clone(), greeting })
        };
        others.map(dial).collect()
    }

    /// Who has called without belonging to the quorum, as far as this voter knows: it needs an answer
    /// all the same, for it may be a leader who belongs to it by now.
    fn guests(&self) -> impl Iterator<Item = &Peer> {
        let callers = self.callers.values().map(|(_, peer)| peer);
        callers.filter(|peer| self.membership.peer(peer.voter.id).is_none())
    }
}
