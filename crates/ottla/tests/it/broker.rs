//! `ottla start` in a process of its own.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Output, Stdio};

/// A directory of a test, removed at its end.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ottla-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("a directory");
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A broker that serves. Dropping it kills it.
pub(crate) struct Broker {
    process: Child,
    pub(crate) address: SocketAddr,
    /// Kept open: a process that cannot log would behave differently.
    log: BufReader<ChildStderr>,
}

fn command(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ottla"));
    command.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command.args(["--log-format", "json", "start", "--set", "listeners=PLAINTEXT://127.0.0.1:0"]);
    command.arg("--set").arg(format!("log.dirs={}", dir.display()));
    command
}

impl Broker {
    /// Starts a broker with its logs in `dir`, and returns when it serves.
    pub(crate) fn start(dir: &Path) -> Self {
        Self::start_with(dir, &[])
    }

    /// The same with `KEY=VALUE` of its configuration.
    pub(crate) fn start_with(dir: &Path, keys: &[String]) -> Self {
        let mut command = command(dir);
        command.args(keys.iter().flat_map(|key| ["--set", key]));
        let mut process = command.spawn().expect("the binary runs");
        let mut log = BufReader::new(process.stderr.take().expect("piped"));
        let mut lines = String::new();
        let mut address = None;
        loop {
            let start = lines.len();
            let read = log.read_line(&mut lines).expect("readable");
            assert!(read > 0, "it did not start:\n{lines}");
            let line: serde_json::Value =
                serde_json::from_str(&lines[start..]).expect("a line of JSON");
            let fields = &line["fields"];
            match fields["message"].as_str() {
                Some("listening") => address = fields["address"].as_str().map(str::to_owned),
                Some("ready") => break,
                _ => {}
            }
        }
        let address = address.expect("it listens").parse().expect("an address");
        Self { process, address, log }
    }

    /// Starts a broker that cannot start, and returns what it left.
    pub(crate) fn fail_to_start(dir: &Path) -> Output {
        command(dir).output().expect("the binary runs")
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Ends the process as a crash does (SIGKILL).
    pub(crate) fn kill(&mut self) {
        self.process.kill().expect("it was running");
        self.process.wait().expect("it ended");
    }

    /// Tells it to stop (SIGTERM), and returns how it ended and what it logged.
    pub(crate) fn stop(mut self) -> (ExitStatus, String) {
        ottla_runtime::process::terminate(self.pid()).expect("it is running");
        let mut log = String::new();
        self.log.read_to_string(&mut log).expect("readable");
        (self.process.wait().expect("it ended"), log)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
