//! What befalls the keepers: faults of a seed, one after the other or two at a time.
//!
//! Owns: which fault comes next, whom it strikes, when it ends. After each the keepers must agree on a
//! leader again within [`RECOVERY`]. Must not know: clients, the judge.

use std::thread;
use std::time::{Duration, Instant};

use super::history::Time;
use super::host::{Host, Plan};
use super::network::{Cut, Network, peer};
use super::watch::Watch;
use crate::Outcome;
use crate::namespace::run;
use crate::noise::Noise;

/// After the last fault ended, the keepers agree within that time.
pub(super) const RECOVERY: Duration = Duration::from_secs(20);
const TICK: Duration = Duration::from_millis(10);
/// Clients have the keepers to themselves for so long between faults.
const PEACE: Duration = Duration::from_millis(500);
/// Shorter than a follower waits for its leader.
const LAG: Duration = Duration::from_millis(250);
const CLOCK_JUMP_MS: u64 = 3_600_000;
/// How `ottla` ends that has failed.
const FAILED: i32 = 1;
/// The power fails within so many of a disk's requests.
const REQUESTS_MAX: u64 = 20;
/// What a slow link lets through, in kbit/s.
const KILOBITS: [u64; 3] = [128, 512, 2048];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    /// SIGKILL, and a start later.
    Kill,
    /// SIGTERM, and a start later.
    Stop,
    /// SIGSTOP, and SIGCONT later.
    Pause,
    /// No packet to or from the others, from it, or to it.
    Isolate,
    Mute,
    Deafen,
    /// No packet between two, both ways or one.
    Part,
    HalfPart,
    /// Two halves that do not hear each other, and one that hears both.
    Bridge,
    /// Clients do not reach it; the others do.
    CutClients,
    Slow,
    Fill,
    /// The power fails: what was not flushed is lost, torn or kept.
    Power,
    /// The wall clock jumps, and back later.
    Jump,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whom {
    Leader,
    Follower,
    Majority,
    Pair,
    All,
}

/// What can happen, and what it is called.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    what: What,
    whom: Whom,
    pub(super) name: &'static str,
}

const fn kind(what: What, whom: Whom, name: &'static str) -> Kind {
    Kind { what, whom, name }
}

pub(super) const KINDS: [Kind; 24] = [
    kind(What::Kill, Whom::Leader, "kill -9 of the leader"),
    kind(What::Kill, Whom::Follower, "kill -9 of a follower"),
    kind(What::Kill, Whom::Majority, "kill -9 of a majority"),
    kind(What::Kill, Whom::All, "kill -9 of all"),
    kind(What::Stop, Whom::Leader, "stop of the leader"),
    kind(What::Pause, Whom::Leader, "SIGSTOP of the leader"),
    kind(What::Pause, Whom::Follower, "SIGSTOP of a follower"),
    kind(What::Pause, Whom::Majority, "SIGSTOP of a majority"),
    kind(What::Isolate, Whom::Leader, "leader cut off"),
    kind(What::Isolate, Whom::Follower, "follower cut off"),
    kind(What::Mute, Whom::Leader, "leader not heard"),
    kind(What::Deafen, Whom::Leader, "leader hears nobody"),
    kind(What::Part, Whom::Pair, "two do not hear each other"),
    kind(What::HalfPart, Whom::Pair, "one does not hear another"),
    kind(What::Bridge, Whom::All, "two halves and a bridge"),
    kind(What::CutClients, Whom::Leader, "leader without clients"),
    kind(What::Slow, Whom::Leader, "slow link of the leader"),
    kind(What::Slow, Whom::All, "slow links"),
    kind(What::Fill, Whom::Leader, "full disk of the leader"),
    kind(What::Fill, Whom::Follower, "full disk of a follower"),
    kind(What::Power, Whom::Leader, "power cut of the leader"),
    kind(What::Power, Whom::Follower, "power cut of a follower"),
    kind(What::Power, Whom::All, "power cut of all"),
    kind(What::Jump, Whom::All, "clocks jump"),
];

/// A fault that was.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    pub(super) name: &'static str,
    pub(super) targets: Vec<usize>,
    pub(super) begun: Time,
    pub(super) healed: Time,
    /// When all agreed on a leader again.
    pub(super) over: Time,
    /// No other fault was there at the same time.
    pub(super) is_alone: bool,
}

/// One that is not over.
struct Active {
    kind: Kind,
    /// Its place among the faults.
    fault: usize,
    targets: Vec<usize>,
    cuts: Vec<Cut>,
    until: Time,
}

pub(super) struct Nemesis<'a> {
    pub(super) dice: Noise,
    pub(super) plan: &'a Plan,
    pub(super) network: &'a Network,
    pub(super) watch: &'a Watch,
    pub(super) begun: Instant,
    /// From keeper 1 on.
    pub(super) hosts: Vec<Host>,
    /// Kinds that are to come before the first comes again.
    deck: Vec<Kind>,
    active: Vec<Active>,
    pub(super) faults: Vec<Fault>,
    /// What no keeper may do.
    pub(super) strange: Vec<String>,
    /// Writes to disks that were not flushed when the power failed.
    pub(super) unflushed: usize,
}

