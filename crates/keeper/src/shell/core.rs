//! The voter at work: what came in is put before Raft, what Raft wants is done, in one order.

mod snapshots;
mod steer;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tracing::{error, info, warn};

use super::contacts::Contacts;
use super::keeper::{Limits, ProposeError, Role, Status};
use super::peers::Peers;
use super::served::Served;
use super::storage::Storage;
use super::tool;
use crate::machine::quorum::{Batch, Effects, Entry, Letter, Member, Message, Voter, VoterId};
use crate::machine::{
    Caller, Command, Corrupt, Deadlines, Origin, Outcome, Reply, Request, SessionId,
    decode_proposals, encode_commands, encode_proposal,
};
use snapshots::Progress;

/// What became of a proposal.
pub(super) type Answer = Result<Vec<Outcome>, ProposeError>;

/// What comes to a voter from outside.
pub(super) enum Input {
    /// A client's commands, encoded.
    Commands(Vec<u8>, oneshot::Sender<Answer>),
    /// Another voter's letter.
    Letter(Voter, Letter),
    /// The connection to another voter has ended, and letters with it.
    Disconnected(VoterId),
    /// Another voter calls.
    Called,
    /// The connection from another voter has ended, of that number.
    Left(VoterId, u64),
    /// A tool asks.
    Tool(tool::Ask, oneshot::Sender<tool::Answer>),
    /// Clients were heard of.
    Heard(Vec<SessionId>),
}

/// The voter with its directory, and the clients that wait for it.
pub(super) struct Core {
    id: VoterId,
    member: Member,
    storage: Storage,
    waiting: BTreeMap<u64, oneshot::Sender<Answer>>,
    /// The number of the next proposal.
    number: u64,
    /// The leader, and its term, that those who wait have proposed to.
    tenure: Option<(VoterId, u64)>,
    /// Those who get this voter's snapshot.
    lagging: BTreeMap<VoterId, Progress>,
    /// Tools that wait for a snapshot.
    snapshot_wanted: Vec<oneshot::Sender<tool::Answer>>,
    deadlines: Deadlines,
    next_look: Duration,
    next_sweep: Duration,
    /// Why nothing more may be written.
    stopped: Option<Arc<str>>,
}

/// What a round found in the world.
pub(super) struct Round<'a> {
    pub(super) now: Duration,
    /// Milliseconds since 1970-01-01 UTC.
    pub(super) time_ms: i64,
    pub(super) served: &'a Served,
    pub(super) limits: &'a Limits,
    pub(super) peers: &'a Peers,
    pub(super) contacts: &'a Mutex<Contacts>,
}

/// How often a leader looks which sessions have been silent for too long.
const LOOK_AFTER: Duration = Duration::from_millis(100);

/// A leader that looks so much later than it wanted to was away.
const AWAY: Duration = Duration::from_millis(500);

/// How often a leader looks for nodes whose time has come.
const SWEEP: Duration = Duration::from_secs(60);

/// So many of those share a command.
const SWEPT_AT_ONCE: usize = 1_000;

/// Proposals share an entry, or a letter to the leader, up to about so many bytes.
const BATCH_BYTES: usize = 1 << 20;

/// Proposals of one round, on their way into the log or to the leader.
#[derive(Default)]
struct Gathered {
    batches: Vec<Vec<u8>>,
    /// The first of the own ones among them.
    first: Option<u64>,
}

impl Gathered {
    /// Where the next proposals go, which are `bytes` long.
    fn batch(&mut self, bytes: usize) -> &mut Vec<u8> {
        let is_room = self.batches.last().is_some_and(|batch| batch.len() + bytes <= BATCH_BYTES);
        if !is_room {
            self.batches.push(Vec::new());
        }
        self.batches.last_mut().expect("one was put there")
    }
}

impl Core {
    /// `number` is where the numbers of proposals begin: one that was not used before.
    pub(super) fn new(id: VoterId, member: Member, storage: Storage, number: u64) -> Self {
        Self {
            id,
            member,
            storage,
            waiting: BTreeMap::new(),
            number,
            tenure: None,
            lagging: BTreeMap::new(),
            snapshot_wanted: Vec::new(),
            deadlines: Deadlines::default(),
            next_look: Duration::ZERO,
            next_sweep: Duration::ZERO,
            stopped: None,
        }
    }

