//! Manifests, the module docs of crates, and what any file says of places.

use std::path::Path;

use super::Finding;
use crate::workspace::Package;

/// The tools around the product; their crates' docs need no borders.
const TOOLS: [&str; 3] = ["ottla-bench", "ottla-conformance", "xtask"];

/// Paths of the machines that we work on. In two parts, or this file would be found.
const PLACES: [&str; 5] = [
    concat!("/ro", "ot/"),
    concat!("/ho", "me/"),
    concat!("/Us", "ers/"),
    concat!("/wo", "rk/"),
    concat!("shared/", "spec"),
];

/// The fields that every manifest takes from the workspace.
pub(crate) fn manifest(package: &Package, text: &str) -> Vec<Finding> {
    let mut problems = Vec::new();
    if package.licence != "Apache-2.0" {
        problems.push(format!("the licence is {:?}, not Apache-2.0", package.licence));
    }
    for field in ["version", "edition", "rust-version", "license", "publish"] {
        if !text.contains(&format!("\n{field}.workspace = true\n")) {
            problems.push(format!("`{field}` does not come from the workspace"));
        }
    }
    if !text.contains("[lints]\nworkspace = true\n") {
        problems.push("the lints do not come from the workspace".to_owned());
    }
    problems.into_iter().map(|problem| Finding::of(&package.manifest, problem)).collect()
}

/// A crate begins by saying what it owns and what it must not know.
pub(crate) fn module_doc(package: &Package, entry: &str) -> Vec<Finding> {
    if TOOLS.contains(&&*package.name) {
        return Vec::new();
    }
    let doc = entry.lines().map_while(|line| line.strip_prefix("//!"));
    let doc = doc.map(str::trim).collect::<Vec<_>>().join(" ");
    let missing = ["Owns", "Must not know"].into_iter().filter(|words| !doc.contains(words));
    let finding =
        |words| Finding::of(&package.entry, format!("the crate's doc does not say {words:?}"));
    missing.map(finding).collect()
}

/// No file names a place that only we have.
pub(crate) fn places(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for place in PLACES.iter().filter(|place| line.contains(*place)) {
            findings.push(Finding::new(path, number + 1, format!("{place:?} is a place of ours")));
        }
    }
    findings
}

/// Links of Markdown pages lead to files that are there.
pub(crate) fn links(root: &Path, path: &str, text: &str) -> Vec<Finding> {
    let directory = root.join(path).parent().map(Path::to_owned).unwrap_or_default();
    let mut findings = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let targets = line.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
        for (target, _) in targets {
            let file = target.split('#').next().unwrap_or_default();
            if !target.contains("://") && !file.is_empty() && !directory.join(file).exists() {
                findings.push(Finding::new(path, number + 1, format!("no such file: {file}")));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = "[package]\nname = \"a\"\nversion.workspace = true\n\
        edition.workspace = true\nrust-version.workspace = true\nlicense.workspace = true\n\
        publish.workspace = true\n\n[lints]\nworkspace = true\n";

    fn package(licence: &str) -> Package {
        Package { licence: licence.to_owned(), ..Package::default() }
    }

    #[test]
    fn a_manifest_takes_its_fields_from_the_workspace() {
        assert!(manifest(&package("Apache-2.0"), MANIFEST).is_empty());
        assert_eq!(manifest(&package("MIT"), MANIFEST).len(), 1);
        let own = MANIFEST.replace("[lints]\nworkspace = true\n", "");
        assert_eq!(manifest(&package("Apache-2.0"), &own).len(), 1);
        let own = MANIFEST.replace("edition.workspace = true", "edition = \"2021\"");
        assert_eq!(manifest(&package("Apache-2.0"), &own).len(), 1);
    }

    #[test]
    fn a_crate_states_its_borders_even_over_a_line_break() {
        let stated = "//! A log.\n//!\n//! Owns: files. Must not\n//! know: requests.\n";
        assert!(module_doc(&package(""), stated).is_empty());
        assert_eq!(
            module_doc(&package(""), "//! A log.\nfn f() {} // Owns Must not know").len(),
            2
        );
    }

    #[test]
    fn places_are_found_by_line() {
        let text = format!("fine\nsee {}x\n", PLACES[0]);
        assert_eq!(places("a.md", &text).iter().map(|f| f.line).collect::<Vec<_>>(), [2]);
        assert!(places("a.md", "the tree's root/ and work/").is_empty());
    }

    #[test]
    fn a_dead_link_is_found() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let text = "[a](Cargo.toml#x), [b](https://kafka.apache.org), [c](#here)\n[d](gone.md)\n";
        let findings = links(root, "page.md", text);
        assert_eq!(findings.iter().map(|f| f.line).collect::<Vec<_>>(), [2]);
    }
}