impl<'a> Nemesis<'a> {
    pub(super) fn new(
        dice: Noise,
        plan: &'a Plan,
        network: &'a Network,
        watch: &'a Watch,
        begun: Instant,
        hosts: Vec<Host>,
    ) -> Self {
        Self {
            dice,
            plan,
            network,
            watch,
            begun,
            hosts,
            deck: Vec::new(),
            active: Vec::new(),
            faults: Vec::new(),
            strange: Vec::new(),
            unflushed: 0,
        }
    }

    /// Lets things happen until then, and all of them end.
    pub(super) fn run(&mut self, until: Time) -> Outcome<()> {
        while self.begun.elapsed() < until {
            if self.dice.below(3) == 0 {
                self.snapshot();
            }
            let first = self.faults.len();
            self.begin()?;
            if self.dice.below(4) == 0 {
                thread::sleep(Duration::from_millis(self.dice.below(400)));
                self.begin()?;
            }
            let is_alone = self.faults.len() == first + 1;
            while !self.active.is_empty() {
                thread::sleep(TICK);
                self.end_due()?;
            }
            self.watch.await_agreement(RECOVERY).map_err(|error| self.explain(first, &error))?;
            let over = self.begun.elapsed();
            for fault in &mut self.faults[first..] {
                (fault.over, fault.is_alone) = (over, is_alone);
            }
            self.look_after_all()?;
            thread::sleep(PEACE);
        }
        Ok(())
    }

    /// Has one follower after the other lag, and nothing else, until then: it does not hear the leader
    /// for as long as it takes to find that out.
    pub(super) fn lag(&mut self, until: Time) -> Outcome<()> {
        while self.begun.elapsed() < until {
            let leader = self.watch.leader();
            let [follower] = self.targets(Whom::Follower)[..] else { continue };
            if let Some(leader) = leader {
                let cut = self.network.cut(leader, follower)?;
                thread::sleep(LAG);
                self.network.heal(&cut)?;
            }
            thread::sleep(LAG);
        }
        Ok(())
    }

    fn explain(&self, first: usize, error: &dyn std::fmt::Display) -> String {
        let logs = self.hosts.iter().map(Host::log).collect::<Vec<_>>().join("\n\n");
        format!("{error}, after {:?}\n{logs}", &self.faults[first..])
    }

    /// A follower that lags gets one if the leader has one, instead of entries.
    fn snapshot(&mut self) {
        let keeper = 1 + self.dice.below(self.hosts.len() as u64) as usize;
        let address = peer(keeper).to_string();
        if let Err(error) = run(&mut self.plan.tool(&["snapshot", "--keeper", &address])) {
            self.strange.push(format!("no snapshot of keeper {keeper}: {error}"));
        }
    }

    /// A keeper ends when it is told to, and when there is no room on its disk.
    fn look_after_all(&mut self) -> Outcome<()> {
        for (at, host) in self.hosts.iter_mut().enumerate() {
            let Some(status) = host.ended()? else { continue };
            if host.is_full() && status.code() == Some(FAILED) {
                // It is started when there is some again.
                continue;
            }
            let log = host.log();
            self.strange.push(format!("keeper {} ended by itself, {status}:\n{log}", at + 1));
            host.start(self.plan)?;
        }
        Ok(())
    }

    fn begin(&mut self) -> Outcome<()> {
        if self.deck.is_empty() {
            self.deck = KINDS.to_vec();
        }
        let at = self.dice.below(self.deck.len() as u64) as usize;
        let kind = self.deck.swap_remove(at);
        let targets = self.targets(kind.whom);
        let begun = self.begun.elapsed();
        let cuts = self.strike(kind.what, &targets)?;
        let hold = self.hold(kind.what);
        let (fault, name) = (self.faults.len(), kind.name);
        self.faults.push(Fault {
            name,
            targets: targets.clone(),
            begun,
            healed: begun,
            over: begun,
            is_alone: false,
        });
        self.active.push(Active { kind, fault, targets, cuts, until: begun + hold });
        Ok(())
    }

    /// Shorter and longer than an election, than a client's patience, than a session.
    fn hold(&mut self, what: What) -> Duration {
        let longest =
            if what == What::Jump { 500 } else { [200, 1_000, 4_500][self.dice.below(3) as usize] };
        Duration::from_millis(longest / 3 + self.dice.below(longest))
    }

