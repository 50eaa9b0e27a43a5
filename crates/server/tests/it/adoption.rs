//! The first start over directories that Kafka wrote. The metadata log is that of a real Kafka 4.4
//! (`crates/metadata/tests/data/kraft/make.sh`).

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use ottla_config::Sources;
use ottla_runtime::World;
use ottla_runtime::task::block_on;
use ottla_server::config::BrokerConfig;
use ottla_server::{Node, StartError};

use crate::broker::Scratch;

const FIXTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../metadata/tests/data/kraft");
const METADATA_LOG: &str = "__cluster_metadata-0";
const SEGMENT: &str = "__cluster_metadata-0/00000000000000000000.log";
const SNAPSHOT: &str = "__cluster_metadata-0/00000000000000000044-0000000001.checkpoint";
const CLUSTER: &str = "b3R0bGEtY29uZm9ybWFuYw";
const CLEAN: &str = ".kafka_cleanshutdown";

async fn start(dir: &Path, adopt: bool, settings: &[&str]) -> Result<Node, StartError> {
    let log_dirs = format!("log.dirs={}", dir.display());
    let base = ["listeners=PLAINTEXT://127.0.0.1:0", "num.network.threads=1", &log_dirs];
    let sources = Sources::new().command_line(base.iter().chain(settings).copied());
    let (mut config, _) = BrokerConfig::load(sources).expect("a configuration");
    config.adopt = adopt;
    Node::start(World::system(), config).await
}

/// A start that is refused: what it says, and the files before and after are the same.
fn refused(dir: &Path, settings: &[&str]) -> String {
    let before = files(dir);
    let error = block_on(start(dir, false, settings)).unwrap().err().expect("refused");
    assert!(files(dir) == before, "something was changed: {error}");
    error.to_string()
}

/// Every file and directory below `dir` but the lock, with its bytes.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.display().to_string();
        if path.is_dir() {
            found.insert(name, Vec::new());
            found.extend(files(&path));
        } else if !path.ends_with(".lock") {
            found.insert(name, fs::read(&path).unwrap());
        }
    }
    found
}

/// A directory of KRaft's with its metadata log, stopped in order, and without any log.
fn kraft(name: &str) -> Scratch {
    let scratch = Scratch::new(name);
    let meta = format!("version=1\nnode.id=1\ncluster.id={CLUSTER}\n");
    fs::write(scratch.join("meta.properties"), meta).unwrap();
    fs::write(scratch.join(CLEAN), r#"{"version":0,"brokerEpoch":24}"#).unwrap();
    fs::create_dir(scratch.join(METADATA_LOG)).unwrap();
    for entry in fs::read_dir(FIXTURE).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|kind| kind == "log" || kind == "checkpoint") {
            let to = scratch.join(METADATA_LOG).join(path.file_name().unwrap());
            fs::copy(&path, to).unwrap();
        }
    }
    scratch
}

/// An empty log, of a topic of this id.
fn log(scratch: &Scratch, name: &str, topic_id: &str) {
    let dir = scratch.join(name);
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("00000000000000000000.log"), b"").unwrap();
    fs::write(dir.join("partition.metadata"), format!("version: 0\ntopic_id: {topic_id}")).unwrap();
    fs::write(dir.join("leader-epoch-checkpoint"), "0\n1\n7 0\n").unwrap();
}

#[test]
fn a_directory_of_kraft_keeps_its_cluster_and_its_metadata_log() {
    let scratch = kraft("adopt-kraft");
    let said = refused(scratch.path(), &[]);
    assert!(said.contains("No log directory has the log of these partitions"), "{said}");
    assert!(said.contains("__consumer_offsets-0") && said.contains("3 more"), "{said}");

    let metadata_log = files(&scratch.join(METADATA_LOG));
    for _ in 0..2 {
        let node = block_on(start(scratch.path(), true, &[])).unwrap().expect("adopted");
        assert_eq!((node.cluster_id().as_str(), node.topic_count()), (CLUSTER, 4));
        block_on(node.stop()).unwrap().unwrap();
        assert!(files(&scratch.join(METADATA_LOG)) == metadata_log);
        let meta = fs::read_to_string(scratch.join("meta.properties")).unwrap();
        assert!(meta.contains("version=1\nnode.id=1\n"), "Kafka knows it again: {meta}");
    }
    // Once there is a tree, the metadata log is of no concern.
    fs::write(scratch.join(SEGMENT), b"nothing").unwrap();
    let node = block_on(start(scratch.path(), false, &[])).unwrap().expect("starts");
    block_on(node.stop()).unwrap().unwrap();
}

