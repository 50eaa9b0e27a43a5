//! The voter.

mod changes;
mod flights;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use noraft::{Action, Log, LogEntries, LogIndex, Node, NodeId, Role, Term};

use super::entry::{Batch, DirectoryId, Entry, LogId, Payload, Voter, VoterId};
use super::membership::{Change, ChangeRefused, Membership, Standing};
use super::message::Message;
use super::payloads::{Payloads, log_id, places, position};
use super::timing::{Draw, Timing};
use flights::Flights;

/// About how much one message holds of the log, in bytes of proposals; what is left follows when
/// that arrived.
const MESSAGE_BYTES: usize = 1 << 20;
/// What an entry takes in a message beside its proposals, about.
const ENTRY_BYTES: usize = 32;

/// Raft's currentTerm and votedFor: what a voter must not forget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// The term that it is in.
    pub term: u64,
    /// For whom it voted there.
    pub voted_for: Option<VoterId>,
}

/// What a voter's directory holds.
#[derive(Clone, Debug, Default)]
pub struct Remembered {
    /// Its term and its vote.
    pub hard_state: HardState,
    /// The last entry that the snapshot holds.
    pub snapshot: LogId,
    /// Who belonged to the quorum there.
    pub membership: Membership,
    /// What follows on the snapshot.
    pub entries: Vec<Entry>,
    /// The highest index that is known to be committed.
    pub committed: u64,
}

/// What is to be done, in this order: the first two are to be durable before the others begin.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// To be remembered from here on.
    pub hard_state: Option<HardState>,
    /// To be put into the log.
    pub append: Option<Appended>,
    /// To be sent.
    pub messages: Vec<(VoterId, Message)>,
    /// Voters whose log ends before this one begins: they need a snapshot.
    pub lagging: Vec<VoterId>,
    /// To be applied: what was committed since the last time, in order.
    pub committed: Vec<Entry>,
}

/// Entries that take the place of all that the log has behind `after`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The entry that they follow on.
    pub after: LogId,
    /// The entries.
    pub entries: Vec<Entry>,
}

/// What this voter was told contradicts what it knows to be committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contradiction;

/// One voter. Time is elapsed time; it is told with every call, and does not go back.
pub struct Member {
    id: VoterId,
    directory: DirectoryId,
    node: Node,
    payloads: Payloads,
    timing: Timing,
    draw: Draw,
    /// When it looks for another leader or, as the leader, lets the others hear from it.
    deadline: Duration,
    /// The leader, and when it was last heard of.
    leader: Option<(VoterId, Duration)>,
    /// When the other voters were last heard of.
    heard: BTreeMap<VoterId, Duration>,
    /// Who would vote for this one, as long as it asks for that.
    promises: Option<BTreeSet<NodeId>>,
    /// Trials, which the library knows nothing of.
    messages: Vec<(VoterId, Message)>,
    flights: Flights,
    /// The last entry that was handed out as committed.
    handed_out: u64,
    /// The last entry that the others were told to be committed, while it leads.
    announced: u64,
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member")
            .field("id", &self.id)
            .field("node", &self.node)
            .finish_non_exhaustive()
    }
}

impl Member {
    /// A voter as its directory remembers it. `seed` is one that no other voter has. `None` if
    /// no leader can have given its log the terms that it has.
    pub fn new(
        Voter { id, directory }: Voter,
        remembered: Remembered,
        timing: Timing,
        seed: u64,
        now: Duration,
    ) -> Option<Self> {
        let Remembered { hard_state, snapshot, membership, entries, committed } = remembered;
        let log = Log::new(membership.config(), places(snapshot, &entries)?);
        let voted_for = hard_state.voted_for.map(NodeId::new);
        let node = Node::restart(NodeId::new(id), Term::new(hard_state.term), voted_for, log);
        let mut payloads = Payloads::new(snapshot, membership);
        entries.into_iter().for_each(|entry| payloads.put(entry));
        let mut member = Self {
            id,
            directory,
            node,
            payloads,
            timing,
            draw: Draw::new(seed),
            deadline: now,
            leader: None,
            heard: BTreeMap::new(),
            promises: None,
            messages: Vec::new(),
            flights: Flights::default(),
            handed_out: committed.max(snapshot.index),
            announced: 0,
        };
        member.node.actions_mut().set_election_timeout = false;
        // Whoever votes alone need not wait to see whether there is a leader.
        if !member.votes_alone() {
            member.deadline = now + member.draw.wait(member.timing.election);
        }
        Some(member)
    }

    /// When [`Member::tick`] is due.
    pub fn deadline(&self) -> Duration {
        let leads_nobody = self.node.role() == Role::Leader && self.is_alone();
        if leads_nobody { Duration::MAX } else { self.deadline }
    }

