//! Numbered records of a client that goes on while servers die: what was acknowledged, and what is
//! there.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::Outcome;
use crate::broker::poll;
use crate::install::Tools;

const TOPIC: &str = "numbers";

/// Between two accidents so many numbers are acknowledged.
const NUMBERS: usize = 300;

/// Creates the topic.
pub(crate) fn create(tools: &Tools, bootstrap: &str, replicas: usize) -> Outcome<()> {
    let replicas = replicas.to_string();
    let mut client = tools.python("zookeeper/numbers.py");
    succeed(client.args(["topic", bootstrap, TOPIC, &replicas])).map(drop)
}

/// What of the acknowledged is not there, there twice, or out of order.
pub(crate) fn problems(
    tools: &Tools,
    bootstrap: &str,
    acknowledged: &BTreeSet<u64>,
) -> Outcome<Vec<String>> {
    let mut client = tools.python("zookeeper/numbers.py");
    compare(acknowledged, &succeed(client.args(["read", bootstrap, TOPIC]))?)
}

fn compare(acknowledged: &BTreeSet<u64>, read: &str) -> Outcome<Vec<String>> {
    let (mut seen, mut last) = (BTreeSet::new(), BTreeMap::new());
    let mut problems = Vec::new();
    for line in read.lines() {
        let mut fields = line.split(' ').map(str::parse::<u64>);
        let mut field =
            || fields.next().ok_or("a line of numbers.py is short")?.map_err(|e| e.to_string());
        let (partition, _, number) = (field()?, field()?, field()?);
        if !seen.insert(number) {
            problems.push(format!("{number} is there twice"));
        }
        if last.insert(partition, number).is_some_and(|last| last >= number) {
            problems.push(format!("{number} is out of order in partition {partition}"));
        }
    }
    problems.extend(acknowledged.difference(&seen).map(|lost| format!("{lost} is lost")));
    Ok(problems)
}

/// The client that writes.
pub(crate) struct Writer {
    child: Child,
    stdin: ChildStdin,
    acknowledged: Arc<Mutex<BTreeSet<u64>>>,
    reader: thread::JoinHandle<()>,
}

impl Writer {
    /// Begins to write `first` and the numbers after it, until [`Writer::stop`].
    pub(crate) fn start(tools: &Tools, bootstrap: &str, first: u64) -> Outcome<Self> {
        let mut client = tools.python("zookeeper/numbers.py");
        client
            .args(["write", bootstrap, TOPIC, &first.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = client.spawn()?;
        let stdin = child.stdin.take().ok_or("no standard input")?;
        let stdout = BufReader::new(child.stdout.take().ok_or("no standard output")?);
        let acknowledged = Arc::<Mutex<BTreeSet<u64>>>::default();
        let numbers = Arc::clone(&acknowledged);
        let reader = thread::spawn(move || {
            for number in stdout.lines().map_while(Result::ok).filter_map(|l| l.parse().ok()) {
                numbers.lock().expect("nobody panics with it").insert(number);
            }
        });
        Ok(Self { child, stdin, acknowledged, reader })
    }

    fn count(&self) -> usize {
        self.acknowledged.lock().expect("nobody panics with it").len()
    }

    /// Waits until more numbers are acknowledged.
    pub(crate) fn await_more(&mut self) -> Outcome<()> {
        let before = self.count();
        poll("more numbers to be acknowledged", || {
            Ok((self.count() >= before + NUMBERS).then_some(()))
        })
    }

    /// Ends the client when all that it wrote is acknowledged, and gives that.
    pub(crate) fn stop(mut self) -> Outcome<BTreeSet<u64>> {
        drop(self.stdin);
        let status = self.child.wait()?;
        self.reader.join().map_err(|_| "the reader of the client's output panicked")?;
        if !status.success() {
            return Err(format!("numbers.py write: {status}").into());
        }
        Ok(std::mem::take(&mut *self.acknowledged.lock().expect("nobody panics with it")))
    }
}

/// Runs a program to its end, and gives what it printed.
pub(crate) fn succeed(command: &mut Command) -> Outcome<String> {
    let output = command.output()?;
    if !output.status.success() {
        return Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_doubled_or_out_of_order_is_told() {
        let acknowledged = BTreeSet::from([0, 1, 2, 3]);
        assert!(compare(&acknowledged, "0 0 0\n0 1 3\n1 0 1\n2 0 2\n2 1 5\n").unwrap().is_empty());
        let told = compare(&acknowledged, "0 0 3\n0 1 0\n1 0 1\n1 1 1\n").unwrap();
        assert_eq!(
            told,
            [
                "0 is out of order in partition 0",
                "1 is there twice",
                "1 is out of order in partition 1",
                "2 is lost"
            ]
        );
    }
}
