//! Throughput: prebuilt batches produced as fast as the broker acknowledges them, and read back.
//!
//! Owns: the shapes of load and the threads that drive them. Must not know: processes, tables.

use std::io;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ottla_record::{
    BatchBuilder, BatchError, BatchHeader, BatchOptions, Offset, Timestamp, batches,
};

use crate::wire::{Connection, fetch_request, fetched_records, produce_request, produced_offset};

/// Connections of a load. Each has a partition of its own.
const CONNECTIONS: usize = 4;
/// Produce requests in flight per connection: the Java producer's default.
const IN_FLIGHT: usize = 5;
/// A phase that takes longer has failed.
const PHASE_TIMEOUT: Duration = Duration::from_secs(120);
/// A fresh topic without a leader by then has failed.
const LEADER_TIMEOUT: Duration = Duration::from_secs(120);

/// What is produced and fetched.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) name: &'static str,
    /// Bytes of a record's value.
    pub(crate) record_bytes: usize,
    pub(crate) batch_records: usize,
    /// Bytes of values to produce, over all partitions.
    pub(crate) total_bytes: usize,
    /// How often all of it is fetched: enough CPU time for a clock of 10 ms.
    pub(crate) fetch_passes: usize,
}

/// What was moved in a phase.
#[derive(Clone, Copy)]
pub(crate) struct Moved {
    pub(crate) records: usize,
    /// Bytes of values, without keys or batch headers.
    pub(crate) bytes: usize,
    pub(crate) seconds: f64,
}

/// A topic that is filled with copies of one batch, and read back.
pub(crate) struct Load<'a> {
    address: SocketAddr,
    topic: &'a str,
    shape: Shape,
    batch: Vec<u8>,
    batches_per_partition: usize,
}

impl<'a> Load<'a> {
    pub(crate) fn create(address: SocketAddr, topic: &'a str, shape: Shape) -> io::Result<Self> {
        create_topic(address, topic, CONNECTIONS)?;
        let batch = record_batch(shape.batch_records, shape.record_bytes);
        let batch_bytes = shape.batch_records * shape.record_bytes;
        let batches_per_partition = (shape.total_bytes / (batch_bytes * CONNECTIONS)).max(1);
        Ok(Self { address, topic, shape, batch, batches_per_partition })
    }

    /// Fills the topic. Every acknowledgement is checked for its offset.
    pub(crate) fn produce(&self) -> io::Result<Moved> {
        self.on_every_partition(1, |partition, deadline| {
            let mut connection = Connection::open(self.address)?;
            let mut request = produce_request(self.topic, partition, &self.batch);
            let mut sent = 0;
            let mut acknowledged = 0;
            while acknowledged < self.batches_per_partition {
                if sent < self.batches_per_partition && connection.in_flight() < IN_FLIGHT {
                    connection.send(&mut request)?;
                    sent += 1;
                    continue;
                }
                let offset = produced_offset(connection.receive()?)?;
                if offset != (acknowledged * self.shape.batch_records) as i64 {
                    return failure(format!("batch {acknowledged} got offset {offset}"));
                }
                acknowledged += 1;
                check(deadline)?;
            }
            Ok(())
        })
    }

    /// Fetches the whole topic as often as the shape says. Every batch is checked.
    pub(crate) fn fetch(&self) -> io::Result<Moved> {
        const MAX_WAIT_MS: i32 = 500;
        let end = Offset((self.batches_per_partition * self.shape.batch_records) as i64);
        self.on_every_partition(self.shape.fetch_passes, |partition, deadline| {
            let mut connection = Connection::open(self.address)?;
            for _ in 0..self.shape.fetch_passes {
                let mut offset = Offset::ZERO;
                while offset < end {
                    let request = fetch_request(self.topic, partition, offset.0, MAX_WAIT_MS);
                    let next = self.verify(fetched_records(connection.call(request)?)?, offset)?;
                    if next == offset {
                        return failure(format!("nothing to fetch at offset {offset}"));
                    }
                    offset = next;
                    check(deadline)?;
                }
            }
            Ok(())
        })
    }

    pub(crate) fn delete(self) -> io::Result<()> {
        delete_topic(self.address, self.topic)
    }

    /// The offset after the last whole batch, if all follow each other and are as they were
    /// produced: by their size and by the checksum that covers all but offset and epoch.
    fn verify(&self, records: &[u8], mut offset: Offset) -> io::Result<Offset> {
        let produced = BatchHeader::parse(&self.batch).map_err(invalid)?;
        for batch in batches(records) {
            let batch = match batch {
                Ok(batch) => batch,
                Err(BatchError::Truncated { .. }) => break,
                Err(error) => return Err(invalid(error)),
            };
            let identity = |header: &BatchHeader<'_>| (header.size_in_bytes(), header.crc());
            if batch.base_offset() != offset || identity(&batch) != identity(&produced) {
                return failure(format!("the batch at offset {offset} is another"));
            }
            offset = batch.next_offset();
        }
        Ok(offset)
    }

