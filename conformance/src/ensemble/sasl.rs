//! A server of ZooKeeper that serves only who logs in by SASL, with DIGEST-MD5, and whose nodes belong to
//! who made them.
//!
//! Kafka logs in with its JAAS file, and Ottla as the same user with a key. Each works in what the other
//! made, and nodes have the access lists that Kafka gives them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use ottla_metadata::copy;
use ottla_metadata::{SaslLogin, Tree as _, ZooKeeper};
use ottla_runtime::{World, task};

use super::{Look, Place, create_topic, moves, ottla_with, say};
use crate::Outcome;
use crate::broker::{End, Node};
use crate::install::Tools;
use crate::keeper;
use crate::numbers;

const USER: &str = "kafka";
/// It has to be escaped, and has characters of ISO 8859-1, which are hashed in another way than others.
const PASSWORD: &str = r#"Süß, "\ 'geheim'"#;
const MODULE: &str = "org.apache.zookeeper.server.auth.DigestLoginModule";

/// A tree with all that both brokers make at their first start is not larger.
const TREE_BYTES_MAX: usize = 1 << 20;

/// Some nodes with lists of each kind, so that it is seen that they were compared.
const COMPARED: [(&str, &str); 6] = [
    ("/brokers/ids/1", "sasl:kafka=31 world:anyone=1"),
    ("/brokers/topics/turn-0/partitions/0/state", "sasl:kafka=31 world:anyone=1"),
    ("/config/brokers", "sasl:kafka=31"),
    ("/config/topics/turn-0", "sasl:kafka=31 world:anyone=1"),
    ("/config/users", "sasl:kafka=31"),
    ("/consumers", "world:anyone=31"),
];

/// Path and access list of each node.
type Lists = BTreeMap<String, String>;

pub(super) fn run(binary: &Path, tools: &Tools) -> Outcome<usize> {
    let mut server = Node::of(|address, home| {
        let jaas = home.join("server.jaas");
        fs::write(&jaas, format!("Server {{ {MODULE} required user_{USER}={}; }};", quoted()))?;
        let mut command = tools.zookeeper();
        command
            .arg(format!("-Djava.security.auth.login.config={}", jaas.display()))
            .arg("-Dzookeeper.authProvider.1=org.apache.zookeeper.server.auth.SASLAuthenticationProvider")
            .arg("-Dzookeeper.sessionRequireClientSASLAuth=true");
        keeper::zookeeper(command, "maxClientCnxns=0\n", address, home)
    })?;
    server.start()?;
    let address = server.bootstrap.clone();
    let jaas = server.home().join("client.jaas");
    let login = format!("{MODULE} required username=\"{USER}\" password={};", quoted());
    fs::write(&jaas, format!("Client {{ {login} }};"))?;
    let mut place = secured(binary, tools, &address, "moved", &login)?;
    place.jaas = Some(jaas);

    let mut kafkas = Lists::new();
    let mut failures = moves(&place, |turn, bootstrap| {
        match turn {
            0 => kafkas = lists(&place.look)?,
            1 => {
                server.stop(End::Killed)?;
                server.start()?;
                create_topic(binary, bootstrap, "after-a-restart")?;
                say("metadata is written after ZooKeeper was killed and started: it logs in again");
            }
            _ => {}
        }
        Ok(())
    })?;
    failures += access(&secured(binary, tools, &address, "fresh", &login)?, &kafkas)?;
    failures += refusals(binary, tools, &address, &login)?;
    Ok(failures)
}

/// A place whose nodes belong to the login.
fn secured<'a>(
    binary: &'a Path,
    tools: &'a Tools,
    address: &str,
    chroot: &str,
    login: &str,
) -> Outcome<Place<'a>> {
    let mut place = Place::new(binary, tools, format!("{address}/{chroot}"))?;
    // A file of properties has escapes of its own.
    let login = login.replace('\\', "\\\\");
    place.keys = format!("zookeeper.set.acl=true\nzookeeper.sasl.jaas.config={login}\n");
    let (username, password) = (USER.to_owned(), PASSWORD.to_owned());
    place.look.0.sasl = Some(SaslLogin { username, password });
    Ok(place)
}

/// As it stands in a JAAS file.
fn quoted() -> String {
    format!("\"{}\"", PASSWORD.replace('\\', "\\\\").replace('"', "\\\""))
}

/// A first start of Ottla gives each node the list that Kafka gives it.
fn access(place: &Place<'_>, kafkas: &Lists) -> Outcome<usize> {
    let mut broker =
        Node::of(|address, home| Ok(ottla_with(place.binary, &place.properties(address, home)?)))?;
    broker.start()?;
    place.look.registered(0)?;
    numbers::create(place.tools, &broker.bootstrap, 1)?;
    create_topic(place.binary, &broker.bootstrap, "turn-0")?;
    let ottlas = lists(&place.look)?;
    broker.stop(End::Clean)?;
    let mut failures = 0;
    let paths = kafkas.keys().chain(ottlas.keys().filter(|path| !kafkas.contains_key(*path)));
    for path in paths {
        let (kafka, ottla) = (kafkas.get(path), ottlas.get(path));
        let should = COMPARED.iter().find(|(its, _)| its == path).map(|(_, list)| *list);
        if kafka != ottla || should.is_some_and(|list| ottla.map(String::as_str) != Some(list)) {
            println!("FAILED ensemble: {path}: Kafka's list is {kafka:?}, Ottla's {ottla:?}");
            failures += 1;
        }
    }
    for (path, _) in COMPARED.iter().filter(|(path, _)| !kafkas.contains_key(*path)) {
        println!("FAILED ensemble: Kafka made no {path}");
        failures += 1;
    }
    if failures == 0 {
        say(&format!("{} nodes have the access lists that Kafka gives them", ottlas.len()));
    }
    Ok(failures)
}

/// Waits until the last topic is led, and gives all lists.
fn lists(look: &Look) -> Outcome<Lists> {
    look.led("turn-0")?;
    task::block_on(async {
        let tree = ZooKeeper::connect(&World::system(), look.0.clone()).await?;
        let whole = copy::read(&tree, "", TREE_BYTES_MAX).await?;
        tree.close().await?;
        let lists = whole.nodes.into_iter().map(|node| {
            let entries = node.acl.iter().map(|acl| {
                format!("{}:{}={}", acl.identity.scheme, acl.identity.id, acl.permissions)
            });
            (node.path, entries.collect::<Vec<_>>().join(" "))
        });
        Ok(lists.collect())
    })?
}

/// Who is not let in is told why.
fn refusals(binary: &Path, tools: &Tools, address: &str, login: &str) -> Outcome<usize> {
    let wrong = secured(binary, tools, address, "fresh", &login.replace("geheim", "geraten"))?;
    let none = Place::new(binary, tools, format!("{address}/fresh"))?;
    let mut failures = 0;
    for (what, place, expected) in [
        ("a wrong password", wrong, "it refuses the login by SASL of `kafka`"),
        ("a broker without a login", none, "serves only who logs in: set zookeeper.sasl.jaas"),
    ] {
        let mut broker =
            Node::of(|address, home| Ok(ottla_with(binary, &place.properties(address, home)?)))?;
        let told = broker.start().err().map(|error| error.to_string()).unwrap_or_default();
        if told.contains(expected) && !told.contains("geraten") {
            say(&format!("{what} is refused"));
        } else {
            println!("FAILED ensemble: {what} was told: {told}");
            failures += 1;
        }
    }
    Ok(failures)
}
