//! One producer as clients implement it: batches of several partitions in one request, and five
//! requests in flight.
//!
//! Owns: the requests, their order and their times. Must not know: brokers as processes, tables.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::requests::produced_offsets;
use crate::latency::histogram;
use crate::wire::{Connection, Receiver, Request, produce_many_request};

/// The default of the Java producer's `max.in.flight.requests.per.connection`.
const IN_FLIGHT: usize = 5;
/// What is due before it is not counted.
pub(crate) const WARM_UP: Duration = Duration::from_secs(1);

/// Requests that a producer sends in turn, over and over.
pub(crate) struct Turns {
    requests: Vec<Request>,
    batch_records: usize,
    /// So many requests on, the partitions are the same again.
    cycle: usize,
}

impl Turns {
    /// Each request has the same batch for `together` partitions, and the next one goes on with
    /// the next partitions of the topic's `partitions`, a multiple of them.
    pub(crate) fn new(
        topic: &str,
        partitions: usize,
        together: usize,
        batch: &[u8],
        batch_records: usize,
    ) -> Self {
        assert!(partitions.is_multiple_of(together), "{partitions} in steps of {together}");
        let request = |first: usize| {
            produce_many_request(topic, first as i32..(first + together) as i32, batch)
        };
        let requests: Vec<_> = (0..partitions).step_by(together).map(request).collect();
        Self { cycle: requests.len(), requests, batch_records }
    }

    /// Each request has the next one of `batches`, for all partitions of the topic.
    pub(crate) fn of_batches(
        topic: &str,
        partitions: usize,
        batches: &[Vec<u8>],
        batch_records: usize,
    ) -> Self {
        let request = |batch: &Vec<u8>| produce_many_request(topic, 0..partitions as i32, batch);
        Self { requests: batches.iter().map(request).collect(), batch_records, cycle: 1 }
    }

    /// Sends every request `rounds` times as fast as they are acknowledged. Nobody else writes to
    /// the topic: each batch must get the offset after the one before it.
    pub(crate) fn saturate(mut self, address: SocketAddr, rounds: usize) -> io::Result<Duration> {
        let mut connection = Connection::open(address)?;
        let turns = self.requests.len();
        let total = rounds * turns;
        let (mut sent, mut acknowledged) = (0, 0);
        let started_at = Instant::now();
        while acknowledged < total {
            if sent < total && connection.in_flight() < IN_FLIGHT {
                connection.send(&mut self.requests[sent % turns])?;
                sent += 1;
                continue;
            }
            let offset = (acknowledged / self.cycle * self.batch_records) as i64;
            let offsets = produced_offsets(connection.receive()?)?;
            if offsets.iter().any(|&got| got != offset) {
                return Err(io::Error::other(format!("{offsets:?} where {offset} was due")));
            }
            acknowledged += 1;
        }
        Ok(started_at.elapsed())
    }

    /// Sends a request every `interval` on one of `connections` in turn, whatever the broker does,
    /// until `stop`. Latencies are in microseconds, from the time that a request was due to its
    /// acknowledgement.
    pub(crate) fn keep_pace(
        mut self,
        address: SocketAddr,
        connections: usize,
        interval: Duration,
        stop: &Stop,
    ) -> io::Result<Histogram<u64>> {
        thread::scope(|scope| {
            let mut lines = Vec::new();
            let mut receivers = Vec::new();
            let first_due = Instant::now() + Duration::from_millis(100);
            for _ in 0..connections {
                let (sender, receiver) = Connection::open(address)?.split();
                let (tell, due) = mpsc::channel();
                lines.push((sender, tell));
                receivers.push(
                    scope.spawn(move || acknowledgements(receiver, &due, first_due + WARM_UP)),
                );
            }
            let mut due = first_due;
            for n in 0.. {
                if stop.is_due(due) {
                    break;
                }
                thread::sleep(due.saturating_duration_since(Instant::now()));
                let turn = n % self.requests.len();
                let (sender, tell) = &mut lines[n % connections];
                sender.send(&mut self.requests[turn])?;
                // It fails if the other side gave up, which its result tells.
                let _ = tell.send(due);
                due += interval;
            }
            // What is still in flight is waited for.
            drop(lines);
            let mut latencies = histogram()?;
            for receiver in receivers {
                let its = receiver.join().expect("a receiver returns its errors")?;
                latencies.add(its).map_err(io::Error::other)?;
            }
            Ok(latencies)
        })
    }
}

/// When a producer that keeps a pace ends.
pub(crate) enum Stop {
    /// So long after what is not counted.
    After(Instant),
    /// When somebody says so.
    When(AtomicBool),
}

impl Stop {
    pub(crate) fn after(counted: Duration) -> Self {
        Self::After(Instant::now() + WARM_UP + counted)
    }

    pub(crate) fn when_told() -> Self {
        Self::When(AtomicBool::new(false))
    }

    pub(crate) fn tell(&self) {
        if let Self::When(told) = self {
            told.store(true, Ordering::Relaxed);
        }
    }

    fn is_due(&self, due: Instant) -> bool {
        match self {
            Self::After(end) => due > *end,
            Self::When(told) => told.load(Ordering::Relaxed),
        }
    }
}

/// Receives one answer for each time that it is told, until nobody tells any more.
fn acknowledgements(
    mut receiver: Receiver,
    due: &mpsc::Receiver<Instant>,
    counted_from: Instant,
) -> io::Result<Histogram<u64>> {
    let mut latencies = histogram()?;
    for due in due {
        produced_offsets(receiver.receive()?)?;
        if due >= counted_from {
            latencies.saturating_record(due.elapsed().as_micros() as u64);
        }
    }
    Ok(latencies)
}
