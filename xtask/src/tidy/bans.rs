//! Calls that pass the doors of `runtime`, and words that stand for unfinished work.
//!
//! clippy.toml bans what clippy can see; this reads the text, so that it also holds where clippy
//! is not installed, under an `allow`, and for what is not a method. [`clippy`] proves that the
//! two lists agree.

use super::Finding;
use super::source::{closing, code, line, production, words};

/// A word that code may not hold.
struct Ban {
    word: &'static str,
    instead: &'static str,
    except: &'static [&'static str],
    /// Whether unit tests and `tests/` are free of it.
    free_in_tests: bool,
}

/// Folders that are not part of the product: they have the machine's clock, files and sockets.
const OUTSIDE: &[&str] =
    &["crates/runtime/", "bench/", "conformance/", "fuzz/", "oracle/", "xtask/"];

const fn door(word: &'static str, instead: &'static str) -> Ban {
    Ban { word, instead, except: OUTSIDE, free_in_tests: false }
}

const fn never(word: &'static str, instead: &'static str, except: &'static [&'static str]) -> Ban {
    Ban { word, instead, except, free_in_tests: false }
}

const BANS: [Ban; 19] = [
    door("Instant::now", "take the time from runtime's Clock"),
    door("SystemTime::now", "take the time from runtime's Clock"),
    door("thread::sleep", "wait for the event"),
    door("thread::spawn", "named threads come from runtime"),
    door("thread::Builder", "named threads come from runtime"),
    door("tokio::spawn", "tasks are spawned through runtime"),
    door("tokio::task::spawn", "tasks are spawned through runtime"),
    door("spawn_blocking", "threads for blocking work come from runtime"),
    door("tokio::time::sleep", "use runtime's time"),
    door("tokio::net", "sockets come from runtime"),
    door("tokio::fs", "files come from runtime's Disk"),
    door("TcpStream", "sockets come from runtime"),
    door("TcpListener", "sockets come from runtime"),
    door("std::{", "import from std one path a line, so that tidy can read it"),
    // The binary reads the files that its user names; a data directory is runtime's Disk there too.
    Ban {
        word: "std::fs",
        instead: "files come from runtime's Disk",
        except: &[
            "crates/runtime/",
            "crates/ottla/",
            "bench/",
            "conformance/",
            "fuzz/",
            "oracle/",
            "xtask/",
        ],
        free_in_tests: true,
    },
    never("unsafe", "it has its place in runtime", &["crates/runtime/"]),
    never("todo!", "finish it, or leave it out", &[]),
    never("unimplemented!", "finish it, or leave it out", &[]),
    never("#[ignore", "a test runs, or it is none", &[]),
];

/// What a pure half, `src/machine/`, may not even name.
const MACHINE: [&str; 5] = ["async", "ottla_runtime", "std::net", "std::thread", "tokio"];

/// What runs in simulations.
const SIMULATED: [&str; 9] = [
    "crates/client/",
    "crates/connection/",
    "crates/coordinator/",
    "crates/fake/",
    "crates/keeper/",
    "crates/metadata/",
    "crates/replication/",
    "crates/server/",
    "crates/simulation/",
];

/// The findings in one file; `path` is from the root.
pub(crate) fn check(path: &str, text: &str) -> Vec<Finding> {
    let whole = code(text);
    let is_test = path.contains("/tests/") || path.ends_with("/tests.rs");
    let production = if is_test { "" } else { production(&whole) };
    let mut findings = Vec::new();
    for ban in BANS.iter().filter(|ban| !ban.except.iter().any(|free| path.starts_with(free))) {
        let searched = if ban.free_in_tests { production } else { &whole };
        for at in words(searched, ban.word) {
            let message = format!("`{}`: {}", ban.word, ban.instead);
            findings.push(Finding::new(path, line(&whole, at), message));
        }
    }
    if path.contains("/src/machine/") {
        for word in MACHINE {
            for at in words(production, word) {
                let message = format!("`{word}`: a machine does no I/O, its shell does");
                findings.push(Finding::new(path, line(&whole, at), message));
            }
        }
    }
    if SIMULATED.iter().any(|crates| path.starts_with(crates)) {
        findings.extend(choices_by_chance(path, production));
    }
    findings.extend(exceptions_without_a_reason(path, &whole));
    findings
}