    /// Runs `work` once per partition, each on a thread of its own, and times them all.
    fn on_every_partition(
        &self,
        passes: usize,
        work: impl Fn(i32, Instant) -> io::Result<()> + Sync,
    ) -> io::Result<Moved> {
        let started_at = Instant::now();
        thread::scope(|scope| {
            let work = &work;
            let deadline = started_at + PHASE_TIMEOUT;
            let workers: Vec<_> = (0..CONNECTIONS as i32)
                .map(|partition| scope.spawn(move || work(partition, deadline)))
                .collect();
            workers
                .into_iter()
                .try_for_each(|worker| worker.join().expect("a worker returns its errors"))
        })?;
        let seconds = started_at.elapsed().as_secs_f64();
        let batches = passes * CONNECTIONS * self.batches_per_partition;
        let records = batches * self.shape.batch_records;
        Ok(Moved { records, bytes: records * self.shape.record_bytes, seconds })
    }
}

fn check(deadline: Instant) -> io::Result<()> {
    if Instant::now() < deadline {
        return Ok(());
    }
    failure(format!("not done after {PHASE_TIMEOUT:?}"))
}

fn failure<T>(what: String) -> io::Result<T> {
    Err(io::Error::other(what))
}

fn invalid(error: BatchError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}

/// Creates the topic and waits until its partitions can be fetched from: Metadata may name a
/// leader that does not know yet that it is one.
pub(crate) fn create_topic(address: SocketAddr, topic: &str, partitions: usize) -> io::Result<()> {
    create_topic_with(address, topic, partitions, &[])
}

/// The same, with settings of its own.
pub(crate) fn create_topic_with(
    address: SocketAddr,
    topic: &str,
    partitions: usize,
    configs: &[(&str, &str)],
) -> io::Result<()> {
    let mut connection = Connection::open(address)?;
    connection.create_topic(topic, partitions, configs)?;
    let created_at = Instant::now();
    for partition in 0..partitions as i32 {
        let mut probe = || {
            let answer = connection.call(fetch_request(topic, partition, 0, 0))?;
            fetched_records(answer).map(drop)
        };
        while let Err(error) = probe() {
            if created_at.elapsed() > LEADER_TIMEOUT {
                return Err(error);
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
    Ok(())
}

pub(crate) fn delete_topic(address: SocketAddr, topic: &str) -> io::Result<()> {
    Connection::open(address)?.delete_topic(topic)
}

/// An uncompressed batch of records without keys, stamped with the time of now. The values are
/// noise, and the same in every batch of one size.
pub(crate) fn record_batch(records: usize, record_bytes: usize) -> Vec<u8> {
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis());
    let mut xorshift: u64 = 0x2545_f491_4f6c_dd1d;
    let mut builder = BatchBuilder::new(BatchOptions::default());
    for _ in 0..records {
        let noise = std::iter::repeat_with(|| {
            xorshift ^= xorshift << 13;
            xorshift ^= xorshift >> 7;
            xorshift ^= xorshift << 17;
            xorshift as u8
        });
        let value: Vec<u8> = noise.take(record_bytes).collect();
        builder.append(Timestamp(now_ms as i64), None, Some(&value), &[]);
    }
    builder.build()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(batch: &[u8]) -> Load<'static> {
        Load {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            topic: "t",
            shape: Shape {
                name: "",
                record_bytes: 1024,
                batch_records: 15,
                total_bytes: 0,
                fetch_passes: 1,
            },
            batch: batch.to_vec(),
            batches_per_partition: 2,
        }
    }

    #[test]
    fn fifteen_records_of_1_kib_are_what_a_java_producers_batch_holds() {
        assert!(record_batch(15, 1024).len() <= 16_384);
        assert!(record_batch(16, 1024).len() > 16_384);
    }

    #[test]
    fn only_the_batches_that_were_produced_pass() {
        let batch = record_batch(15, 1024);
        let load = load(&batch);
        let mut second = batch.clone();
        second[..8].copy_from_slice(&15_i64.to_be_bytes());
        let both = [&batch[..], &second].concat();
        let verify = |records: &[u8]| load.verify(records, Offset::ZERO).ok();
        assert_eq!(verify(&both), Some(Offset(30)));
        assert_eq!(verify(&both[..both.len() - 1]), Some(Offset(15)), "the end may be cut off");
        assert_eq!(verify(&second), None, "not the offset that was asked for");
        assert_eq!(verify(&[&batch[..], &batch].concat()), None, "an offset twice");
        assert_eq!(verify(&record_batch(15, 1000)), None, "another size");
        let mut forged = batch.clone();
        forged[17] ^= 1;
        assert_eq!(verify(&forged), None, "another checksum");
    }
}
