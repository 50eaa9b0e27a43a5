//! Suite `keeper-linear`: what clients of a quorum see can have happened one after the other, whatever
//! befalls its keepers.
//!
//! Owns: the rounds and the verdict. Must not know: how a fault is made, how a history is judged.
//!
//! Each keeper is a process of its own with its own network namespace, a small disk that loses what was
//! not flushed when its power fails, and a clock that can be moved. Clients speak ZooKeeper's protocol
//! without a library between, on one clock.

mod client;
mod figures;
mod history;
mod host;
mod nemesis;
mod network;
mod survey;
mod watch;
mod wire;

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use crate::noise::Noise;
use crate::power::{DEVICES, PROGRAMS};
use crate::{Outcome, namespace};
use client::{Board, Client};
use figures::Figures;
use history::History;
use host::{Host, Plan};
use nemesis::{Fault, Nemesis, RECOVERY};
use network::Network;
use survey::Survey;
use watch::Watch;

/// How many rounds and how long faults go on in each, unless the environment says otherwise. Every
/// second round has five keepers instead of three.
const ROUNDS: (&str, u64) = ("OTTLA_LINEAR_ROUNDS", 2);
const SECONDS: (&str, u64) = ("OTTLA_LINEAR_SECONDS", 12);
/// Clients read without a sync for so long, while a follower lags, and must be found out.
const CONTROL: Duration = Duration::from_secs(4);
const CONTROLS_MAX: u64 = 6;
const KEEPERS_MAX: usize = 5;
const CLIENTS: usize = 10;
/// Keepers that were just started are founded within this time.
const START_TIME: Duration = Duration::from_secs(20);
/// Clients go on for so long when all faults are over: longer than they wait for an answer.
const AFTER: Duration = Duration::from_millis(2_500);
/// By then each session that was left has expired.
const EXPIRY: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(100);
/// Of each round, so many znodes that are wrong are told whole.
const SHOWN: usize = 2;
/// All that is needed besides ext4, loop devices and FUSE, as [`PROGRAMS`].
const MORE_PROGRAMS: [(&str, &str, &str); 4] = [
    ("ip", "-V", "iproute2"),
    ("tc", "-V", "iproute2"),
    ("nsenter", "-V", "util-linux"),
    ("cc", "--version", "gcc"),
];
/// What is linked and started in here goes with this process.
const NAMESPACES: [&str; 5] = ["--net", "--pid", "--fork", "--kill-child", "--mount-proc"];
/// Other processes do not see what is in here.
const HOME: &str = "/run/keeper-linear";

/// What this machine lacks for it; `None` if it has everything.
pub(crate) fn missing() -> Option<String> {
    namespace::missing(&DEVICES, &[&PROGRAMS[..], &MORE_PROGRAMS].concat(), &NAMESPACES)
}

/// What is done in a round.
#[derive(Clone, Copy)]
struct Round {
    seed: u64,
    keepers: usize,
    /// For so long faults go on; without faults, clients.
    time: Duration,
    /// No fault but a follower that lags, and reads without a sync.
    is_control: bool,
}

/// What came of it.
struct Told {
    history: History,
    znodes: usize,
    faults: Vec<Fault>,
    elections: (usize, Duration),
    unflushed: usize,
    /// What must not be, besides what the judge finds.
    strange: Vec<String>,
    surveys: Vec<Survey>,
}

/// Returns how many rounds failed.
pub(crate) fn run(binary: &Path, seed: Option<u64>) -> Outcome<usize> {
    namespace::enter(&NAMESPACES)?;
    namespace::run(Command::new("mount").args(["-t", "tmpfs", "ottla-conformance", "/run"]))?;
    fs::create_dir_all(HOME)?;
    let network = Network::new(KEEPERS_MAX)?;
    let (rounds, seconds) = (number(ROUNDS)?, number(SECONDS)?);
    let seed = match seed {
        Some(seed) => seed,
        None => SystemTime::UNIX_EPOCH.elapsed()?.as_micros() as u64,
    };
    println!("keeper-linear: {rounds} rounds of {seconds} s, --seed {seed}");
    let mut failures = usize::from(!is_control_found_out(binary, &network, seed)?);
    let mut figures = Figures::default();
    for at in 0..rounds {
        let keepers = if at % 2 == 0 { 3 } else { KEEPERS_MAX };
        let time = Duration::from_secs(seconds);
        let round = Round { seed: seed.wrapping_add(at), keepers, time, is_control: false };
        let told = play(binary, &network, round)?;
        figures.add(&told.faults, &told.history, CLIENTS);
        failures += usize::from(!is_right(round, told));
    }
    figures.print();
    Ok(failures)
}

