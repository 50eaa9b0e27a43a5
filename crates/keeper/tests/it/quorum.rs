//! Voters that crash, come and go, and messages that are lost, doubled and late, from a seed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ottla_fake::Dice;
use ottla_keeper::machine::quorum::{
    Appended, Batch, Effects, Entry, LogId, Member, Message, Payload, Remembered,
};
use ottla_keeper::{
    Change, DirectoryId, Membership, Peer, QuorumId, Standing, Timing, Voter, VoterId,
};

use super::process::{say_again, seeds};

const SEEDS: u64 = 100;
/// How many begin the quorum.
const VOTERS: u64 = 3;
/// How many there are in a storm.
const SEATS: u64 = 5;
/// Faults happen for so long.
const STORM: Duration = Duration::from_secs(20);
/// Within so long after them a leader is there, and all have what is committed; a voter that crashed at
/// their end is there after two of them.
const CALM: Duration = Duration::from_secs(4);

/// What waits for its time.
#[derive(Clone, Debug)]
enum Event {
    /// `to` is who was meant, as far as the sender knew; how new that was says `changed`.
    Arrival {
        from: Voter,
        to: Voter,
        changed: u64,
        bytes: Vec<u8>,
    },
    Snapshot {
        from: VoterId,
        to: VoterId,
        term: u64,
        held: Vec<Entry>,
    },
    Crash(VoterId),
    Start(VoterId),
    Proposal,
    /// Someone has the quorum changed, or loses a disk.
    Change,
}

/// A voter, and what it remembers when it crashes.
struct Seat {
    /// The voter, with the directory that it has by now.
    peer: Peer,
    member: Option<Member>,
    disk: Remembered,
    /// What its snapshot holds: all entries up to one.
    held: Vec<Entry>,
    applied: Vec<Entry>,
}

struct World {
    now: Duration,
    /// Faults happen until here.
    storm: Duration,
    dice: Dice,
    seats: BTreeMap<VoterId, Seat>,
    /// By time; the number keeps those of one time apart.
    events: BTreeMap<(Duration, u64), Event>,
    scheduled: u64,
    /// Connections on which nothing arrives.
    cut: BTreeSet<(VoterId, VoterId)>,
    /// Who led in a term.
    leaders: BTreeMap<u64, VoterId>,
    /// What is committed, as the first who learnt it did.
    committed: Vec<Entry>,
    proposed: u64,
    snapshots: u64,
    changes: u64,
    wiped: u64,
    trace: Vec<String>,
}

fn peer(id: VoterId) -> Peer {
    let voter = Voter { id, directory: DirectoryId([id as u8; 16]) };
    Peer { voter, address: format!("host-{id}:1") }
}

fn founders() -> Membership {
    Membership::of(QuorumId([9; 16]), (1..=VOTERS).map(peer))
}

/// Who belongs to the quorum according to entries that begin with the first.
fn membership_of(entries: &[Entry]) -> Membership {
    let told = entries.iter().rev().find_map(|entry| match &entry.payload {
        Payload::Membership(membership) => Some(membership.clone()),
        Payload::Blank | Payload::Normal(_) => None,
    });
    told.expect("the first entry is the founding")
}

impl Seat {
    /// Puts all that is applied into the snapshot.
    fn compact(&mut self) {
        let Some(member) = &mut self.member else { return };
        let Some(last) = self.applied.last().map(|entry| entry.id) else { return };
        self.disk.entries = member.entries_behind(last);
        self.disk.snapshot = last;
        self.disk.membership = membership_of(&self.applied);
        self.held.clone_from(&self.applied);
        member.note_snapshot(last);
    }
}

