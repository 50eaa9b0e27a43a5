//! A machine whose power can fail: a broker, on a file system, on a drive with a write cache.
//!
//! Owns: the order in which they start and end. Must not know: what clients ask of the broker.
//!
//! The file system is ext4 on a loop device on the drive's file. It is mounted in a mount namespace of
//! this process alone: whatever happens to us, the kernel takes all of it away.

use std::fs::{self, File};
use std::io::{BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;
use std::{env, io};

use super::drive::{self, Asked, Drive};
use super::medium::Cut;
use crate::Outcome;
use crate::noise::Noise;

/// Room for the data of all cuts. Only what is written takes memory.
const DRIVE_BYTES: usize = 1 << 30;
/// A broker that does not serve by then has failed to start. After many cuts it has many logs to
/// recover.
const START_TIMEOUT: Duration = Duration::from_secs(180);
/// How long a drive waits for the request that the power is to fail in.
const IDLE: Duration = Duration::from_millis(300);
/// The file that the brokers' log goes to.
pub(crate) const LOG: &str = "broker.log";
/// Set for the process that has its own mount namespace.
const INSIDE: &str = "OTTLA_POWER_INSIDE";
/// The programs of util-linux and e2fsprogs that are run.
const PROGRAMS: [&str; 4] = ["unshare", "mount", "umount", "mkfs.ext4"];

/// What this machine lacks for such a test; `None` if it has everything.
pub(crate) fn missing() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("it mounts file systems, so it has to be root".to_owned());
    }
    let devices = [drive::DEVICE, "/dev/loop-control"];
    let device = devices.into_iter().find(|path| !Path::new(path).exists());
    let absent = |program: &&str| {
        let mut version = Command::new(program);
        version.arg("-V").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        version.status().is_err()
    };
    device.or_else(|| PROGRAMS.into_iter().find(absent)).map(|what| format!("there is no {what}"))
}

/// Becomes a process with a mount namespace of its own. Returns in there, or with an error.
pub(crate) fn enter_namespace() -> Outcome<()> {
    if env::var_os(INSIDE).is_some() {
        return Ok(());
    }
    let mut inside = Command::new("unshare");
    inside.args(["--mount", "--propagation", "private"]);
    inside.arg(env::current_exe()?).args(env::args_os().skip(1)).env(INSIDE, "1");
    Err(format!("unshare: {}", inside.exec()).into())
}

/// A machine that runs a broker.
pub(crate) struct Machine {
    home: PathBuf,
    binary: PathBuf,
    /// Keys of the broker, as `key=value`.
    keys: Vec<String>,
    broker: Option<Child>,
    drive: Drive,
}

impl Machine {
    /// A machine with an empty file system, switched off. `home` gets what is not on the drive.
    pub(crate) fn new(binary: &Path, keys: Vec<String>, home: &Path) -> Outcome<Self> {
        let binary =
            fs::canonicalize(binary).map_err(|error| format!("{}: {error}", binary.display()))?;
        fs::create_dir_all(home.join("mnt"))?;
        let drive = Drive::new(&home.join("drive"), DRIVE_BYTES)?;
        // All of it now, rather than by a thread of the kernel when it is mounted.
        let whole = "lazy_itable_init=0,lazy_journal_init=0,nodiscard";
        run(Command::new("mkfs.ext4").args(["-q", "-F", "-E", whole]).arg(drive.path()))?;
        Ok(Self { home: home.to_owned(), binary, keys, broker: None, drive })
    }

    /// Mounts what is on the drive, and starts the broker there. Returns its `host:port`.
    pub(crate) fn start(&mut self) -> Outcome<String> {
        let mount = self.home.join("mnt");
        run(Command::new("mount")
            .args(["-t", "ext4", "-o", "loop"])
            .arg(self.drive.path())
            .arg(&mount))?;
        let mut command = Command::new(&self.binary);
        command.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command.args(["--log-format", "json", "start"]);
        command.args(["--set", "listeners=PLAINTEXT://127.0.0.1:0"]);
        command.arg("--set").arg(format!("log.dirs={}", mount.join("data").display()));
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
        self.drive.fail(requests, IDLE);
        if let Some(mut broker) = self.broker.take() {
            // From here on it does nothing any more: it takes no answer of the drive's for a success.
            broker.kill()?;
            self.drive.turn_off();
            broker.wait()?;
        }
        self.unmount()
    }

    /// The power returns; of what the drive had not flushed, the dice decide what is left.
    pub(crate) fn repower(&mut self, dice: &mut Noise) -> Cut {
        self.drive.turn_on(dice)
    }

    pub(crate) fn asked(&self) -> Asked {
        self.drive.asked()
    }

    /// With the last mount the loop device goes, and the pages that the kernel kept of it.
    fn unmount(&self) -> Outcome<()> {
        run(Command::new("umount").arg(self.home.join("mnt")))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Some(broker) = &mut self.broker {
            // It may have ended by itself; so may the mount.
            let _ = broker.kill();
            self.drive.turn_off();
            let _ = broker.wait();
        }
        self.drive.turn_off();
        let _ = self.unmount();
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

fn run(command: &mut Command) -> Outcome<()> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let program = command.get_program().to_string_lossy().into_owned();
    Err(format!("{program}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr)).into())
}
