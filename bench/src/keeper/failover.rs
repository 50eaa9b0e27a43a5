//! From the death of the leader of three nodes to the first write that another one takes.
//!
//! Owns: the kills and the clients that wait. Must not know: how a leader is elected.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::load::{self, VALUE_BYTES, path};
use super::wire::{Request, Session};
use super::{Bench, Findings, findings, of, turns};

const KILLS: usize = 10;
/// Between a node's return and the next kill.
const SETTLE: Duration = Duration::from_secs(2);
/// Between two attempts of a client whose connection was refused or closed.
const RETRY_INTERVAL: Duration = Duration::from_millis(2);
/// A client that hears nothing for so long tries again.
const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(250);
/// No write is accepted later than this.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn measure(bench: &Bench<'_>) -> io::Result<Findings> {
    let ensembles = bench.ensembles(3, &[])?;
    let mut found = findings(&ensembles);
    let mut at_work = Vec::new();
    for ensemble in &ensembles {
        let running = of(ensemble, ensemble.start())?;
        of(ensemble, load::fill(running.addresses()?[0], 1))?;
        at_work.push(running);
    }
    let cell = "3 nodes, kill -9 of the leader";
    let mut worst = vec![Duration::ZERO; ensembles.len()];
    for round in 0..bench.rounds(KILLS) {
        for n in turns(ensembles.len(), round) {
            thread::sleep(SETTLE);
            let leader = of(&ensembles[n], at_work[n].leader())?;
            let killed_at = Instant::now();
            let survivors = at_work[n].kill(leader);
            let waited = of(&ensembles[n], first_write(&survivors, killed_at))?;
            worst[n] = worst[n].max(waited);
            let ms = waited.as_secs_f64() * 1e3;
            found.add(n, round, cell, "to first write, ms", ms);
            of(&ensembles[n], at_work[n].restart(leader))?;
        }
    }
    for (n, worst) in worst.iter().enumerate() {
        found.add(n, 0, cell, "worst, ms", worst.as_secs_f64() * 1e3);
    }
    Ok(found)
}

/// How long after `since` the first node takes a write. A client at each of them tries all the time.
fn first_write(nodes: &[SocketAddr], since: Instant) -> io::Result<Duration> {
    let is_over = AtomicBool::new(false);
    let attempt = |node| -> io::Result<Duration> {
        let mut session = Session::open_within(node, ATTEMPT_TIMEOUT)?;
        session.call(&Request::set_data(&path(0, 0), &[b'f'; VALUE_BYTES]))?;
        let waited = since.elapsed();
        is_over.store(true, Ordering::Relaxed);
        session.close()?;
        Ok(waited)
    };
    let client = |node| {
        while !is_over.load(Ordering::Relaxed) && since.elapsed() < PATIENCE {
            match attempt(node) {
                Ok(waited) => return Some(waited),
                Err(_) => thread::sleep(RETRY_INTERVAL),
            }
        }
        None
    };
    let firsts = thread::scope(|scope| {
        let clients: Vec<_> = nodes.iter().map(|&node| scope.spawn(move || client(node))).collect();
        let join = |client: thread::ScopedJoinHandle<'_, _>| client.join().expect("it fails never");
        clients.into_iter().filter_map(join).min()
    });
    firsts.ok_or_else(|| io::Error::other(format!("no write was taken within {PATIENCE:?}")))
}
