//! `ottla consume`: a topic's records become lines on standard output.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use ottla_client::{
    Admin, Consumer, ConsumerConfig, ConsumerRecord, GroupConfig, IsolationLevel, Offset,
    OffsetSpec, PartitionId, Position, TopicDescription, TopicPartition,
};
use ottla_runtime::signal;

use crate::connect::Connect;
use crate::exit::{Failure, Outcome};
use crate::line::{Columns, Format, LineRecord, TextFormat};
use crate::terminal::print;

#[derive(Args, Debug)]
pub(crate) struct Consume {
    #[command(flatten)]
    connect: Connect,
    /// The topic
    topic: String,
    /// Start with the oldest record there is; with --group, where the group committed nothing
    #[arg(long, conflicts_with = "offset")]
    from_beginning: bool,
    /// Only this partition
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,
    /// Where to start in each partition: an offset, beginning, end, or -N for the last N records
    #[arg(long, value_name = "OFFSET", allow_hyphen_values = true, value_parser = position)]
    offset: Option<Position>,
    /// Share the topic with the members of this group, and commit what was printed
    #[arg(long, value_name = "NAME", conflicts_with_all = ["partition", "offset"])]
    group: Option<String>,
    /// Stop after so many records
    #[arg(long, short = 'n', value_name = "N")]
    max_messages: Option<u64>,
    /// Stop at the end that the partitions had at the start
    #[arg(long)]
    exit_at_end: bool,
    #[command(flatten)]
    output: Output,
}

/// How a record looks.
#[derive(Args, Debug)]
struct Output {
    /// Print one JSON object per record: {"partition","offset","timestamp","key","value","headers"}
    #[arg(long, conflicts_with_all = [
        "print_key", "print_headers", "print_partition", "print_offset", "print_timestamp",
        "key_separator",
    ])]
    json: bool,
    /// Print the key before the value
    #[arg(long)]
    print_key: bool,
    /// Print headers as name:value,name:value
    #[arg(long)]
    print_headers: bool,
    /// Print Partition:N
    #[arg(long)]
    print_partition: bool,
    /// Print Offset:N
    #[arg(long)]
    print_offset: bool,
    /// Print CreateTime:N, in milliseconds since 1970
    #[arg(long)]
    print_timestamp: bool,
    /// Between what is printed of a record
    #[arg(long, value_name = "TEXT", default_value = "\t")]
    key_separator: String,
}

/// Reads `--offset`.
fn position(text: &str) -> Result<Position, String> {
    match text {
        "beginning" | "earliest" => return Ok(Position::Beginning),
        "end" | "latest" => return Ok(Position::End),
        _ => {}
    }
    let number = |digits: &str| {
        // `parse` takes a plus sign, and a minus sign behind ours.
        let digits = digits.bytes().all(|b| b.is_ascii_digit()).then_some(digits);
        digits.and_then(|digits| digits.parse::<i64>().ok())
    };
    let position = match text.strip_prefix('-') {
        Some(back) => number(back).and_then(|n| u32::try_from(n).ok()).map(Position::BeforeEnd),
        None => number(text).map(|n| Position::Offset(Offset(n))),
    };
    position.ok_or_else(|| "neither a number, -N, beginning nor end".to_owned())
}

/// The longest wait for records before the end of the topic is looked at again.
const POLL_MAX: Duration = Duration::from_millis(500);

impl Consume {
    pub(crate) async fn run(self) -> Outcome {
        let client = self.connect.client();
        let admin = client.admin();
        let start = self.start();
        let group = self.group.as_deref().map(GroupConfig::new);
        let config = ConsumerConfig { group, start, ..ConsumerConfig::default() };
        let topic = super::existing_topic(&admin, &self.topic).await?;
        let mut consumer = client.consumer(config);
        if self.group.is_some() {
            consumer.subscribe(vec![self.topic.clone()]);
        } else {
            consumer.assign(self.partitions(&topic)?.into_iter().map(|p| (p, start)));
        }
        let printed = tokio::select! {
            printed = self.print_records(&mut consumer, &admin) => printed,
            _ = signal::termination() => Ok(()),
        };
        // Leaves the group after committing what was printed, whatever ended the printing.
        let what = format!("cannot read {}", self.topic);
        let closed = consumer.close().await.map_err(|e| super::consume_failure(&what, e));
        printed.and(closed)
    }

