//! `cargo xtask tidy`: what the compiler and clippy do not see.

mod apis;
mod bans;
mod layers;
mod pages;
mod sizes;
mod source;

use std::fmt;
use std::fs;
use std::path::Path;

use crate::mutants;
use crate::workspace::{self, Workspace};

/// Something to mend.
#[derive(Debug)]
struct Finding {
    /// From the root of the checkout.
    path: String,
    /// From 1; 0 is the file as a whole.
    line: usize,
    message: String,
}

impl Finding {
    fn new(path: &str, line: usize, message: String) -> Self {
        Self { path: path.to_owned(), line, message }
    }

    fn of(path: &Path, message: String) -> Self {
        Self::new(&path.to_string_lossy(), 0, message)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path, self.message),
            line => write!(f, "{}:{line}: {}", self.path, self.message),
        }
    }
}

/// Checks the whole checkout; with `update` it first rewrites what it can: the ratchet, only
/// lower, and the page of APIs.
pub(crate) fn run(root: &Path, update: bool) -> Result<(), String> {
    let workspace = Workspace::read(root)?;
    let root = &workspace.root;
    let read =
        |path: &Path| fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()));
    let mut findings = layers::arrows(&workspace.packages);
    findings.extend(layers::purity(&workspace::graph(root)?));
    findings.extend(bans::clippy(&read(&root.join("clippy.toml"))?));
    for package in &workspace.packages {
        findings.extend(pages::manifest(package, &read(&package.manifest)?));
        findings.extend(pages::module_doc(package, &read(&package.entry)?));
    }

    findings.extend(mutants::stale(root)?.iter().map(|patch| {
        Finding::of(patch, "the mutant does not fit the code any more: make it anew".to_owned())
    }));

    let mut measured = sizes::Sizes::new();
    for path in workspace::files(root)? {
        // What is not text has no words.
        let Ok(text) = fs::read_to_string(root.join(&path)) else { continue };
        findings.extend(pages::places(&path, &text));
        if path.ends_with(".md") {
            findings.extend(pages::links(root, &path, &text));
        }
        if path.ends_with(".rs") {
            findings.extend(bans::check(&path, &text));
            sizes::measure(&path, &text, &mut measured);
        }
    }
    let write = |path: &str, text: &str| {
        fs::write(root.join(path), text).map_err(|e| format!("{path}: {e}"))
    };
    let page = apis::page(root, &read(&root.join(apis::DISPATCH))?)?;
    let mut committed = sizes::parse(&read(&root.join(sizes::RATCHET))?)?;
    if update {
        let lowered = sizes::lowered(&committed, &measured);
        write(sizes::RATCHET, &lowered)?;
        write(apis::PAGE, &page)?;
        committed = sizes::parse(&lowered)?;
    }
    findings.extend(apis::check(fs::read_to_string(root.join(apis::PAGE)).ok().as_deref(), &page));
    findings.extend(sizes::check(&committed, &measured));
    report(root, &findings)
}

fn report(root: &Path, findings: &[Finding]) -> Result<(), String> {
    let prefix = format!("{}/", root.display());
    for finding in findings {
        println!("{}", finding.to_string().replace(&prefix, ""));
    }
    match findings.len() {
        0 => Ok(()),
        n => Err(format!("tidy: {n} to mend")),
    }
}
