//! The broker under test: one that runs already, Ottla's binary, or Apache Kafka as the reference.
//!
//! Owns: the process and its data directory; both end with the value. Must not know: suites.

use std::env;
use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::install::Tools;

/// A broker that takes no connection by then has failed to start.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// A broker that has not stopped by then hangs.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);
const PROBE_INTERVAL: Duration = Duration::from_millis(20);
const KAFKA_HEAP_MIB: u32 = 512;
/// Any id will do for a cluster of one.
const CLUSTER_ID: &str = "b3R0bGEtY29uZm9ybWFuYw";

/// What a suite runs against.
pub(crate) enum Target {
    /// A broker that runs already, as `host:port`.
    Running(String),
    /// The path of an `ottla` binary.
    Ottla(PathBuf),
    /// A version of Apache Kafka out of [`crate::install::KAFKA`].
    Kafka(&'static str),
}

/// A broker that takes connections.
pub(crate) struct Broker {
    /// As `host:port`.
    pub(crate) bootstrap: String,
    /// `None` if it ran already.
    _node: Option<Node>,
}

impl Broker {
    /// Starts the target on an empty data directory and a free port of the loopback.
    pub(crate) fn start(target: &Target, tools: &Tools) -> Outcome<Self> {
        if let Target::Running(bootstrap) = target {
            return Ok(Self { bootstrap: bootstrap.clone(), _node: None });
        }
        let mut node = Node::new(target, tools, &[])?;
        node.start()?;
        Ok(Self { bootstrap: node.bootstrap.clone(), _node: Some(node) })
    }
}

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// By SIGTERM, when everything is written.
    Clean,
    /// By SIGKILL, in the middle of things.
    Killed,
}

/// A broker that can be stopped and started again on what it left behind.
pub(crate) struct Node {
    /// As `host:port`.
    pub(crate) bootstrap: String,
    home: PathBuf,
    command: Command,
    child: Option<Child>,
}

impl Node {
    /// Prepares the target for its first start, on an empty data directory and a free port of the
    /// loopback, with `keys` of Kafka's configuration.
    pub(crate) fn new(target: &Target, tools: &Tools, keys: &[(&str, &str)]) -> Outcome<Self> {
        Self::of(|address, home| match target {
            Target::Kafka(version) => kafka(version, address, home, tools, keys),
            Target::Ottla(binary) => ottla(binary, address, home, keys),
            Target::Running(_) => Err("that broker runs already, and elsewhere".into()),
        })
    }

    /// Prepares another server, which `command` starts on an address and in a directory of its own.
    pub(crate) fn of(command: impl FnOnce(&str, &Path) -> Outcome<Command>) -> Outcome<Self> {
        let port = free_port()?;
        let bootstrap = format!("127.0.0.1:{port}");
        let home = env::temp_dir().join(format!("ottla-conformance-{port}"));
        if home.exists() {
            // Of a run that was killed.
            fs::remove_dir_all(&home)?;
        }
        fs::create_dir_all(&home)?;
        let command = command(&bootstrap, &home)?;
        Ok(Self { bootstrap, home, command, child: None })
    }

    /// The log directory.
    pub(crate) fn data(&self) -> PathBuf {
        self.home.join("data")
    }

    /// Whether it was started, and not stopped since.
    pub(crate) fn is_running(&self) -> bool {
        self.child.is_some()
    }

    /// The directory of this node, which the log directory and all else of it are in.
    pub(crate) fn home(&self) -> &Path {
        &self.home
    }

    /// Another program from the next start on, on the same address and directory.
    pub(crate) fn replace(&mut self, command: Command) {
        self.command = command;
    }

    /// Sends a signal to the process, if there is one.
    pub(crate) fn signal(&self, signal: &str) -> Outcome<()> {
        let Some(child) = &self.child else { return Err("there is no process".into()) };
        let status = Command::new("kill").args([signal, &child.id().to_string()]).status()?;
        if status.success() { Ok(()) } else { Err(format!("kill {signal}: {status}").into()) }
    }

