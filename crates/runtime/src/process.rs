//! This process and others on the same machine.

use std::io;
use std::path::Path;

/// Raises the soft limit of open files to the hard one and returns it; `None` is "no limit".
pub fn raise_file_limit() -> io::Result<Option<u64>> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    }
    Ok(limit.maximum)
}

/// How many files and sockets the process may have open.
#[must_use]
pub fn file_limit() -> u64 {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current.unwrap_or(u64::MAX)
}

/// Asks the process `pid` to end (SIGTERM).
pub fn terminate(pid: u32) -> io::Result<()> {
    let pid = rustix::process::Pid::from_raw(pid as i32)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "0 is no process id"))?;
    Ok(rustix::process::kill_process(pid, rustix::process::Signal::TERM)?)
}

/// Whether the process `pid` exists.
#[must_use]
pub fn is_running(pid: u32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}

/// The process that listens on TCP `port`, as `name (pid N)`, where the system lets us see it.
#[must_use]
pub fn listener_of_port(port: u16) -> Option<String> {
    let inodes = listening_inodes(port);
    for process in std::fs::read_dir("/proc").ok()?.flatten() {
        let name = process.file_name();
        let Some(pid) = name.to_str().filter(|n| n.bytes().all(|b| b.is_ascii_digit())) else {
            continue;
        };
        let Ok(descriptors) = std::fs::read_dir(process.path().join("fd")) else { continue };
        for descriptor in descriptors.flatten() {
            let Ok(target) = std::fs::read_link(descriptor.path()) else { continue };
            let target = target.to_string_lossy();
            let inode = target.strip_prefix("socket:[").and_then(|t| t.strip_suffix(']'));
            if inode.is_some_and(|inode| inodes.iter().any(|i| i == inode)) {
                let command = std::fs::read_to_string(process.path().join("comm"));
                let command = command.unwrap_or_default();
                return Some(format!("{} (pid {pid})", command.trim()));
            }
        }
    }
    None
}

fn listening_inodes(port: u16) -> Vec<String> {
    const LISTEN: &str = "0A";
    let suffix = format!(":{port:04X}");
    let mut inodes = Vec::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        for line in std::fs::read_to_string(table).unwrap_or_default().lines().skip(1) {
            let columns: Vec<&str> = line.split_whitespace().collect();
            if let [_, local, _, LISTEN, _, _, _, _, _, inode, ..] = columns[..]
                && local.ends_with(&suffix)
            {
                inodes.push(inode.to_owned());
            }
        }
    }
    inodes
}
