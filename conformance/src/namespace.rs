//! A process with namespaces of its own: what it mounts, and what it makes of networks, is nobody
//! else's, and goes with it whatever happens.

use std::env;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::Outcome;

/// Set for the process inside.
const INSIDE: &str = "OTTLA_CONFORMANCE_INSIDE";

/// What of these devices and programs this machine lacks, or the right to use them and to [`enter`] with
/// these options; `None` if it has everything. Each program comes with what asks it for its version, and
/// its Debian package.
pub(crate) fn missing(
    devices: &[&str],
    programs: &[(&str, &str, &str)],
    options: &[&str],
) -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("it makes file systems or networks, so it has to be root".to_owned());
    }
    if let Some(device) = devices.iter().find(|path| !Path::new(path).exists()) {
        return Some(format!("there is no {device}"));
    }
    let absent = |(program, version, _): &&(&str, &str, &str)| {
        let mut command = Command::new(program);
        command.arg(version).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_err()
    };
    if let Some((program, _, package)) = programs.iter().find(absent) {
        return Some(format!("there is no {program}: apt-get install -y {package}"));
    }
    let tried = run(unshare(options).arg("true")).err()?;
    Some(format!(
        "no namespaces are permitted: run it in a container with CAP_SYS_ADMIN, or in none ({tried})"
    ))
}

fn unshare(options: &[&str]) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private"]).args(options);
    command
}

/// Becomes a process with the namespaces that these options of unshare(1) give it. Returns in there, or
/// with an error.
pub(crate) fn enter(options: &[&str]) -> Outcome<()> {
    if env::var_os(INSIDE).is_some() {
        return Ok(());
    }
    let mut inside = unshare(options);
    inside.arg(env::current_exe()?).args(env::args_os().skip(1)).env(INSIDE, "1");
    Err(format!("unshare: {}", inside.exec()).into())
}

/// Runs a program to its end; what it complains of is the error.
pub(crate) fn run(command: &mut Command) -> Outcome<()> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    Err(format!("{command:?}: {}: {complaint}", output.status).into())
}
