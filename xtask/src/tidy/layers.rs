//! Which crate may use which: the rows of ARCHITECTURE.md.

use super::Finding;
use crate::workspace::{Graph, Package};

/// The rows from the lowest up, by folder. A crate uses rows below its own. A new crate gets its
/// place here and in ARCHITECTURE.md; a row is written down before the crate is.
const ROWS: [&[&str]; 7] = [
    &["config", "record", "runtime", "security"],
    &["fake", "keeper", "log", "protocol", "tls"],
    &["connection", "metadata"],
    &["client", "controller", "group", "replication", "transaction"],
    &["coordinator"],
    &["console", "server"],
    &["bench", "conformance", "ottla", "simulation", "xtask"],
];

/// The simulator's doors: only tests stand behind them, and programs that are nothing but tests.
const DEV_ONLY: [&str; 2] = ["fake", "simulation"];
const TESTING: [&str; 2] = ["conformance", "simulation"];

/// Crates without I/O, and what would give it to them, however far down.
const PURE: [&str; 6] = ["config", "group", "protocol", "record", "security", "transaction"];
/// It asks the system which instructions the processor has, on some platforms through `libc`.
const PROCESSOR: &str = "cpufeatures";
const IO: [&str; 7] = ["async-io", "libc", "mio", "ottla-runtime", "rustix", "socket2", "tokio"];

/// The arrows between our own crates.
pub(crate) fn arrows(packages: &[Package]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in packages {
        let user = folder(&package.name);
        let Some(row) = row(user) else {
            findings.push(Finding::of(
                &package.manifest,
                format!(
                    "`{user}` has no row: add it to ROWS in xtask/src/tidy/layers.rs and to \
                     ARCHITECTURE.md"
                ),
            ));
            continue;
        };
        for dependency in package.dependencies.iter().filter(|dependency| dependency.local) {
            let used = folder(&dependency.name);
            let problem = if DEV_ONLY.contains(&used) && !TESTING.contains(&user) {
                // Tests of its own row may use it too.
                (!dependency.dev).then(|| format!("`{used}` is for tests only"))
            } else {
                let below = self::row(used).is_some_and(|used| used < row);
                (!below).then(|| format!("`{used}` is not below `{user}`"))
            };
            findings.extend(problem.map(|problem| Finding::of(&package.manifest, problem)));
        }
    }
    findings
}

/// What the pure crates are linked with.
pub(crate) fn purity(graph: &Graph) -> Vec<Finding> {
    let mut findings = Vec::new();
    for pure in PURE {
        let start = format!("ottla-{pure}");
        let mut ways = vec![vec![start.as_str()]];
        let mut seen = Vec::new();
        while let Some(way) = ways.pop() {
            let last = way[way.len() - 1];
            if IO.contains(&last) {
                let way = way.join(" → ");
                findings.push(Finding::new(
                    "Cargo.lock",
                    0,
                    format!("`{pure}` is pure, but {way}"),
                ));
            }
            if last == PROCESSOR {
                continue;
            }
            for next in graph.get(last).into_iter().flatten() {
                if !seen.contains(&next) {
                    seen.push(next);
                    ways.push([way.as_slice(), &[next]].concat());
                }
            }
        }
    }
    findings
}

fn folder(package: &str) -> &str {
    package.strip_prefix("ottla-").unwrap_or(package)
}

fn row(folder: &str) -> Option<usize> {
    ROWS.iter().position(|row| row.contains(&folder))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Dependency;

    fn found(user: &str, used: &str, dev: bool) -> Vec<String> {
        let dependency = Dependency { name: used.to_owned(), dev, local: true };
        let package =
            Package { name: user.to_owned(), dependencies: vec![dependency], ..Package::default() };
        arrows(&[package]).into_iter().map(|finding| finding.message).collect()
    }

    #[test]
    fn arrows_point_down() {
        assert!(found("ottla-server", "ottla-log", false).is_empty());
        assert!(found("ottla", "ottla-server", false).is_empty());
        assert!(found("ottla-log", "ottla-fake", true).is_empty(), "tests may stand on its row");
        assert_eq!(found("ottla-log", "ottla-server", false), ["`server` is not below `log`"]);
        assert_eq!(found("ottla-log", "ottla-server", true), ["`server` is not below `log`"]);
        assert_eq!(found("ottla-log", "ottla-protocol", false), ["`protocol` is not below `log`"]);
        assert_eq!(found("ottla-server", "ottla-fake", false), ["`fake` is for tests only"]);
        assert!(found("ottla-conformance", "ottla-fake", false).is_empty(), "it is tests only");
        assert_eq!(found("ottla-log", "ottla-util", false), ["`util` is not below `log`"]);
    }

    #[test]
    fn a_crate_without_a_row_is_told_where_to_get_one() {
        let [problem] = &found("ottla-util", "ottla-record", false)[..] else { panic!("one") };
        assert!(problem.contains("xtask/src/tidy/layers.rs"), "{problem}");
    }

    #[test]
    fn a_pure_crate_reaches_no_io_however_far_down() {
        let edge = |from: &str, to: &[&str]| {
            (from.to_owned(), to.iter().map(|&name| name.to_owned()).collect())
        };
        let clean = [edge("ottla-record", &["zstd"]), edge("zstd", &[]), edge("tokio", &["mio"])];
        assert!(purity(&Graph::from(clean)).is_empty());
        let hash = [edge("ottla-record", &["sha2"]), edge("sha2", &["cpufeatures"])];
        let hash = hash.into_iter().chain([edge("cpufeatures", &["libc"])]);
        assert!(purity(&hash.collect()).is_empty(), "it asks about the processor");
        let deep =
            [edge("ottla-record", &["zstd"]), edge("zstd", &["jobs"]), edge("jobs", &["libc"])];
        let findings = purity(&Graph::from(deep));
        let [finding] = &findings[..] else { panic!("{findings:?}") };
        assert_eq!(finding.message, "`record` is pure, but ottla-record → zstd → jobs → libc",);
    }
}
