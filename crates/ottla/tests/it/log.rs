//! `ottla log`: beside what Apache Kafka's own tool prints of the same files, and on a broker's.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::broker::{Broker, Scratch};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../log/tests/golden")
}

fn ottla(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ottla"));
    command.env_clear().current_dir(golden()).arg("log").args(arguments);
    command.output().expect("the binary runs")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("text")
}

/// The arguments of each file in `golden/dump`, which `golden/dump.sh` has made by Kafka's tool.
const DUMPS: [(&str, &[&str]); 7] = [
    ("transactions", &["--print-data-log"]),
    ("shallow", &[]),
    ("values", &["--print-data-log", "--skip-record-metadata"]),
    ("crashed", &["--deep-iteration"]),
    ("sanity", &["--index-sanity-check"]),
    ("offsets", &["--offsets-decoder"]),
    ("transaction-state", &["--transaction-log-decoder"]),
];

#[test]
fn dumps_are_line_by_line_those_of_kafkas_tool() {
    for (name, options) in DUMPS {
        let expected = fs::read_to_string(golden().join(format!("dump/{name}.txt"))).expect("text");
        // Every file that the tool was given, in its order.
        let files: Vec<_> = expected.lines().filter_map(|l| l.strip_prefix("Dumping ")).collect();
        let output = ottla(&[&["dump"], &files[..], options].concat());
        assert!(output.status.success(), "{name}: {}", stderr(&output));
        let printed = stdout(&output);
        for (at, (printed, expected)) in printed.lines().zip(expected.lines()).enumerate() {
            assert_eq!(printed, expected, "{name}, line {}", at + 1);
        }
        assert_eq!(printed.lines().count(), expected.lines().count(), "{name}");
    }
}

#[test]
fn dumps_are_json_too_and_take_directories() {
    let output = ottla(&["dump", "transactions", "--print-data-log", "--json"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let lines: Vec<serde_json::Value> =
        stdout(&output).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let batches = lines.iter().filter(|line| line["baseOffset"].is_i64());
    assert_eq!(batches.count(), 151);
    assert!(lines.iter().any(|line| line["endTxnMarker"] == "ABORT"));
    assert!(lines.iter().any(|line| line["line"] == "payments 0 194"));
}

#[test]
fn what_cannot_be_read_is_told() {
    let output = ottla(&["dump", "nowhere/00000000000000000000.log"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("nowhere/00000000000000000000.log: "), "{}", stderr(&output));
    let output = ottla(&["verify", "nowhere"]);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
}

#[test]
fn healthy_directories_are_verified() {
    let output = ottla(&["verify", "clean", "transactions/payments-0"]);
    assert_eq!(output.status.code(), Some(0), "{}{}", stdout(&output), stderr(&output));
    let told = stdout(&output);
    let expected = "0 inconsistencies, 0 harmless findings: 3 partitions, ";
    assert!(told.starts_with(expected) && told.lines().count() == 1, "{told}");
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_dir(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).expect("a copy");
        }
    }
}

#[test]
fn damages_are_found_and_repaired() {
    let scratch = Scratch::new("log-repair");
    copy_dir(&golden().join("clean"), scratch.path());
    let dir = scratch.path().to_str().expect("a name");
    let index = scratch.path().join("flights-0/00000000000000000024.index");
    let log = scratch.path().join("flights-0/00000000000000000084.log");
    for (path, at) in [(&index, 7), (&log, 600)] {
        let mut bytes = fs::read(path).expect("a file");
        bytes[at] ^= 1;
        fs::write(path, bytes).expect("writable");
    }
    let output = ottla(&["verify", dir]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let told = stdout(&output);
    let expected = ["24.index at byte 0 (offset 30): ", "84.log at byte 562 (offset 91): "];
    for (line, expected) in told.lines().zip(expected) {
        assert!(line.contains(expected), "{told}");
    }
    assert!(told.lines().nth(2).expect("a summary").starts_with("2 inconsistencies, "), "{told}");

    let asked = ottla(&["repair", dir, "--truncate-damaged"]);
    assert_eq!(asked.status.code(), Some(2), "{}", stderr(&asked));
    let planned = ottla(&["repair", dir, "--truncate-damaged", "--dry-run"]);
    assert_eq!(planned.status.code(), Some(0), "{}", stderr(&planned));
    assert!(stdout(&planned).contains("at offset 91: "), "{}", stdout(&planned));
    assert_eq!(ottla(&["verify", dir]).status.code(), Some(1), "nothing was changed");

    let repaired = ottla(&["repair", dir, "--truncate-damaged", "--yes"]);
    assert_eq!(repaired.status.code(), Some(0), "{}{}", stdout(&repaired), stderr(&repaired));
    let output = ottla(&["verify", dir]);
    assert_eq!(output.status.code(), Some(0), "{}{}", stdout(&output), stderr(&output));
}

#[test]
fn a_running_brokers_directory_is_verified_and_not_repaired() {
    let scratch = Scratch::new("log-running");
    let broker = Broker::start(scratch.path());
    let dir = scratch.path().to_str().expect("a name");
    let verified = ottla(&["verify", dir]);
    let told = format!("{}{}", stdout(&verified), stderr(&verified));
    assert_eq!(verified.status.code(), Some(0), "{told}");
    let process = format!("process {} uses {dir}: the ends of its logs may move", broker.pid());
    assert!(told.contains(&process), "{told}");
    let refused = ottla(&["repair", dir, "--yes"]);
    assert_eq!(refused.status.code(), Some(4), "{}", stderr(&refused));
    let expected = format!("is in use by process {}", broker.pid());
    assert!(stderr(&refused).contains(&expected), "{}", stderr(&refused));
}