    /// When there is something to do even if nothing comes in.
    pub(super) fn deadline(&self) -> Duration {
        if self.stopped.is_some() {
            return Duration::MAX;
        }
        let leads = self.tenure.is_some_and(|(leader, _)| leader == self.id);
        let look = if leads { self.next_look } else { Duration::MAX };
        self.member.deadline().min(look)
    }

    pub(super) fn status(&self, now: Duration) -> Status {
        let leader = self.member.leader(now).filter(|_| self.stopped.is_none());
        let role = match leader {
            _ if self.stopped.is_some() => Role::Stopped,
            _ if self.member.is_alone() => Role::Alone,
            Some(leader) if leader == self.id => Role::Leader,
            Some(_) => Role::Follower,
            None => Role::Searching,
        };
        Status { role, term: self.member.term(), leader }
    }

    /// Why it does nothing any more.
    pub(super) fn stopped(&self) -> Option<&Arc<str>> {
        self.stopped.as_ref()
    }

    /// Does what is due, and returns what is to be sent. Blocks on the disk.
    pub(super) fn round(
        &mut self,
        inputs: Vec<Input>,
        round: &Round<'_>,
    ) -> Vec<(VoterId, Letter)> {
        if let Some(reason) = &self.stopped {
            for input in inputs {
                if let Input::Commands(_, answer) = input {
                    let _ = answer.send(Err(ProposeError::Stopped { reason: Arc::clone(reason) }));
                }
            }
            return Vec::new();
        }
        let mut letters = Vec::new();
        match self.try_round(inputs, round, &mut letters) {
            Ok(()) => letters,
            Err(error) => {
                self.stop(&error);
                // The tree stays as it is from here on: who reads it is to find another voter.
                round.served.drop_all();
                // What was not made durable must not be told.
                Vec::new()
            }
        }
    }

    fn try_round(
        &mut self,
        inputs: Vec<Input>,
        round: &Round<'_>,
        letters: &mut Vec<(VoterId, Letter)>,
    ) -> io::Result<()> {
        let now = round.now;
        self.note_tenure(round);
        let mut gathered = Gathered::default();
        let mut has_called = false;
        for input in inputs {
            match input {
                Input::Commands(commands, answer) => {
                    self.gather(round, &commands, answer, &mut gathered)
                }
                Input::Letter(from, letter) => {
                    if round.contacts.lock().counts(from) {
                        self.open_letter(round, (from.id, letter), &mut gathered, letters)?;
                    }
                }
                Input::Heard(sessions) => self.hear(now, sessions, letters),
                Input::Called => has_called = true,
                Input::Left(voter, connection) => {
                    if round.contacts.lock().leave(voter, connection) {
                        self.member.note_lost(now, voter);
                    }
                    has_called = true;
                    self.note_disconnected(voter);
                }
                Input::Disconnected(voter) => self.note_disconnected(voter),
                Input::Tool(ask, answer) => self.steer(round, ask, answer)?,
            }
        }
        self.look_after(round, &mut gathered);
        self.propose(round, gathered);
        self.member.tick(now);

        let lagging = self.carry_out(round, letters)?;
        self.note_tenure(round);
        for voter in lagging {
            self.send_snapshot(now, voter, letters)?;
        }
        if self.storage.is_snapshot_due(round.limits.log_bytes) {
            self.begin_snapshot(round)?;
        }
        self.note_contacts(round, has_called);
        Ok(())
    }

    /// Does what the member wants done, and returns who needs a snapshot. Before the disk is waited for
    /// goes what promises nothing of it.
    fn carry_out(
        &mut self,
        round: &Round<'_>,
        letters: &mut Vec<(VoterId, Letter)>,
    ) -> io::Result<Vec<VoterId>> {
        let Effects { hard_state, append, messages, lagging, committed } =
            self.member.effects(round.now);
        // A leader's entries: the others write while it does, and their answers are not looked at
        // before it has (Raft's dissertation §10.2.1).
        let is_early =
            |message: &Message| hard_state.is_none() && matches!(message, Message::Append { .. });
        let (early, messages): (Vec<_>, Vec<_>) =
            messages.into_iter().partition(|(_, message)| is_early(message));
        for (to, message) in early {
            round.peers.send(to, &Letter::Raft(message));
        }
        // What an earlier round has put on the disk.
        let durable = append.as_ref().map_or(u64::MAX, |append| append.after.index);
        let durable = committed.partition_point(|entry| entry.id.index <= durable);
        let (durable, others) = committed.split_at(durable);
        self.apply(round.served, durable)?;
        self.storage.write(hard_state, append.as_ref())?;
        let messages = messages.into_iter();
        letters.extend(messages.map(|(to, message)| (to, Letter::Raft(message))));
        self.apply(round.served, others)?;
        Ok(lagging)
    }

