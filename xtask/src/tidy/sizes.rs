//! Sizes of files and functions, and the ratchet: `xtask/ratchet.txt`.
//!
//! The ratchet lists what is over the limit, with its present number. A number only falls, a line
//! only goes away; there is no reason that adds one.

use std::collections::BTreeMap;

use super::Finding;
use super::source::{code, functions};

/// Where the numbers are kept, from the root.
pub(crate) const RATCHET: &str = "xtask/ratchet.txt";
const FILE_LINES: usize = 600;
const FUNCTION_LINES: usize = 70;

/// Written by `cargo xtask codegen`: their size is the schemas'.
const GENERATED: [&str; 2] = ["crates/protocol/src/messages/", "crates/protocol/tests/it/fill.rs"];

/// What is over a limit: `file PATH` or `fn PATH NAME`, and how many lines it has.
pub(crate) type Sizes = BTreeMap<String, usize>;

/// Adds to `sizes` what is over the limits in the Rust file `path`.
pub(crate) fn measure(path: &str, text: &str, sizes: &mut Sizes) {
    if GENERATED.iter().any(|generated| path.starts_with(generated)) {
        return;
    }
    let lines = text.lines().count();
    if lines > FILE_LINES {
        sizes.insert(format!("file {path}"), lines);
    }
    for function in functions(&code(text)) {
        if function.lines > FUNCTION_LINES {
            let name = format!("fn {path} {}", function.name);
            // Methods of several types share a name: each has its own line.
            let nth = |n: usize| if n == 1 { name.clone() } else { format!("{name}#{n}") };
            let free = (1..).map(nth).find(|name| !sizes.contains_key(name));
            sizes.extend(free.map(|name| (name, function.lines)));
        }
    }
}

/// The committed numbers.
pub(crate) fn parse(text: &str) -> Result<Sizes, String> {
    let entries = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let entry = |line: &str| {
        let (name, lines) = line.rsplit_once(' ')?;
        Some((name.to_owned(), lines.parse().ok()?))
    };
    entries.map(|line| entry(line).ok_or_else(|| format!("{RATCHET}: {line:?}"))).collect()
}

/// What grew, what is new, and what fell without the ratchet following.
pub(crate) fn check(committed: &Sizes, measured: &Sizes) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut find = |message: String| findings.push(Finding::new(RATCHET, 0, message));
    for (name, &lines) in measured {
        match committed.get(name) {
            None => find(format!("{name} has {lines} lines: split it (limits: {LIMITS})")),
            Some(&before) if before < lines => {
                find(format!("{name} grew from {before} to {lines} lines: split it"));
            }
            Some(&before) if before > lines => {
                find(format!("{name} fell from {before} to {lines} lines: {FOLLOW}"));
            }
            Some(_) => {}
        }
    }
    for name in committed.keys().filter(|name| !measured.contains_key(*name)) {
        find(format!("{name} is within the limits: {FOLLOW}"));
    }
    findings
}

/// The ratchet as it should be committed: never higher, never longer.
pub(crate) fn lowered(committed: &Sizes, measured: &Sizes) -> String {
    let mut text = format!(
        "# What is over the limits ({LIMITS}), with its present number.\n\
         # Numbers fall and lines go: `cargo xtask tidy --update`. Nothing is added.\n"
    );
    for (name, &before) in committed {
        if let Some(&lines) = measured.get(name) {
            text += &format!("{name} {}\n", before.min(lines));
        }
    }
    text
}

const LIMITS: &str = "a file 600 lines, a function 70";
const FOLLOW: &str = "run `cargo xtask tidy --update`";

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes<const N: usize>(entries: [(&str, usize); N]) -> Sizes {
        entries.map(|(name, lines)| (name.to_owned(), lines)).into()
    }

    #[test]
    fn long_files_and_functions_are_measured() {
        let long = format!("fn long() {{\n{}}}\n", "    // }\n    f();\n".repeat(35));
        let brief = format!("fn brief() {{\n{}}}\n", "    f();\n".repeat(68));
        let mut measured = Sizes::new();
        measure("a.rs", &format!("{long}{brief}{long}"), &mut measured);
        assert_eq!(measured, sizes([("fn a.rs long", 72), ("fn a.rs long#2", 72)]));
        measured.clear();
        measure("b.rs", &"\n".repeat(601), &mut measured);
        measure("c.rs", &"\n".repeat(600), &mut measured);
        measure("crates/protocol/src/messages/table.rs", &"\n".repeat(900), &mut measured);
        assert_eq!(measured, sizes([("file b.rs", 601)]));
    }

    #[test]
    fn the_ratchet_only_falls() {
        let committed = sizes([("file a.rs", 700), ("file b.rs", 700), ("file c.rs", 700)]);
        let measured = sizes([("file a.rs", 701), ("file b.rs", 650), ("file d.rs", 601)]);
        let messages: Vec<String> =
            check(&committed, &measured).into_iter().map(|finding| finding.message).collect();
        let begins =
            ["file a.rs grew", "file b.rs fell", "file d.rs has 601", "file c.rs is within"];
        assert_eq!(messages.len(), begins.len(), "{messages:?}");
        for (message, begin) in messages.iter().zip(begins) {
            assert!(message.starts_with(begin), "{message}");
        }
        let text = lowered(&committed, &measured);
        assert_eq!(parse(&text), Ok(sizes([("file a.rs", 700), ("file b.rs", 650)])));
        assert!(check(&measured, &measured).is_empty());
    }

    #[test]
    fn a_line_that_cannot_be_read_is_an_error() {
        assert!(parse("file a.rs many\n").is_err());
    }
}
