//! `cargo xtask readme`: what the README tells a newcomer to try, tried.
//!
//! Commands are the lines of its `console` blocks that begin with `$ `; what follows a command is
//! what it has to print. They run one after the other in one shell each, against a new broker.

use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::workspace::{Workspace, output};

/// The address in the README. Here the broker has a free port of its own.
const ADDRESS: &str = "localhost:9092";
/// A broker that takes no connection by then has failed to start.
const START: Duration = Duration::from_secs(30);

#[derive(Debug, PartialEq)]
struct Step {
    command: String,
    prints: String,
}

/// Needs `ottla` in the profile of CI, and kcat.
pub(crate) fn run(root: &Path) -> Result<(), String> {
    let workspace = Workspace::read(root)?;
    let page = fs::read_to_string(workspace.root.join("README.md")).map_err(|e| e.to_string())?;
    let steps = steps(&page);
    if steps.is_empty() {
        return Err("README.md has no console block".to_owned());
    }
    let broker = Broker::start(&workspace)?;
    for step in &steps {
        println!("$ {}", step.command);
        let command = step.command.replace(ADDRESS, &broker.address);
        let mut shell = Command::new("bash");
        shell.args(["-euo", "pipefail", "-c", &command]).stdin(Stdio::null());
        shell.env("PATH", broker.path()?).env("OTTLA_BOOTSTRAP", &broker.address);
        let printed = output(&mut shell)?;
        print!("{printed}");
        if printed != step.prints {
            return Err(format!("the README promises otherwise:\n{}", step.prints));
        }
    }
    Ok(())
}

fn steps(page: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut inside = false;
    for line in page.lines() {
        if line.starts_with("```") {
            inside = line == "```console";
        } else if inside && let Some(command) = line.strip_prefix("$ ") {
            steps.push(Step { command: command.to_owned(), prints: String::new() });
        } else if inside && let Some(step) = steps.last_mut() {
            step.prints += line;
            step.prints.push('\n');
        }
    }
    steps
}

/// A broker on a free port and an empty directory. It ends with the value.
struct Broker {
    process: Child,
    address: String,
    /// Where its program is.
    programs: std::path::PathBuf,
}

impl Broker {
    fn start(workspace: &Workspace) -> Result<Self, String> {
        let failed = |e: std::io::Error| format!("cannot start the broker: {e}");
        let programs = workspace.target.join("ci");
        let data = workspace.target.join("readme");
        if data.exists() {
            fs::remove_dir_all(&data).map_err(failed)?;
        }
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|l| l.local_addr());
        let address = free.map_err(failed)?.to_string();
        let mut command = Command::new(programs.join("ottla"));
        command.arg("start").env("OTTLA_LISTENERS", format!("PLAINTEXT://{address}"));
        command.env("OTTLA_LOG_DIRS", &data).stdin(Stdio::null());
        let process = command.spawn().map_err(failed)?;
        let mut broker = Self { process, address, programs };
        broker.await_connection()?;
        Ok(broker)
    }

    fn await_connection(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + START;
        while TcpStream::connect(&self.address).is_err() {
            let ended = self.process.try_wait().map_err(|e| e.to_string())?;
            if ended.is_some() || Instant::now() > deadline {
                return Err("the broker did not start".to_owned());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn path(&self) -> Result<std::ffi::OsString, String> {
        let before = std::env::var_os("PATH").unwrap_or_default();
        let all = std::iter::once(self.programs.clone()).chain(std::env::split_paths(&before));
        std::env::join_paths(all).map_err(|e| e.to_string())
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_found_with_what_they_print() {
        let page = "```sh\n$ not this\n```\n```console\n$ a | b\nx\n\ny\n$ c\n```\n$ nor this\n\
            ```console\n$ d\nz\n```\n";
        let step = |command: &str, prints: &str| Step {
            command: command.to_owned(),
            prints: prints.to_owned(),
        };
        assert_eq!(steps(page), [step("a | b", "x\n\ny\n"), step("c", ""), step("d", "z\n")]);
    }
}