#[test]
fn a_log_that_the_metadata_log_does_not_know_is_not_touched_unasked() {
    let scratch = kraft("adopt-stray");
    log(&scratch, "gone-0", "AAAAAAAAAAAAAAAAAAAAIg");
    let said = refused(scratch.path(), &[]);
    assert!(said.contains("does not know these logs") && said.contains("/gone-0"), "{said}");
    let node = block_on(start(scratch.path(), true, &[])).unwrap().expect("adopted");
    block_on(node.stop()).unwrap().unwrap();
    let names = files(scratch.path());
    assert!(names.keys().any(|name| name.contains("gone-0.") && name.ends_with("-stray")));
}

#[test]
fn a_damaged_metadata_log_is_named_with_the_place() {
    let scratch = kraft("adopt-damaged");
    let sound = fs::read(scratch.join(SEGMENT)).unwrap();
    let second = 12 + u32::from_be_bytes(sound[8..12].try_into().unwrap()) as usize;
    let mut damaged = sound.clone();
    damaged[second + 70] ^= 1;
    // What the newest snapshot covers is checked too: nobody can tell what else is wrong.
    fs::write(scratch.join(SEGMENT), &damaged).unwrap();
    let said = refused(scratch.path(), &[]);
    let place = format!("{} at byte {second}: the checksum", scratch.join(SEGMENT).display());
    assert!(said.contains(&place) && said.contains("Nothing was adopted"), "{said}");

    // A hole in the middle is no end.
    let mut hole = sound.clone();
    hole[second..second + 61].fill(0);
    fs::write(scratch.join(SEGMENT), &hole).unwrap();
    let said = refused(scratch.path(), &[]);
    assert!(said.contains(&format!("at byte {second}: ")), "{said}");

    // Nor is a batch that stands there again.
    fs::write(scratch.join(SEGMENT), [&sound[..], &sound[..second]].concat()).unwrap();
    let said = refused(scratch.path(), &[]);
    assert!(said.contains("offset 0 is here, and"), "{said}");

    // What a kill left half written at the end is one.
    fs::write(scratch.join(SEGMENT), [&sound[..], &sound[..40]].concat()).unwrap();
    let said = refused(scratch.path(), &[]);
    assert!(said.contains("No log directory has the log of"), "the log was read: {said}");

    fs::write(scratch.join(SEGMENT), &sound).unwrap();
    let snapshot = fs::read(scratch.join(SNAPSHOT)).unwrap();
    for (bytes, what) in
        [(&snapshot[..snapshot.len() - 5], "bytes"), (&snapshot[..0], "the snapshot is cut")]
    {
        fs::write(scratch.join(SNAPSHOT), bytes).unwrap();
        let said = refused(scratch.path(), &[]);
        assert!(said.contains(SNAPSHOT) && said.contains(what), "{said}");
    }
    fs::remove_file(scratch.join(SNAPSHOT)).unwrap();
    fs::rename(scratch.join(SEGMENT), scratch.join(METADATA_LOG).join("00000000000000000044.log"))
        .unwrap();
    let said = refused(scratch.path(), &[]);
    assert!(said.contains("offset 44 is here, and 0 has to follow"), "{said}");
}