    pub(crate) fn start(&self) -> Position {
        let default = if self.from_beginning { Position::Beginning } else { Position::End };
        self.offset.unwrap_or(default)
    }

    /// Those of the topic that are to be read.
    fn partitions(&self, topic: &TopicDescription) -> Result<Vec<TopicPartition>, Failure> {
        let all = topic.partitions.iter().map(|p| p.partition);
        let chosen: Vec<_> = all
            .filter(|p| self.partition.is_none_or(|chosen| PartitionId(chosen) == *p))
            .map(|p| TopicPartition::new(&self.topic, p))
            .collect();
        if chosen.is_empty() {
            let count = topic.partitions.len();
            let topic = &self.topic;
            return Err(Failure::usage(format_args!(
                "topic {topic} has no such partition: it has {count}, counted from 0"
            )));
        }
        Ok(chosen)
    }

    async fn print_records(&self, consumer: &mut Consumer, admin: &Admin) -> Outcome {
        let format = self.output.format();
        let what = format!("cannot read {}", self.topic);
        let mut left = self.max_messages.unwrap_or(u64::MAX);
        let mut ends = Ends::default();
        let mut out = Vec::new();
        while left > 0 {
            let records =
                consumer.poll(POLL_MAX).await.map_err(|e| super::consume_failure(&what, e))?;
            let printed = records.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            left -= printed as u64;
            out.clear();
            for record in &records[..printed] {
                format.write(&line(record), &mut out);
            }
            let somebody_reads = print(&out)?;
            // What was not printed is not to be committed either.
            seek_back(consumer, if somebody_reads { &records[printed..] } else { &records });
            if !somebody_reads {
                return Ok(());
            }
            if self.exit_at_end && ends.are_reached(consumer, admin).await? {
                return Ok(());
            }
        }
        Ok(())
    }
}

impl Output {
    fn format(&self) -> Format {
        if self.json {
            return Format::Json;
        }
        Format::Text(TextFormat {
            separator: Some(self.key_separator.clone().into_bytes()),
            columns: Columns {
                timestamp: self.print_timestamp,
                partition: self.print_partition,
                offset: self.print_offset,
                headers: self.print_headers,
                key: self.print_key,
            },
        })
    }
}

/// Where the partitions ended when they were first read: what is written later does not count.
#[derive(Default)]
struct Ends(BTreeMap<TopicPartition, Offset>);

impl Ends {
    async fn are_reached(&mut self, consumer: &Consumer, admin: &Admin) -> Result<bool, Failure> {
        let unknown: Vec<_> = consumer
            .assignment()
            .filter(|partition| !self.0.contains_key(partition))
            .map(|partition| (partition.clone(), OffsetSpec::Latest))
            .collect();
        let failed = |e| super::failure("cannot find the end of the topic", e);
        if !unknown.is_empty() {
            let listed = admin.list_offsets(&unknown, IsolationLevel::default());
            for (partition, listed) in listed.await.map_err(failed)? {
                self.0.insert(partition, listed.map_err(failed)?.offset);
            }
        }
        let is_read = |partition| {
            let (end, position) = (self.0.get(partition), consumer.position(partition));
            end.zip(position).is_some_and(|(end, position)| position >= *end)
        };
        Ok(consumer.assignment().all(is_read))
    }
}

/// Makes the first of these records of each partition the next one to be read.
fn seek_back(consumer: &mut Consumer, records: &[ConsumerRecord]) {
    let mut first = BTreeMap::new();
    for record in records {
        first.entry(record.topic_partition()).or_insert(record.offset);
    }
    for (partition, offset) in first {
        consumer.seek(&partition, Position::Offset(offset));
    }
}

fn line(record: &ConsumerRecord) -> LineRecord {
    LineRecord {
        partition: Some(record.partition.0),
        offset: Some(record.offset.0),
        timestamp_ms: Some(record.timestamp.0),
        key: record.key.clone(),
        value: record.value.clone(),
        headers: record.headers.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_read() {
        for (text, expected) in [
            ("0", Some(Position::Offset(Offset(0)))),
            ("17", Some(Position::Offset(Offset(17)))),
            ("-5", Some(Position::BeforeEnd(5))),
            ("beginning", Some(Position::Beginning)),
            ("end", Some(Position::End)),
            ("--5", None),
            ("-", None),
            ("", None),
            ("first", None),
        ] {
            assert_eq!(position(text).ok(), expected, "{text:?}");
        }
    }
}