    /// Proposals that were under way to the leader, or its refusals, may be lost.
    fn note_disconnected(&mut self, voter: VoterId) {
        if self.tenure.is_some_and(|(leader, _)| leader == voter) {
            self.give_up();
        }
    }

    /// Those who wait for a leader that is none any more will never learn what became of it.
    fn note_tenure(&mut self, round: &Round<'_>) {
        let tenure = self.member.leader(round.now).map(|leader| (leader, self.member.term()));
        if tenure != self.tenure {
            let (leader, term) = (tenure.map(|(leader, _)| leader), self.member.term());
            match leader {
                Some(leader) if leader == self.id => info!(term, "this keeper leads"),
                Some(leader) => info!(leader, term, "this keeper follows"),
                None => warn!(term, "this keeper hears of no leader, and lets go of its clients"),
            }
            self.tenure = tenure;
            self.give_up();
            round.served.drop_all();
            self.deadlines = Deadlines::default();
        }
    }

    /// Clients were heard of: the leader notes it, others tell the leader.
    fn hear(
        &mut self,
        now: Duration,
        sessions: Vec<SessionId>,
        letters: &mut Vec<(VoterId, Letter)>,
    ) {
        match self.tenure {
            Some((leader, _)) if leader != self.id => {
                letters.push((leader, Letter::Heard { sessions }));
            }
            _ => sessions.into_iter().for_each(|session| self.deadlines.hear(session, now)),
        }
    }

    /// A leader ends sessions that have been silent for too long, and nodes whose time has come.
    fn look_after(&mut self, round: &Round<'_>, gathered: &mut Gathered) {
        let leads = self.tenure.is_some_and(|(leader, _)| leader == self.id);
        if !leads || round.now < self.next_look {
            return;
        }
        // Who was away itself has not heard what was said meanwhile: a process that was stopped, or
        // waited for its disk, ends no sessions for that.
        if round.now > self.next_look + AWAY {
            self.deadlines = Deadlines::default();
        }
        self.next_look = round.now + LOOK_AFTER;
        self.note_moved(round);
        let tree = round.served.tree();
        let ended = self.deadlines.overdue(round.now, &tree).into_iter();
        let mut commands: Vec<Command> =
            ended.map(|caller| Command::new(caller, Request::CloseSession)).collect();
        if round.now >= self.next_sweep {
            self.next_sweep = round.now + SWEEP;
            let overdue = tree.overdue(round.time_ms);
            let sweeps = overdue.chunks(SWEPT_AT_ONCE).map(|paths| Request::Sweep(paths.to_vec()));
            commands.extend(sweeps.map(|sweep| Command::new(Caller::default(), sweep)));
        }
        for command in commands {
            let mut bytes = Vec::new();
            encode_commands(&[command], &mut bytes);
            // Nobody waits for it.
            let origin = Origin { voter: self.id, number: self.number };
            self.number += 1;
            encode_proposal(origin, &bytes, gathered.batch(bytes.len()));
        }
    }

    fn give_up(&mut self) {
        for answer in std::mem::take(&mut self.waiting).into_values() {
            let _ = answer.send(Err(ProposeError::LeaderLost));
        }
    }

    fn gather(
        &mut self,
        round: &Round<'_>,
        commands: &[u8],
        answer: oneshot::Sender<Answer>,
        gathered: &mut Gathered,
    ) {
        let is_reached = |(leader, _)| leader == self.id || round.peers.is_connected(leader);
        if !self.tenure.is_some_and(is_reached) {
            let _ = answer.send(Err(ProposeError::NoLeader));
            return;
        }
        let origin = Origin { voter: self.id, number: self.number };
        encode_proposal(origin, commands, gathered.batch(commands.len()));
        gathered.first.get_or_insert(self.number);
        self.waiting.insert(self.number, answer);
        self.number += 1;
    }