fn number((name, default): (&str, u64)) -> Outcome<u64> {
    match env::var(name) {
        Ok(text) => Ok(text.parse().map_err(|error| format!("{name}={text}: {error}"))?),
        Err(_) => Ok(default),
    }
}

/// Starts keepers, lets clients and faults loose on them, and reads what is left.
fn play(binary: &Path, network: &Network, round: Round) -> Outcome<Told> {
    let what = if round.is_control { "control" } else { "round" };
    let home = Path::new(HOME).join(format!("{what}-{}", round.seed));
    fs::create_dir(&home)?;
    let mut dice = Noise(round.seed);
    let plan = Plan::new(binary, round.keepers, &home)?;
    let hosts = (1..=round.keepers).map(|id| Host::new(id, &home));
    let mut hosts = hosts.collect::<Outcome<Vec<_>>>()?;
    hosts.iter_mut().try_for_each(|host| host.start(&plan))?;
    found(&plan)?;
    let begun = Instant::now();
    let servers = (1..=round.keepers).map(network::server).collect();
    let board = Board::new(servers, begun, round.is_control);
    let watch = Watch::new(round.keepers, begun);
    let seeds: Vec<u64> = (0..CLIENTS).map(|_| dice.next()).collect();
    let mut nemesis = Nemesis::new(dice, &plan, network, &watch, begun, hosts);
    let mut strange = Vec::new();
    let (history, surveys) = thread::scope(|scope| {
        for keeper in 1..=round.keepers {
            let watch = &watch;
            scope.spawn(move || watch.look_at(keeper).map_err(|error| error.to_string()));
        }
        let board = &board;
        let clients = seeds.into_iter().enumerate();
        let clients: Vec<_> = clients
            .map(|(number, seed)| {
                scope.spawn(move || Client::new(number, Noise(seed), board).run())
            })
            .collect();
        let stormed = storm(&mut nemesis, round);
        board.end();
        let mut history = History::default();
        for client in clients {
            let client = client.join().map_err(|_| "a client panicked")?;
            history.append(client.history);
            strange.extend(client.strange);
        }
        let surveys = stormed.and_then(|()| survey(round.keepers, board));
        watch.end();
        Ok::<_, Box<dyn std::error::Error>>((history, surveys?))
    })?;
    strange.append(&mut nemesis.strange);
    let (faults, unflushed) = (std::mem::take(&mut nemesis.faults), nemesis.unflushed);
    let (znodes, elections) = (board.znodes(), watch.elections());
    Ok(Told { history, znodes, faults, elections, unflushed, strange, surveys })
}

fn storm(nemesis: &mut Nemesis<'_>, round: Round) -> Outcome<()> {
    nemesis.watch.await_agreement(RECOVERY)?;
    if round.is_control {
        return nemesis.lag(nemesis.begun.elapsed() + round.time);
    }
    nemesis.run(nemesis.begun.elapsed() + round.time)?;
    thread::sleep(AFTER);
    Ok(())
}

/// Begins the quorum as soon as all keepers wait for it.
fn found(plan: &Plan) -> Outcome<()> {
    let deadline = Instant::now() + START_TIME;
    loop {
        match namespace::run(&mut plan.tool(&["found", &plan.voters])) {
            Ok(()) => return Ok(()),
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(_) => thread::sleep(LOOK),
        }
    }
}

