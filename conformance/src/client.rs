//! The foreign clients: how each is called, and what it cannot say.
//!
//! Owns: the client contract's harness side (`write BOOTSTRAP TOPIC FILE`, `read BOOTSTRAP COUNT
//! TOPIC...`, see README.md). Must not know: what is right.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::install::{KAFKA, Tools};
use crate::records::Record;
use crate::{Outcome, kcat};

/// A client gives up by itself long before; this is for one that hangs.
const LONGEST_SECONDS: &str = "300";
const JAVA_HEAP_MIB: u32 = 256;

/// Where a client was told that its record lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) partition: usize,
    pub(crate) offset: i64,
}

/// A client nobody here wrote.
pub(crate) struct Client {
    pub(crate) name: &'static str,
    library: Library,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Library {
    Kcat,
    Confluent,
    KafkaPython,
    Java(&'static str),
    FranzGo,
    KafkaJs,
}

/// All of them, or those whose name is in `only`.
pub(crate) fn clients(only: Option<&[String]>) -> Outcome<Vec<Client>> {
    let all = [
        ("kcat", Library::Kcat),
        ("confluent-kafka", Library::Confluent),
        ("kafka-python", Library::KafkaPython),
        ("java-3.9", Library::Java(KAFKA[0])),
        ("java-4", Library::Java(KAFKA[1])),
        ("franz-go", Library::FranzGo),
        ("kafkajs", Library::KafkaJs),
    ];
    let known = |name: &String| all.iter().any(|(known, _)| known == name);
    if let Some(stranger) = only.unwrap_or_default().iter().find(|name| !known(name)) {
        return Err(format!("no client is called {stranger}").into());
    }
    let wanted = |name: &str| only.is_none_or(|only| only.iter().any(|wanted| wanted == name));
    let wanted = all.into_iter().filter(|(name, _)| wanted(name));
    Ok(wanted.map(|(name, library)| Client { name, library }).collect())
}

impl Client {
    /// Why this client's interface has no way to send `record`; most have one for every record.
    pub(crate) fn cannot_write(&self, record: &Record) -> Option<&'static str> {
        let (key, value) = (record.key.as_deref(), record.value.as_deref());
        let null_header = record.headers.iter().any(|(_, value)| value.is_none());
        match self.library {
            Library::Kcat if key.is_none() && value == Some(b"") => {
                Some("takes a null key with an empty value for the end of its input")
            }
            Library::Kcat if key == Some(b"") && value.is_none() => {
                Some("has one switch for both: an empty key with a null value becomes null")
            }
            Library::KafkaPython if key.is_none() && value.is_none() => {
                Some("demands a key or a value")
            }
            Library::KafkaPython if null_header => Some("demands bytes as a header's value"),
            Library::KafkaJs if null_header => Some("fails on a header's null value"),
            _ => None,
        }
    }

    /// Whether the records keep the timestamps of the set: kcat stamps them itself.
    pub(crate) fn sets_timestamps(&self) -> bool {
        self.library != Library::Kcat
    }

    /// Sends `records` to `topic`; the places come in their order.
    pub(crate) fn write(
        &self,
        bootstrap: &str,
        topic: &str,
        records: &[Record],
        tools: &Tools,
        work: &Path,
    ) -> Outcome<Vec<Place>> {
        let Some(program) = self.program(tools) else {
            return kcat::write(bootstrap, topic, records, work);
        };
        let path = work.join(format!("{}.jsonl", self.name));
        let mut input = std::io::BufWriter::new(File::create(&path)?);
        for record in records {
            writeln!(input, "{}", record.to_json())?;
        }
        input.flush()?;
        let mut places = Vec::with_capacity(records.len());
        let args = ["write".into(), bootstrap.into(), topic.into(), path.display().to_string()];
        each_line(limited(&program).args(args), work, &mut |line| {
            let number = |name: &str| line[name].as_i64().ok_or(format!("no {name} in {line}"));
            let partition = usize::try_from(number("partition")?)?;
            places.push(Place { partition, offset: number("offset")? });
            Ok(())
        })?;
        Ok(places)
    }

    /// Reads `count` records, all that `topics` hold, and calls `each` with every line printed.
    pub(crate) fn read(
        &self,
        bootstrap: &str,
        topics: &[String],
        count: usize,
        tools: &Tools,
        work: &Path,
        mut each: impl FnMut(Value) -> Outcome<()>,
    ) -> Outcome<()> {
        let Some(program) = self.program(tools) else {
            return kcat::read(bootstrap, topics, &mut each);
        };
        let mut command = limited(&program);
        command.args(["read", bootstrap, &count.to_string()]).args(topics);
        each_line(&mut command, work, &mut each)
    }

    /// The program that follows the contract; kcat has none.
    fn program(&self, tools: &Tools) -> Option<Command> {
        Some(match self.library {
            Library::Kcat => return None,
            Library::Confluent => tools.python("python_confluent.py"),
            Library::KafkaPython => tools.python("python_kafka.py"),
            Library::Java(version) => tools.java(version, JAVA_HEAP_MIB, "Client"),
            Library::FranzGo => tools.go(),
            Library::KafkaJs => tools.node(),
        })
    }
}

/// `program` under coreutils' `timeout`.
pub(crate) fn limited(program: &Command) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", LONGEST_SECONDS]);
    command.arg(program.get_program()).args(program.get_args());
    command.stdin(Stdio::null());
    command
}

/// Runs `command` to its end and calls `each` with every line of JSON that it prints.
fn each_line(
    command: &mut Command,
    work: &Path,
    each: &mut impl FnMut(Value) -> Outcome<()>,
) -> Outcome<()> {
    let complaints = work.join("stderr");
    let mut child = command.stdout(Stdio::piped()).stderr(File::create(&complaints)?).spawn()?;
    let output = BufReader::new(child.stdout.take().ok_or("a child without stdout")?);
    for line in output.lines() {
        each(serde_json::from_str(&line?)?)?;
    }
    let status = child.wait()?;
    if status.success() {
        return Ok(());
    }
    let complaints = fs::read_to_string(complaints)?;
    let first = complaints.char_indices().rev().nth(1500).map_or(0, |(index, _)| index);
    Err(format!("{status}\n{}", &complaints[first..]).into())
}
