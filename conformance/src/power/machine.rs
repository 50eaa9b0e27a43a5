//! A machine whose power can fail: a broker, on a file system, on a drive with a write cache.
//!
//! Owns: the order in which they start and end. Must not know: what clients ask of the broker.
//!
//! The file system is mounted in a mount namespace of this process alone: whatever happens to us, the
//! kernel takes all of it away.

use std::fs::{self, File};
use std::io::{self, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::drive::Asked;
use super::medium::Cut;
use super::volume::Volume;
use crate::Outcome;
use crate::noise::Noise;

/// Room for the data of all cuts.
const DRIVE_BYTES: usize = 1 << 30;
/// A broker that does not serve by then has failed to start. After many cuts it has many logs to
/// recover.
const START_TIMEOUT: Duration = Duration::from_secs(180);
/// The file that the brokers' log goes to.
pub(crate) const LOG: &str = "broker.log";

/// A machine that runs a broker.
pub(crate) struct Machine {
    home: PathBuf,
    binary: PathBuf,
    /// Keys of the broker, as `key=value`.
    keys: Vec<String>,
    broker: Option<Child>,
    volume: Volume,
}

impl Machine {
    /// A machine with an empty file system, switched off. `home` gets what is not on the drive.
    pub(crate) fn new(binary: &Path, keys: Vec<String>, home: &Path) -> Outcome<Self> {
        let binary =
            fs::canonicalize(binary).map_err(|error| format!("{}: {error}", binary.display()))?;
        let volume = Volume::new(home, DRIVE_BYTES)?;
        Ok(Self { home: home.to_owned(), binary, keys, broker: None, volume })
    }

    /// Mounts what is on the drive, and starts the broker there. Returns its `host:port`.
    pub(crate) fn start(&mut self) -> Outcome<String> {
        self.volume.mount()?;
        let mut command = Command::new(&self.binary);
        command.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command.args(["--log-format", "json", "start"]);
        command.args(["--set", "listeners=PLAINTEXT://127.0.0.1:0"]);
        command.arg("--set").arg(format!("log.dirs={}", self.volume.path().join("data").display()));
        // The drive has less room than the broker likes to keep free.
        command.args(["--set", "log.dir.min.free.bytes=0"]);
        for key in &self.keys {
            command.args(["--set", key]);
        }
        let mut broker = command.spawn()?;
        let lines = BufReader::new(broker.stderr.take().ok_or("the log is piped")?);
        self.broker = Some(broker);
        let log = self.home.join(LOG);
        let copy = File::options().create(true).append(true).open(&log)?;
        let (serves, served) = mpsc::channel();
        thread::spawn(move || follow(lines, copy, &serves));
        served.recv_timeout(START_TIMEOUT).map_err(|_| {
            let log = fs::read_to_string(&log).unwrap_or_default();
            let tail: Vec<&str> = log.lines().rev().take(20).collect();
            let tail: Vec<&str> = tail.into_iter().rev().collect();
            format!("the broker did not start:\n{}", tail.join("\n")).into()
        })
    }

    /// The power fails in the middle of the drive's write or flush after `requests` others.
    pub(crate) fn fail(&mut self, requests: u64) -> Outcome<()> {
        self.volume.fail(requests, self.broker.take())
    }

    /// The power returns; of what the drive had not flushed, the dice decide what is left.
    pub(crate) fn repower(&mut self, dice: &mut Noise) -> Cut {
        self.volume.repower(dice)
    }

    pub(crate) fn asked(&self) -> Asked {
        self.volume.asked()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.volume.turn_off(self.broker.as_mut());
    }
}

/// Keeps the log of a broker, and says once where it serves.
fn follow(lines: impl io::BufRead, mut copy: File, serves: &mpsc::Sender<String>) {
    let mut address = None;
    for line in lines.lines().map_while(Result::ok) {
        // A log that cannot be kept changes nothing of the outcome.
        let _ = writeln!(copy, "{line}");
        let event: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
        let fields = &event["fields"];
        match fields["message"].as_str() {
            Some("listening") => address = fields["address"].as_str().map(str::to_owned),
            Some("ready") => {
                // Nobody asks if the start took too long.
                let _ = address.take().map(|address| serves.send(address));
            }
            _ => {}
        }
    }
}