impl World {
    fn new(seed: u64, storm: Duration) -> Self {
        let founding =
            Entry { id: LogId { term: 0, index: 1 }, payload: Payload::Membership(founders()) };
        let founded = Remembered { entries: vec![founding], ..Remembered::default() };
        let seat = |id| {
            let disk = if id <= VOTERS { founded.clone() } else { Remembered::default() };
            Seat { peer: peer(id), member: None, disk, held: Vec::new(), applied: Vec::new() }
        };
        let seats = if storm.is_zero() { VOTERS } else { SEATS };
        let mut world = Self {
            now: Duration::ZERO,
            storm,
            dice: Dice::new(seed),
            seats: (1..=seats).map(|id| (id, seat(id))).collect(),
            events: BTreeMap::new(),
            scheduled: 0,
            cut: BTreeSet::new(),
            leaders: BTreeMap::new(),
            committed: Vec::new(),
            proposed: 0,
            snapshots: 0,
            changes: 0,
            wiped: 0,
            trace: Vec::new(),
        };
        (1..=seats).for_each(|id| world.start(id));
        world.schedule_in(100, Event::Proposal);
        if !storm.is_zero() {
            world.schedule_in(3_000, Event::Change);
            (1..=seats).for_each(|id| world.schedule_in(5_000, Event::Crash(id)));
        }
        world
    }

    fn is_stormy(&self) -> bool {
        self.now < self.storm
    }

    /// Some time within `ms` milliseconds.
    fn schedule_in(&mut self, ms: u64, event: Event) {
        let at = self.now + Duration::from_micros(self.dice.roll(ms * 1_000));
        self.scheduled += 1;
        self.events.insert((at, self.scheduled), event);
    }

    fn start(&mut self, id: VoterId) {
        let seed = self.dice.roll(u64::MAX);
        let seat = self.seats.get_mut(&id).unwrap();
        // A voter applies again what it knew to be committed.
        let known = seat.disk.committed as usize - seat.held.len();
        seat.applied = [&seat.held[..], &seat.disk.entries[..known]].concat();
        let member =
            Member::new(seat.peer.voter, seat.disk.clone(), Timing::default(), seed, self.now);
        seat.member = Some(member.expect("the terms ascend"));
    }

    /// The next event, or the next tick, whatever comes first.
    fn step(&mut self) {
        let ticks = self
            .seats
            .iter()
            .filter_map(|(&id, seat)| Some((seat.member.as_ref()?.deadline(), id)));
        let tick = ticks.min();
        let event = self.events.first_key_value().map(|(&key, _)| key);
        match (tick, event) {
            (Some((at, id)), next) if next.is_none_or(|(then, _)| at <= then) => {
                self.now = self.now.max(at);
                self.trace.push(format!("{:?} tick {id}", self.now));
                let now = self.now;
                self.seats.get_mut(&id).unwrap().member.as_mut().unwrap().tick(now);
                self.carry_out(id);
            }
            (_, Some(key)) => {
                self.now = self.now.max(key.0);
                let event = self.events.remove(&key).unwrap();
                self.trace.push(format!("{:?} {event:?}", self.now));
                self.happen(event);
            }
            (_, None) => panic!("nothing will ever happen"),
        }
    }

    fn happen(&mut self, event: Event) {
        let now = self.now;
        match event {
            Event::Arrival { from, to, changed, bytes } => {
                let seat = self.seats.get_mut(&to.id).unwrap();
                let Some(member) = seat.member.as_mut().filter(|_| seat.peer.voter == to) else {
                    return;
                };
                // Who greets with another directory than is known is not listened to, unless its own
                // knowledge is newer.
                let known = member.membership().peer(from.id);
                let is_other = known.is_some_and(|(known, _)| known.voter != from);
                if is_other && changed <= member.changed() {
                    return;
                }
                let message = Message::decode(&bytes).unwrap();
                member.receive(now, from.id, message).expect("no contradiction");
                // Effects of several messages may come together.
                if self.dice.roll(4) > 0 {
                    self.carry_out(to.id);
                }
            }
            Event::Snapshot { from, to, term, held } => self.take_snapshot(from, to, term, held),
            Event::Crash(id) => {
                if self.is_stormy() {
                    self.seats.get_mut(&id).unwrap().member = None;
                    self.schedule_in(2_000, Event::Start(id));
                    self.schedule_in(8_000, Event::Crash(id));
                    self.toggle_a_cut();
                }
            }
            Event::Start(id) => self.start(id),
            Event::Proposal => {
                let leader = self.seats.values_mut().filter_map(|seat| seat.member.as_mut());
                let leader = leader.into_iter().find(|member| member.leads(now));
                let proposals = self.proposed.to_be_bytes().to_vec().into();
                let batch = Batch { time_ms: 0, proposals };
                if let Some(member) = leader
                    && let Some(id) = member.propose(now, batch)
                {
                    self.trace.push(format!("proposed {} as {id:?}", self.proposed));
                    self.proposed += 1;
                }
                let all: Vec<VoterId> = self.seats.keys().copied().collect();
                all.into_iter().for_each(|id| self.carry_out(id));
                self.schedule_in(50, Event::Proposal);
            }
            Event::Change => {
                if self.is_stormy() {
                    self.change();
                    self.schedule_in(1_500, Event::Change);
                }
            }
        }
    }