/// What each keeper has, once the sessions that clients left have expired.
fn survey(keepers: usize, board: &Board) -> Outcome<Vec<Survey>> {
    let deadline = Instant::now() + EXPIRY;
    // A keeper that lets go of its clients meanwhile is asked again.
    let read = |keeper: usize| loop {
        match Survey::of(keeper, || board.now()) {
            Err(_) if Instant::now() < deadline => thread::sleep(LOOK),
            surveyed => return surveyed.map_err(|error| format!("keeper {keeper}, read: {error}")),
        }
    };
    while Instant::now() < deadline && !read(1)?.locks().is_empty() {
        thread::sleep(LOOK);
    }
    Ok((1..=keepers).map(read).collect::<Result<_, _>>()?)
}

/// The znodes of which clients saw what cannot have happened one after the other.
fn wrong(history: &History) -> Vec<usize> {
    let judges = history.judges().into_iter();
    judges.filter(|(_, judge)| !judge.is_linearizable()).map(|(znode, _)| znode).collect()
}

/// Whether reads that are not synchronised are found to be stale. It takes chance to meet one in a
/// short time, so that there are several tries.
fn is_control_found_out(binary: &Path, network: &Network, seed: u64) -> Outcome<bool> {
    for at in 0..CONTROLS_MAX {
        let seed = seed.wrapping_add(at);
        let told =
            play(binary, network, Round { seed, keepers: 3, time: CONTROL, is_control: true })?;
        let (found, calls) = (wrong(&told.history).len(), told.history.calls.len());
        if found > 0 {
            println!(
                "ok     keeper-linear: without sync reads are stale, which was found at {found} of {} znodes, \
                 in {calls} calls",
                told.znodes
            );
            return Ok(true);
        }
    }
    println!(
        "FAILED keeper-linear: stale reads were not found in {CONTROLS_MAX} tries: the judge shows nothing"
    );
    Ok(false)
}

/// Prints what a round showed, and whether that is as it should be.
fn is_right(round: Round, told: Told) -> bool {
    let Told { mut history, znodes, faults, elections, unflushed, mut strange, surveys } = told;
    let (calls, sessions) = (history.calls.len(), history.lives.len());
    let unknown = history.calls.iter().filter(|call| call.is_unknown()).count();
    let first = &surveys[0];
    strange.extend(first.locks().into_iter().map(|path| format!("{path} outlives its session")));
    for (at, other) in surveys.iter().enumerate().skip(1) {
        let differences = first.differences(other).into_iter();
        strange.extend(differences.map(|what| format!("keepers 1 and {}: {what}", at + 1)));
    }
    history.calls.append(&mut first.reads(znodes));
    let judged = Instant::now();
    let wrong = wrong(&history);
    let is_right = wrong.is_empty() && strange.is_empty();
    println!(
        "{} keeper-linear, seed {}, {} keepers: {calls} calls at {znodes} znodes in {sessions} sessions, \
         {unknown} unknown, {} faults, {} elections, {} ms without a leader at worst, {unflushed} writes \
         not flushed at a power cut, {} znodes in the end with times {} s apart, judged in {} ms",
        if is_right { "ok    " } else { "FAILED" },
        round.seed,
        round.keepers,
        faults.len(),
        elections.0,
        elections.1.as_millis(),
        first.len(),
        first.times_apart().as_secs(),
        judged.elapsed().as_millis(),
    );
    strange.iter().for_each(|what| println!("  {what}"));
    wrong.iter().take(SHOWN).for_each(|&znode| tell(&history, znode, &faults));
    is_right
}

/// All that is known of a znode that cannot have happened.
fn tell(history: &History, znode: usize, faults: &[Fault]) {
    println!("  /{znode} is not linearizable:");
    let mut calls: Vec<_> = history.calls.iter().filter(|call| call.znode == znode).collect();
    calls.sort_by_key(|call| call.called);
    for call in &calls {
        println!(
            "    {:?} client {} {:?}: {:?}",
            call.called, call.client, call.asked, call.answer
        );
    }
    let (Some(first), Some(last)) = (calls.first(), calls.last()) else { return };
    for fault in faults.iter().filter(|f| f.over >= first.called && f.begun <= last.called) {
        println!(
            "    {:?} to {:?}: {} ({:?})",
            fault.begun, fault.healed, fault.name, fault.targets
        );
    }
}
