//! Who belongs to a quorum, and where they are.

use std::fmt;

use noraft::{ClusterConfig, NodeId};

use super::entry::{DirectoryId, Voter, VoterId};
use crate::machine::{Corrupt, Decoder, put_u32};

/// The id that a quorum was given when it was founded: its voters talk to nobody of another one.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QuorumId(pub [u8; 16]);

impl fmt::Display for QuorumId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for QuorumId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One who belongs to a quorum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Who.
    pub voter: Voter,
    /// Where it listens for the others: `host:port`.
    pub address: String,
}

/// What a peer counts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It votes.
    Voter,
    /// It will vote: until the change is committed, the former voters and the coming ones must each
    /// agree by majority (Raft §6, joint consensus).
    Joining,
    /// It votes no more as soon as the change is committed.
    Leaving,
    /// It gets the log and does not vote. It will, once it has caught up.
    Learner,
}

/// Who belongs to a quorum. Without peers: nobody knows yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    /// Which quorum.
    pub quorum: QuorumId,
    /// In the order of their ids.
    pub peers: Vec<(Peer, Standing)>,
}

/// A change of who belongs to a quorum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Takes in a peer, which votes as soon as it has caught up; one that belongs to the quorum
    /// already gets the address.
    Add(Peer),
    /// Lets a peer go.
    Remove(VoterId),
}

/// Why a change was not begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangeRefused {
    /// This voter does not lead, or its leadership is not settled yet.
    NotLeader,
    /// Another change is not finished.
    Underway,
    /// There is no such peer.
    Unknown(VoterId),
    /// The id is that of a peer with another directory, which must go first.
    Taken(Voter),
    /// It is the only voter.
    Last(VoterId),
    /// Too few of those who would vote are heard of: the quorum could do nothing any more.
    WouldStall {
        /// Those who are not heard of.
        silent: Vec<VoterId>,
    },
}

impl fmt::Display for ChangeRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLeader => f.write_str("this keeper does not lead the quorum"),
            Self::Underway => f.write_str("another change of the quorum is not finished"),
            Self::Unknown(id) => write!(f, "the quorum has no peer {id}"),
            Self::Taken(Voter { id, directory }) => {
                write!(f, "{id} belongs to the quorum with the directory {directory:?}")
            }
            Self::Last(id) => write!(f, "{id} is the only voter"),
            Self::WouldStall { silent } => write!(
                f,
                "the quorum could do nothing any more: of those who would vote, {silent:?} are not \
                 heard of"
            ),
        }
    }
}

impl std::error::Error for ChangeRefused {}

impl Membership {
    /// A quorum at its beginning.
    #[must_use]
    pub fn of(quorum: QuorumId, voters: impl IntoIterator<Item = Peer>) -> Self {
        let mut peers: Vec<_> = voters.into_iter().map(|peer| (peer, Standing::Voter)).collect();
        peers.sort_by_key(|(peer, _)| peer.voter.id);
        Self { quorum, peers }
    }

    /// Whether a quorum can begin so: it has an id, and all its peers vote.
    #[must_use]
    pub fn is_founding(&self) -> bool {
        let is_voter = |(_, standing): &(Peer, Standing)| *standing == Standing::Voter;
        self.quorum != QuorumId::default() && !self.is_empty() && self.peers.iter().all(is_voter)
    }

    /// Whether nobody has told this voter of a quorum.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    /// A peer and what it counts for.
    #[must_use]
    pub fn peer(&self, id: VoterId) -> Option<&(Peer, Standing)> {
        self.peers.iter().find(|(peer, _)| peer.voter.id == id)
    }

    /// What a change makes of it, if it may be made.
    pub(super) fn changed(&self, change: &Change) -> Result<Self, ChangeRefused> {
        let mut changed = self.clone();
        match change {
            Change::Add(added) => {
                let id = added.voter.id;
                match changed.peers.iter_mut().find(|(peer, _)| peer.voter.id == id) {
                    Some((peer, _)) if peer.voter == added.voter => {
                        peer.address.clone_from(&added.address);
                    }
                    Some((peer, _)) => return Err(ChangeRefused::Taken(peer.voter)),
                    None => changed.peers.push((added.clone(), Standing::Learner)),
                }
                changed.peers.sort_by_key(|(peer, _)| peer.voter.id);
            }
            &Change::Remove(id) => {
                let at = changed.peers.iter().position(|(peer, _)| peer.voter.id == id);
                let at = at.ok_or(ChangeRefused::Unknown(id))?;
                let is_voter = |(_, standing): &&(Peer, Standing)| *standing == Standing::Voter;
                if changed.peers[at].1 == Standing::Learner {
                    changed.peers.remove(at);
                } else if self.peers.iter().filter(is_voter).count() == 1 {
                    return Err(ChangeRefused::Last(id));
                } else {
                    changed.peers[at].1 = Standing::Leaving;
                }
            }
        }
        Ok(changed)
    }

