//! What a service can do, and how long one request takes, with one node and with three.
//!
//! Owns: which loads, and for how long. Must not know: how a load is driven.

use std::io;
use std::time::Duration;

use super::ensemble::Running;
use super::load::{self, CHILDREN, VALUE_BYTES, Width, path};
use super::wire::Request;
use super::{Bench, Findings, findings, of, turns};

/// A JVM compiles what is hot: these rounds do not count.
const WARM_UP_ROUNDS: usize = 2;
const ROUNDS: usize = 3;
const SECONDS: u64 = 3;
/// So often a turn is taken again.
const AGAIN: usize = 2;

/// One client that waits for each answer, some that have a little under way, and many with much.
const WIDTHS: [Width; 3] = [
    Width { connections: 1, each: 1 },
    Width { connections: 4, each: 4 },
    Width { connections: 8, each: 32 },
];

/// Where the connections begin, and how a cell says so: a client alone may be at any node.
const PLACES: [(usize, &str); 2] = [(0, ""), (1, " at a follower")];

/// Much less than a service can take: latencies at this pace are of the service and not of its queue.
const PACED_CONNECTIONS: usize = 4;

/// One kind of request, and the pace at which its latency is taken.
struct Load {
    name: &'static str,
    requests: Vec<Request>,
    /// Whether a request waits for the disk.
    is_written: bool,
    interval: Duration,
}

impl Load {
    fn writes() -> Self {
        let value = [b'w'; VALUE_BYTES];
        let request = |child| Request::set_data(&path(0, child), &value);
        let requests = (0..CHILDREN).map(request).collect();
        let interval = Duration::from_millis(5);
        Self { name: "setData of 100 B", requests, is_written: true, interval }
    }

    fn reads() -> Self {
        let request = |child| Request::get_data(&path(0, child), false);
        let requests = (0..CHILDREN).map(request).collect();
        let interval = Duration::from_millis(1);
        Self { name: "getData of 100 B", requests, is_written: false, interval }
    }
}

pub(crate) fn writes_to_one(bench: &Bench<'_>) -> io::Result<Findings> {
    measure(bench, &Load::writes(), 1)
}

pub(crate) fn writes_to_three(bench: &Bench<'_>) -> io::Result<Findings> {
    measure(bench, &Load::writes(), 3)
}

pub(crate) fn reads_of_one(bench: &Bench<'_>) -> io::Result<Findings> {
    measure(bench, &Load::reads(), 1)
}

pub(crate) fn reads_of_three(bench: &Bench<'_>) -> io::Result<Findings> {
    measure(bench, &Load::reads(), 3)
}

fn measure(bench: &Bench<'_>, load: &Load, nodes: usize) -> io::Result<Findings> {
    let ensembles = bench.ensembles(nodes, &[])?;
    let mut found = findings(&ensembles);
    let mut at_work = Vec::new();
    for ensemble in &ensembles {
        let running = of(ensemble, ensemble.start())?;
        of(ensemble, load::fill(running.addresses()?[0], 1))?;
        at_work.push(running);
    }
    let alone = PLACES[..nodes.min(2)].iter().map(|place| (Some(WIDTHS[0]), place));
    let many = WIDTHS[1..].iter().map(|&width| (Some(width), &PLACES[0]));
    let steps: Vec<_> = alone.chain(many).chain([(None, &PLACES[0])]).collect();
    for round in 0..WARM_UP_ROUNDS + bench.rounds(ROUNDS) {
        for (step, &(width, &place)) in steps.iter().enumerate() {
            // They take turns at each step: a disk may be another one a quarter of a minute later.
            for n in turns(ensembles.len(), round + step) {
                let turn = Turn { bench, load, n, round, nodes };
                of(&ensembles[n], turn.take_whole(width, place, &at_work[n], &mut found))?;
            }
        }
    }
    found.samples.retain(|sample| sample.round >= WARM_UP_ROUNDS);
    Ok(found)
}

/// One service's turn at a step.
struct Turn<'a> {
    bench: &'a Bench<'a>,
    load: &'a Load,
    n: usize,
    round: usize,
    nodes: usize,
}

impl Turn<'_> {
    /// Takes the turn again if servers hang up in it, which they do when the machine stands still for
    /// longer than they wait for their leader: such a turn measures nothing, but is told.
    fn take_whole(
        &self,
        width: Option<Width>,
        place: (usize, &str),
        running: &Running<'_>,
        found: &mut Findings,
    ) -> io::Result<()> {
        let hung_up = |error: &io::Error| {
            matches!(
                error.kind(),
                io::ErrorKind::ConnectionReset
                    | io::ErrorKind::UnexpectedEof
                    | io::ErrorKind::BrokenPipe
            )
        };
        for _ in 0..AGAIN {
            match self.take(width, place, running, found) {
                Err(error) if hung_up(&error) => {
                    let round = self.round;
                    eprintln!("a server hung up in round {round}, the turn begins anew: {error}");
                }
                taken => return taken,
            }
        }
        self.take(width, place, running, found)
    }

    /// With as much in flight as `width` says; without it at the load's own pace.
    fn take(
        &self,
        width: Option<Width>,
        (first, at): (usize, &str),
        running: &Running<'_>,
        found: &mut Findings,
    ) -> io::Result<()> {
        let &Self { bench, load: Load { name, requests, interval, .. }, n, round, nodes } = self;
        let (mut addresses, time) = (running.addresses()?, bench.seconds(SECONDS));
        addresses.rotate_left(first);
        let of_nodes = if nodes == 1 { "1 node".to_owned() } else { format!("{nodes} nodes") };
        self.settle()?;
        let Some(width) = width else {
            let latencies =
                load::keep_pace(&addresses, PACED_CONNECTIONS, requests, *interval, time)?;
            let per_second = 1.0 / interval.as_secs_f64();
            let cell = format!("{name}, {of_nodes}, {per_second} per s as due");
            found.add_latencies(n, round, &cell, &latencies);
            return Ok(());
        };
        let cpu_before = running.cpu_seconds()?;
        let answered = load::saturate(&addresses, width, requests, time)?;
        let cpu_us = (running.cpu_seconds()? - cpu_before) * 1e6;
        let cell = format!("{name}, {of_nodes}, {} in flight{at}", width.connections * width.each);
        found.add(n, round, &cell, "requests/s", answered.per_second);
        found.add_latencies(n, round, &cell, &answered.latencies);
        let each = cpu_us / answered.latencies.len().max(1) as f64;
        found.add(n, round, &cell, "CPU µs/request", each);
        Ok(())
    }

    fn settle(&self) -> io::Result<()> {
        if self.load.is_written { self.bench.settle() } else { Ok(()) }
    }
}
