//! Suite `clients`: what one client wrote, every client finds at the offset its writer was told.
//!
//! Owns: the comparison. Must not know: how a client is called.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use serde_json::Value;

use crate::Outcome;
use crate::broker::Broker;
use crate::client::{Client, Place, limited};
use crate::install::Tools;
use crate::records::{CODECS, PARTITIONS, Record, records};

/// Differences of one reader that are printed; the rest are counted.
const SHOWN: usize = 5;
/// The part of a record that is printed.
const SHOWN_CHARS: usize = 300;

/// One client's topic: what every reader must find there.
struct Written {
    writer: &'static str,
    topic: String,
    expected: BTreeMap<Place, (&'static str, Value)>,
}

/// Runs the suite, and tells the number of failures.
pub(crate) fn run(
    broker: &Broker,
    tools: &Tools,
    clients: &[Client],
    now: i64,
    work: &Path,
) -> Outcome<usize> {
    let topic = |client: &Client| format!("conformance-{now}-{}", client.name);
    create_topics(broker, tools, &clients.iter().map(topic).collect::<Vec<_>>())?;
    let set = records(now);
    let mut failures = 0;
    let mut written = Vec::new();
    for client in clients {
        match write(client, topic(client), &set, broker, tools, work) {
            Ok(topic) => written.push(topic),
            Err(error) => {
                failures += 1;
                println!("FAILED {} writes: {error}", client.name);
            }
        }
    }
    let mut table = Table::default();
    for reader in clients {
        let differences = read(reader, &mut written, broker, tools, work, &mut table);
        failures += differences.len();
        for difference in differences.iter().take(SHOWN) {
            println!("FAILED {} reads: {difference}", reader.name);
        }
        if differences.len() > SHOWN {
            println!(
                "FAILED {} reads: {} more differences",
                reader.name,
                differences.len() - SHOWN
            );
        }
    }
    table.print(clients, &written);
    Ok(failures)
}

fn create_topics(broker: &Broker, tools: &Tools, topics: &[String]) -> Outcome<()> {
    let mut command = limited(&tools.python("python_confluent.py"));
    command.args(["topics", &broker.bootstrap, &PARTITIONS.to_string()]).args(topics);
    let status = command.status()?;
    if status.success() { Ok(()) } else { Err(format!("creating topics: {status}").into()) }
}

/// Has `client` write all that it can say of `set`.
fn write(
    client: &Client,
    topic: String,
    set: &[Record],
    broker: &Broker,
    tools: &Tools,
    work: &Path,
) -> Outcome<Written> {
    let mut unsaid: BTreeMap<&str, usize> = BTreeMap::new();
    let mut sent = Vec::new();
    for record in set {
        match client.cannot_write(record) {
            Some(reason) => *unsaid.entry(reason).or_default() += 1,
            None => sent.push(record.clone()),
        }
    }
    for (reason, count) in unsaid {
        println!("not run: {count} records by {}, which {reason}", client.name);
    }
    let places = client.write(&broker.bootstrap, &topic, &sent, tools, work)?;
    if places.len() != sent.len() {
        return Err(format!("{} records sent, {} acknowledged", sent.len(), places.len()).into());
    }
    let mut expected = BTreeMap::new();
    let mut next = [0; PARTITIONS];
    for (record, place) in sent.iter().zip(places) {
        let next = next.get_mut(place.partition).ok_or("a partition that the topic lacks")?;
        if (place.partition, place.offset) != (record.partition, *next) {
            let at = format!("partition {} offset {next}", record.partition);
            return Err(
                format!("a record belongs to {at}, and was acknowledged at {place:?}").into()
            );
        }
        *next += 1;
        let mut value = record.as_read(&topic, place.offset);
        if !client.sets_timestamps() {
            value["timestamp"] = Value::Null;
        }
        expected.insert(place, (record.codec, value));
    }
    println!("{} wrote {} records", client.name, expected.len());
    Ok(Written { writer: client.name, topic, expected })
}

/// Has `reader` read everything, and tells each difference.
fn read(
    reader: &Client,
    written: &mut [Written],
    broker: &Broker,
    tools: &Tools,
    work: &Path,
    table: &mut Table,
) -> Vec<String> {
    let topics: Vec<String> = written.iter().map(|written| written.topic.clone()).collect();
    let count = written.iter().map(|written| written.expected.len()).sum();
    let mut differences = Vec::new();
    let mut next: HashMap<(usize, usize), i64> = HashMap::new();
    let mut found = 0;
    let outcome = reader.read(&broker.bootstrap, &topics, count, tools, work, |line| {
        match check(&line, written, &mut next) {
            Ok((writer, codec)) => {
                found += 1;
                *table.found.entry((writer, codec, reader.name)).or_default() += 1;
            }
            Err(difference) => differences.push(difference),
        }
        Ok(())
    });
    if let Err(error) = outcome {
        differences.push(error.to_string());
    }
    if found != count {
        differences.push(format!("found {found} of {count} records"));
    }
    differences
}

/// Compares a line with what was written there; a partition is read in the order of its offsets.
fn check(
    line: &Value,
    written: &mut [Written],
    next: &mut HashMap<(usize, usize), i64>,
) -> Result<(&'static str, &'static str), String> {
    let shown = |value: &Value| value.to_string().chars().take(SHOWN_CHARS).collect::<String>();
    let topic = written.iter().position(|written| line["topic"] == written.topic.as_str());
    let partition = line["partition"].as_u64().and_then(|number| usize::try_from(number).ok());
    let (Some(topic), Some(partition), Some(offset)) = (topic, partition, line["offset"].as_i64())
    else {
        return Err(format!("not a record of these topics: {}", shown(line)));
    };
    let next = next.entry((topic, partition)).or_default();
    if offset != *next {
        return Err(format!("offset {next} is due, and comes {}", shown(line)));
    }
    *next += 1;
    let writer = written[topic].writer;
    let expected = written[topic].expected.get_mut(&Place { partition, offset });
    let Some((codec, expected)) = expected else {
        return Err(format!("{writer} wrote nothing there: {}", shown(line)));
    };
    if expected["timestamp"].is_null() {
        // The writer did not say, but all readers agree with the first.
        expected["timestamp"] = line["timestamp"].clone();
    }
    if line != expected {
        let (expected, line) = (shown(expected), shown(line));
        return Err(format!("{writer} wrote with {codec}\n  {expected}\nand there is\n  {line}"));
    }
    Ok((writer, codec))
}

/// Records found whole at their own offsets, by writer, codec and reader.
#[derive(Default)]
struct Table {
    found: HashMap<(&'static str, &'static str, &'static str), usize>,
}

impl Table {
    fn print(&self, readers: &[Client], written: &[Written]) {
        print!("\n{:<16} {:<7} {:>6}", "written by", "codec", "wrote");
        for reader in readers {
            print!(" {:>15}", reader.name);
        }
        println!("   <- found by");
        for Written { writer, expected, .. } in written {
            for codec in CODECS {
                let wrote = expected.values().filter(|(used, _)| *used == codec).count();
                print!("{writer:<16} {codec:<7} {wrote:>6}");
                for reader in readers {
                    let found = self.found.get(&(writer, codec, reader.name)).unwrap_or(&0);
                    let mark = if *found == wrote { "" } else { "!" };
                    print!(" {:>15}", format!("{mark}{found}"));
                }
                println!();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Reads `lines` of a topic that holds one record twice.
    fn read_back(change: impl Fn(&mut [Value; 2])) -> Result<(), String> {
        let text = |text: &str| Some(text.as_bytes().to_vec());
        let headers = vec![("name", text("value"))];
        let (key, value) = (text("key"), text("value"));
        let record =
            Record { codec: "zstd", partition: 0, key, value, headers, timestamp: 5_000_000 };
        let mut lines = [0, 1].map(|offset| record.as_read("topic", offset));
        let places = [0, 1].map(|offset| Place { partition: 0, offset });
        let expected = places.into_iter().zip(lines.clone().map(|line| (record.codec, line)));
        let topic = "topic".to_owned();
        let mut written = [Written { writer: "writer", topic, expected: expected.collect() }];
        change(&mut lines);
        let mut next = HashMap::new();
        lines.iter().try_for_each(|line| check(line, &mut written, &mut next).map(|_| ()))
    }

    #[test]
    fn what_was_written_passes() {
        assert_eq!(read_back(|_| {}), Ok(()));
    }

    #[test]
    fn every_other_line_is_a_difference() {
        for (field, other) in [
            ("topic", json!("another")),
            ("partition", json!(1)),
            ("offset", json!(2)),
            ("key", json!("")),
            ("value", Value::Null),
            ("headers", json!([["name", null]])),
            ("timestamp", json!(4_999_999)),
        ] {
            assert!(read_back(|lines| lines[1][field] = other.clone()).is_err(), "{field}");
        }
        assert!(
            read_back(|lines| lines[1] = lines[0].clone()).is_err(),
            "a record that comes twice"
        );
        assert!(read_back(|lines| lines.reverse()).is_err(), "two records that changed places");
    }

    #[test]
    fn a_timestamp_that_the_writer_did_not_tell_is_the_same_for_all_readers() {
        let place = Place { partition: 0, offset: 0 };
        let line = |timestamp: Value| json!({"topic": "topic", "partition": 0, "offset": 0, "timestamp": timestamp});
        let expected = BTreeMap::from([(place, ("none", line(Value::Null)))]);
        let topic = "topic".to_owned();
        let mut written = [Written { writer: "writer", topic, expected }];
        assert!(check(&line(json!(7)), &mut written, &mut HashMap::new()).is_ok());
        assert!(check(&line(json!(7)), &mut written, &mut HashMap::new()).is_ok());
        assert!(check(&line(json!(8)), &mut written, &mut HashMap::new()).is_err());
    }
}