    /// With a learner about to vote.
    pub(super) fn promoted(&self, id: VoterId) -> Self {
        let mut promoted = self.clone();
        for (peer, standing) in &mut promoted.peers {
            if peer.voter.id == id {
                *standing = Standing::Joining;
            }
        }
        promoted
    }

    /// What it becomes when a joint consensus ends.
    pub(super) fn settled(&self) -> Self {
        let mut settled = self.clone();
        settled.peers.retain(|(_, standing)| *standing != Standing::Leaving);
        for (_, standing) in &mut settled.peers {
            if *standing == Standing::Joining {
                *standing = Standing::Voter;
            }
        }
        settled
    }

    /// Whether no change of who votes is under way.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        let unsettled = [Standing::Joining, Standing::Leaving];
        !self.peers.iter().any(|(_, standing)| unsettled.contains(standing))
    }

    /// The same for the library.
    pub(super) fn config(&self) -> ClusterConfig {
        let ids = |standings: &[Standing]| {
            let of = self.peers.iter().filter(|(_, standing)| standings.contains(standing));
            of.map(|(peer, _)| NodeId::new(peer.voter.id)).collect()
        };
        let mut config = ClusterConfig::new();
        config.voters = ids(&[Standing::Voter, Standing::Leaving]);
        config.non_voters = ids(&[Standing::Learner]);
        if !self.is_settled() {
            config.new_voters = ids(&[Standing::Voter, Standing::Joining]);
        }
        config
    }

    /// Appends it: 16 bytes of quorum id, u32 count, then per peer itself and u8 standing.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.quorum.0);
        put_u32(out, self.peers.len());
        for (peer, standing) in &self.peers {
            peer.encode(out);
            out.push(match standing {
                Standing::Voter => 0,
                Standing::Joining => 1,
                Standing::Leaving => 2,
                Standing::Learner => 3,
            });
        }
    }

    /// Reads what [`Membership::encode`] wrote.
    pub(crate) fn decode(input: &mut Decoder<'_>) -> Result<Self, Corrupt> {
        let quorum = QuorumId(input.array()?);
        let mut peers: Vec<(Peer, Standing)> = Vec::new();
        for _ in 0..input.u32()? {
            let peer = Peer::decode(input)?;
            let standing = match input.u8()? {
                0 => Standing::Voter,
                1 => Standing::Joining,
                2 => Standing::Leaving,
                3 => Standing::Learner,
                _ => return Err(input.corrupt()),
            };
            if peers.last().is_some_and(|(last, _)| last.voter.id >= peer.voter.id) {
                return Err(input.corrupt());
            }
            peers.push((peer, standing));
        }
        Ok(Self { quorum, peers })
    }
}

impl Voter {
    /// Appends it: u64 id, 16 bytes of directory id.
    pub(crate) fn encode(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.id.to_be_bytes());
        out.extend_from_slice(&self.directory.0);
    }

    /// Reads what [`Voter::encode`] wrote.
    pub(crate) fn decode(input: &mut Decoder<'_>) -> Result<Self, Corrupt> {
        Ok(Self { id: input.u64()?, directory: DirectoryId(input.array()?) })
    }
}

impl Peer {
    /// Appends it: the voter, u32 length and the address.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        self.voter.encode(out);
        put_u32(out, self.address.len());
        out.extend_from_slice(self.address.as_bytes());
    }

    /// Reads what [`Peer::encode`] wrote.
    pub(crate) fn decode(input: &mut Decoder<'_>) -> Result<Self, Corrupt> {
        let voter = Voter::decode(input)?;
        let length = input.u32()? as usize;
        let address = std::str::from_utf8(input.bytes(length)?).map(str::to_owned);
        Ok(Self { voter, address: address.map_err(|_| input.corrupt())? })
    }
}
