//! Suite `tools`: Apache Kafka's command-line tools, used as an operator does.
//!
//! Owns: the steps, and what each must print. Must not know: how the tools work.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use crate::Outcome;
use crate::broker::Broker;
use crate::client::limited;
use crate::install::{KAFKA_TOOLS, Tools};

const HEAP_MIB: u32 = 256;
const RECORDS: usize = 300;

/// Runs the steps with the tools of every version, and tells the number of failures.
pub(crate) fn run(broker: &Broker, tools: &Tools, now: i64) -> Outcome<usize> {
    let mut failures = 0;
    for version in KAFKA_TOOLS {
        let topic = format!("conformance-{now}-tools-{}", version.replace('.', "-"));
        let group = format!("{topic}-group");
        let mut operator = Operator { broker, tools, version, topic, group, failures: 0 };
        operator.topics();
        operator.records();
        operator.groups();
        operator.member()?;
        operator.configs();
        operator.end();
        failures += operator.failures;
    }
    Ok(failures)
}

/// Creates, describes and alters a topic, produces and consumes, and tells the number of failures.
pub(crate) fn brief(broker: &Broker, tools: &Tools, topic: &str) -> usize {
    let (topic, version) = (topic.to_owned(), KAFKA_TOOLS[0]);
    let group = format!("{topic}-group");
    let mut operator = Operator { broker, tools, version, topic, group, failures: 0 };
    operator.brief();
    operator.failures
}

/// Someone at a terminal.
struct Operator<'a> {
    broker: &'a Broker,
    tools: &'a Tools,
    version: &'static str,
    topic: String,
    group: String,
    failures: usize,
}

/// How a tool ended.
struct Said {
    succeeded: bool,
    text: String,
}

impl Said {
    /// A word of the output, as in `--describe`'s columns.
    fn has_word(&self, word: &str) -> bool {
        self.text.split_whitespace().any(|found| found == word)
    }

    fn has(&self, part: &str) -> bool {
        self.text.contains(part)
    }

    /// The values of a column in the rows of a table that name `what`.
    fn column(&self, what: &str, index: usize) -> Vec<&str> {
        let rows = self.text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        rows.filter(|row| row.contains(&what)).filter_map(|row| row.get(index).copied()).collect()
    }
}

