//! The foreign clients: fetched by their own package managers, at the versions pinned beside them.
//!
//! Owns: `target/tools`. Each tool has a stamp, the text of all that it was made from: a tool whose
//! stamp is still true is left alone, so a second run needs no network. Must not know: suites.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Outcome;

/// The Java client and the broker to compare with: the last release that knew ZooKeeper, and the
/// newest one.
pub(crate) const KAFKA: [&str; 2] = ["3.9.2", "4.4.0"];

/// The command-line tools. Those of 4.4.0 were not published.
pub(crate) const KAFKA_TOOLS: [&str; 2] = ["3.9.2", "4.3.1"];

/// The version of Apache ZooKeeper that the keeper is compared with.
pub(crate) const ZOOKEEPER: &str = "3.9.5";

/// ZooKeeper as Debian has it: package `zookeeper`, which brings what its manifest asks for.
pub(crate) const DEBIAN_ZOOKEEPER: &str = "/usr/share/java/zookeeper.jar";

/// Where the clients are, once installed.
pub(crate) struct Tools {
    /// The sources: `conformance` in the repository.
    source: PathBuf,
    /// `target/tools` in the repository.
    installed: PathBuf,
}

impl Tools {
    /// Installs what is missing or made from other sources than today's.
    pub(crate) fn install() -> Outcome<Self> {
        let source = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let installed = source.join("../target/tools");
        fs::create_dir_all(&installed)?;
        let tools = Self { source, installed: fs::canonicalize(installed)? };
        tools.install_python()?;
        tools.install_node()?;
        tools.install_go("go", "go")?;
        for version in KAFKA {
            tools.install_java(version)?;
        }
        for version in KAFKA_TOOLS {
            tools.install_java(version)?;
        }
        tools.install_zookeeper()?;
        tools.install_go("zookeeper-go", "zookeeper/go")?;
        tools.install_rust()?;
        // kcat comes from the system's package manager, which is not ours to call.
        match Command::new("kcat").arg("-V").output() {
            Ok(_) => Ok(tools),
            Err(error) => {
                Err(format!("kcat does not start ({error}): apt-get install -y kcat").into())
            }
        }
    }

    /// A Python program under `clients`.
    pub(crate) fn python(&self, program: &str) -> Command {
        let mut command = Command::new(self.installed.join("python/bin/python"));
        command.arg(self.source.join("clients").join(program));
        command
    }

    /// The kafkajs client.
    pub(crate) fn node(&self) -> Command {
        let mut command = Command::new("node");
        command.arg("--no-warnings").arg(self.installed.join("node/client.mjs"));
        command
    }

    /// The franz-go client.
    pub(crate) fn go(&self) -> Command {
        Command::new(self.installed.join("go/client"))
    }

