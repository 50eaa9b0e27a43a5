//! A broker as a process: how it is started and stopped, and what the operating system says that it costs.
//!
//! Owns: the child process, its data directory, readings from /proc. Must not know: loads.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// A broker that has not answered by then has failed to start: recovery may take its time.
const START_TIMEOUT: Duration = Duration::from_secs(180);
/// One that has not ended by then was not asked in a way that it understands.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);
/// The grain of the start-up time.
const PROBE_INTERVAL: Duration = Duration::from_micros(500);
/// Linux reports CPU times in hundredths of a second on every architecture.
const TICKS_PER_SECOND: f64 = 100.0;

/// A program, its arguments and its environment.
pub(crate) struct Launch {
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<OsString>,
    pub(crate) env: Vec<(String, OsString)>,
}

impl Launch {
    fn command(&self, output: &Path) -> io::Result<Command> {
        let log = File::create(output)?;
        let mut command = Command::new(&self.program);
        command.args(&self.args).envs(self.env.iter().map(|(key, value)| (key, value)));
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Ok(command)
    }
}

/// How to start a broker on an empty data directory.
pub(crate) struct Recipe {
    pub(crate) name: String,
    pub(crate) address: SocketAddr,
    /// Emptied before each first start.
    pub(crate) data: PathBuf,
    /// Run on the empty directory before the start, and not timed.
    pub(crate) format: Option<Launch>,
    pub(crate) start: Launch,
    /// Whether a first request is answered at that address.
    pub(crate) is_ready: fn(SocketAddr) -> io::Result<bool>,
}

impl Recipe {
    /// Starts the broker on nothing; it has answered a first request when this returns.
    pub(crate) fn start(&self) -> io::Result<Process> {
        self.clear()?;
        self.resume()
    }

    /// Empties the data directory, and formats it where that is needed.
    pub(crate) fn clear(&self) -> io::Result<()> {
        match fs::remove_dir_all(&self.data) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => fs::create_dir_all(&self.data)?,
        }
        let output = self.data.with_extension("out");
        if let Some(format) = &self.format
            && !format.command(&output)?.status()?.success()
        {
            return Err(self.failure("could not format its storage", &output));
        }
        Ok(())
    }

    /// Starts the broker on the data that it left; it has answered a first request when this
    /// returns.
    pub(crate) fn resume(&self) -> io::Result<Process> {
        let mut process = self.spawn()?;
        self.await_answer(&mut process)?;
        Ok(process)
    }

    /// Starts the broker on the data that it left, and waits for nothing.
    pub(crate) fn spawn(&self) -> io::Result<Process> {
        let mut command = self.start.command(&self.data.with_extension("out"))?;
        let spawned_at = Instant::now();
        let child = command.spawn()?;
        Ok(Process { child, address: self.address, spawned_at, start_up: Duration::ZERO })
    }

    /// Waits until it has answered a first request.
    pub(crate) fn await_answer(&self, process: &mut Process) -> io::Result<()> {
        let output = self.data.with_extension("out");
        while !(self.is_ready)(self.address).unwrap_or(false) {
            if process.child.try_wait()?.is_some() {
                return Err(self.failure("ended", &output));
            }
            if process.spawned_at.elapsed() > START_TIMEOUT {
                return Err(self.failure("does not answer", &output));
            }
            thread::sleep(PROBE_INTERVAL);
        }
        process.start_up = process.spawned_at.elapsed();
        Ok(())
    }

    fn failure(&self, what: &str, output: &Path) -> io::Error {
        let said = fs::read_to_string(output).unwrap_or_default();
        let said: Vec<&str> = said.lines().rev().take(10).collect();
        let said: Vec<&str> = said.into_iter().rev().collect();
        io::Error::other(format!("{} {what}:\n{}", self.name, said.join("\n")))
    }
}

/// A running broker; killed when dropped, for its data is worth nothing.
pub(crate) struct Process {
    child: Child,
    pub(crate) address: SocketAddr,
    pub(crate) spawned_at: Instant,
    /// From the spawn to the first answer.
    pub(crate) start_up: Duration,
}

impl Process {
    /// User and system CPU seconds since the start, of all threads.
    pub(crate) fn cpu_seconds(&self) -> io::Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The second field is the name in parentheses and may hold blanks; utime is the 14th.
        let ticks: Option<f64> = stat.rsplit_once(')').and_then(|(_, fields)| {
            let mut fields = fields.split_whitespace().skip(11);
            Some(fields.next()?.parse::<f64>().ok()? + fields.next()?.parse::<f64>().ok()?)
        });
        ticks
            .map(|ticks| ticks / TICKS_PER_SECOND)
            .ok_or_else(|| io::Error::other(format!("unexpected /proc stat line: {stat}")))
    }

    /// Resident memory now, in MiB.
    pub(crate) fn rss_mib(&self) -> io::Result<f64> {
        self.status_mib("VmRSS:")
    }

    /// The largest resident memory since the start, in MiB.
    pub(crate) fn peak_rss_mib(&self) -> io::Result<f64> {
        self.status_mib("VmHWM:")
    }

    fn status_mib(&self, field: &str) -> io::Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let kib = status.lines().find_map(|line| {
            line.strip_prefix(field)?.split_whitespace().next()?.parse::<f64>().ok()
        });
        kib.map(|kib| kib / 1024.0)
            .ok_or_else(|| io::Error::other(format!("no {field} in /proc status")))
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to end and waits until it has; how long that took. To drop it is to kill it.
    pub(crate) fn stop(mut self) -> io::Result<Duration> {
        let asked_at = Instant::now();
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("the kernel's ids are positive"), Signal::TERM)?;
        while self.child.try_wait()?.is_none() {
            if asked_at.elapsed() > STOP_TIMEOUT {
                return Err(io::Error::other(format!("not stopped after {STOP_TIMEOUT:?}")));
            }
            thread::sleep(PROBE_INTERVAL);
        }
        Ok(asked_at.elapsed())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only when the process has already gone.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Moves all threads of a process in and out of SCHED_FIFO, so that a busy machine's run queue is
/// not what a latency measures. False where the operating system does not permit it.
pub(crate) fn set_real_time(pid: u32, on: bool) -> bool {
    let policy = if on { ["--fifo", "--pid", "10"] } else { ["--other", "--pid", "0"] };
    let mut chrt = Command::new("chrt");
    chrt.arg("--all-tasks").args(policy).arg(pid.to_string());
    chrt.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// A loopback address whose port was free a moment ago.
pub(crate) fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

/// Runs a tool to its end; its standard output, or what it complained about.
pub(crate) fn run_tool(command: &mut Command) -> io::Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .map_err(|error| io::Error::new(error.kind(), format!("{program}: {error}")))?;
    if !output.status.success() {
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        return Err(io::Error::other(format!("{program} failed ({}):\n{said}", output.status)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
