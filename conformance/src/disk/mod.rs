//! Suite `disk`: partitions go from Kafka's data directory into Ottla's and back, and a client that
//! neither wrote finds the same.
//!
//! Owns: the rounds and the comparison. Must not know: how files are moved, how they are dumped.

mod dump;
mod swap;

use std::collections::BTreeSet;
use std::env;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::broker::{End, Node, Target};
use crate::client::{clients, limited};
use crate::install::{KAFKA, KAFKA_TOOLS, Tools};
use crate::records::{PARTITIONS, records};

/// The topics of clients/disk.py with the number of their partitions.
const TOPICS: [(&str, usize); 6] = [
    ("records", PARTITIONS),
    ("append-times", 1),
    ("times", 1),
    ("transactions", 1),
    ("compacted", 1),
    ("retained", 1),
];
/// Transaction markers have no offset that a client sees, nor has what was compacted away.
const WITH_GAPS: [&str; 1] = ["compacted-0"];
const SEVERAL_SEGMENTS: [&str; 5] =
    ["records-1", "times-0", "transactions-0", "compacted-0", "retained-0"];
/// The work in the background is due at once. Kafka sets aside 128 MiB for compaction, and fails if
/// its heap has not that much.
const KEYS: [(&str, &str); 5] = [
    ("log.retention.check.interval.ms", "300"),
    ("log.flush.start.offset.checkpoint.interval.ms", "300"),
    ("log.cleaner.backoff.ms", "300"),
    ("log.cleaner.dedupe.buffer.size", "16777216"),
    ("transaction.max.timeout.ms", "900000"),
];
/// How many of [`rounds`] are run.
const ROUNDS_KEY: &str = "OTTLA_DISK_ROUNDS";
const ROUNDS_DEFAULT: usize = 2;
/// What is due in the background comes within that time.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(50);
/// Differences of one comparison that are printed; the rest are counted.
const SHOWN: usize = 10;

/// From Kafka to the partner and back.
struct Round {
    kafka: usize,
    kafka_end: End,
    partner_end: End,
}

/// Both versions and all endings; the first two have something of each.
fn rounds() -> Vec<Round> {
    use End::{Clean, Killed};
    let endings = [(Clean, Killed), (Killed, Clean), (Clean, Clean), (Killed, Killed)];
    let mut rounds = Vec::new();
    for (index, (kafka_end, partner_end)) in endings.into_iter().enumerate() {
        rounds.push(Round { kafka: index % 2, kafka_end, partner_end });
    }
    for (index, (kafka_end, partner_end)) in endings.into_iter().enumerate() {
        rounds.push(Round { kafka: (index + 1) % 2, kafka_end, partner_end });
    }
    rounds
}

/// Runs the suite with `target` as Kafka's partner, and tells the number of failures.
pub(crate) fn run(target: &Target, tools: &Tools, now: i64, work: &Path) -> Outcome<usize> {
    let wanted = match env::var(ROUNDS_KEY) {
        Ok(number) => number.parse().map_err(|e| format!("{ROUNDS_KEY}={number}: {e}"))?,
        Err(_) => ROUNDS_DEFAULT,
    };
    let begun_at = Instant::now();
    let mut exchange = Exchange { target, tools, now, work, begun_at, failures: 0 };
    for round in rounds().into_iter().take(wanted) {
        exchange.round(&round)?;
    }
    Ok(exchange.failures)
}

struct Exchange<'a> {
    target: &'a Target,
    tools: &'a Tools,
    /// Milliseconds since the epoch.
    now: i64,
    work: &'a Path,
    begun_at: Instant,
    failures: usize,
}