    /// Whether it leads, and has heard of a majority lately.
    pub fn leads(&self, now: Duration) -> bool {
        self.node.role() == Role::Leader && self.is_in_contact(now)
    }

    /// The one that leads, if it was heard of lately.
    pub fn leader(&self, now: Duration) -> Option<VoterId> {
        match self.node.role() {
            Role::Leader => self.is_in_contact(now).then_some(self.id),
            _ => self.leader.filter(|&(_, heard)| self.is_recent(heard, now)).map(|(id, _)| id),
        }
    }

    /// The term it is in.
    pub fn term(&self) -> u64 {
        self.node.current_term().get()
    }

    /// The last entry of its log.
    pub fn last(&self) -> LogId {
        log_id(self.node.log().last_position())
    }

    /// Puts proposals into the log. `None` if it does not lead.
    pub fn propose(&mut self, now: Duration, batch: Batch) -> Option<LogId> {
        if !self.leads(now) {
            return None;
        }
        let id = log_id(self.node.propose_command());
        self.payloads.put(Entry { id, payload: Payload::Normal(batch) });
        self.note_timeout(now);
        Some(id)
    }

    /// The entries behind `last`: what the log holds beside a snapshot that ends there.
    pub fn entries_behind(&self, last: LogId) -> Vec<Entry> {
        let places = self.node.log().entries().since(position(last));
        places.map_or_else(Vec::new, |places| self.payloads.of(&places))
    }

    /// Notes that a snapshot holds all up to `last`, which is applied: those entries can go.
    pub fn note_snapshot(&mut self, last: LogId) {
        let config = self.node.log().get_position_and_config(LogIndex::new(last.index));
        let Some(config) = config.map(|(_, config)| config.clone()) else { return };
        if self.node.handle_snapshot_installed(position(last), config) {
            self.payloads.forget(last.index);
        }
    }

    /// Whether a snapshot that the leader of `term` sends, and that ends with `last`, has what this
    /// voter lacks. A leader sends none before this voter has told that it is in its term.
    pub fn wants_snapshot(&self, term: u64, last: LogId) -> bool {
        term == self.term()
            && self.node.role() != Role::Leader
            && last.index > self.node.commit_index().get()
    }

    /// Takes over a snapshot that was wanted, and that the disk now holds together with
    /// [`Member::entries_behind`] it. Returns whether it did.
    pub fn install(
        &mut self,
        now: Duration,
        (from, term): (VoterId, u64),
        last: LogId,
        membership: &Membership,
    ) -> bool {
        let is_wanted = self.wants_snapshot(term, last);
        if !is_wanted || !self.node.handle_snapshot_installed(position(last), membership.config()) {
            return false;
        }
        self.heard.insert(from, now);
        self.leader = Some((from, now));
        self.promises = None;
        self.payloads.install(last, membership.clone());
        self.handed_out = last.index;
        self.messages.push((from, Message::Appended { term, last: self.last() }));
        self.deadline = now + self.draw.wait(self.timing.election);
        true
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Duration) {
        if now < self.deadline {
            return;
        }
        match self.node.role() {
            // A leader that hears of nobody falls silent, so that the others look for another one:
            // they may hear of it all the same.
            Role::Leader if !self.is_in_contact(now) => {
                self.deadline = now + self.timing.heartbeat;
            }
            Role::Leader => self.node.handle_election_timeout(),
            Role::Follower | Role::Candidate => self.campaign(now),
        }
        self.note_timeout(now);
    }

    /// Takes what another voter said.
    pub fn receive(
        &mut self,
        now: Duration,
        from: VoterId,
        message: Message,
    ) -> Result<(), Contradiction> {
        if from == self.id {
            return Ok(());
        }
        // Who asks for votes hears of no leader. One that took that for contact would lead on, unheard.
        if !matches!(message, Message::AskVote { .. }) {
            self.heard.insert(from, now);
        }
        let (sender, own_term) = (NodeId::new(from), self.term());
        match message {
            Message::AskVote { term, last, is_trial: true } => {
                self.answer_trial(now, from, term, last);
            }
            Message::Vote { term, is_granted: true, is_trial: true } => {
                if term == own_term + 1 {
                    self.note_promise(sender);
                }
            }
            Message::AskVote { term, last, is_trial: false } => {
                self.handle(&noraft::Message::RequestVoteCall {
                    from: sender,
                    term: Term::new(term),
                    last_position: position(last),
                })?;
            }
            // A refusal tells the term, be it of a trial or not.
            Message::Vote { term, is_granted, is_trial } => {
                self.handle(&noraft::Message::RequestVoteReply {
                    from: sender,
                    term: Term::new(term),
                    vote_granted: is_granted && !is_trial,
                })?;
            }
            Message::Append { term, committed, after, entries } => {
                self.take_entries(now, from, (term, committed, after), entries)?;
            }
            Message::Appended { term, last } => {
                self.handle(&noraft::Message::AppendEntriesReply {
                    from: sender,
                    term: Term::new(term),
                    last_position: position(last),
                })?;
                self.flights.land(from, last.index, now);
                self.promote(now);
            }
            Message::TakeOver { term } => self.take_over(from, term),
        }
        if self.term() > own_term {
            self.promises = None;
        }
        self.note_timeout(now);
        Ok(())
    }