    /// Keepers that nothing else has befallen.
    fn targets(&mut self, whom: Whom) -> Vec<usize> {
        let keepers = self.hosts.len();
        let is_struck = |id: &usize| self.active.iter().any(|active| active.targets.contains(id));
        let mut free: Vec<usize> = (1..=keepers).filter(|id| !is_struck(id)).collect();
        for at in (1..free.len()).rev() {
            free.swap(at, self.dice.below(at as u64 + 1) as usize);
        }
        let leader = self.watch.leader();
        let count = match whom {
            Whom::Leader | Whom::Follower => 1,
            Whom::Pair => 2,
            Whom::Majority => keepers / 2 + 1,
            Whom::All => keepers,
        };
        // Who is wanted first, comes first.
        match whom {
            Whom::Leader => free.sort_by_key(|id| Some(*id) != leader),
            Whom::Follower => free.sort_by_key(|id| Some(*id) == leader),
            Whom::Pair | Whom::Majority | Whom::All => {}
        }
        free.truncate(count);
        free
    }

    fn strike(&mut self, what: What, targets: &[usize]) -> Outcome<Vec<Cut>> {
        let ways = self.ways(what, targets);
        let cuts = ways.into_iter().map(|(from, to)| self.network.cut(from, to));
        let mut cuts = cuts.collect::<Outcome<Vec<_>>>()?;
        if what == What::Power {
            self.fail(targets)?;
            return Ok(cuts);
        }
        let kilobits = KILOBITS[self.dice.below(3) as usize];
        for &id in targets {
            let host = &mut self.hosts[id - 1];
            match what {
                What::Kill => host.kill()?,
                What::Stop => host.stop()?,
                What::Pause => host.pause()?,
                What::CutClients => cuts.push(self.network.cut_clients(id)?),
                What::Slow => self.network.slow(id, kilobits)?,
                What::Fill => host.fill()?,
                What::Jump => {
                    let jump = self.dice.below(2 * CLOCK_JUMP_MS) as i64 - CLOCK_JUMP_MS as i64;
                    host.set_clock(jump)?;
                }
                What::Power | What::Isolate | What::Mute | What::Deafen => {}
                What::Part | What::HalfPart | What::Bridge => {}
            }
        }
        Ok(cuts)
    }

    /// From where to where nothing comes any more.
    fn ways(&self, what: What, targets: &[usize]) -> Vec<(usize, usize)> {
        let all = 1..=self.hosts.len();
        let Some(&one) = targets.first() else { return Vec::new() };
        let others = all.filter(|other| *other != one);
        match what {
            What::Isolate => others.flat_map(|other| [(one, other), (other, one)]).collect(),
            What::Mute => others.map(|other| (one, other)).collect(),
            What::Deafen => others.map(|other| (other, one)).collect(),
            What::Part if targets.len() == 2 => vec![(one, targets[1]), (targets[1], one)],
            What::HalfPart if targets.len() == 2 => vec![(one, targets[1])],
            What::Bridge => {
                // The first is the bridge.
                let (left, right) = targets[1..].split_at(targets.len() / 2);
                let pairs = left.iter().flat_map(|&l| right.iter().map(move |&r| (l, r)));
                pairs.flat_map(|(l, r)| [(l, r), (r, l)]).collect()
            }
            _ => Vec::new(),
        }
    }

    /// The power fails everywhere at once.
    fn fail(&mut self, targets: &[usize]) -> Outcome<()> {
        let requests: Vec<u64> = self.hosts.iter().map(|_| self.dice.below(REQUESTS_MAX)).collect();
        thread::scope(|scope| {
            let hosts = self.hosts.iter_mut().zip(requests).enumerate();
            let struck = hosts.filter(|(at, _)| targets.contains(&(at + 1)));
            let cuts: Vec<_> = struck
                .map(|(_, (host, requests))| {
                    scope.spawn(move || host.fail(requests).map_err(|error| error.to_string()))
                })
                .collect();
            cuts.into_iter().try_for_each(|cut| cut.join().map_err(|_| "a cut panicked")?)
        })
        .map_err(|error: String| error.into())
    }

    fn end_due(&mut self) -> Outcome<()> {
        let now = self.begun.elapsed();
        let (due, left) = std::mem::take(&mut self.active)
            .into_iter()
            .partition::<Vec<_>, _>(|active| active.until <= now);
        self.active = left;
        for active in due {
            self.heal(&active)?;
            self.faults[active.fault].healed = self.begun.elapsed();
        }
        Ok(())
    }

    fn heal(&mut self, active: &Active) -> Outcome<()> {
        for cut in &active.cuts {
            self.network.heal(cut)?;
        }
        for &id in &active.targets {
            let host = &mut self.hosts[id - 1];
            match active.kind.what {
                What::Kill | What::Stop => host.start(self.plan)?,
                What::Pause => host.resume()?,
                What::Slow => self.network.hasten(id)?,
                What::Fill => {
                    // Who found no room has ended; who needed none has not.
                    host.free()?;
                    host.kill()?;
                    host.start(self.plan)?;
                }
                What::Power => {
                    self.unflushed += host.repower(&mut self.dice);
                    host.start(self.plan)?;
                }
                What::Jump => host.set_clock(0)?,
                What::Isolate | What::Mute | What::Deafen | What::CutClients => {}
                What::Part | What::HalfPart | What::Bridge => {}
            }
        }
        Ok(())
    }
}