    /// Starts the process, and waits until it takes connections.
    pub(crate) fn start(&mut self) -> Outcome<()> {
        let path = self.home.join("broker.log");
        let log = File::options().create(true).append(true).open(&path)?;
        let command = self.command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = self.child.insert(command.spawn()?);
        let deadline = Instant::now() + START_TIMEOUT;
        while TcpStream::connect(&self.bootstrap).is_err() {
            if child.try_wait()?.is_some() || Instant::now() > deadline {
                let log = fs::read_to_string(path)?;
                return Err(format!("the broker did not start:\n{log}").into());
            }
            thread::sleep(PROBE_INTERVAL);
        }
        Ok(())
    }

    /// Ends the process, if there is one, and waits until it has ended.
    pub(crate) fn stop(&mut self, end: End) -> Outcome<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        if end == End::Killed {
            child.kill()?;
            child.wait()?;
            return Ok(());
        }
        Command::new("kill").args(["-TERM", &child.id().to_string()]).status()?;
        let deadline = Instant::now() + STOP_TIMEOUT;
        while child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                self.child = Some(child);
                return Err("the broker did not stop".into());
            }
            thread::sleep(PROBE_INTERVAL);
        }
        Ok(())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Both fail only if the process has ended already, and a data directory left behind in the
        // directory for temporary files does no harm.
        let _ = self.stop(End::Killed);
        let _ = fs::remove_dir_all(&self.home);
    }
}

/// Ottla takes its configuration keys from the environment.
fn ottla(binary: &Path, address: &str, home: &Path, keys: &[(&str, &str)]) -> Outcome<Command> {
    let binary =
        fs::canonicalize(binary).map_err(|error| format!("{}: {error}", binary.display()))?;
    let mut command = Command::new(binary);
    command.arg("start").env("OTTLA_LISTENERS", format!("PLAINTEXT://{address}"));
    command.env("OTTLA_LOG_DIRS", home.join("data"));
    for (key, value) in keys {
        command.env(format!("OTTLA_{}", key.to_uppercase().replace('.', "_")), value);
    }
    Ok(command)
}

/// One node that is broker and controller.
fn kafka(
    version: &str,
    address: &str,
    home: &Path,
    tools: &Tools,
    keys: &[(&str, &str)],
) -> Outcome<Command> {
    let controller = free_port()?;
    let properties = home.join("server.properties");
    let mut text = format!(
        "process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://{address},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://{address}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={}
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
log.initial.task.delay.ms=0
",
        home.join("data").display()
    );
    for (key, value) in keys {
        text += &format!("{key}={value}\n");
    }
    fs::write(&properties, text)?;
    let format = tools
        .java(version, KAFKA_HEAP_MIB, "kafka.tools.StorageTool")
        .args(["format", "-t", CLUSTER_ID, "-c"])
        .arg(&properties)
        .stdout(Stdio::null())
        .status()?;
    if !format.success() {
        return Err(format!("formatting the storage of Kafka {version}: {format}").into());
    }
    let mut command = tools.java(version, KAFKA_HEAP_MIB, "kafka.Kafka");
    command.arg(properties);
    Ok(command)
}

/// A port of the loopback that nobody listens on.
pub(crate) fn free_port() -> Outcome<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// Looks until there is what is looked for.
pub(crate) fn poll<T>(what: &str, mut look: impl FnMut() -> Outcome<Option<T>>) -> Outcome<T> {
    let deadline = Instant::now() + START_TIMEOUT;
    loop {
        match look()? {
            Some(found) => return Ok(found),
            None if Instant::now() > deadline => {
                return Err(format!("waited {} s for {what}", START_TIMEOUT.as_secs()).into());
            }
            None => thread::sleep(PROBE_INTERVAL),
        }
    }
}