    /// What someone who looks after a quorum does, or what befalls it.
    fn change(&mut self) {
        let now = self.now;
        let id = 1 + self.dice.roll(SEATS);
        let what = self.dice.roll(5);
        let find = |(&id, seat): (&VoterId, &Seat)| {
            seat.member.as_ref().filter(|member| member.leads(now)).map(|_| id)
        };
        let Some(leader) = self.seats.iter().find_map(find) else { return };
        let voters = self.seats.values().map(|seat| (seat.peer.voter.id, seat.peer.clone()));
        let current: BTreeMap<VoterId, Peer> = voters.collect();
        let member = self.seats.get_mut(&leader).unwrap().member.as_mut().unwrap();
        let peers = &member.membership().peers;
        let is_lost = |(peer, _): &&(Peer, Standing)| current[&peer.voter.id] != *peer;
        let lost = peers.iter().find(is_lost).map(|(peer, _)| peer.voter.id);
        let votes = peers.iter().filter(|(_, standing)| *standing == Standing::Voter).count();
        let change = match (lost, member.membership().peer(id)) {
            (Some(lost), _) => Change::Remove(lost),
            (None, None) => Change::Add(current[&id].clone()),
            (None, Some(_)) if what == 0 => {
                member.hand_over(now);
                return self.carry_out(leader);
            }
            (None, Some(_)) if votes == peers.len() && votes > 2 && what <= 2 => {
                return self.wipe(id);
            }
            (None, Some(_)) if votes > 2 => Change::Remove(id),
            _ => return,
        };
        let begun = member.change(now, &change);
        self.changes += u64::from(begun.is_ok());
        self.trace.push(format!("{change:?}: {begun:?}"));
        self.carry_out(leader);
    }

    /// A disk is lost, and another one comes in its place: only while all others have theirs, and
    /// nobody believes otherwise.
    fn wipe(&mut self, id: VoterId) {
        let peers: Vec<Peer> = self.seats.values().map(|seat| seat.peer.clone()).collect();
        let knows_all = |seat: &Seat| {
            let Some(member) = &seat.member else { return false };
            let known = &member.membership().peers;
            known
                .iter()
                .all(|(peer, standing)| peers.contains(peer) && *standing == Standing::Voter)
        };
        if !self.seats.values().all(knows_all) {
            return;
        }
        self.wiped += 1;
        let seat = self.seats.get_mut(&id).unwrap();
        seat.peer.voter.directory.0[0] += 100;
        (seat.member, seat.disk) = (None, Remembered::default());
        seat.held.clear();
        seat.applied.clear();
        self.schedule_in(1_000, Event::Start(id));
    }

    fn toggle_a_cut(&mut self) {
        let (from, to) = (1 + self.dice.roll(SEATS), 1 + self.dice.roll(SEATS));
        if !self.cut.remove(&(from, to)) {
            self.cut.insert((from, to));
        }
    }

