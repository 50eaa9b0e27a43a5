//! Apache Kafka: fetched by Maven, one node that is broker and controller, settings as shipped.
//!
//! Owns: the artifacts, the configuration and the JVM's arguments. Must not know: how loads work.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::{Launch, Recipe, free_address, run_tool};
use crate::wire;

/// The last release of the line that still has ZooKeeper, and the newest one.
pub(crate) const VERSIONS: [&str; 2] = ["3.9.2", "4.4.0"];

/// The JVM's arguments of bin/kafka-server-start.sh and bin/kafka-run-class.sh.
const JVM: [&str; 9] = [
    "-Xmx1G",
    "-Xms1G",
    "-server",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
    "-XX:MaxInlineLevel=15",
    "-Djava.awt.headless=true",
];

/// Any id will do for a cluster of one; a fixed one saves a start of the JVM.
const CLUSTER_ID: &str = "b3R0bGEtYmVuY2gta2Fmaw";

/// Fetches `version` into `tools` if it is not there yet, and configures a node with `data` and
/// with `settings` beside what is shipped.
pub(crate) fn recipe(
    version: &str,
    tools: &Path,
    data: &Path,
    settings: &[(&str, &str)],
) -> io::Result<Recipe> {
    let libs = fetch(version, &tools.join("kafka").join(version))?;
    let address = free_address()?;
    let data = data.join(format!("kafka-{version}"));
    let properties = data.with_extension("properties");
    fs::create_dir_all(data.parent().unwrap_or(&data))?;
    let mut text = server_properties(address.port(), free_address()?.port(), &data);
    text.extend(settings.iter().map(|(key, value)| format!("{key}={value}\n")));
    fs::write(&properties, text)?;
    let mut class_path = OsString::from(libs);
    class_path.push("/*");
    let java = |jvm: &[&str], class: &str, args: &[OsString]| {
        let mut all: Vec<OsString> = jvm.iter().map(OsString::from).collect();
        all.extend(["-cp".into(), class_path.clone(), class.into()]);
        all.extend_from_slice(args);
        Launch { program: "java".into(), args: all, env: Vec::new() }
    };
    let format = ["format", "-t", CLUSTER_ID, "-c"].map(OsString::from);
    let format = [&format[..], &[properties.clone().into()]].concat();
    Ok(Recipe {
        name: format!("Kafka {version}"),
        address,
        format: Some(java(&[], "kafka.tools.StorageTool", &format)),
        start: java(&JVM, "kafka.Kafka", &[properties.into()]),
        data,
        is_ready: wire::is_ready,
    })
}

/// The directory of the broker's jars.
fn fetch(version: &str, directory: &Path) -> io::Result<PathBuf> {
    let libs = directory.join("libs");
    if libs.join(format!("kafka_2.13-{version}.jar")).exists() {
        return Ok(libs);
    }
    fs::create_dir_all(directory)?;
    let pom = directory.join("pom.xml");
    fs::write(&pom, project(version))?;
    let mut maven = Command::new("mvn");
    maven.args(["--batch-mode", "--quiet", "--file"]).arg(&pom);
    maven.args(["dependency:copy-dependencies", "-DincludeScope=runtime"]);
    let mut output = OsString::from("-DoutputDirectory=");
    output.push(&libs);
    run_tool(maven.arg(output))?;
    Ok(libs)
}

/// A Maven project that depends on the broker and on nothing else. The interfaces of the command
/// line tools are left out: the broker does without, and 4.4.0 was published without them.
fn project(version: &str) -> String {
    format!(
        r#"<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>ottla</groupId>
  <artifactId>bench-kafka</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId>
      <artifactId>kafka_2.13</artifactId>
      <version>{version}</version>
      <exclusions>
        <exclusion>
          <groupId>org.apache.kafka</groupId>
          <artifactId>kafka-tools-api</artifactId>
        </exclusion>
      </exclusions>
    </dependency>
  </dependencies>
</project>
"#
    )
}

/// The shipped config/server.properties of a combined node, on loopback and with its own paths.
fn server_properties(port: u16, controller_port: u16, data: &Path) -> String {
    format!(
        "process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
num.network.threads=3
num.io.threads=8
socket.send.buffer.bytes=102400
socket.receive.buffer.bytes=102400
socket.request.max.bytes=104857600
log.dirs={data}
num.partitions=1
num.recovery.threads.per.data.dir=1
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
log.retention.hours=168
log.segment.bytes=1073741824
log.retention.check.interval.ms=300000
",
        data = data.display()
    )
}