    /// What came of all calls since the last time.
    pub fn effects(&mut self, now: Duration) -> Effects {
        let mut effects =
            Effects { messages: std::mem::take(&mut self.messages), ..<_>::default() };
        let is_silent = self.node.role() == Role::Leader && !self.is_in_contact(now);
        self.announce();
        let actions = std::mem::take(self.node.actions_mut());
        for action in actions {
            match action {
                Action::SetElectionTimeout => {}
                Action::SaveCurrentTerm | Action::SaveVotedFor => {
                    let voted_for = self.node.voted_for().map(NodeId::get);
                    effects.hard_state = Some(HardState { term: self.term(), voted_for });
                }
                Action::AppendLogEntries(places) => {
                    self.payloads.adopt(&places);
                    let after = log_id(places.prev_position());
                    let entries = self.payloads.of(&places);
                    effects.append = Some(Appended { after, entries });
                }
                Action::BroadcastMessage(message) => {
                    let peers: Vec<NodeId> = self.node.peers().collect();
                    let message = self.message(message);
                    for peer in peers {
                        self.takes_off(now, peer.get(), &message);
                        effects.messages.push((peer.get(), message.clone()));
                    }
                }
                Action::SendMessage(to, message) => {
                    let message = self.message(message);
                    if self.takes_off(now, to.get(), &message) {
                        effects.messages.push((to.get(), message));
                    }
                }
                Action::InstallSnapshot(to) => effects.lagging.push(to.get()),
            }
        }
        if is_silent {
            effects.messages.retain(|(_, message)| !matches!(message, Message::Append { .. }));
        }
        let committed = self.node.commit_index().get();
        while self.handed_out < committed {
            let entry = self.payloads.get(self.handed_out + 1);
            effects.committed.push(entry.expect("what is committed is in the log").clone());
            self.handed_out += 1;
        }
        effects
    }

    /// Whether to send a message, or what it holds is on its way.
    fn takes_off(&mut self, now: Duration, to: VoterId, message: &Message) -> bool {
        match message {
            Message::Append { after, entries, .. } if !entries.is_empty() => {
                let last = after.index + entries.len() as u64;
                self.flights.take_off(to, (after.index, last), now, self.timing.heartbeat)
            }
            _ => true,
        }
    }

    /// Lets the others know at once what is committed: whoever waits for it may be at one of them.
    fn announce(&mut self) {
        let committed = self.node.commit_index();
        if self.node.role() != Role::Leader {
            self.announced = 0;
            self.flights.clear();
        } else if self.announced < committed.get() {
            self.announced = committed.get();
            match &mut self.node.actions_mut().broadcast_message {
                Some(noraft::Message::AppendEntriesCall { commit_index, .. }) => {
                    *commit_index = committed;
                }
                _ => {
                    self.node.heartbeat();
                }
            }
        }
    }

    /// Asks the others whether they would vote for this voter, so that one who would lose, or whom
    /// nobody needs, raises no terms.
    fn campaign(&mut self, now: Duration) {
        if self.votes_alone() {
            self.node.handle_election_timeout();
            return;
        }
        self.deadline = now + self.draw.wait(self.timing.election);
        if !self.votes() {
            return;
        }
        self.promises = Some(BTreeSet::from([NodeId::new(self.id)]));
        let (term, last) = (self.term() + 1, self.last());
        let ask = Message::AskVote { term, last, is_trial: true };
        let peers = self.node.peers().map(|peer| (peer.get(), ask.clone()));
        self.messages.extend(peers.collect::<Vec<_>>());
    }

    fn answer_trial(&mut self, now: Duration, from: VoterId, term: u64, last: LogId) {
        let is_needed = self.leader(now).is_none();
        let (last, own) = (position(last), self.node.log().last_position());
        // Of two who ask at the same time one gives way.
        let gives_way = self.promises.is_none() || last > own || from > self.id;
        let is_granted = is_needed && term > self.term() && last >= own && gives_way;
        let term = if is_granted { term } else { self.term() };
        if self.node.role() == Role::Leader && last < own {
            // It cannot lead in our place. What it lacks is to hear of us, who may have fallen silent.
            self.heard.insert(from, now);
        }
        if is_granted {
            // It will campaign: to do the same would split the votes.
            self.promises = None;
            self.deadline = self.deadline.max(now + self.timing.election);
        }
        self.messages.push((from, Message::Vote { term, is_granted, is_trial: true }));
    }

