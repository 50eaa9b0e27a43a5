//! Watches: one node that many clients look at changes, and each of them looks again.
//!
//! Owns: the clients and their threads. Must not know: processes, tables' form.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::load::{self, VALUE_BYTES, path};
use super::wire::{Request, Session};
use super::{Bench, Findings, findings, of, turns};
use crate::latency::histogram;

const WARM_UP_ROUNDS: usize = 1;
const ROUNDS: usize = 3;
const SECONDS: u64 = 4;
/// Each a session of its own: a session's watches of one node are one.
const WATCHERS: usize = 1_000;
const THREADS: usize = 4;

/// What happened in a turn.
struct Fired {
    per_second: f64,
    watches: usize,
    /// From the change to the last watcher's answer, in microseconds.
    rounds: Histogram<u64>,
}

pub(crate) fn measure(bench: &Bench<'_>) -> io::Result<Findings> {
    // A watcher is two descriptors here and one at the server, which inherits the limit.
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    let ensembles = bench.ensembles(1, &[])?;
    let mut found = findings(&ensembles);
    let mut at_work = Vec::new();
    for ensemble in &ensembles {
        let running = of(ensemble, ensemble.start())?;
        of(ensemble, load::fill(running.process().address, 1))?;
        at_work.push(running);
    }
    let cell = "a node of 1,000 watchers changes, each reads and watches again";
    for round in 0..WARM_UP_ROUNDS + bench.rounds(ROUNDS) {
        for n in turns(ensembles.len(), round) {
            let (running, time) = (&at_work[n], bench.seconds(SECONDS));
            bench.settle()?;
            let (fired, cpu_seconds) =
                of(&ensembles[n], fire(running.process().address, time, || running.cpu_seconds()))?;
            let each = cpu_seconds * 1e6 / fired.watches as f64;
            found.add(n, round, cell, "watches fired/s", fired.per_second);
            found.add_latencies(n, round, cell, &fired.rounds);
            found.add(n, round, cell, "CPU µs/watch", each);
        }
    }
    found.samples.retain(|sample| sample.round >= WARM_UP_ROUNDS);
    Ok(found)
}

/// Changes the node as soon as all watchers watch it, for so long. Beside what was fired it tells what
/// `cpu_seconds` grew by meanwhile.
fn fire(
    address: SocketAddr,
    time: Duration,
    cpu_seconds: impl Fn() -> io::Result<f64>,
) -> io::Result<(Fired, f64)> {
    let change = Request::set_data(&path(0, 0), &[b'c'; VALUE_BYTES]);
    let mut session = Session::open(address)?;
    let (tell, armed) = mpsc::channel();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            let (tell, is_over) = (tell.clone(), &is_over);
            scope.spawn(move || {
                let outcome = watch(address, WATCHERS / THREADS, &tell, is_over);
                // Nobody listens any more if another one failed before.
                let _ = tell.send(outcome);
            });
        }
        let await_all = || (0..THREADS).try_for_each(|_| armed.recv().map_err(io::Error::other)?);
        await_all()?;
        let (cpu_before, started_at) = (cpu_seconds()?, Instant::now());
        let mut rounds = histogram()?;
        while started_at.elapsed() < time {
            let changed_at = Instant::now();
            session.call(&change)?;
            await_all()?;
            rounds.saturating_record(changed_at.elapsed().as_micros() as u64);
        }
        let elapsed = started_at.elapsed().as_secs_f64();
        let cpu_seconds = cpu_seconds()? - cpu_before;
        is_over.store(true, Ordering::Relaxed);
        session.call(&change)?;
        await_all()?;
        let watches = rounds.len() as usize * WATCHERS;
        Ok((Fired { per_second: watches as f64 / elapsed, watches, rounds }, cpu_seconds))
    })
}

/// So many watchers; tells each time when all of them watch, and ends with a change after `is_over`.
fn watch(
    address: SocketAddr,
    watchers: usize,
    armed: &mpsc::Sender<io::Result<()>>,
    is_over: &AtomicBool,
) -> io::Result<()> {
    let (look, close) = (Request::get_data(&path(0, 0), true), Request::close_session());
    let mut sessions = Session::open_all(address, watchers)?;
    for session in &mut sessions {
        session.sender.send(&look)?;
    }
    loop {
        for session in &mut sessions {
            session.receiver.receive()?;
        }
        let _ = armed.send(Ok(()));
        for session in &mut sessions {
            session.receiver.event()?;
            let is_over = is_over.load(Ordering::Relaxed);
            session.sender.send(if is_over { &close } else { &look })?;
        }
        if is_over.load(Ordering::Relaxed) {
            return sessions.iter_mut().try_for_each(|s| s.receiver.receive().map(drop));
        }
    }
}