impl Exchange<'_> {
    fn round(&mut self, round: &Round) -> Outcome<()> {
        let version = KAFKA[round.kafka];
        println!("Kafka {version} ({:?}), partner ({:?})", round.kafka_end, round.partner_end);
        let mut kafka = Node::new(&Target::Kafka(version), self.tools, &KEYS)?;
        kafka.start()?;
        self.client("create", &kafka)?;
        self.write_records(&kafka)?;
        self.client("fill", &kafka)?;
        await_compaction(&kafka)?;
        let written = self.client("digest", &kafka)?;
        await_log_starts(&kafka, &written)?;
        kafka.stop(round.kafka_end)?;
        self.report("Kafka has all that is to be taken over", &lacks(&written, &kafka.data())?);

        let mut partner = Node::new(self.target, self.tools, &KEYS)?;
        partner.start()?;
        self.client("create", &partner)?;
        partner.stop(End::Clean)?;
        swap::swap_in(&kafka.data(), &partner.data(), &partitions(), round.kafka_end)?;
        partner.start()?;
        let taken = self.client("digest", &partner)?;
        self.report(&format!("taken over from Kafka {version}"), &differences(&written, &taken));

        self.write_records(&partner)?;
        self.client("grow", &partner)?;
        await_compaction(&partner)?;
        let grown = self.client("digest", &partner)?;
        await_log_starts(&partner, &grown)?;
        partner.stop(round.partner_end)?;
        let (data, partitions) = (partner.data(), partitions());
        self.dump(KAFKA_TOOLS[round.kafka], &data, &partitions)?;

        swap::swap_in(&data, &kafka.data(), &partitions, round.partner_end)?;
        kafka.start()?;
        let back = self.client("digest", &kafka)?;
        self.report(&format!("taken back by Kafka {version}"), &differences(&grown, &back));
        kafka.stop(End::Killed)
    }

    /// Kafka's own indexes end in zeroes when it is killed, which its tool complains about.
    fn dump(&mut self, tool: &str, data: &Path, partitions: &[String]) -> Outcome<()> {
        if matches!(self.target, Target::Kafka(_)) {
            println!("not run: kafka-dump-log on Kafka's own files");
            return Ok(());
        }
        self.begin("kafka-dump-log");
        let complaints =
            dump::complaints(self.tools, tool, data, partitions, &WITH_GAPS, self.work)?;
        self.report(&format!("kafka-dump-log {tool} is content"), &complaints);
        Ok(())
    }

    /// The records of suite `clients`, in every codec.
    fn write_records(&self, node: &Node) -> Outcome<()> {
        self.begin("writing records in every codec");
        let (topic, records) = (TOPICS[0].0, records(self.now));
        for client in clients(Some(&["confluent-kafka".to_owned()]))? {
            let places = client.write(&node.bootstrap, topic, &records, self.tools, self.work)?;
            if places.len() != records.len() {
                return Err("not all records were acknowledged".into());
            }
        }
        Ok(())
    }

    /// Runs clients/disk.py, and returns the lines that it prints.
    fn client(&self, what: &str, node: &Node) -> Outcome<Vec<String>> {
        self.begin(&format!("disk.py {what}"));
        let mut command = limited(&self.tools.python("disk.py"));
        let output = command.args([what, &node.bootstrap]).output()?;
        if output.status.success() {
            return Ok(String::from_utf8(output.stdout)?.lines().map(str::to_owned).collect());
        }
        let complaints = String::from_utf8_lossy(&output.stderr);
        Err(format!("disk.py {what}: {}\n{complaints}", output.status).into())
    }

    /// Whoever ends a suite that takes too long sees in what.
    fn begin(&self, what: &str) {
        println!("{:>6.1} s  {what}", self.begun_at.elapsed().as_secs_f64());
    }

    fn report(&mut self, what: &str, wrong: &[String]) {
        println!("{} {what}", if wrong.is_empty() { "ok    " } else { "FAILED" });
        for line in wrong.iter().take(SHOWN) {
            println!("{line}");
        }
        if wrong.len() > SHOWN {
            println!("and {} more", wrong.len() - SHOWN);
        }
        self.failures += usize::from(!wrong.is_empty());
    }
}

/// The names of the partitions' directories.
fn partitions() -> Vec<String> {
    let of_topic = |(topic, count)| (0..count).map(move |number| format!("{topic}-{number}"));
    TOPICS.into_iter().flat_map(of_topic).collect()
}

/// Waits until the compacted log is compacted as far as can be, up to the segment that is written
/// to: nothing is left for the next broker to change.
fn await_compaction(node: &Node) -> Outcome<()> {
    let names = swap::files(&node.data().join("compacted-0"))?;
    let active = names.iter().filter_map(|name| name.strip_suffix(".log")).next_back();
    let active = active.ok_or("a log without segments")?.parse()?;
    await_checkpoint(node, swap::CLEANER_OFFSETS, "compacted-0", active)
}

/// Waits until it is written down where logs begin that were cut by hand: a killed broker forgets.
fn await_log_starts(node: &Node, digest: &[String]) -> Outcome<()> {
    for partition in partitions() {
        let start = format!("read_committed {partition} lookup earliest: ");
        let start = digest.iter().find_map(|line| line.strip_prefix(&start)?.split(' ').next());
        let start = start.ok_or("a partition without a start")?.parse()?;
        let names = swap::files(&node.data().join(&partition))?;
        let first = names.iter().find_map(|name| name.strip_suffix(".log"));
        if first.ok_or("a log without segments")?.parse::<i64>()? < start {
            await_checkpoint(node, swap::LOG_START_OFFSETS, &partition, start)?;
        }
    }
    Ok(())
}