impl Operator<'_> {
    fn topics(&mut self) {
        let topic = self.topic.clone();
        let create = ["--create", "--topic", &topic, "--partitions", "3"];
        let create = [&create[..], &["--replication-factor", "1"]].concat();
        let config = [&create[..], &["--config", "retention.ms=86400000"]].concat();
        self.step("kafka-topics", &config, |said| {
            said.succeeded && said.has(&format!("Created topic {topic}"))
        });
        self.step("kafka-topics", &create, |said| !said.succeeded && said.has("already exists"));
        self.step("kafka-topics", &["--list"], |said| said.succeeded && said.has_word(&topic));
        self.step("kafka-topics", &["--describe", "--topic", &topic], |said| {
            let parts = ["PartitionCount: 3", "ReplicationFactor: 1", "retention.ms=86400000"];
            said.succeeded
                && parts.iter().all(|part| said.has(part))
                && said.text.matches("\tLeader: ").count() == 3
                && !said.has("Leader: none")
        });
        self.step("kafka-log-dirs", &["--describe", "--topic-list", &topic], |said| {
            let partition = |id| said.has(&format!("\"partition\":\"{topic}-{id}\""));
            let parts = ["\"error\":null", "\"offsetLag\":0", "\"isFuture\":false"];
            said.succeeded && (0..3).all(partition) && parts.iter().all(|part| said.has(part))
        });
        let more = ["--alter", "--topic", &topic, "--partitions", "4"];
        self.step("kafka-topics", &more, |said| said.succeeded);
        self.step("kafka-topics", &["--describe", "--topic", &topic], |said| {
            said.succeeded && said.has("PartitionCount: 4")
        });
    }

    fn brief(&mut self) {
        let topic = self.topic.clone();
        let create = ["--create", "--topic", &topic, "--partitions", "2"];
        self.step("kafka-topics", &create, |said| said.succeeded);
        let of_topic = ["--entity-type", "topics", "--entity-name", &topic];
        let alter = [&["--alter", "--add-config", "retention.ms=86400000"], &of_topic[..]];
        self.step("kafka-configs", &alter.concat(), |said| said.succeeded);
        self.step("kafka-topics", &["--describe", "--topic", &topic], |said| {
            said.succeeded && said.has("PartitionCount: 2") && said.has("retention.ms=86400000")
        });
        let produce = ["--topic", &topic];
        self.step_with("kafka-console-producer", &produce, "one\ntwo\nthree\n", |said| {
            said.succeeded && !said.has("ERROR")
        });
        let (group, wait) = (self.group.clone(), ["--max-messages", "3", "--timeout-ms", "30000"]);
        let consume = ["--topic", &topic, "--group", &group, "--from-beginning"];
        self.step("kafka-console-consumer", &[&consume[..], &wait].concat(), |said| {
            said.succeeded && ["one", "two", "three"].iter().all(|word| said.has_word(word))
        });
    }

    fn records(&mut self) {
        let topic = self.topic.clone();
        let group = self.group.clone();
        let mut lines: Vec<String> = (0..RECORDS).map(|n| format!("k{n}:значение {n}")).collect();
        let (produce_property, consume_property) = match self.version.as_bytes()[0] {
            b'3' => ("--property", "--property"),
            _ => ("--reader-property", "--formatter-property"),
        };
        let produce = ["--topic", &topic, produce_property, "parse.key=true"];
        let produce = [&produce[..], &[produce_property, "key.separator=:"]].concat();
        let produce = [&produce[..], &["--compression-codec", "zstd"]].concat();
        let input = lines.join("\n");
        self.step_with("kafka-console-producer", &produce, &input, |said| {
            said.succeeded && !said.has("ERROR")
        });
        let consume = ["--topic", &topic, "--group", &group, "--from-beginning"];
        let consume = [&consume[..], &["--max-messages", "300", consume_property]].concat();
        let consume = [&consume[..], &["print.key=true", consume_property]].concat();
        let consume = [&consume[..], &["key.separator=:", "--timeout-ms", "30000"]].concat();
        lines.sort_unstable();
        self.step("kafka-console-consumer", &consume, |said| {
            let mut read: Vec<&str> =
                said.text.lines().filter(|line| line.starts_with('k')).collect();
            read.sort_unstable();
            said.succeeded && read == lines
        });
        let sums_to = |sum: usize| {
            let topic = topic.clone();
            move |said: &Said| {
                let offsets = said.text.lines().filter(|line| line.starts_with(&topic));
                let offsets = offsets.filter_map(|line| line.rsplit(':').next()?.parse().ok());
                let offsets: Vec<usize> = offsets.collect();
                said.succeeded && offsets.len() == 4 && offsets.iter().sum::<usize>() == sum
            }
        };
        self.step("kafka-get-offsets", &["--topic", &topic], sums_to(RECORDS));
        let earliest = ["--topic", &topic, "--time", "earliest"];
        self.step("kafka-get-offsets", &earliest, sums_to(0));
    }

    /// The console consumer has left, and its group has stayed.
    fn groups(&mut self) {
        let topic = self.topic.clone();
        let group = self.group.clone();
        self.step("kafka-consumer-groups", &["--list"], |said| {
            said.succeeded && said.has_word(&group)
        });
        let describe = ["--describe", "--group", &group];
        self.step("kafka-consumer-groups", &describe, |said| {
            let (committed, end) = (said.column(&topic, 3), said.column(&topic, 4));
            said.succeeded
                && said.has("has no active members")
                && committed.len() == 4
                && committed == end
        });
        let state = ["--describe", "--group", &group, "--state"];
        self.step("kafka-consumer-groups", &state, |said| said.succeeded && said.has_word("Empty"));
        let reset = ["--reset-offsets", "--group", &group, "--topic", &topic];
        let reset = [&reset[..], &["--to-earliest", "--execute"]].concat();
        self.step("kafka-consumer-groups", &reset, |said| said.succeeded);
        self.step("kafka-consumer-groups", &describe, |said| {
            let lag = said.column(&topic, 5);
            let lag = lag.iter().filter_map(|lag| lag.parse::<usize>().ok());
            said.succeeded && lag.sum::<usize>() == RECORDS
        });
    }

    /// Looks at the group while it has a member.
    fn member(&mut self) -> Outcome<()> {
        let topic = self.topic.clone();
        let group = self.group.clone();
        let mut program = self.tools.python("group.py");
        program.args(["member", &self.broker.bootstrap, &group, &topic]);
        let mut member = Member(program.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?);
        let output = member.0.stdout.take().ok_or("a child without stdout")?;
        let mut output = BufReader::new(output).lines();
        // The last record has come, and so the member has been in the group for a while.
        let read = output.by_ref().map_while(Result::ok).filter(|line| line.contains("значение"));
        let read = read.take(RECORDS).count();
        if read != RECORDS {
            return Err(format!("the member read {read} of {RECORDS} records").into());
        }
        self.step("kafka-consumer-groups", &["--describe", "--group", &group], |said| {
            let hosts = said.column(&topic, 7);
            said.succeeded && hosts.len() == 4 && hosts.iter().all(|host| host.starts_with('/'))
        });
        let members = ["--describe", "--group", &group, "--members"];
        self.step("kafka-consumer-groups", &members, |said| {
            said.succeeded && said.column(&group, 4) == ["4"]
        });
        let state = ["--describe", "--group", &group, "--state"];
        self.step("kafka-consumer-groups", &state, |said| said.has_word("Stable"));
        let delete = ["--delete", "--group", &group];
        self.step("kafka-consumer-groups", &delete, |said| {
            said.has("GroupNotEmptyException") || said.has("The group is not empty")
        });
        member.end()
    }

    fn configs(&mut self) {
        let topic = self.topic.clone();
        let of_topic = ["--entity-type", "topics", "--entity-name", &topic];
        let alter = [&["--alter", "--add-config", "max.message.bytes=2000000"], &of_topic[..]];
        self.step("kafka-configs", &alter.concat(), |said| said.succeeded);
        let describe = [&["--describe"], &of_topic[..]].concat();
        self.step("kafka-configs", &describe, |said| {
            said.has("max.message.bytes=2000000") && said.has("retention.ms=86400000")
        });
        let undo = [&["--alter", "--delete-config", "max.message.bytes"], &of_topic[..]];
        self.step("kafka-configs", &undo.concat(), |said| said.succeeded);
        self.step("kafka-configs", &describe, |said| {
            said.succeeded && !said.has("max.message.bytes=2000000")
        });
        let wrong = [&["--alter", "--add-config", "retention.ms=soon"], &of_topic[..]];
        self.step("kafka-configs", &wrong.concat(), |said| {
            !said.succeeded && said.has("Invalid value soon for configuration retention.ms")
        });
    }

    fn end(&mut self) {
        let topic = self.topic.clone();
        let group = self.group.clone();
        self.step("kafka-broker-api-versions", &[], |said| {
            said.succeeded && said.has("Produce(0): ") && said.has("[usable: ")
        });
        self.step("kafka-consumer-groups", &["--delete", "--group", &group], |said| {
            said.succeeded && said.has("was successful")
        });
        self.step("kafka-topics", &["--delete", "--topic", &topic], |said| said.succeeded);
        self.step("kafka-topics", &["--list"], |said| said.succeeded && !said.has_word(&topic));
        self.step("kafka-topics", &["--describe", "--topic", &topic], |said| {
            !said.succeeded && said.has("does not exist")
        });
    }

    fn step(&mut self, tool: &str, args: &[&str], expected: impl FnOnce(&Said) -> bool) {
        self.step_with(tool, args, "", expected);
    }

    /// Runs a tool as the script of that name does, and looks at what it said.
    fn step_with(
        &mut self,
        tool: &str,
        args: &[&str],
        input: &str,
        expected: impl FnOnce(&Said) -> bool,
    ) {
        let class = class(tool, self.version);
        let mut command = limited(&self.tools.java(self.version, HEAP_MIB, class));
        command.args(["--bootstrap-server", &self.broker.bootstrap]).args(args);
        let said = match say(&mut command, input) {
            Ok(said) => said,
            Err(error) => Said { succeeded: false, text: format!("did not run: {error}") },
        };
        let as_expected = expected(&said);
        let mark = if as_expected { "ok    " } else { "FAILED" };
        println!("{mark} {tool} {} {}", self.version, args.join(" "));
        if !as_expected {
            self.failures += 1;
            println!("{}", said.text);
        }
    }
}

