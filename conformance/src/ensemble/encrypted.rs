//! Brokers whose connections with ZooKeeper are encrypted, by Kafka's own keys.
//!
//! Owns: what Kafka and Ottla make of one file with `zookeeper.ssl.*`, of stores that `keytool` made;
//! and what Ottla says where such a file is wrong.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use ottla_metadata::{ZooKeeper, ZooKeeperOptions};
use ottla_runtime::{World, task};

use super::{Look, Place, create_topic, moves, ottla_with, properties, say};
use crate::Outcome;
use crate::broker::{End, Node};
use crate::install::Tools;
use crate::numbers::{self, Writer, succeed};
use crate::zookeeper::Ensemble;

/// Of all stores (`crates/security/tests/data/make.sh`).
const PASSWORD: &str = "secret1";

/// The name in the certificate that the brokers show, and with it their scheme.
const OWNER: &str = "x509:CN=broker-1,O=Ottla";

/// Returns how many checks failed.
pub(super) fn run(binary: &Path, tools: &Tools) -> Outcome<usize> {
    let servers = [store("server.p12")?, store("trust.jks")?];
    let (mut ensemble, secure) =
        Ensemble::encrypted(tools, servers.each_ref().map(PathBuf::as_path), PASSWORD)?;
    let plain = ensemble.connect_string();
    let keys = Keys::right()?;
    let mut place = Place::new(binary, tools, format!("{secure}/moved"))?;
    place.keys = keys.text();
    place.look = Look::at(&format!("{plain}/moved"))?;
    let mut failures = moves(&place, |_, _| Ok(()))?;
    say("Kafka, Ottla and Kafka again encrypt their connections with ZooKeeper by one file");
    failures += restart(binary, tools, &mut ensemble, &secure, &keys)?;
    failures += refusals(binary, &secure, &plain)?;
    Ok(failures)
}

/// The server is killed and comes back, the nodes belong to who made them, and a tool reads them.
fn restart(
    binary: &Path,
    tools: &Tools,
    ensemble: &mut Ensemble,
    secure: &str,
    keys: &Keys,
) -> Outcome<usize> {
    let plain = format!("{}/again", ensemble.connect_string());
    let connect = format!("{secure}/again");
    let config = |address: &str, home: &Path| properties(&connect, &keys.text(), address, home);
    let mut broker = Node::of(|address, home| Ok(ottla_with(binary, &config(address, home)?)))?;
    broker.start()?;
    let bootstrap = broker.bootstrap.clone();
    Look::at(&plain)?.registered(0)?;
    numbers::create(tools, &bootstrap, 1)?;
    let mut writer = Writer::start(tools, &bootstrap, 0)?;
    writer.await_more()?;
    ensemble.kill(0)?;
    writer.await_more()?;
    ensemble.restart(0)?;
    create_topic(binary, &bootstrap, "after-a-restart")?;
    writer.await_more()?;
    let mut failures =
        super::compare(tools, &bootstrap, &writer.stop()?, "ZooKeeper was restarted")?;
    broker.stop(End::Clean)?;
    let owner = owner(&plain, "/brokers/topics/after-a-restart")?;
    if owner == [format!("{OWNER}:31"), "world:anyone:1".to_owned()] {
        say(&format!("what Ottla makes with zookeeper.set.acl belongs to {OWNER}"));
    } else {
        println!("FAILED ensemble: a node that Ottla made belongs to {owner:?}");
        failures += 1;
    }
    let directory = broker.home().join("imported");
    let import = succeed(
        Command::new(binary)
            .args(["keeper", "import", "--from", &connect, "--data-dir"])
            .arg(&directory)
            .arg("--zk-tls-config-file")
            .arg(broker.home().join("server.properties")),
    )?;
    if import.contains(" nodes, as of zxid") {
        say("ottla keeper import reads the tree by the broker's own file");
    } else {
        println!("FAILED ensemble: ottla keeper import said: {import}");
        failures += 1;
    }
    Ok(failures)
}

