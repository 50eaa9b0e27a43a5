//! A hot fetch beside a plain `sendfile` of the same file.
//!
//! Owns: the plain loop. Must not know: how a broker sends.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use ottla_record::batches;
use rustix::time::{ClockId, clock_gettime};

use super::{Bench, Findings, of, turns};
use crate::load::{Load, Shape};
use crate::report::{Goal, Limit};
use crate::wire::{Connection, fetch_request, fetched_records};

/// As much as a fetch takes from a partition: the consumer's `max.partition.fetch.bytes`.
const CHUNK: usize = 1 << 20;
const METRIC: &str = "GB per CPU s";
const TOPIC: &str = "hot";
const CELL: &str = "hot fetch, 1 KiB records, 100 KiB batches, 4 connections";

pub(crate) const GOALS: [Goal; 1] =
    [Goal { cell: CELL, metric: METRIC, limit: Limit::LeastTimes(0.8) }];

const SHAPE: Shape = Shape {
    name: "hot",
    record_bytes: 1024,
    batch_records: 100,
    total_bytes: 1_000_000_000,
    fetch_passes: 6,
};

/// Whether the receiver asks for each chunk when it has the one before, as a consumer does.
#[derive(Clone, Copy, PartialEq)]
enum Pull {
    Asked,
    Streamed,
}

pub(crate) fn measure(bench: &Bench<'_>) -> io::Result<Findings> {
    let recipe = bench.ottla("Ottla", &[])?;
    let mut recipes = vec![recipe];
    recipes.extend(bench.kafkas(&[])?);
    let contenders = ["Ottla", "sendfile, asked", "sendfile, streamed"].map(str::to_owned);
    let kafkas = recipes[1..].iter().map(|recipe| recipe.name.clone());
    let mut findings = Findings::new(contenders.into_iter().chain(kafkas));
    let brokers = recipes.iter().map(|recipe| recipe.start()).collect::<io::Result<Vec<_>>>()?;
    let shape = Shape { total_bytes: bench.extent(SHAPE.total_bytes), ..SHAPE };
    for (recipe, process) in recipes.iter().zip(&brokers) {
        of(recipe, Load::create(process.address, TOPIC, shape).and_then(|load| load.produce()))?;
    }
    let files = segments(&recipes[0].data)?;
    bench.settle()?;
    // A JVM compiles what is hot.
    let warm_up_rounds = 1;
    for round in 0..warm_up_rounds + bench.rounds(3) {
        for contender in turns(findings.contenders.len(), round) {
            let (bytes, cpu_seconds) = match contender {
                1 => plain(&files, Pull::Asked, shape.fetch_passes)?,
                2 => plain(&files, Pull::Streamed, shape.fetch_passes)?,
                _ => {
                    let broker = contender.saturating_sub(2);
                    let before = brokers[broker].cpu_seconds()?;
                    let bytes = fetched(brokers[broker].address, files.len(), shape.fetch_passes);
                    (of(&recipes[broker], bytes)?, brokers[broker].cpu_seconds()? - before)
                }
            };
            findings.add(contender, round, CELL, METRIC, bytes as f64 / 1e9 / cpu_seconds);
        }
    }
    findings.samples.retain(|sample| sample.round >= warm_up_rounds);
    Ok(findings)
}

/// Fetches each partition on a connection of its own, `passes` times; the bytes that came. Of
/// records: the front of a batch at the end of a response counts, for it was sent.
fn fetched(address: SocketAddr, partitions: usize, passes: usize) -> io::Result<usize> {
    const MAX_WAIT_MS: i32 = 0;
    let fetch_one = |partition| -> io::Result<usize> {
        let mut connection = Connection::open(address)?;
        let mut bytes = 0;
        for _ in 0..passes {
            let mut offset = 0;
            loop {
                let request = fetch_request(TOPIC, partition, offset, MAX_WAIT_MS);
                let records = fetched_records(connection.call(request)?)?;
                let Some(last) = batches(records).map_while(Result::ok).last() else { break };
                offset = last.next_offset().0;
                bytes += records.len();
            }
        }
        Ok(bytes)
    };
    thread::scope(|scope| {
        let consumer = |partition| scope.spawn(move || fetch_one(partition));
        let consumers: Vec<_> = (0..partitions as i32).map(consumer).collect();
        let joined =
            consumers.into_iter().map(|c| c.join().expect("a consumer returns its errors"));
        joined.sum()
    })
}