#[test]
fn a_directory_of_another_node_or_without_its_metadata_is_refused() {
    let scratch = kraft("adopt-foreign");
    let said = refused(scratch.path(), &["broker.id=2"]);
    assert!(said.contains("belongs to node.id 1, and this is 2"), "{said}");

    // The metadata log may have a place of its own.
    let elsewhere = Scratch::new("adopt-elsewhere");
    fs::rename(scratch.join(METADATA_LOG), elsewhere.join(METADATA_LOG)).unwrap();
    let said = refused(scratch.path(), &[]);
    assert!(said.contains("set metadata.log.dir"), "{said}");
    // What was laid down before the first start is not all there is.
    let bootstrap = Path::new(FIXTURE).join("00000000000000000000-0000000000.checkpoint");
    fs::copy(bootstrap, scratch.join("bootstrap.checkpoint")).unwrap();
    log(&scratch, "orders-0", "AAAAAAAAAAAAAAAAAAAAIg");
    let said = refused(scratch.path(), &[]);
    assert!(said.contains("set metadata.log.dir"), "{said}");
    fs::remove_dir_all(scratch.join("orders-0")).unwrap();
    let key = format!("metadata.log.dir={}", elsewhere.path().display());
    let said = refused(scratch.path(), &[&key]);
    assert!(said.contains("No log directory has the log of"), "{said}");

    fs::remove_file(scratch.join("meta.properties")).unwrap();
    let said = refused(scratch.path(), &[&key]);
    assert!(said.contains("no meta.properties"), "{said}");
}

#[test]
fn what_was_formatted_and_never_started_keeps_its_cluster() {
    let scratch = Scratch::new("adopt-formatted");
    let meta = format!("version=1\nnode.id=1\ncluster.id={CLUSTER}\n");
    fs::write(scratch.join("meta.properties"), meta).unwrap();
    let bootstrap = Path::new(FIXTURE).join("00000000000000000000-0000000000.checkpoint");
    fs::copy(bootstrap, scratch.join("bootstrap.checkpoint")).unwrap();
    let node = block_on(start(scratch.path(), false, &[])).unwrap().expect("adopted");
    assert_eq!((node.cluster_id().as_str(), node.topic_count()), (CLUSTER, 0));
    block_on(node.stop()).unwrap().unwrap();
}

#[test]
fn without_its_zookeeper_a_directory_takes_a_word_of_its_owner() {
    let scratch = Scratch::new("adopt-zookeeper");
    let meta = format!("version=0\nbroker.id=1\ncluster.id={CLUSTER}\n");
    fs::write(scratch.join("meta.properties"), meta).unwrap();
    fs::write(scratch.join(CLEAN), r#"{"version":0,"brokerEpoch":-1}"#).unwrap();
    log(&scratch, "orders-0", "AAAAAAAAAAAAAAAAAAAAIg");
    log(&scratch, "orders-2", "AAAAAAAAAAAAAAAAAAAAIg");
    let said = refused(scratch.path(), &[]);
    for way in ["zookeeper.connect", "ottla keeper import", "--adopt"] {
        assert!(said.contains(way), "{said}");
    }
    let gap = block_on(start(scratch.path(), true, &[])).unwrap().err().unwrap().to_string();
    assert!(gap.contains("topic orders has no partition 1"), "{gap}");
    log(&scratch, "orders-1", "AAAAAAAAAAAAAAAAAAAAIw");
    let ids = block_on(start(scratch.path(), true, &[])).unwrap().err().unwrap().to_string();
    assert!(ids.contains("different topic ids"), "{ids}");
    fs::remove_dir_all(scratch.join("orders-1")).unwrap();
    log(&scratch, "orders-1", "AAAAAAAAAAAAAAAAAAAAIg");
    assert!(scratch.join(CLEAN).exists(), "nothing was done so far");

    let node = block_on(start(scratch.path(), true, &[])).unwrap().expect("adopted");
    assert_eq!((node.cluster_id().as_str(), node.topic_count()), (CLUSTER, 1));
    block_on(node.stop()).unwrap().unwrap();
    let epochs = scratch.join("orders-0").join("leader-epoch-checkpoint");
    assert_eq!(fs::read_to_string(epochs).unwrap(), "0\n1\n8 0\n");
}

#[test]
fn logs_without_an_owner_are_not_taken_for_strays() {
    let scratch = Scratch::new("adopt-no-meta");
    log(&scratch, "orders-0", "AAAAAAAAAAAAAAAAAAAAIg");
    let said = refused(scratch.path(), &[]);
    assert!(said.contains("1 log(s) of a cluster whose metadata is in ZooKeeper"), "{said}");
}