    /// What a voter wants done. A crash may come before it is durable, and before it is sent.
    fn carry_out(&mut self, id: VoterId) {
        let now = self.now;
        let is_crash = self.is_stormy() && self.dice.roll(200) == 0;
        let is_compacted = self.dice.roll(40) == 0;
        let seat = self.seats.get_mut(&id).unwrap();
        let Some(member) = &mut seat.member else { return };
        let Effects { hard_state, append, messages, lagging, committed } = member.effects(now);
        // A leader's entries may be on their way before they are on its own disk.
        let is_early =
            |message: &Message| hard_state.is_none() && matches!(message, Message::Append { .. });
        let (early, messages): (Vec<_>, Vec<_>) =
            messages.into_iter().partition(|(_, message)| is_early(message));
        for (to, message) in early {
            self.send(id, to, &message);
        }
        let seat = self.seats.get_mut(&id).unwrap();
        if is_crash {
            seat.member = None;
            self.schedule_in(1_000, Event::Start(id));
            return;
        }
        if let Some(state) = hard_state {
            seat.disk.hard_state = state;
        }
        if let Some(Appended { after, entries }) = append {
            seat.disk.entries.truncate(after.index as usize - seat.held.len());
            assert_eq!(seat.disk.entries.last().map_or(seat.disk.snapshot, |e| e.id), after);
            seat.disk.entries.extend(entries);
        }
        let end = seat.held.len() + seat.disk.entries.len();
        assert!(seat.disk.committed as usize <= end, "nothing is taken back");
        seat.disk.committed += committed.len() as u64;
        seat.applied.extend(committed);
        for (at, entry) in seat.applied.iter().enumerate() {
            match self.committed.get(at) {
                Some(known) => assert_eq!(known, entry, "all commit the same"),
                None => self.committed.push(entry.clone()),
            }
        }
        if is_compacted {
            seat.compact();
        }
        let Some(member) = &seat.member else { return };
        let (term, held) = (member.term(), seat.held.clone());
        if member.leads(now) {
            let leader = *self.leaders.entry(term).or_insert(id);
            assert_eq!(leader, id, "two leaders in a term");
        }
        for to in lagging {
            self.snapshots += 1;
            self.schedule_in(100, Event::Snapshot { from: id, to, term, held: held.clone() });
        }
        for (to, message) in messages {
            self.send(id, to, &message);
        }
    }

    /// The snapshot and what follows on it come to the disk; then the voter hears of it.
    fn take_snapshot(&mut self, from: VoterId, to: VoterId, term: u64, held: Vec<Entry>) {
        let is_crash = self.is_stormy() && self.dice.roll(3) == 0;
        let seat = self.seats.get_mut(&to).unwrap();
        let (Some(member), Some(last)) = (&mut seat.member, held.last()) else { return };
        let last = last.id;
        if !member.wants_snapshot(term, last) {
            return;
        }
        seat.disk.entries = member.entries_behind(last);
        seat.disk.snapshot = last;
        let membership = membership_of(&held);
        seat.disk.membership = membership.clone();
        seat.disk.committed = last.index;
        seat.held = held;
        seat.applied.clone_from(&seat.held);
        if is_crash {
            seat.member = None;
            self.schedule_in(1_000, Event::Start(to));
            return;
        }
        assert!(member.install(self.now, (from, term), last, &membership));
        self.carry_out(to);
    }

    fn send(&mut self, from: VoterId, to: VoterId, message: &Message) {
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        let is_stormy = self.is_stormy();
        let mut in_one_of = |sides| is_stormy && self.dice.roll(sides) == 0;
        let (is_lost, is_doubled, is_late) = (in_one_of(20), in_one_of(20), in_one_of(10));
        let is_lost = is_lost || self.cut.contains(&(from, to));
        let delay = if is_late { 400 } else { 5 };
        let copies = if is_lost { 0 } else { 1 + u8::from(is_doubled) };
        let seat = &self.seats[&from];
        let member = seat.member.as_ref().unwrap();
        let known = member.membership().peer(to).map(|(peer, _)| peer.voter);
        let (changed, other) = (member.changed(), &self.seats[&to]);
        // One whose knowledge is newer has called.
        let has_called = other.member.as_ref().is_some_and(|other| other.changed() > changed);
        let known = known.filter(|_| !has_called).unwrap_or(other.peer.voter);
        let (from, to) = (seat.peer.voter, known);
        for _ in 0..copies {
            self.schedule_in(delay, Event::Arrival { from, to, changed, bytes: bytes.clone() });
        }
    }

    fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.step();
        }
    }

    fn leading(&self) -> (VoterId, &Member) {
        let mut members =
            self.seats.iter().filter_map(|(&id, seat)| Some((id, seat.member.as_ref()?)));
        members.find(|(_, member)| member.leads(self.now)).expect("there is a leader")
    }

    /// The leader with its term.
    fn leader(&self) -> (VoterId, u64) {
        let (id, member) = self.leading();
        (id, member.term())
    }

    /// A storm, and what must be right after it.
    fn storm(seed: u64) -> Self {
        let mut world = Self::new(seed, STORM);
        world.run_for(STORM);
        world.cut.clear();
        let proposed = world.proposed;
        world.run_for(CALM);
        assert!(world.proposed > proposed + 20, "no leader took proposals in the calm");
        let (_, leader) = world.leading();
        let membership = leader.membership();
        let is_voter = |(_, standing): &(Peer, Standing)| *standing == Standing::Voter;
        let matched = membership.peers.iter().map(|(peer, _)| leader.matched(peer.voter.id));
        let matched: Vec<_> = matched.collect();
        let last = leader.last();
        assert!(membership.peers.iter().all(is_voter), "{membership:?}, {matched:?} of {last:?}");
        for (id, seat) in &world.seats {
            if membership.peer(*id).is_none_or(|(peer, _)| *peer != seat.peer) {
                continue;
            }
            let lag = world.committed.len() - seat.applied.len();
            assert!(lag < 10, "voter {id} is {lag} entries behind");
        }
        world
    }
}

#[test]
fn all_voters_commit_the_same_and_a_leader_is_found_again() {
    let (mut elections, mut snapshots, mut changes, mut wiped) = (0, 0, 0, 0);
    let seeds = seeds(SEEDS);
    for seed in seeds.clone() {
        say_again(seed, "quorum::all");
        let world = World::storm(seed);
        changes += world.changes;
        wiped += world.wiped;
        elections += world.leaders.len();
        snapshots += world.snapshots;
        assert!(world.committed.len() > 40, "seed {seed}: {} entries", world.committed.len());
    }
    eprintln!("{elections} elections, {snapshots} snapshots, {changes} changes, {wiped} wiped");
    if seeds.end - seeds.start >= SEEDS {
        assert!(elections as u64 > 3 * SEEDS, "only {elections} elections");
        assert!(snapshots > SEEDS, "only {snapshots} snapshots were sent");
        assert!(changes > 2 * SEEDS, "only {changes} changes of the quorum");
        assert!(wiped > SEEDS / 10, "only {wiped} disks were replaced");
    }
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in 0..10 {
        let [one, two] = [World::storm(seed), World::storm(seed)];
        assert!(one.trace.len() > 1_000);
        assert_eq!(one.trace, two.trace, "seed {seed}");
    }
}

#[test]
fn a_leader_that_hears_of_nobody_falls_silent() {
    for seed in 0..20 {
        eprintln!("seed {seed}");
        let mut world = World::new(seed, Duration::ZERO);
        world.run_for(CALM);
        let (leader, _) = world.leader();
        // What it says arrives.
        world.cut = (1..=VOTERS).map(|from| (from, leader)).collect();
        world.run_for(CALM);
        assert_ne!(world.leader().0, leader);
    }
}

#[test]
fn a_voter_that_comes_back_unseats_nobody() {
    for seed in 0..20 {
        eprintln!("seed {seed}");
        let mut world = World::new(seed, Duration::ZERO);
        world.run_for(CALM);
        let (leader, term) = world.leader();
        let other = 1 + leader % VOTERS;
        world.cut = (1..=VOTERS).flat_map(|peer| [(peer, other), (other, peer)]).collect();
        world.run_for(CALM);
        world.cut.clear();
        world.run_for(CALM);
        assert_eq!(world.leader(), (leader, term));
    }
}