/// `select!` without `biased` draws from random numbers that no seed decides.
fn choices_by_chance(path: &str, code: &str) -> Vec<Finding> {
    let select = "select! {";
    let chances = code.match_indices(select).filter(|(at, _)| {
        let body = code[at + select.len()..].trim_start();
        !body.starts_with("biased;")
    });
    let finding = |(at, _)| {
        let message = "`select!`: write `biased;` first, or no seed gives the same run twice";
        Finding::new(path, line(code, at), message.to_owned())
    };
    chances.map(finding).collect()
}

/// `#[allow(…)]` and `#[expect(…)]` say why.
fn exceptions_without_a_reason(path: &str, code: &str) -> Vec<Finding> {
    let opened = ["#[allow(", "#![allow(", "#[expect(", "#![expect("];
    let starts = opened.iter().flat_map(|word| code.match_indices(word));
    let unreasoned = starts.filter(|(at, word)| {
        let open = at + word.len() - 1;
        let end = closing(code.as_bytes(), open).unwrap_or(code.len());
        words(&code[open..end], "reason").next().is_none()
    });
    let finding = |(at, word): (usize, &str)| {
        Finding::new(path, line(code, at), format!("`{word}…)]` without a reason"))
    };
    unreasoned.map(finding).collect()
}

/// What clippy.toml bans, tidy bans too.
pub(crate) fn clippy(toml: &str) -> Vec<Finding> {
    let path = |line: &str| Some(line.split_once("path = \"")?.1.split_once('"')?.0.to_owned());
    let unknown = toml
        .lines()
        .filter_map(path)
        .filter(|path| !BANS.iter().any(|ban| words(path, ban.word).next().is_some()));
    unknown
        .map(|path| {
            let message = format!("`{path}` is banned here, but not in xtask/src/tidy/bans.rs");
            Finding::new("clippy.toml", 0, message)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<usize> {
        check(path, text).into_iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn a_call_past_the_doors_is_found() {
        let text = "use std::time::Instant;\n// Instant::now\nlet t = Instant::now();\n";
        assert_eq!(found("crates/log/src/log.rs", text), [3]);
        assert!(found("crates/runtime/src/clock.rs", text).is_empty());
        assert_eq!(found("crates/log/tests/it/main.rs", text), [3], "tests wait for no clock");
    }

    #[test]
    fn tests_may_read_files() {
        let text = "use std::fs;\n";
        assert_eq!(found("crates/record/src/lib.rs", text), [1]);
        assert!(found("crates/record/tests/it/golden.rs", text).is_empty());
        let unit = "fn f() {}\n#[cfg(test)]\nmod tests {\n    use std::fs;\n}\n";
        assert!(found("crates/record/src/lib.rs", unit).is_empty());
    }

    #[test]
    fn unfinished_work_is_found_everywhere() {
        // In pieces, or this file would be found.
        let word = |parts: [&str; 2]| parts.concat();
        for text in [word(["to", "do!()"]), word(["unimpl", "emented!()"]), word(["#[ig", "nore]"])]
        {
            assert_eq!(found("xtask/src/main.rs", &text), [1], "{text}");
        }
    }

    #[test]
    fn an_exception_has_a_reason() {
        let bare = "#[allow(dead_code)]\nfn f() {}\n";
        assert_eq!(found("crates/log/src/lib.rs", bare), [1]);
        let reasoned = "#![allow(\n    dead_code,\n    reason = \"the oracle counts\"\n)]\n";
        assert!(found("crates/log/src/lib.rs", reasoned).is_empty());
    }

    #[test]
    fn a_machine_does_no_io() {
        let text = "use tokio::sync::Notify;\nasync fn f() {}\n";
        assert_eq!(found("crates/keeper/src/machine/tree.rs", text), [2, 1]);
        assert!(found("crates/keeper/src/shell/log.rs", text).is_empty());
    }

    #[test]
    fn chance_decides_nothing_that_is_simulated() {
        let chance = "tokio::select! {\n    () = a => {}\n}\n";
        assert_eq!(found("crates/server/src/groups.rs", chance), [1]);
        assert!(found("crates/ottla/src/main.rs", chance).is_empty());
        let order = "tokio::select! {\n    // Why so.\n    biased;\n    () = a => {}\n}\n";
        assert!(found("crates/server/src/groups.rs", order).is_empty());
    }

    #[test]
    fn the_list_of_clippy_is_the_same() {
        assert!(clippy("  { path = \"std::time::Instant::now\", reason = \"\" },\n").is_empty());
        assert_eq!(clippy("  { path = \"std::env::var\", reason = \"\" },\n").len(), 1);
    }
}