/// The first segment of each of the topic's partitions.
fn segments(data: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(data)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(&format!("{TOPIC}-")) {
            files.push(entry.path().join("00000000000000000000.log"));
        }
    }
    Ok(files)
}

/// Sends each file on a connection and a thread of its own, `passes` times: bytes and the CPU
/// seconds of the senders.
fn plain(files: &[PathBuf], pull: Pull, passes: usize) -> io::Result<(usize, f64)> {
    thread::scope(|scope| {
        let mut senders = Vec::new();
        let mut receivers = Vec::new();
        for path in files {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            let sink = TcpStream::connect(listener.local_addr()?)?;
            let (socket, _) = listener.accept()?;
            sink.set_nodelay(true)?;
            socket.set_nodelay(true)?;
            senders.push(scope.spawn(move || send(path, socket, pull, passes)));
            let bytes = passes * whole_chunks(path)?;
            receivers.push(scope.spawn(move || receive(sink, pull, bytes)));
        }
        let mut sum = (0, Duration::ZERO);
        for sender in senders {
            let (bytes, cpu) = sender.join().expect("a sender returns its errors")?;
            sum = (sum.0 + bytes, sum.1 + cpu);
        }
        for receiver in receivers {
            receiver.join().expect("a receiver returns its errors")?;
        }
        Ok((sum.0, sum.1.as_secs_f64()))
    })
}

fn send(
    path: &Path,
    mut socket: TcpStream,
    pull: Pull,
    passes: usize,
) -> io::Result<(usize, Duration)> {
    let file = File::open(path)?;
    let size = whole_chunks(path)?;
    for _ in 0..passes {
        let mut offset = 0;
        for _ in 0..size / CHUNK {
            if pull == Pull::Asked {
                socket.read_exact(&mut [0])?;
            }
            let mut left = CHUNK;
            while left > 0 {
                left -= rustix::fs::sendfile(&socket, &file, Some(&mut offset), left)?;
            }
        }
    }
    let cpu = clock_gettime(ClockId::ThreadCPUTime);
    // The thread was born for this.
    Ok((passes * size, Duration::new(cpu.tv_sec as u64, cpu.tv_nsec as u32)))
}

/// Bytes of the file without what does not fill a chunk.
fn whole_chunks(path: &Path) -> io::Result<usize> {
    let size = fs::metadata(path)?.len() as usize;
    Ok(size - size % CHUNK)
}

/// Reads so many bytes into memory, as a client does.
fn receive(mut sink: TcpStream, pull: Pull, bytes: usize) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    for _ in 0..bytes / CHUNK {
        if pull == Pull::Asked {
            sink.write_all(&[0])?;
        }
        sink.read_exact(&mut buffer)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_chunks_are_sent_in_each_pass() {
        let path = std::env::temp_dir().join(format!("ottla-bench-chunks-{}", std::process::id()));
        fs::write(&path, vec![0x5a; 2 * CHUNK + CHUNK / 2]).expect("a file to send");
        let files = [path.clone(), path.clone()];
        for pull in [Pull::Asked, Pull::Streamed] {
            let (bytes, cpu_seconds) = plain(&files, pull, 3).expect("loopback carries it");
            assert_eq!(bytes, 2 * 3 * 2 * CHUNK);
            assert!(cpu_seconds > 0.0);
        }
        fs::remove_file(path).expect("its file");
    }
}