    fn open_letter(
        &mut self,
        round: &Round<'_>,
        (from, letter): (VoterId, Letter),
        gathered: &mut Gathered,
        letters: &mut Vec<(VoterId, Letter)>,
    ) -> io::Result<()> {
        match letter {
            Letter::Raft(message) => self
                .member
                .receive(round.now, from, message)
                .map_err(|_| io::Error::other("another voter contradicts what is committed")),
            Letter::Propose { term, proposals } => {
                // What is in the log must be readable for everyone: it is looked at before.
                let Ok(decoded) = decode_proposals(&proposals) else {
                    warn!(from, "another voter proposes what this one cannot read");
                    return Ok(());
                };
                let (Some(first), Some(last)) = (decoded.first(), decoded.last()) else {
                    return Ok(());
                };
                if self.tenure == Some((self.id, term)) {
                    gathered.batch(proposals.len()).extend_from_slice(&proposals);
                } else {
                    let (first, last) = (first.origin.number, last.origin.number);
                    letters.push((from, Letter::Refused { first, last }));
                }
                Ok(())
            }
            Letter::Refused { first, last } => {
                self.refuse(first, last);
                Ok(())
            }
            Letter::Heard { sessions } => {
                sessions.into_iter().for_each(|session| self.deadlines.hear(session, round.now));
                Ok(())
            }
            part @ Letter::Part { .. } => self.take_part(round, from, &part, letters),
            Letter::Got { term, last, offset } => {
                self.note_got(round.now, from, (term, last, offset), letters)
            }
        }
    }

    /// Puts proposals into the log, or sends them to who leads.
    fn propose(&mut self, round: &Round<'_>, gathered: Gathered) {
        let batches = gathered.batches.into_iter().map(Arc::<[u8]>::from);
        match self.tenure {
            Some((leader, term)) if leader != self.id => {
                // They promise nothing of this voter's disk.
                batches.for_each(|proposals| {
                    round.peers.send(leader, &Letter::Propose { term, proposals });
                });
            }
            _ if self.member.leads(round.now) => {
                for proposals in batches {
                    let batch = Batch { time_ms: round.time_ms, proposals };
                    self.member.propose(round.now, batch);
                }
            }
            // Its letters of this round have deposed this leader. Other voters learn it from the
            // term.
            _ => {
                let end = self.number;
                for number in gathered.first.into_iter().flat_map(|first| first..end) {
                    self.answer(number, Err(ProposeError::NoLeader));
                }
            }
        }
    }

    fn apply(&mut self, served: &Served, committed: &[Entry]) -> io::Result<()> {
        if committed.is_empty() {
            return Ok(());
        }
        let applied = served.change(|tree, nodes| {
            let mut applied = Vec::new();
            for entry in committed {
                applied.extend(self.storage.apply(tree, entry, nodes)?);
            }
            Ok(applied)
        });
        let applied = applied.map_err(|error: Corrupt| io::Error::other(error))?;
        let ends = |reply: &Outcome| {
            matches!(reply.result, Ok(Reply::SessionClosed | Reply::Attached { .. }))
        };
        if applied.iter().any(|(_, outcomes)| outcomes.iter().any(ends)) {
            served.drop_ended();
        }
        for (origin, outcomes) in applied {
            if origin.voter == self.id {
                self.answer(origin.number, Ok(outcomes));
            }
        }
        Ok(())
    }

    fn refuse(&mut self, first: u64, last: u64) {
        let refused = self.waiting.range(first..=last).map(|(&number, _)| number);
        for number in refused.collect::<Vec<_>>() {
            self.answer(number, Err(ProposeError::NoLeader));
        }
    }

    fn answer(&mut self, number: u64, answer: Answer) {
        if let Some(waiting) = self.waiting.remove(&number) {
            // Whoever does not wait any more need not know.
            let _ = waiting.send(answer);
        }
    }

    fn stop(&mut self, error: &io::Error) {
        let reason: Arc<str> = format!("{}: {error}", self.storage.dir().display()).into();
        for answer in std::mem::take(&mut self.waiting).into_values() {
            let _ = answer.send(Err(ProposeError::Stopped { reason: Arc::clone(&reason) }));
        }
        error!(%reason, "the keeper has stopped: its disk refuses, or is not what it was");
        self.stopped = Some(reason);
    }
}