/// Who may do what with a node.
fn owner(connect: &str, path: &str) -> Outcome<Vec<String>> {
    let options = ZooKeeperOptions::new(connect.parse()?);
    task::block_on(async {
        let tree = ZooKeeper::connect(&World::system(), options).await?;
        let list = tree.acl_all(vec![path.to_owned()]).await.pop().ok_or("no answer")??;
        let list = list.ok_or("there is no such node")?;
        let told = list
            .iter()
            .map(|acl| format!("{}:{}:{}", acl.identity.scheme, acl.identity.id, acl.permissions));
        Ok(told.collect())
    })?
}

/// Starts that fail, each with what it says.
fn refusals(binary: &Path, secure: &str, plain: &str) -> Outcome<usize> {
    let right = Keys::right()?;
    let foreign = store("self-signed.pem")?.display().to_string();
    let by_name = secure.replace("127.0.0.1", "localhost");
    let cases = [
        (
            secure,
            right.with("truststore.location", ""),
            "set zookeeper.ssl.truststore.location too",
        ),
        (secure, right.with("truststore.location", &foreign), "not issued by any"),
        (secure, right.with("keystore.location", "").without_acl(), "servers want a certificate"),
        (secure, right.with("keystore.location", &foreign), "has to hold who issued the one in"),
        (secure, right.with("keystore.password", "secret2"), "its password is another one"),
        (secure, right.with("enabled.protocols", "TLSv1.3"), ""),
        (&by_name, right.with("protocol", "TLSv1.3"), "its certificate is about other hosts"),
        // It hangs up, as a server that is just stopping does, and is tried again for a while.
        (plain, right.with("protocol", "TLSv1.3").in_a_hurry(), "the servers' secureClientPort"),
    ];
    let mut failures = 0;
    for (connect, keys, expected) in cases {
        let more = keys.text();
        let mut broker = Node::of(|address, home| {
            Ok(ottla_with(binary, &properties(connect, &more, address, home)?))
        })?;
        let told = broker.start().err().map(|error| error.to_string()).unwrap_or_default();
        let is_right = match expected {
            "" => told.is_empty(),
            expected => told.contains(expected) && !told.contains(PASSWORD),
        };
        if is_right {
            let what = if expected.is_empty() { "a start by TLSv1.3" } else { expected };
            say(&format!("with {}: {what}", keys.changed()));
        } else {
            println!("FAILED ensemble: with {} a start said: {told}", keys.changed());
            failures += 1;
        }
    }
    Ok(failures)
}

/// A store that `keytool` made.
fn store(name: &str) -> Outcome<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/security/tests/data");
    Ok(fs::canonicalize(directory.join(name))?)
}

/// What a file says of encryption, and what was changed of it last.
#[derive(Clone)]
struct Keys {
    keys: Vec<(String, String)>,
    is_secure: bool,
    is_in_a_hurry: bool,
}

impl Keys {
    fn right() -> Outcome<Self> {
        let of = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let place = |key: &str, name| -> Outcome<(String, String)> {
            Ok(of(key, &store(name)?.display().to_string()))
        };
        let keys = vec![
            of("client.enable", "true"),
            place("keystore.location", "client.jks")?,
            of("keystore.password", PASSWORD),
            place("truststore.location", "trust.p12")?,
            of("truststore.password", PASSWORD),
        ];
        Ok(Self { keys, is_secure: true, is_in_a_hurry: false })
    }

    fn with(&self, key: &str, value: &str) -> Self {
        let mut keys = self.keys.clone();
        keys.retain(|(other, _)| other != key);
        keys.push((key.to_owned(), value.to_owned()));
        Self { keys, ..self.clone() }
    }

    fn without_acl(self) -> Self {
        Self { is_secure: false, ..self }
    }

    fn in_a_hurry(self) -> Self {
        Self { is_in_a_hurry: true, ..self }
    }

    fn changed(&self) -> String {
        self.keys
            .last()
            .map(|(key, value)| format!("zookeeper.ssl.{key}={value}"))
            .unwrap_or_default()
    }

    fn text(&self) -> String {
        let mut text = format!(
            "zookeeper.clientCnxnSocket=org.apache.zookeeper.ClientCnxnSocketNetty\nzookeeper.set.acl={}\n",
            self.is_secure
        );
        if self.is_in_a_hurry {
            text += "zookeeper.connection.timeout.ms=5000\n";
        }
        for (key, value) in &self.keys {
            text += &format!("zookeeper.ssl.{key}={value}\n");
        }
        text
    }
}
