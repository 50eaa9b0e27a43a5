//! Kafka's own kafka-dump-log over all files of partitions.
//!
//! Owns: what it says of sound files and of damaged ones. Its exit code is 0 for both, and most of
//! its complaints come at the end, on the standard error. Must not know: who wrote the files.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::swap::files;
use crate::Outcome;
use crate::client::limited;
use crate::install::Tools;

const HEAP_MIB: u32 = 256;
/// Bytes of an entry of `.index`: a relative offset, a position.
const INDEX_ENTRY: usize = 8;
/// Bytes of an entry of `.timeindex`: a timestamp, a relative offset.
const TIME_INDEX_ENTRY: usize = 12;

/// How a paragraph about times begins that no record has.
const TIMESTAMP_MISMATCH: &str = "Found timestamp mismatch in :";
/// How a paragraph about offsets that are missing begins.
const NON_CONSECUTIVE: &str = "Non-consecutive offsets in ";

/// What the tool said.
struct Said {
    out: String,
    err: String,
}

/// Has the tool of `version` read the `partitions` in `data`, and tells what it complains about.
/// `gaps` names the partitions in which offsets may be missing.
pub(super) fn complaints(
    tools: &Tools,
    version: &str,
    data: &Path,
    partitions: &[String],
    gaps: &[&str],
    work: &Path,
) -> Outcome<Vec<String>> {
    let mut paths = Vec::new();
    for partition in partitions {
        let directory = data.join(partition);
        paths.extend(files(&directory)?.into_iter().map(|name| directory.join(name)));
    }
    let is = |path: &PathBuf, kinds: &[&str]| {
        path.extension().is_some_and(|kind| kinds.iter().any(|known| *known == kind))
    };
    paths.retain(|path| is(path, &["log", "index", "timeindex", "txnindex", "snapshot"]));
    let indexes: Vec<PathBuf> =
        paths.iter().filter(|path| is(path, &["index", "timeindex"])).cloned().collect();
    let damaged = damage(&indexes, &work.join("damaged"))?;

    let deep = ["--deep-iteration", "--verify-index-only"];
    let all = [&paths[..], &damaged[..]].concat();
    let said = dump(tools, version, &deep, &all)?;
    let mut found = judge(&said, gaps);
    for path in &damaged {
        let complained = found.iter().any(|complaint| complaint.contains(&*path.to_string_lossy()));
        if !complained {
            found.push(format!("no complaint about {}, which was damaged", path.display()));
        }
    }
    found.retain(|complaint| {
        !damaged.iter().any(|path| complaint.contains(&*path.to_string_lossy()))
    });
    found.extend(unread(&said, &paths));

    let said = dump(tools, version, &["--index-sanity-check"], &indexes)?;
    found.extend(judge(&said, gaps));
    for path in &indexes {
        let path = path.display();
        let passed = [format!("{path} passed sanity check."), format!("{path} is empty.")];
        if !said.out.lines().any(|line| passed.iter().any(|passed| line == passed)) {
            found.push(format!("{path} did not pass the sanity check"));
        }
    }
    fs::remove_dir_all(work.join("damaged"))?;
    Ok(found)
}

/// The class has moved between the versions.
fn dump(tools: &Tools, version: &str, options: &[&str], paths: &[PathBuf]) -> Outcome<Said> {
    let class = match version.as_bytes()[0] {
        b'3' => "kafka.tools.DumpLogSegments",
        _ => "org.apache.kafka.tools.DumpLogSegments",
    };
    let list: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    let mut command = limited(&tools.java(version, HEAP_MIB, class));
    let output = command.args(options).args(["--files", &list.join(",")]).output()?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let said = Said { out: text(output.stdout), err: text(output.stderr) };
    if output.status.success() {
        return Ok(said);
    }
    let last = said.out.lines().last().unwrap_or_default();
    Err(format!("kafka-dump-log {version} ended with {} at {last}\n{}", output.status, said.err)
        .into())
}

