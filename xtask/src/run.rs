//! Running one command of a suite: bounded in time, shown as it runs, and kept.

use std::ffi::{OsStr, OsString};
use std::io::{self, BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A program with its arguments and what it finds in its environment.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    program: OsString,
    args: Vec<OsString>,
    env: Vec<(String, String)>,
}

/// What a command did.
pub(crate) struct Ran {
    /// Why it is no success, in a few words.
    pub(crate) failure: Option<String>,
    /// What this machine lacks to run it: then it is neither a success nor a failure.
    pub(crate) not_run: Option<String>,
    pub(crate) took: Duration,
    /// Standard output and error, as they came.
    pub(crate) output: String,
}

/// With this exit status a command says that it cannot run here (automake's convention), and why in
/// its last line, after [`NOT_RUN`].
const CANNOT_RUN: i32 = 77;
const NOT_RUN: &str = "not run: ";
/// With this exit status `timeout` says that it had to end the command.
const TIMED_OUT: i32 = 124;

impl Line {
    pub(crate) fn new(program: impl Into<OsString>) -> Self {
        Self { program: program.into(), args: Vec::new(), env: Vec::new() }
    }

    /// The cargo that runs us.
    pub(crate) fn cargo() -> Self {
        Self::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
    }

    pub(crate) fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    pub(crate) fn env(mut self, env: &[(&str, &str)]) -> Self {
        self.env.extend(env.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())));
        self
    }

    /// Runs it in `directory`, for `limit` at most: then it ends, with all that it started.
    pub(crate) fn run(&self, directory: &Path, limit: Option<Duration>) -> io::Result<Ran> {
        let started = Instant::now();
        let (reader, writer) = io::pipe()?;
        let mut command = self.command(limit);
        command.current_dir(directory).stdin(Stdio::null());
        let mut child = command.stdout(writer.try_clone()?).stderr(writer).spawn()?;
        // It holds the other end of the pipe, which would then never end.
        drop(command);
        let mut output = String::new();
        for line in BufReader::new(reader).split(b'\n') {
            let line = String::from_utf8_lossy(&line?).into_owned();
            println!("{line}");
            output += &line;
            output.push('\n');
        }
        let status = child.wait()?;
        let took = started.elapsed();
        let last = output.lines().last().and_then(|line| line.strip_prefix(NOT_RUN));
        let not_run = last.filter(|_| status.code() == Some(CANNOT_RUN)).map(str::to_owned);
        let failure = match (status.code(), limit) {
            (Some(0), _) => None,
            _ if not_run.is_some() => None,
            (Some(TIMED_OUT), Some(limit)) => Some(format!("over {} s", limit.as_secs())),
            _ => Some(status.to_string()),
        };
        Ok(Ran { failure, not_run, took, output })
    }

    fn command(&self, limit: Option<Duration>) -> Command {
        let mut command = match limit {
            Some(limit) => {
                let mut timeout = Command::new("timeout");
                timeout.args(["--kill-after=10", &limit.as_secs().to_string()]).arg(&self.program);
                timeout
            }
            None => Command::new(&self.program),
        };
        command.args(&self.args).envs(self.env.iter().map(|(key, value)| (key, value)));
        command
    }
}

/// As one would type it.
impl std::fmt::Display for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (key, value) in &self.env {
            write!(f, "{key}={value} ")?;
        }
        let program = Path::new(&self.program).file_name().unwrap_or(&self.program);
        write!(f, "{}", program.to_string_lossy())?;
        self.args.iter().try_for_each(|arg| write!(f, " {}", arg.to_string_lossy()))
    }
}

/// How many tests the runs of libtest in `output` passed.
pub(crate) fn tests_passed(output: &str) -> usize {
    let passed = |line: &str| -> Option<usize> {
        let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
        counts.split_once(" passed")?.0.parse().ok()
    };
    output.lines().filter_map(passed).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, limit_s: u64) -> Ran {
        let line = Line::new("sh").args(["-c", script]).env(&[("WORD", "there")]);
        line.run(Path::new("/"), Some(Duration::from_secs(limit_s))).expect("sh and timeout start")
    }

    #[test]
    fn what_a_command_says_and_how_it_ends_are_kept() {
        let ran = shell("echo hello; echo $WORD >&2", 60);
        assert_eq!((ran.failure, &*ran.output), (None, "hello\nthere\n"));
        assert_eq!(shell("exit 3", 60).failure.as_deref(), Some("exit status: 3"));
    }

    #[test]
    fn a_command_that_cannot_run_here_says_why() {
        let ran = shell("echo some; echo not run: no such device; exit 77", 60);
        assert_eq!((ran.failure, ran.not_run.as_deref()), (None, Some("no such device")));
        let ran = shell("exit 77", 60);
        assert_eq!((ran.failure.as_deref(), ran.not_run), (Some("exit status: 77"), None));
        assert_eq!(shell("echo not run: it was; exit 0", 60).not_run, None);
    }

    #[test]
    fn a_command_ends_with_its_time() {
        assert_eq!(shell("cat /dev/zero > /dev/null", 1).failure.as_deref(), Some("over 1 s"));
    }

    #[test]
    fn tests_are_counted_over_all_binaries() {
        let output = "test a ... ok\n\ntest result: ok. 3 passed; 0 failed; 0 ignored;\n\
            test result: ok. 0 passed; 0 failed;\ntest result: FAILED. 2 passed; 1 failed;\n";
        assert_eq!(tests_passed(output), 5);
        assert_eq!(tests_passed("running 0 tests\n"), 0);
    }
}
