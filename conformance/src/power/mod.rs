//! `power`: what was acknowledged survives a power cut.
//!
//! Owns: the cuts, one after the other on one drive, the table, and the verdict. Must not know: what
//! is acknowledged, what is left.
//!
//! The broker's data is on ext4, on a loop device, on a drive of ours that forgets what was written
//! and not flushed. So the kernel's page cache, its journal and its flushes are the real ones; only the
//! last few sectors and what becomes of them are made up.

mod check;
mod drive;
mod load;
mod machine;
mod medium;
mod volume;

use std::env;
use std::fs;
use std::ops::Range;
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use ottla_runtime::task::block_on;
use tokio::sync::watch;

use crate::noise::Noise;
use crate::{Outcome, namespace};
use check::Findings;
use drive::Asked;
use load::{Ledger, Phase, Plan};
use machine::Machine;
use medium::Cut;
pub(crate) use volume::{DEVICES, PROGRAMS, Volume};

/// How many partitions are written to, one number after the other: a flush of few files and one of
/// many are made in different ways.
const PARTITIONS: [i32; 3] = [2, 24, 1];
/// How many records are acknowledged before the power may fail.
const RECORDS: Range<u64> = 500..3000;
/// The power fails within so many of the drive's requests after that.
const REQUESTS_MAX: u64 = 60;
/// A load that does not get so far has met a broker that does not serve.
const LOAD_TIMEOUT: Duration = Duration::from_secs(60);
/// Of each cut, so many losses are told.
const EXAMPLES: usize = 4;

/// What to run.
pub(crate) struct Options {
    /// With `log.flush.before.ack`; a third as many without it, which has to lose something.
    pub(crate) cuts: u64,
    pub(crate) seed: Option<u64>,
    /// `None`: both ways.
    pub(crate) flush_before_ack: Option<bool>,
}

impl Options {
    /// `None` if the environment holds no number of cuts.
    pub(crate) fn from_environment() -> Option<Self> {
        let cuts = match env::var("OTTLA_POWER_CUTS") {
            Ok(text) => text.parse().ok().filter(|&cuts| cuts > 0)?,
            Err(_) => 3,
        };
        Some(Self { cuts, seed: None, flush_before_ack: None })
    }
}

/// What this machine lacks for it; `None` if it has everything.
pub(crate) fn missing() -> Option<String> {
    namespace::missing(&DEVICES, &PROGRAMS, &[])
}

/// Both runs. Returns how many things failed.
pub(crate) fn run(binary: &Path, options: &Options) -> Outcome<usize> {
    namespace::enter(&[])?;
    let seed = match options.seed {
        Some(seed) => seed,
        None => SystemTime::UNIX_EPOCH.elapsed()?.as_micros() as u64,
    };
    let mut failures = 0;
    for (flush_before_ack, cuts) in [(true, options.cuts), (false, options.cuts.div_ceil(3))] {
        let alone = options.flush_before_ack;
        if alone.is_none_or(|only| only == flush_before_ack) {
            let cuts = if alone.is_some() { options.cuts } else { cuts };
            failures += cut_often(binary, flush_before_ack, cuts, seed)?;
        }
    }
    Ok(failures)
}

/// What one cut did.
struct Row<'a> {
    cut: u64,
    ledger: &'a Ledger,
    /// Since the machine was started.
    asked: Asked,
    volatile: Cut,
    restart: Duration,
    found: &'a Findings,
}

/// Cuts the power of one machine again and again. Returns how much is against the promise.
fn cut_often(binary: &Path, flush_before_ack: bool, cuts: u64, seed: u64) -> Outcome<usize> {
    println!("\nlog.flush.before.ack={flush_before_ack}, {cuts} cuts, --seed {seed}");
    print_head();
    let id = std::process::id();
    let home = env::temp_dir().join(format!("ottla-power-{id}-{flush_before_ack}"));
    let keys = vec![format!("log.flush.before.ack={flush_before_ack}")];
    let mut machine = Machine::new(binary, keys, &home)?;
    let mut noise = Noise(seed);
    let mut bootstrap = machine.start()?;
    let mut ledgers: Vec<Ledger> = Vec::new();
    let mut all = Findings::default();
    for cut in 1..=cuts {
        let before = machine.asked();
        let ledger = load_and_fail(&mut machine, &bootstrap, cut, &mut noise)?;
        let asked = machine.asked() - before;
        let volatile = machine.repower(&mut noise);
        let restarted = Instant::now();
        bootstrap = machine.start()?;
        let restart = restarted.elapsed();
        let found = block_on(check::check(&bootstrap, &ledger))??;
        print_row(&Row { cut, ledger: &ledger, asked, volatile, restart, found: &found });
        ledgers.push(ledger);
        all += found;
    }
    if flush_before_ack {
        // What has survived one cut survives the next ones.
        let mut again = Findings::default();
        for ledger in &ledgers {
            again += block_on(check::check(&bootstrap, ledger))??;
        }
        let Findings { lost, undone, wrong, .. } = &again;
        println!(
            "of all cuts, after the last: lost {lost}, undone {undone}, wrong {}",
            wrong.len()
        );
        all.lost = all.lost.max(again.lost);
        all.undone = all.undone.max(again.undone);
        if all.wrong.is_empty() {
            all.wrong = again.wrong;
        }
    }
    drop(machine);
    let failures = judge(flush_before_ack, &all);
    if failures == 0 {
        fs::remove_dir_all(&home)?;
    } else {
        println!("the brokers' log: {}", home.join(machine::LOG).display());
    }
    Ok(failures)
}