fn say(command: &mut Command, input: &str) -> Outcome<Said> {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    // Fits into the pipe: nobody waits for a reader.
    child.stdin.take().ok_or("a child without stdin")?.write_all(input.as_bytes())?;
    let output = child.wait_with_output()?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    Ok(Said { succeeded: output.status.success(), text })
}

/// The class that `bin/TOOL.sh` runs.
fn class(tool: &str, version: &str) -> &'static str {
    match (tool, version.as_bytes()[0]) {
        ("kafka-topics", _) => "org.apache.kafka.tools.TopicCommand",
        ("kafka-log-dirs", _) => "org.apache.kafka.tools.LogDirsCommand",
        ("kafka-console-producer", b'3') => "kafka.tools.ConsoleProducer",
        ("kafka-console-producer", _) => "org.apache.kafka.tools.ConsoleProducer",
        ("kafka-console-consumer", _) => "org.apache.kafka.tools.consumer.ConsoleConsumer",
        ("kafka-get-offsets", _) => "org.apache.kafka.tools.GetOffsetShell",
        ("kafka-consumer-groups", _) => {
            "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"
        }
        ("kafka-configs", _) => "kafka.admin.ConfigCommand",
        ("kafka-broker-api-versions", b'3') => "kafka.admin.BrokerApiVersionsCommand",
        ("kafka-broker-api-versions", _) => "org.apache.kafka.tools.BrokerApiVersionsCommand",
        _ => unreachable!("not one of the tools above"),
    }
}

/// A member of the group, which does not outlive this.
struct Member(Child);

impl Member {
    /// Lets it leave the group.
    fn end(mut self) -> Outcome<()> {
        Command::new("kill").args(["-TERM", &self.0.id().to_string()]).status()?;
        let status = self.0.wait()?;
        if status.success() { Ok(()) } else { Err(format!("the member left with {status}").into()) }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // Fails only if it has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