    /// A class of Apache Kafka's jars, or our `Client`, in a JVM with a heap of `heap_mib`.
    pub(crate) fn java(&self, version: &str, heap_mib: u32, class: &str) -> Command {
        let home = self.installed.join("java").join(version);
        let mut command = Command::new("java");
        command
            .arg(format!("-Xmx{heap_mib}m"))
            // Of such short lives the better part is the start.
            .args(["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
            .args(["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp"])
            .arg(format!("{}/libs/*:{}/classes", home.display(), home.display()))
            .arg(class);
        command
    }

    /// A JVM with the jars of ZooKeeper and our clients of it: options and a class are to follow.
    pub(crate) fn zookeeper(&self) -> Command {
        let home = self.installed.join("zookeeper");
        jvm(&format!("{}/libs/*:{}/classes", home.display(), home.display()))
    }

    /// A JVM with Debian's ZooKeeper: options and a class are to follow.
    pub(crate) fn debian_zookeeper() -> Outcome<Command> {
        if !Path::new(DEBIAN_ZOOKEEPER).exists() {
            return Err(format!("no {DEBIAN_ZOOKEEPER}: apt-get install -y zookeeper").into());
        }
        Ok(jvm(DEBIAN_ZOOKEEPER))
    }

    /// The go-zookeeper client.
    pub(crate) fn zookeeper_go(&self) -> Command {
        Command::new(self.installed.join("zookeeper-go/client"))
    }

    /// The zookeeper-client client.
    pub(crate) fn zookeeper_rust(&self) -> Command {
        Command::new(self.installed.join("zookeeper-rust/debug/ottla-conformance-zookeeper"))
    }

    fn install_python(&self) -> Outcome<()> {
        let requirements = self.source.join("requirements.txt");
        self.make("python", &[&requirements], |home| {
            run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(home))?;
            run(Command::new(home.join("bin/pip"))
                .args(["install", "--quiet", "--no-deps", "--disable-pip-version-check", "-r"])
                .arg(&requirements))
        })
    }

    fn install_node(&self) -> Outcome<()> {
        let sources = ["package.json", "package-lock.json", "client.mjs"]
            .map(|name| self.source.join("clients/node").join(name));
        self.make("node", &sources.each_ref().map(PathBuf::as_path), |home| {
            // A module finds its packages beside itself.
            for source in &sources {
                fs::copy(source, home.join(source.file_name().unwrap_or_default()))?;
            }
            run(Command::new("npm").args(["ci", "--silent", "--no-audit"]).current_dir(home))
        })
    }

    /// The client `name` of the module in `directory` of `clients`.
    fn install_go(&self, name: &str, directory: &str) -> Outcome<()> {
        let module = self.source.join("clients").join(directory);
        let sources = ["go.mod", "go.sum", "main.go"].map(|name| module.join(name));
        self.make(name, &sources.each_ref().map(PathBuf::as_path), |home| {
            run(Command::new("go")
                .args(["build", "-o"])
                .arg(home.join("client"))
                .arg(".")
                .current_dir(&module))
        })
    }

    fn install_java(&self, version: &str) -> Outcome<()> {
        let java = self.source.join("clients/java");
        let (pom, client) = (java.join("pom.xml"), java.join("Client.java"));
        self.make(&format!("java/{version}"), &[&pom, &client], |home| {
            let libs = home.join("libs");
            let mut maven = Command::new("mvn");
            maven.args(["--batch-mode", "--quiet", "dependency:copy-dependencies"]);
            maven.arg("--file").arg(&pom).arg(format!("-Dkafka.version={version}"));
            maven.arg(format!("-DoutputDirectory={}", libs.display()));
            if KAFKA_TOOLS.contains(&version) {
                maven.arg("-Ptools");
            }
            run(&mut maven)?;
            run(Command::new("javac")
                .arg("-d")
                .arg(home.join("classes"))
                .arg("-cp")
                .arg(libs.join("*"))
                .arg(&client))
        })
    }

    fn install_zookeeper(&self) -> Outcome<()> {
        let sources = ["pom.xml", "Cli", "Native", "Recipes", "Relay", "Sessions", "Transcript"]
            .map(|name| match name {
                "pom.xml" => self.source.join("clients/zookeeper/pom.xml"),
                class => self.source.join(format!("clients/zookeeper/java/{class}.java")),
            });
        let version = format!("-Dzookeeper.version={ZOOKEEPER}");
        self.make("zookeeper", &sources.each_ref().map(PathBuf::as_path), |home| {
            let libs = home.join("libs");
            let mut maven = Command::new("mvn");
            maven.args(["--batch-mode", "--quiet", "dependency:copy-dependencies"]);
            maven.arg("--file").arg(&sources[0]).arg(&version);
            run(maven.arg(format!("-DoutputDirectory={}", libs.display())))?;
            run(Command::new("javac")
                .arg("-nowarn")
                .arg("-d")
                .arg(home.join("classes"))
                .arg("-cp")
                .arg(libs.join("*"))
                .args(&sources[1..]))
        })
    }

    fn install_rust(&self) -> Outcome<()> {
        let package = self.source.join("clients/zookeeper/rust");
        let sources = ["Cargo.toml", "Cargo.lock", "src/main.rs"].map(|name| package.join(name));
        self.make("zookeeper-rust", &sources.each_ref().map(PathBuf::as_path), |home| {
            run(Command::new("cargo")
                .args(["build", "--locked", "--quiet", "--manifest-path"])
                .arg(&sources[0])
                .arg("--target-dir")
                .arg(home))
        })
    }

    /// Makes the tool `name` in its own directory unless its stamp says that it is there.
    fn make(
        &self,
        name: &str,
        sources: &[&Path],
        build: impl FnOnce(&Path) -> Outcome<()>,
    ) -> Outcome<()> {
        let home = self.installed.join(name);
        let stamp_file = home.join(".made-from");
        let mut stamp = String::new();
        for source in sources {
            stamp.push_str(&fs::read_to_string(source)?);
        }
        if fs::read_to_string(&stamp_file).is_ok_and(|made_from| made_from == stamp) {
            return Ok(());
        }
        eprintln!("installing {}", home.display());
        if home.exists() {
            fs::remove_dir_all(&home)?;
        }
        fs::create_dir_all(&home)?;
        build(&home)?;
        Ok(fs::write(stamp_file, stamp)?)
    }
}

/// A JVM for a short life, of which the better part is the start.
fn jvm(class_path: &str) -> Command {
    let mut command = Command::new("java");
    command.args(["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]).args([
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
        "-cp",
        class_path,
    ]);
    command
}

fn run(command: &mut Command) -> Outcome<()> {
    let status = command
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .status()
        .map_err(|error| format!("{command:?}: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{command:?}: {status}").into()) }
}
