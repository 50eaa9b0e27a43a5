//! End-to-end latency at a fixed rate, safe against coordinated omission: the producer keeps to a
//! schedule whatever the broker does, and a record's latency counts from its place in it.
//!
//! Owns: the schedule and the histogram. Must not know: processes, tables.

use std::io;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use ottla_record::batches;

use crate::load::record_batch;
use crate::wire::{Connection, fetch_request, fetched_records, produce_request, produced_offset};

const INTERVAL: Duration = Duration::from_millis(1);
const RECORD_BYTES: usize = 1024;
/// Records at the start that are not counted.
const WARM_UP: Duration = Duration::from_secs(1);
/// The last record has to arrive by then.
const PATIENCE: Duration = Duration::from_secs(30);
/// A longer latency is counted as this one.
const LONGEST: Duration = Duration::from_secs(60);

/// How long a measure that counts `seconds` takes.
pub(crate) fn seconds_in_all(seconds: u64) -> f64 {
    (WARM_UP + Duration::from_secs(seconds)).as_secs_f64()
}

/// Sends one record per millisecond for `seconds`, each in its own request with acks=-1, to the
/// only partition of a fresh topic, while a consumer waits for them with long polls. Latencies
/// are in microseconds.
///
/// The n-th record has offset n: the consumer knows by the offset when it was due.
pub(crate) fn measure(
    address: SocketAddr,
    topic: &str,
    seconds: u64,
) -> io::Result<Histogram<u64>> {
    let records =
        ((WARM_UP + Duration::from_secs(seconds)).as_millis() / INTERVAL.as_millis()) as u32;
    let batch = record_batch(1, RECORD_BYTES);
    let (mut sender, mut acknowledgements) = Connection::open(address)?.split();
    let consumer = Connection::open(address)?;
    // The consumer's first poll should wait at the broker before the first record.
    let first_due = Instant::now() + Duration::from_millis(100);
    thread::scope(|scope| {
        let consumer = scope.spawn(move || consume(consumer, topic, records, first_due));
        let acknowledged = scope.spawn(move || {
            (0..records).try_for_each(|n| match produced_offset(acknowledgements.receive()?)? {
                offset if offset == i64::from(n) => Ok(()),
                offset => Err(io::Error::other(format!("record {n} got offset {offset}"))),
            })
        });
        let mut request = produce_request(topic, 0, &batch);
        let sent = (0..records).try_for_each(|n| {
            thread::sleep((first_due + n * INTERVAL).saturating_duration_since(Instant::now()));
            sender.send(&mut request)
        });
        let latencies = consumer.join().expect("the consumer returns its errors");
        acknowledged.join().expect("the reader returns its errors")?;
        sent?;
        latencies
    })
}

fn consume(
    mut connection: Connection,
    topic: &str,
    records: u32,
    first_due: Instant,
) -> io::Result<Histogram<u64>> {
    const MAX_WAIT_MS: i32 = 500;
    let counted_from = first_due + WARM_UP;
    let deadline = first_due + records * INTERVAL + PATIENCE;
    let mut latencies = histogram()?;
    let mut next = 0;
    while next < records {
        if Instant::now() > deadline {
            return Err(io::Error::other(format!("only {next} of {records} records arrived")));
        }
        let request = fetch_request(topic, 0, i64::from(next), MAX_WAIT_MS);
        let fetched = fetched_records(connection.call(request)?)?;
        let now = Instant::now();
        for batch in batches(fetched).map_while(Result::ok) {
            if batch.base_offset().0 != i64::from(next) {
                return Err(io::Error::other(format!("no record with offset {next}")));
            }
            let due = first_due + next * INTERVAL;
            if due >= counted_from {
                latencies.saturating_record((now - due).as_micros() as u64);
            }
            next += 1;
        }
    }
    Ok(latencies)
}

/// With bounds from the start: one that grows by itself would count what it does not yet cover
/// as the smallest value.
pub(crate) fn histogram() -> io::Result<Histogram<u64>> {
    Histogram::new_with_max(LONGEST.as_micros() as u64, 3).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_latencies_count_as_long() {
        let mut latencies = histogram().expect("its bounds are valid");
        for microseconds in [100, 5_000, 3_000_000, 90_000_000] {
            latencies.saturating_record(microseconds);
        }
        let near = |quantile, microseconds: u64| {
            latencies.equivalent(latencies.value_at_quantile(quantile), microseconds)
        };
        assert!(near(0.5, 5_000) && near(0.75, 3_000_000) && near(1.0, 60_000_000));
    }
}