/// Works on the broker until the power fails, in the middle of something.
fn load_and_fail(
    machine: &mut Machine,
    bootstrap: &str,
    cut: u64,
    noise: &mut Noise,
) -> Outcome<Ledger> {
    let (enough, is_enough) = mpsc::channel();
    let (phase, phases) = watch::channel(Phase::Working);
    let plan = Plan {
        topic: format!("cut-{cut}"),
        partitions: PARTITIONS[cut as usize % PARTITIONS.len()],
        records: RECORDS.start + noise.below(RECORDS.end - RECORDS.start),
        seed: noise.next(),
        enough,
        phase: phases,
    };
    let requests = noise.below(REQUESTS_MAX);
    let address = bootstrap.to_owned();
    let load = thread::spawn(move || {
        let done = block_on(load::run(&address, plan)).map_err(|error| error.to_string())?;
        done.map_err(|error| error.to_string())
    });
    match is_enough.recv_timeout(LOAD_TIMEOUT) {
        Ok(()) => {
            phase.send_replace(Phase::Failing);
            machine.fail(requests)?;
        }
        // It has ended by itself, and says why.
        Err(RecvTimeoutError::Disconnected) => {}
        Err(RecvTimeoutError::Timeout) => {
            return Err(format!("too little was acknowledged within {LOAD_TIMEOUT:?}").into());
        }
    }
    phase.send_replace(Phase::Over);
    Ok(load.join().map_err(|_| "the load panicked")??)
}

/// With the flush nothing that was acknowledged may be gone. Without it something must be, or cuts
/// take nothing. Nothing that was never sent may ever be there.
fn judge(flush_before_ack: bool, all: &Findings) -> usize {
    let Findings { acknowledged, lost, chores, undone, wrong, .. } = all;
    println!(
        "log.flush.before.ack={flush_before_ack}: {lost} of {acknowledged} acknowledged records lost, \
         {undone} of {chores} other acknowledged changes undone, {} wrong",
        wrong.len()
    );
    if flush_before_ack {
        return lost + undone + wrong.len();
    }
    if *lost == 0 {
        println!("nothing was lost without a flush: these cuts show nothing");
    }
    wrong.len() + usize::from(*lost == 0)
}

fn print_head() {
    println!(
        "{:>4} {:>5} {:>7} {:>7} {:>6} {:>6} {:>6}   {:>6} {:>6} {:>5} {:>6} {:>5} {:>7} {:>7}",
        "cut",
        "parts",
        "writes",
        "flushes",
        "w.lost",
        "w.torn",
        "w.kept",
        "acked",
        "lost",
        "other",
        "undone",
        "wrong",
        "unknown",
        "start"
    );
}

fn print_row(row: &Row<'_>) {
    let Row { cut, ledger, asked, volatile, restart, found } = row;
    println!(
        "{cut:>4} {:>5} {:>7} {:>7} {:>6} {:>6} {:>6}   {:>6} {:>6} {:>5} {:>6} {:>5} {:>7} {:>5}ms",
        ledger.partitions,
        asked.writes,
        asked.flushes,
        volatile.lost,
        volatile.torn,
        volatile.kept,
        found.acknowledged,
        found.lost,
        found.chores,
        found.undone,
        found.wrong.len(),
        ledger.unknown(),
        restart.as_millis(),
    );
    for what in found.wrong.iter().chain(&found.losses).take(EXAMPLES) {
        println!("     {what}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_is_a_failure_only_where_it_was_promised_that_there_is_none() {
        let found = |lost, undone| Findings { lost, undone, ..Findings::default() };
        assert_eq!(judge(true, &found(0, 0)), 0);
        assert_eq!(judge(true, &found(2, 1)), 3);
        assert_eq!(judge(false, &found(2, 1)), 0);
        assert_eq!(judge(false, &found(0, 1)), 1, "a test that takes nothing proves nothing");
        let wrong = Findings { wrong: vec!["never sent".to_owned()], ..found(2, 0) };
        assert_eq!((judge(true, &wrong), judge(false, &wrong)), (3, 1));
    }
}