    fn note_promise(&mut self, from: NodeId) {
        let Some(promises) = &mut self.promises else { return };
        promises.insert(from);
        let config = self.node.config();
        let has_majority = |voters: &BTreeSet<NodeId>| {
            voters.is_empty() || 2 * voters.intersection(promises).count() > voters.len()
        };
        if has_majority(&config.voters) && has_majority(&config.new_voters) {
            self.promises = None;
            self.node.handle_election_timeout();
        }
    }

    fn take_entries(
        &mut self,
        now: Duration,
        from: VoterId,
        (term, committed, after): (u64, u64, LogId),
        entries: Vec<Entry>,
    ) -> Result<(), Contradiction> {
        // Entries whose terms do not fit come from no leader.
        let Some(places) = places(after, &entries) else { return Ok(()) };
        self.handle(&noraft::Message::AppendEntriesCall {
            from: NodeId::new(from),
            term: Term::new(term),
            commit_index: LogIndex::new(committed),
            entries: places,
        })?;
        if term == self.term() {
            self.leader = Some((from, now));
            self.promises = None;
            let log = self.node.log().entries();
            let forgotten = log.prev_position().index.get();
            let is_kept =
                |entry: &Entry| entry.id.index > forgotten && log.contains(position(entry.id));
            let accepted = entries.into_iter().filter(is_kept);
            accepted.for_each(|entry| self.payloads.put(entry));
        }
        Ok(())
    }

    fn handle(&mut self, message: &noraft::Message) -> Result<(), Contradiction> {
        self.node.handle_message(message).map_err(|_| Contradiction)
    }

    /// A message of the library with what its entries hold.
    fn message(&self, message: noraft::Message) -> Message {
        match message {
            noraft::Message::RequestVoteCall { term, last_position, .. } => {
                Message::AskVote { term: term.get(), last: log_id(last_position), is_trial: false }
            }
            noraft::Message::RequestVoteReply { term, vote_granted, .. } => {
                Message::Vote { term: term.get(), is_granted: vote_granted, is_trial: false }
            }
            noraft::Message::AppendEntriesCall { term, commit_index, mut entries, .. } => {
                entries.truncate(self.fitting(&entries));
                Message::Append {
                    term: term.get(),
                    committed: commit_index.get(),
                    after: log_id(entries.prev_position()),
                    entries: self.payloads.of(&entries),
                }
            }
            noraft::Message::AppendEntriesReply { term, last_position, .. } => {
                Message::Appended { term: term.get(), last: log_id(last_position) }
            }
        }
    }

    /// How many of the entries one message takes: at least one.
    fn fitting(&self, entries: &LogEntries) -> usize {
        let mut bytes = 0;
        let proposals = |index| match self.payloads.get(index).map(|entry| &entry.payload) {
            Some(Payload::Normal(batch)) => batch.proposals.len(),
            _ => 0,
        };
        let fits = entries.iter_with_positions().take_while(|(place, _)| {
            let is_first = bytes == 0;
            bytes += ENTRY_BYTES + proposals(place.index.get());
            is_first || bytes <= MESSAGE_BYTES
        });
        fits.count()
    }

    /// Puts the deadline off if something happened that does so.
    fn note_timeout(&mut self, now: Duration) {
        let actions = self.node.actions_mut();
        if std::mem::take(&mut actions.set_election_timeout) {
            let wait = match self.node.role() {
                Role::Leader => self.timing.heartbeat,
                Role::Follower | Role::Candidate => self.draw.wait(self.timing.election),
            };
            self.deadline = now + wait;
        }
    }

    /// Whether it is the quorum.
    pub fn is_alone(&self) -> bool {
        self.votes_alone() && self.node.peers().next().is_none()
    }

    fn votes_alone(&self) -> bool {
        let config = self.node.config();
        self.votes() && config.voters.union(&config.new_voters).count() == 1
    }

    /// Whether a majority was heard of lately, this voter among it.
    fn is_in_contact(&self, now: Duration) -> bool {
        let config = self.node.config();
        let is_near = |voter: &&NodeId| self.is_heard(voter.get(), now);
        [&config.voters, &config.new_voters].into_iter().all(|voters| {
            voters.is_empty() || 2 * voters.iter().filter(is_near).count() > voters.len()
        })
    }

    fn is_recent(&self, heard: Duration, now: Duration) -> bool {
        now < heard + self.timing.election
    }
}
