//! Who belongs to the quorum, and how that changes while it works.

use std::time::Duration;

use noraft::{ClusterConfig, Log, Node, NodeId, Role};

use super::{Change, ChangeRefused, Entry, LogId, Member, Membership, Message, Payload, Standing};
use crate::machine::quorum::VoterId;
use crate::machine::quorum::payloads::{log_id, places};

/// A learner that lacks no more than so many entries votes from then on.
const CAUGHT_UP: u64 = 100;

impl Member {
    /// Who belongs to the quorum, as this voter's log has it.
    pub fn membership(&self) -> &Membership {
        self.payloads.membership().1
    }

    /// The index of the entry that says so.
    pub fn changed(&self) -> u64 {
        self.payloads.membership().0
    }

    /// Whether its log has it as one who votes, with this very directory: one whose disk was replaced
    /// never votes as its former self.
    pub fn votes(&self) -> bool {
        self.membership().peer(self.id).is_some_and(|(peer, standing)| {
            peer.voter.directory == self.directory && *standing != Standing::Learner
        })
    }

    /// The last entry that is known to be committed.
    pub fn committed(&self) -> u64 {
        self.node.commit_index().get()
    }

    /// How far another peer's log agrees with this leader's, as it said itself.
    pub fn matched(&self, id: VoterId) -> Option<u64> {
        self.node.follower_match_index(NodeId::new(id)).map(|index| index.get())
    }

    /// Whether a peer was heard of lately.
    pub fn is_heard(&self, id: VoterId, now: Duration) -> bool {
        let heard = self.heard.get(&id).is_some_and(|&heard| self.is_recent(heard, now));
        id == self.id || heard
    }

    /// Begins a quorum whose founding this is: the first entry of the log, which is empty.
    pub fn found(&mut self, now: Duration, founding: Entry) {
        let places = places(LogId::default(), std::slice::from_ref(&founding));
        let Some(places) = places.filter(|_| self.last() == LogId::default()) else { return };
        self.payloads.put(founding);
        let log = Log::new(ClusterConfig::new(), places);
        let (id, term, voted_for) =
            (self.node.id(), self.node.current_term(), self.node.voted_for());
        self.node = Node::restart(id, term, voted_for, log);
        self.node.actions_mut().set_election_timeout = false;
        self.deadline = now;
    }

    /// Begins a change of who belongs to the quorum. It counts as soon as it is in the log; done it is
    /// when it is committed. A peer that is added votes when it has caught up.
    pub fn change(&mut self, now: Duration, change: &Change) -> Result<LogId, ChangeRefused> {
        self.may_change(now)?;
        let changed = self.membership().changed(change)?;
        let silent = self.missing(&changed.config(), now);
        if !silent.is_empty() {
            return Err(ChangeRefused::WouldStall { silent });
        }
        Ok(self.propose_membership(now, changed))
    }

    /// Makes a voter of a learner that has caught up.
    pub(super) fn promote(&mut self, now: Duration) {
        if self.may_change(now).is_err() {
            return;
        }
        let last = self.last().index;
        let learners = self.membership().peers.iter().filter(|(_, s)| *s == Standing::Learner);
        let ready = learners.map(|(peer, _)| peer.voter.id).find(|&id| {
            let matched = self.matched(id).unwrap_or(0);
            matched > 0 && matched + CAUGHT_UP >= last && self.is_heard(id, now)
        });
        let Some(ready) = ready else { return };
        let promoted = self.membership().promoted(ready);
        if self.missing(&promoted.config(), now).is_empty() {
            self.propose_membership(now, promoted);
        }
    }

    /// Asks the voter that is nearest to this leader to lead in its place: one that is about to stop
    /// spares the others to find out that it is gone. Returns whom.
    pub fn hand_over(&mut self, now: Duration) -> Option<VoterId> {
        if !self.leads(now) {
            return None;
        }
        let config = self.node.config();
        let may_lead = |id: &&NodeId| {
            id.get() != self.id
                && (config.new_voters.is_empty() || config.new_voters.contains(id))
                && self.is_heard(id.get(), now)
        };
        let near = config.voters.iter().filter(may_lead);
        let next = near.max_by_key(|id| self.matched(id.get()))?.get();
        self.messages.push((next, Message::TakeOver { term: self.term() }));
        Some(next)
    }

    /// The connection from a peer has ended. If that is the leader, it is most likely gone: this voter asks
    /// the others at once, and those that hear the leader still will refuse.
    pub fn note_lost(&mut self, now: Duration, id: VoterId) {
        let is_leader = self.leader.is_some_and(|(leader, _)| leader == id);
        if is_leader && self.node.role() == Role::Follower {
            self.leader = None;
            self.heard.remove(&id);
            // Not all at the same moment.
            let soon = now + self.draw.wait(self.timing.heartbeat / 2);
            self.deadline = self.deadline.min(soon);
        }
    }

    /// The leader of this term asks to be followed in its office.
    pub(super) fn take_over(&mut self, from: VoterId, term: u64) {
        let is_asked = self.leader.is_some_and(|(leader, _)| leader == from);
        if self.votes() && is_asked && term == self.term() && self.node.role() == Role::Follower {
            self.leader = None;
            self.node.handle_election_timeout();
        }
    }

    /// Whether a change may begin: none is under way, and this leader has committed an entry of its
    /// own term, without which it does not know which changes are committed.
    fn may_change(&self, now: Duration) -> Result<(), ChangeRefused> {
        let committed = self.node.commit_index();
        let is_settled =
            self.node.log().entries().get_term(committed) == Some(self.node.current_term());
        if !self.leads(now) || !is_settled {
            return Err(ChangeRefused::NotLeader);
        }
        let (index, membership) = self.payloads.membership();
        let is_done = membership.is_settled() && index <= committed.get();
        if is_done { Ok(()) } else { Err(ChangeRefused::Underway) }
    }

    fn propose_membership(&mut self, now: Duration, membership: Membership) -> LogId {
        let id = log_id(self.node.propose_config(membership.config()));
        self.payloads.put(Entry { id, payload: Payload::Membership(membership) });
        self.note_timeout(now);
        id
    }

    /// Who is not heard of, if no majority is.
    fn missing(&self, config: &ClusterConfig, now: Duration) -> Vec<VoterId> {
        let mut missing = Vec::new();
        for voters in [&config.voters, &config.new_voters] {
            let (near, silent): (Vec<_>, Vec<_>) =
                voters.iter().map(|id| id.get()).partition(|&id| self.is_heard(id, now));
            if !voters.is_empty() && 2 * near.len() <= voters.len() {
                missing.extend(silent);
            }
        }
        missing.sort_unstable();
        missing.dedup();
        missing
    }
}
