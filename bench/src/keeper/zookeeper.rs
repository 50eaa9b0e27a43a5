//! Apache ZooKeeper: fetched by Maven, with the settings of its `zoo_sample.cfg` and the heap of its
//! `zkServer.sh`. It flushes before it acknowledges, as it does by default.
//!
//! Owns: the artifacts, the configuration and the JVM's arguments. Must not know: how loads work.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::ensemble::Ensemble;
use super::wire;
use crate::process::{Launch, Process, Recipe, free_address, run_tool};
use crate::workspace;

/// The heap of zkEnv.sh, and a logger that says what goes wrong and nothing else.
const JVM: [&str; 2] = ["-Xmx1000m", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"];

/// Fetches `version` into `tools` if it is not there yet, and configures nodes with `settings` beside
/// what is shipped.
pub(crate) fn ensemble(
    version: &str,
    tools: &Path,
    data: &Path,
    nodes: usize,
    settings: &[(&str, &str)],
) -> io::Result<Ensemble> {
    let libs = fetch(version, &tools.join("bench-zookeeper").join(version))?;
    let mut servers = String::new();
    if nodes > 1 {
        for id in 1..=nodes {
            let (follow, elect) = (free_address()?, free_address()?);
            // Infallible: a String takes everything.
            let _ = writeln!(servers, "server.{id}={follow}:{}", elect.port());
        }
    }
    let node = |id: usize| {
        let address = free_address()?;
        let data = data.join(format!("zookeeper-{nodes}-{id}"));
        let config = data.with_extension("cfg");
        let mut text = zoo_cfg(address.port(), &data) + &servers;
        text.extend(settings.iter().map(|(key, value)| format!("{key}={value}\n")));
        fs::write(&config, text)?;
        let mut class_path = OsString::from(&libs);
        class_path.push("/*");
        let mut args: Vec<OsString> = JVM.map(Into::into).into();
        args.extend(["-cp".into(), class_path]);
        args.extend(["org.apache.zookeeper.server.quorum.QuorumPeerMain".into(), config.into()]);
        // A node of several finds its number in its directory.
        let my_id = ["-c", "echo $1 > \"$0/myid\""].map(OsString::from).into_iter();
        let my_id = my_id.chain([data.clone().into(), id.to_string().into()]);
        let format = Launch { program: "sh".into(), args: my_id.collect(), env: Vec::new() };
        Ok(Recipe {
            name: format!("ZooKeeper {id}"),
            address,
            data,
            format: (nodes > 1).then_some(format),
            start: Launch { program: "java".into(), args, env: Vec::new() },
            is_ready: wire::is_ready,
        })
    };
    Ok(Ensemble {
        name: format!("ZooKeeper {version}"),
        nodes: (1..=nodes).map(node).collect::<io::Result<_>>()?,
        found: None,
        is_java: true,
    })
}

/// The directory of the server's jars.
fn fetch(version: &str, directory: &Path) -> io::Result<PathBuf> {
    let libs = directory.join("libs");
    if libs.join(format!("zookeeper-{version}.jar")).exists() {
        return Ok(libs);
    }
    let mut maven = Command::new("mvn");
    maven.args(["--batch-mode", "--quiet", "--file"]);
    maven.arg(workspace().join("conformance/clients/zookeeper/pom.xml"));
    maven.args(["dependency:copy-dependencies", "-DincludeScope=runtime"]);
    maven.arg(format!("-Dzookeeper.version={version}"));
    let mut output = OsString::from("-DoutputDirectory=");
    output.push(&libs);
    run_tool(maven.arg(output))?;
    Ok(libs)
}

/// The shipped zoo_sample.cfg on loopback, with its own paths, any number of connections and without
/// the administrator's web server.
fn zoo_cfg(port: u16, data: &Path) -> String {
    format!(
        "tickTime=2000
initLimit=10
syncLimit=5
dataDir={}
clientPort={port}
clientPortAddress=127.0.0.1
maxClientCnxns=0
admin.enableServer=false
4lw.commands.whitelist=srvr
",
        data.display()
    )
}

/// Collects the garbage of a JVM; what is live in its heap then, in MiB.
pub(crate) fn collect_garbage(process: &Process) -> io::Result<f64> {
    let jcmd = |what| run_tool(Command::new("jcmd").arg(process.id().to_string()).arg(what));
    jcmd("GC.run")?;
    // As in: garbage-first heap   total 104448K, used 3284K [0x00000000c1800000, ...
    let info = jcmd("GC.heap_info")?;
    let used = info.lines().find_map(|line| {
        let (_, used) = line.split_once(" used ")?;
        used.split_once('K')?.0.parse::<f64>().ok()
    });
    used.map(|kib| kib / 1024.0).ok_or_else(|| io::Error::other(format!("jcmd says: {info}")))
}
