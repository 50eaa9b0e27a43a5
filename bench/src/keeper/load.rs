//! Loads on a service: as fast as it answers with so many requests in flight, or at a pace that it
//! has no say in.
//!
//! Owns: the threads that drive connections, and what latency counts from. Must not know: processes,
//! tables.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::wire::{Receiver, Request, Session, check_created};
use crate::latency::histogram;

/// Bytes of a node's value.
pub(crate) const VALUE_BYTES: usize = 100;
/// Nodes that share a parent, and the transaction that creates them.
pub(crate) const CHILDREN: usize = 1_000;

/// Connections are there before the first request is due.
const LEAD: Duration = Duration::from_millis(100);
/// Transactions in flight while nodes are created.
const CREATIONS_IN_FLIGHT: usize = 4;

/// A node that [`fill`] creates.
pub(crate) fn path(parent: usize, child: usize) -> String {
    format!("/bench{parent:04}/node{child:04}")
}

/// Creates so many parents, each with [`CHILDREN`] nodes of [`VALUE_BYTES`].
pub(crate) fn fill(address: SocketAddr, parents: usize) -> io::Result<()> {
    let value = [b'v'; VALUE_BYTES];
    let Session { mut sender, mut receiver } = Session::open(address)?;
    for parent in 0..parents + CREATIONS_IN_FLIGHT {
        if parent < parents {
            let mut paths = vec![format!("/bench{parent:04}")];
            paths.extend((0..CHILDREN).map(|child| path(parent, child)));
            sender.send(&Request::create_all(paths.iter().map(String::as_str), &value))?;
        }
        if parent >= CREATIONS_IN_FLIGHT {
            check_created(receiver.receive()?)?;
        }
    }
    Session { sender, receiver }.close()
}

/// Connections, and the requests that each has in flight.
#[derive(Clone, Copy)]
pub(crate) struct Width {
    pub(crate) connections: usize,
    pub(crate) each: usize,
}

/// What was answered.
pub(crate) struct Answered {
    pub(crate) per_second: f64,
    /// In microseconds, from when a request was sent.
    pub(crate) latencies: Histogram<u64>,
}

/// Sends a request for each that is answered, for so long. The connections are spread over the
/// addresses, and go through all requests in turn, each from a place of its own.
pub(crate) fn saturate(
    addresses: &[SocketAddr],
    width: Width,
    requests: &[Request],
    time: Duration,
) -> io::Result<Answered> {
    let sessions = open(addresses, width.connections)?;
    let from = Instant::now() + LEAD;
    let outcomes = thread::scope(|scope| {
        let drive = |(n, session)| {
            let turns = requests.iter().cycle().skip(n * requests.len() / width.connections);
            scope.spawn(move || drive(session, width.each, turns, from, from + time))
        };
        let threads: Vec<_> = sessions.into_iter().enumerate().map(drive).collect();
        let join = |thread: thread::ScopedJoinHandle<'_, _>| {
            thread.join().expect("a connection returns its errors")
        };
        threads.into_iter().map(join).collect::<io::Result<Vec<Histogram<u64>>>>()
    })?;
    let latencies = sum(outcomes)?;
    Ok(Answered { per_second: latencies.len() as f64 / time.as_secs_f64(), latencies })
}

/// Keeps `in_flight` requests in flight; the latencies of those that were answered in time.
fn drive<'a>(
    mut session: Session,
    in_flight: usize,
    mut requests: impl Iterator<Item = &'a Request>,
    from: Instant,
    until: Instant,
) -> io::Result<Histogram<u64>> {
    let mut latencies = histogram()?;
    let mut sent_at = VecDeque::with_capacity(in_flight);
    thread::sleep(from.saturating_duration_since(Instant::now()));
    for request in requests.by_ref().take(in_flight) {
        session.sender.put(request);
        sent_at.push_back(Instant::now());
    }
    session.sender.flush()?;
    while let Some(sent) = sent_at.pop_front() {
        session.receiver.receive()?;
        let now = Instant::now();
        if now < until {
            latencies.saturating_record((now - sent).as_micros() as u64);
            session.sender.put(requests.next().expect("they are repeated"));
            sent_at.push_back(now);
        }
        // What was answered together is followed up together.
        if !session.receiver.has_frame() {
            session.sender.flush()?;
        }
    }
    session.close()?;
    Ok(latencies)
}

/// Sends a request every `interval` on one of `connections` in turn, whatever the service does, for so
/// long. Latencies are in microseconds, from the time that a request was due to its answer: a pause
/// counts for every request that it delays (no coordinated omission).
pub(crate) fn keep_pace(
    addresses: &[SocketAddr],
    connections: usize,
    requests: &[Request],
    interval: Duration,
    time: Duration,
) -> io::Result<Histogram<u64>> {
    let sessions = open(addresses, connections)?;
    let first_due = Instant::now() + LEAD;
    thread::scope(|scope| {
        let (mut senders, mut receivers) = (Vec::new(), Vec::new());
        for Session { sender, receiver } in sessions {
            let (tell, due) = mpsc::channel();
            senders.push((sender, tell));
            receivers.push(scope.spawn(move || receive_all(receiver, &due)));
        }
        let total = (time.as_nanos() / interval.as_nanos()) as u32;
        for (n, request) in (0..total).zip(requests.iter().cycle()) {
            let due = first_due + n * interval;
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let (sender, tell) = &mut senders[n as usize % connections];
            sender.send(request)?;
            // It fails if the other side gave up, which its result tells.
            let _ = tell.send(due);
        }
        let mut all = Vec::new();
        for ((sender, tell), receiver) in senders.into_iter().zip(receivers) {
            // What is still in flight is waited for.
            drop(tell);
            let (receiver, latencies) = receiver.join().expect("a receiver returns its errors")?;
            Session { sender, receiver }.close()?;
            all.push(latencies);
        }
        sum(all)
    })
}

/// Receives one answer for each time that it is told, until nobody tells any more.
fn receive_all(
    mut receiver: Receiver,
    due: &mpsc::Receiver<Instant>,
) -> io::Result<(Receiver, Histogram<u64>)> {
    let mut latencies = histogram()?;
    for due in due {
        receiver.receive()?;
        latencies.saturating_record(due.elapsed().as_micros() as u64);
    }
    Ok((receiver, latencies))
}

fn open(addresses: &[SocketAddr], connections: usize) -> io::Result<Vec<Session>> {
    addresses.iter().cycle().take(connections).map(|&address| Session::open(address)).collect()
}

fn sum(all: Vec<Histogram<u64>>) -> io::Result<Histogram<u64>> {
    let mut sum = histogram()?;
    all.iter().try_for_each(|one| sum.add(one)).map_err(io::Error::other)?;
    Ok(sum)
}