fn await_checkpoint(node: &Node, file: &str, partition: &str, offset: i64) -> Outcome<()> {
    let deadline = Instant::now() + PATIENCE;
    let entry = (partition.to_owned(), offset);
    while !swap::read_checkpoint(&node.data().join(file))?.contains(&entry) {
        if Instant::now() > deadline {
            return Err(format!("{file} does not have {partition} at {offset}").into());
        }
        thread::sleep(PAUSE);
    }
    Ok(())
}

/// What a log should have, and this does not.
fn lacks(digest: &[String], data: &Path) -> Outcome<Vec<String>> {
    let count = |prefix: &str| digest.iter().filter(|line| line.starts_with(prefix)).count();
    let has = |part: &str| digest.iter().any(|line| line.contains(part));
    let committed = count("read_committed transactions-0 offset");
    let uncommitted = count("read_uncommitted transactions-0 offset");
    let begins = |partition: &str| !has(&format!("read_committed {partition} lookup earliest: 0 "));
    let mut wanted = vec![
        ("aborted transactions, and one that is open", committed > 0 && committed < uncommitted),
        ("tombstones", has("compacted-0 offset ") && has(" value null ")),
        ("compaction", !has("compacted-0 offset 1 ") && count("read_committed compacted-0 o") > 20),
        ("retention", begins("retained-0")),
        ("LogAppendTime", has("append-times-0 offset 0 LogAppendTime ")),
        ("null keys", has(" key null ")),
    ];
    for partition in SEVERAL_SEGMENTS {
        let segments = swap::files(&data.join(partition))?;
        let segments = segments.iter().filter(|name| name.ends_with(".log")).count();
        wanted.push(("several segments", segments > 1));
    }
    for kind in [".txnindex", ".snapshot"] {
        let files = swap::files(&data.join("transactions-0"))?;
        let count = files.iter().filter(|name| name.ends_with(kind)).count();
        wanted.push(("transaction indexes and producer snapshots", count > 1));
    }
    let lacking = wanted.into_iter().filter(|(_, there)| !there);
    Ok(lacking.map(|(what, _)| format!("no {what}")).collect())
}

/// Lines of one digest that the other lacks, or that come in another order.
fn differences(expected: &[String], found: &[String]) -> Vec<String> {
    let answered = |line: &String| answer_that_kafka_misses(line, found);
    let expected: Vec<_> =
        expected.iter().map(|line| answered(line).unwrap_or_else(|| line.clone())).collect();
    if expected == found {
        return Vec::new();
    }
    let lines = |digest: &[String]| digest.iter().cloned().collect::<BTreeSet<String>>();
    let (expected, found) = (lines(&expected), lines(found));
    let missing = expected.difference(&found).map(|line| format!("missing  {line}"));
    let surplus = found.difference(&expected).map(|line| format!("surplus  {line}"));
    let mut all: Vec<String> = missing.chain(surplus).collect();
    all.sort_unstable_by_key(|line| line[9..].to_owned());
    if all.is_empty() {
        all.push("the same lines in another order".to_owned());
    }
    all
}

/// Kafka looks for a time in one segment only, and finds nothing if compaction emptied the batch that
/// has the greatest timestamp there. To `line`, which says so, the right answer by the records of
/// `digest`, if that is the one that `digest` has.
fn answer_that_kafka_misses(line: &str, digest: &[String]) -> Option<String> {
    let question = line.strip_suffix(": -1 -1")?;
    let (log, time) = question.split_once(" lookup ")?;
    let is_compacted = WITH_GAPS.iter().any(|partition| log.ends_with(partition));
    let time = time.parse::<i64>().ok().filter(|_| is_compacted)?;
    let record = format!("{log} offset ");
    let (offset, timestamp) = digest.iter().find_map(|line| {
        let mut words = line.strip_prefix(&record)?.split(' ');
        let (offset, timestamp) = (words.next()?, words.nth(1)?);
        timestamp.parse().is_ok_and(|at: i64| at >= time).then_some((offset, timestamp))
    })?;
    let answer = format!("{question}: {offset} {timestamp}");
    digest.contains(&answer).then_some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(answer: &str) -> Vec<String> {
        let record = |offset, time| {
            format!("read_committed compacted-0 offset {offset} CreateTime {time} key k value v")
        };
        let answer = format!("read_committed compacted-0 lookup 5: {answer}");
        vec![record(3, 4), record(8, 7), answer]
    }

    #[test]
    fn only_a_record_that_is_there_may_be_found_where_kafka_finds_none() {
        let kafkas = digest("-1 -1");
        assert_eq!(differences(&kafkas, &digest("8 7")), Vec::<String>::new());
        assert_eq!(differences(&kafkas, &digest("3 4")).len(), 2);
        assert_eq!(differences(&digest("8 7"), &kafkas).len(), 2);
        assert_eq!(differences(&digest("3 4"), &digest("8 7")).len(), 2);
    }
}
