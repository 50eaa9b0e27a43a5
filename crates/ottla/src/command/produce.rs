//! `ottla produce`: lines of standard input become records of a topic.

use std::io::{self, IsTerminal as _};
use std::time::Duration;

use clap::{Args, ValueEnum};
use ottla_client::{
    Acks, Codec, Delivery, PartitionId, Producer, ProducerConfig, ProducerRecord, SendError,
};
use ottla_runtime::{Spawner, signal, time};
use tokio::sync::mpsc;

use crate::connect::Connect;
use crate::exit::{Failure, Outcome};
use crate::line::{Columns, Format, LineRecord, TextFormat};
use crate::terminal::{human_bytes, stdin_lines};

#[derive(Args, Debug)]
pub(crate) struct Produce {
    #[command(flatten)]
    connect: Connect,
    /// The topic
    topic: String,
    /// Lines are key, separator, value; without it a line is a value without a key
    #[arg(long, value_name = "TEXT", conflicts_with = "json")]
    key_separator: Option<String>,
    /// A header for every record that has none of its own
    #[arg(long = "header", value_name = "KEY=VALUE", value_parser = super::key_value)]
    headers: Vec<(String, String)>,
    /// The partition; default: by the key's hash, or batch by batch without a key
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,
    /// How batches are compressed
    #[arg(long, value_enum, default_value = "none")]
    compression: Compression,
    /// What a record waits for: 0 nothing, 1 the leader, all every in-sync replica
    #[arg(long, value_enum, default_value = "all", allow_hyphen_values = true)]
    acks: AcksArg,
    /// Lines are JSON objects: {"key","value","headers","partition","timestamp"}
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Compression {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl From<Compression> for Codec {
    fn from(compression: Compression) -> Self {
        match compression {
            Compression::None => Self::None,
            Compression::Gzip => Self::Gzip,
            Compression::Snappy => Self::Snappy,
            Compression::Lz4 => Self::Lz4,
            Compression::Zstd => Self::Zstd,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum AcksArg {
    #[value(name = "0")]
    None,
    #[value(name = "1")]
    Leader,
    #[value(name = "all", alias = "-1")]
    All,
}

impl From<AcksArg> for Acks {
    fn from(acks: AcksArg) -> Self {
        match acks {
            AcksArg::None => Self::None,
            AcksArg::Leader => Self::Leader,
            AcksArg::All => Self::All,
        }
    }
}

/// Larger than Kafka's default of 16 KiB: here throughput counts, and a slow input is sent at once
/// all the same, since nothing lingers.
const BATCH_BYTES: usize = 256 * 1024;

/// How often the line on the terminal changes.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);

impl Produce {
    pub(crate) async fn run(self) -> Outcome {
        let client = self.connect.client();
        super::existing_topic(&client.admin(), &self.topic).await?;
        let producer = client.producer(ProducerConfig {
            acks: self.acks.into(),
            compression: self.compression.into(),
            batch_size: BATCH_BYTES,
            linger: Duration::ZERO,
            ..ProducerConfig::default()
        });
        let started = time::now();
        let (deliveries, results) = mpsc::unbounded_channel();
        let mut watch = Spawner::current().spawn(watch(results));
        let (sent, tally) = tokio::select! {
            sent = self.send_lines(&producer, deliveries) => {
                producer.flush().await;
                (sent, watch.await)
            }
            // A record that cannot be delivered ends the command, not only its own line.
            tally = &mut watch => (Ok(()), tally),
        };
        if tally.records > 0 {
            eprintln!("{}", tally.summary(&self.topic, started.elapsed()));
        }
        if let Some(error) = tally.failure {
            return Err(super::send_failure(&format!("cannot write to {}", self.topic), error));
        }
        sent
    }

    fn format(&self) -> Format {
        if self.json {
            return Format::Json;
        }
        let separator = self.key_separator.as_ref().map(|text| text.clone().into_bytes());
        Format::Text(TextFormat { separator, columns: Columns::default() })
    }

    /// Ends with standard input, with a signal, or with the first line that cannot be read.
    async fn send_lines(
        &self,
        producer: &Producer,
        deliveries: mpsc::UnboundedSender<(usize, Delivery)>,
    ) -> Outcome {
        let format = self.format();
        let mut lines = stdin_lines();
        let stop = signal::termination();
        tokio::pin!(stop);
        let mut number = 0_u64;
        loop {
            let line = tokio::select! {
                line = lines.recv() => line,
                _ = &mut stop => return Ok(()),
            };
            let Some(line) = line else { return Ok(()) };
            number += 1;
            let line =
                line.map_err(|e| Failure::failed(format_args!("cannot read standard input: {e}")))?;
            let record = format
                .read(&line)
                .map_err(|e| Failure::usage(format_args!("line {number}: {e}")))?;
            let delivery = producer
                .send(self.record(record))
                .await
                .map_err(|e| super::send_failure(&format!("line {number}"), e))?;
            // The receiver ends only after the sender, or with an error that ends everything.
            let _ = deliveries.send((line.len(), delivery));
        }
    }

    fn record(&self, line: LineRecord) -> ProducerRecord {
        let headers = if line.headers.is_empty() {
            let common = self.headers.iter();
            common.map(|(name, value)| (name.clone(), Some(value.clone().into_bytes()))).collect()
        } else {
            line.headers
        };
        ProducerRecord {
            topic: self.topic.clone(),
            partition: line.partition.or(self.partition).map(PartitionId),
            key: line.key,
            value: line.value,
            headers,
            timestamp_ms: line.timestamp_ms,
        }
    }
}

/// What has become of the records so far.
#[derive(Debug, Default)]
struct Tally {
    records: u64,
    bytes: u64,
    failure: Option<SendError>,
    progress: bool,
}

/// Waits for each record's delivery, in order. Ends with the first failure.
async fn watch(mut deliveries: mpsc::UnboundedReceiver<(usize, Delivery)>) -> Tally {
    // Progress would be mixed up with what somebody types.
    let progress = io::stderr().is_terminal() && !io::stdin().is_terminal();
    let mut tally = Tally { progress, ..Tally::default() };
    let mut shown = time::now();
    while let Some((bytes, delivery)) = deliveries.recv().await {
        match delivery.await {
            Ok(_) => {
                tally.records += 1;
                tally.bytes += bytes as u64;
            }
            Err(error) => {
                tally.failure = Some(error);
                break;
            }
        }
        if progress && shown.elapsed() >= PROGRESS_EVERY {
            shown = time::now();
            eprint!("\r{} records, {}\x1b[K", tally.records, human_bytes(tally.bytes));
        }
    }
    tally
}

impl Tally {
    fn summary(&self, topic: &str, elapsed: Duration) -> String {
        let clear = if self.progress { "\r\x1b[K" } else { "" };
        let (records, bytes) = (self.records, human_bytes(self.bytes));
        format!("{clear}{records} records ({bytes}) to {topic} in {:.1} s", elapsed.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_is_one_line() {
        let tally = Tally { records: 3, bytes: 2048, ..Tally::default() };
        let summary = tally.summary("orders", Duration::from_millis(1250));
        assert_eq!(summary, "3 records (2.0 KiB) to orders in 1.2 s");
    }
}
