//! What an operator does to move partitions between stopped brokers, by hand.
//!
//! Owns: the files that go and those that stay. Must not know: whose directories these are; Kafka
//! and Ottla get the same treatment.

use std::fs;
use std::io;
use std::path::Path;

use crate::Outcome;
use crate::broker::End;

/// Written when a broker stops in order: all files are then believed without a look into them.
const CLEAN_SHUTDOWN: &str = ".kafka_cleanshutdown";
/// It names the topic's id in its own cluster, and stays.
const PARTITION_METADATA: &str = "partition.metadata";
/// Lines of `TOPIC PARTITION OFFSET` behind a version and the number of lines.
const CHECKPOINTS: [&str; 4] = [
    LOG_START_OFFSETS,
    "recovery-point-offset-checkpoint",
    "replication-offset-checkpoint",
    CLEANER_OFFSETS,
];
/// Where logs begin whose first segment begins earlier.
pub(super) const LOG_START_OFFSETS: &str = "log-start-offset-checkpoint";
/// Up to where logs are compacted.
pub(super) const CLEANER_OFFSETS: &str = "cleaner-offset-checkpoint";

/// Puts the files of `partitions` in the log directory `from` into the place of those in `to`,
/// where the partitions exist. `end` is how the broker of `from` ended.
pub(super) fn swap_in(from: &Path, to: &Path, partitions: &[String], end: End) -> Outcome<()> {
    for partition in partitions {
        let (from, to) = (from.join(partition), to.join(partition));
        for file in files(&to)?.into_iter().filter(|name| name != PARTITION_METADATA) {
            fs::remove_file(to.join(file))?;
        }
        for file in files(&from)?.into_iter().filter(|name| name != PARTITION_METADATA) {
            fs::copy(from.join(&file), to.join(&file))?;
        }
    }
    for checkpoint in CHECKPOINTS {
        let theirs = |(partition, _): &(String, i64)| partitions.contains(partition);
        let mut entries = read_checkpoint(&to.join(checkpoint))?;
        entries.retain(|entry| !theirs(entry));
        entries.extend(read_checkpoint(&from.join(checkpoint))?.into_iter().filter(theirs));
        write_checkpoint(&to.join(checkpoint), &entries)?;
    }
    if end == End::Killed {
        fs::remove_file(to.join(CLEAN_SHUTDOWN)).or_else(unless_missing)?;
    }
    Ok(())
}

/// The names of the files in a partition's directory, in order.
pub(super) fn files(directory: &Path) -> Outcome<Vec<String>> {
    let entries = fs::read_dir(directory).map_err(|e| format!("{}: {e}", directory.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort_unstable();
    Ok(names)
}

/// The offsets of a checkpoint by the name of the partition's directory; none if there is no file.
pub(super) fn read_checkpoint(path: &Path) -> Outcome<Vec<(String, i64)>> {
    let text = fs::read_to_string(path).or_else(unless_missing)?;
    let entry = |line: &str| {
        let (partition, offset) = line.rsplit_once(' ')?;
        Some((partition.replace(' ', "-"), offset.parse().ok()?))
    };
    let entries = text.lines().skip(2);
    entries.map(|line| entry(line).ok_or(format!("{}: {line}", path.display()).into())).collect()
}

fn write_checkpoint(path: &Path, entries: &[(String, i64)]) -> Outcome<()> {
    let mut text = format!("0\n{}\n", entries.len());
    for (directory, offset) in entries {
        let (topic, partition) = directory.rsplit_once('-').ok_or("a directory without '-'")?;
        text += &format!("{topic} {partition} {offset}\n");
    }
    Ok(fs::write(path, text)?)
}

fn unless_missing<T: Default>(error: io::Error) -> io::Result<T> {
    if error.kind() == io::ErrorKind::NotFound { Ok(T::default()) } else { Err(error) }
}