/// What is wrong in the files. A paragraph on the standard error begins with the file's name.
fn judge(said: &Said, gaps: &[&str]) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for line in said.err.lines().filter(|line| !line.is_empty()) {
        match found.last_mut() {
            // The tool of 4.x takes the begin of each file but a log's first for a gap.
            Some(_) if line.starts_with("  -1 is followed by") => {}
            Some(paragraph) if line.starts_with(' ') => {
                *paragraph = format!("{paragraph}\n{line}");
            }
            _ => found.push(line.to_owned()),
        }
    }
    let is_compacted =
        |complaint: &str| gaps.iter().any(|name| complaint.contains(&format!("/{name}/")));
    let is_gap = |complaint: &str| {
        complaint.starts_with(NON_CONSECUTIVE)
            && (is_compacted(complaint) || !complaint.contains('\n'))
    };
    // A batch that compaction left without records has a time, and the tool finds no record for it.
    // Kafka's own compaction leaves such entries too.
    let is_emptied = |complaint: &str| {
        complaint.starts_with(TIMESTAMP_MISMATCH)
            && is_compacted(complaint)
            && complaint.lines().skip(1).all(|line| line.ends_with(", log timestamp: -1"))
    };
    found.retain(|complaint| !is_gap(complaint) && !is_emptied(complaint));
    let wrong = ["isvalid: false", "invalid bytes at the end"];
    let wrong = |line: &&str| wrong.iter().any(|wrong| line.contains(wrong));
    found.extend(said.out.lines().filter(wrong).map(str::to_owned));
    found
}

/// Files that the tool had nothing to say about.
fn unread(said: &Said, paths: &[PathBuf]) -> Vec<String> {
    let begun: BTreeSet<&str> =
        said.out.lines().filter_map(|line| line.strip_prefix("Dumping ")).collect();
    let missing = paths.iter().filter(|path| !begun.contains(&*path.to_string_lossy()));
    missing.map(|path| format!("{} was not read", path.display())).collect()
}

/// Copies the first index of each kind with several entries, and its log, and has its second entry
/// name another offset: a check that cannot fail would be none.
fn damage(indexes: &[PathBuf], to: &Path) -> Outcome<Vec<PathBuf>> {
    let mut damaged = Vec::new();
    // The last byte of the offset, and that of the timestamp.
    for (kind, entry, at) in [("index", INDEX_ENTRY, 3), ("timeindex", TIME_INDEX_ENTRY, 7)] {
        let of_kind = indexes.iter().filter(|path| path.extension().is_some_and(|k| k == kind));
        let mut candidates = of_kind.filter_map(|path| Some((path, fs::read(path).ok()?)));
        let (path, mut bytes) = candidates
            .find(|(_, bytes)| bytes.len() >= 3 * entry)
            .ok_or(format!("no {kind} has three entries"))?;
        bytes[entry + at] ^= 1;
        let directory = to.join(kind);
        fs::create_dir_all(&directory)?;
        let name = path.file_name().ok_or("an index without a name")?;
        fs::write(directory.join(name), bytes)?;
        for beside in ["log", "index"].into_iter().filter(|beside| *beside != kind) {
            fs::copy(path.with_extension(beside), directory.join(name).with_extension(beside))?;
        }
        damaged.push(directory.join(name));
    }
    Ok(damaged)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(err: &str) -> Vec<String> {
        judge(&Said { out: String::new(), err: err.to_owned() }, &["compacted-0"])
    }

    #[test]
    fn gaps_are_for_compacted_logs_and_a_begin_is_none() {
        let paragraph = |partition: &str, gap: &str| {
            format!(
                "Non-consecutive offsets in /data/{partition}/00000000000000000041.log\n{gap}\n"
            )
        };
        let begin = "  -1 is followed by 41";
        assert!(judged(&paragraph("records-0", begin)).is_empty());
        assert!(judged(&paragraph("compacted-0", "  41 is followed by 43")).is_empty());
        let gap = format!("{begin}\n  41 is followed by 43");
        assert_eq!(judged(&paragraph("records-0", &gap)).len(), 1);
    }

    #[test]
    fn a_time_without_a_record_is_for_compacted_logs() {
        let paragraph = |partition: &str, found: i64| {
            format!(
                "Found timestamp mismatch in :/data/{partition}/0.timeindex\n\
                 \x20 Index timestamp: 17, log timestamp: {found}\n"
            )
        };
        assert!(judged(&paragraph("compacted-0", -1)).is_empty());
        assert_eq!(judged(&paragraph("compacted-0", 16)).len(), 1);
        assert_eq!(judged(&paragraph("records-0", -1)).len(), 1);
    }

    #[test]
    fn every_other_word_is_a_complaint() {
        let mismatch =
            "Mismatches in :/data/compacted-0/0.index\n  Index offset: 1, log offset: 2\n";
        assert_eq!(judged(mismatch), [mismatch.trim_end()]);
        let out = "baseOffset: 0 crc: 1 isvalid: false\nbaseOffset: 1 crc: 1 isvalid: true\n";
        let said = Said { out: out.to_owned(), err: String::new() };
        assert_eq!(judge(&said, &[]).len(), 1);
    }
}
