//! A machine that runs a keeper: its place in the network, its disk, its clock.
//!
//! Owns: the process, and what can happen to it. Must not know: who leads, when something happens.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

use super::network;
use crate::Outcome;
use crate::namespace::run;
use crate::noise::Noise;
use crate::power::Volume;

/// Room for log and snapshots of a run.
const DISK_BYTES: usize = 64 << 20;
/// What is tried first of the free room, and the least.
const BALLAST_MAX: u64 = 32 << 20;
const BALLAST_MIN: u64 = 1 << 10;
/// A keeper that has not stopped by then hangs.
const STOP_TIME: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(5);
/// The library that moves a process's clock, and where the offset stands.
const CLOCK_SOURCE: &str = include_str!("clock.c");
const CLOCK_FILE: &str = "clock";

/// What all keepers of a quorum share.
pub(super) struct Plan {
    pub(super) binary: PathBuf,
    /// As `--voters` has them.
    pub(super) voters: String,
    /// The library that moves a clock.
    pub(super) clock: PathBuf,
}

impl Plan {
    pub(super) fn new(binary: &Path, keepers: usize, home: &Path) -> Outcome<Self> {
        let binary =
            fs::canonicalize(binary).map_err(|error| format!("{}: {error}", binary.display()))?;
        let (source, clock) = (home.join("clock.c"), home.join("clock.so"));
        fs::write(&source, CLOCK_SOURCE)?;
        run(Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&clock).arg(source))?;
        let voters: Vec<_> =
            (1..=keepers).map(|id| format!("{id}@{}", network::peer(id))).collect();
        Ok(Self { binary, voters: voters.join(","), clock })
    }

    /// A tool's command, from the place of the clients.
    pub(super) fn tool(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.arg("keeper").args(words);
        command
    }
}

/// A keeper's machine.
pub(super) struct Host {
    id: usize,
    home: PathBuf,
    volume: Volume,
    child: Option<Child>,
    clock: File,
}

impl Host {
    /// A machine with an empty disk, switched off.
    pub(super) fn new(id: usize, home: &Path) -> Outcome<Self> {
        let home = home.join(format!("keeper-{id}"));
        let volume = Volume::new(&home, DISK_BYTES)?;
        let clock = File::create(home.join(CLOCK_FILE))?;
        clock.write_all_at(&0_i64.to_ne_bytes(), 0)?;
        Ok(Self { id, home, volume, child: None, clock })
    }

    /// Starts the keeper on what its disk has; does not wait for it.
    pub(super) fn start(&mut self, plan: &Plan) -> Outcome<()> {
        self.volume.mount()?;
        let log = File::options().create(true).append(true).open(self.home.join("log"))?;
        let mut command = network::at(self.id);
        command.env_clear().env("LD_PRELOAD", &plan.clock);
        command.env("CLOCK_OFFSET_FILE", self.home.join(CLOCK_FILE));
        command.arg(&plan.binary).args(["keeper", "start", "--id", &self.id.to_string()]);
        command.args(["--voters", &plan.voters, "--min-session-timeout", "1000"]);
        command.args(["--listener", &network::server(self.id).to_string(), "--data-dir"]);
        command.arg(self.volume.path().join("data"));
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.child = Some(command.spawn()?);
        Ok(())
    }

    /// How the process ended, if it did so by itself.
    pub(super) fn ended(&mut self) -> Outcome<Option<ExitStatus>> {
        let Some(child) = &mut self.child else { return Ok(None) };
        let status = child.try_wait()?;
        if status.is_some() {
            self.child = None;
        }
        Ok(status)
    }

    /// By SIGKILL. What the process wrote is with the kernel, and stays.
    pub(super) fn kill(&mut self) -> Outcome<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// By SIGTERM.
    pub(super) fn stop(&mut self) -> Outcome<()> {
        self.signal("-TERM")?;
        let deadline = Instant::now() + STOP_TIME;
        while self.child.is_some() && self.ended()?.is_none() {
            if Instant::now() > deadline {
                return Err(format!("keeper {} does not stop", self.id).into());
            }
            thread::sleep(LOOK);
        }
        Ok(())
    }

    pub(super) fn pause(&self) -> Outcome<()> {
        self.signal("-STOP")
    }

    pub(super) fn resume(&self) -> Outcome<()> {
        self.signal("-CONT")
    }

    fn signal(&self, signal: &str) -> Outcome<()> {
        match &self.child {
            Some(child) => run(Command::new("kill").args([signal, &child.id().to_string()])),
            None => Ok(()),
        }
    }

    /// The power fails in the middle of the disk's write or flush after `requests` others.
    pub(super) fn fail(&mut self, requests: u64) -> Outcome<()> {
        self.volume.fail(requests, self.child.take())
    }

    /// The power returns; of what was not flushed, the dice decide what is left. Tells how many of the
    /// disk's writes were not flushed.
    pub(super) fn repower(&mut self, dice: &mut Noise) -> usize {
        let cut = self.volume.repower(dice);
        cut.lost + cut.torn + cut.kept
    }

    /// Somebody else takes all the room that there is.
    pub(super) fn fill(&self) -> Outcome<()> {
        let ballast = File::create(self.ballast())?;
        let (mut end, mut size) = (0, BALLAST_MAX);
        while size >= BALLAST_MIN {
            match fallocate(&ballast, FallocateFlags::empty(), end, size) {
                Ok(()) => end += size,
                Err(Errno::NOSPC) => size /= 2,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Whether somebody has taken the room.
    pub(super) fn is_full(&self) -> bool {
        self.ballast().exists()
    }

    /// And gives it back.
    pub(super) fn free(&self) -> Outcome<()> {
        Ok(fs::remove_file(self.ballast())?)
    }

    fn ballast(&self) -> PathBuf {
        self.volume.path().join("ballast")
    }

    /// The wall clock is so much before its time.
    pub(super) fn set_clock(&self, ms: i64) -> Outcome<()> {
        Ok(self.clock.write_all_at(&ms.to_ne_bytes(), 0)?)
    }

    /// The end of what the keeper has logged.
    pub(super) fn log(&self) -> String {
        let log = fs::read_to_string(self.home.join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(8)..].join("\n")
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.volume.turn_off(self.child.as_mut());
    }
}
