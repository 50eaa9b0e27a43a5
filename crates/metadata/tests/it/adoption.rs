//! Taking over a cluster of Kafka's: the replay of a metadata log, the znodes, and kills in between.
//!
//! The records are those of a real Kafka 4.4 (`tests/data/kraft/make.sh`). The texts of the znodes are
//! those that Kafka 3.9 wrote in ZooKeeper for the same calls of an admin client.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ottla_keeper::SessionId;
use ottla_metadata::admin;
use ottla_metadata::adoption::{Adoption, Image, LogEpochs, RecordError, Refusal, Replay};
use ottla_metadata::tree::{Call, Changes, Multi, MultiResult, Node as Znode, SessionState, Watch};
use ottla_metadata::{Tree, TreeError};
use ottla_record::{BrokerId, LeaderEpoch, Offset, PartitionId, batches};
use tokio::sync::watch;

use super::{ME, Node, run};

const CLUSTER: &str = "b3R0bGEtY29uZm9ybWFuYw";

/// The values of the records in a file of the metadata log, from `from` on.
fn values(name: &str, from: Offset) -> Vec<Vec<u8>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/kraft").join(name);
    let bytes = std::fs::read(path).unwrap();
    let mut values = Vec::new();
    for batch in batches(&bytes) {
        let batch = batch.unwrap();
        batch.verify_crc().unwrap();
        if batch.attributes().is_control() {
            continue;
        }
        let visited = batch.visit_records(1 << 20, |record| {
            if record.offset >= from {
                values.push(record.value.unwrap().to_vec());
            }
        });
        visited.unwrap();
    }
    values
}

fn replayed(values: &[Vec<u8>]) -> Image {
    let mut replay = Replay::default();
    values.iter().for_each(|value| replay.apply(value).unwrap());
    replay.finish()
}

fn image() -> Image {
    replayed(&values("00000000000000000000.log", Offset(0)))
}

fn plan(image: &Image) -> Adoption {
    Adoption::plan(CLUSTER, ME, image, &LogEpochs::new()).unwrap()
}

#[test]
fn the_log_says_what_was_done() {
    let image = image();
    let topics: Vec<(&str, usize)> =
        image.topics.iter().map(|(name, topic)| (&**name, topic.partitions.len())).collect();
    let expected = [("__consumer_offsets", 2), ("changes.log", 1), ("empty_one", 2), ("orders", 3)];
    assert_eq!(topics, expected, "and topic gone is deleted");
    for partition in image.topics.values().flat_map(|topic| topic.partitions.values()) {
        assert_eq!(partition.replicas, [ME]);
        assert_eq!(partition.directories.len(), 1);
    }
    assert_eq!(image.next_producer_id.map(|id| id.0), Some(1000));
    assert_eq!(image.features.get("transaction.version"), Some(&2));
    assert_eq!(image.brokers.keys().collect::<Vec<_>>(), [&ME]);
    assert_eq!(image.controllers, [1].into());
}

#[test]
fn a_snapshot_and_the_log_behind_it_say_the_same_as_the_whole_log() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/kraft");
    let names = std::fs::read_dir(dir).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut snapshots: Vec<String> = names.filter(|name| name.ends_with(".checkpoint")).collect();
    snapshots.sort();
    assert!(snapshots.len() >= 2, "{snapshots:?}");
    for name in snapshots {
        let end = Offset(name[..20].parse().unwrap());
        let mut all = values(&name, Offset(i64::MIN));
        all.extend(values("00000000000000000000.log", end));
        assert_eq!(replayed(&all), image(), "{name}");
    }
}

#[test]
fn znodes_are_as_kafka_3_9_wrote_them() {
    run(async {
        let node = Node::new().await;
        plan(&image()).write(&*node.tree).await.unwrap();
        let state = r#"{"version":1,"leader":1,"leader_epoch":"#;
        assert!(node.text("/brokers/topics/orders/partitions/2/state").starts_with(state));
        for (path, text) in [
            ("/cluster/id", r#"{"version":"1","id":"b3R0bGEtY29uZm9ybWFuYw"}"#),
            (
                "/config/topics/orders",
                r#"{"version":1,"config":{"max.message.bytes":"65536","retention.ms":"86400000"}}"#,
            ),
            ("/config/topics/empty_one", r#"{"version":1,"config":{}}"#),
            (
                "/config/users/Ann%20O%27Neill",
                concat!(
                    r#"{"version":1,"config":{"SCRAM-SHA-256":"salt=c2FsdCBvZiAxNiBieXRlcw==,"#,
                    "stored_key=V+jWVUdaSBvi2Y0J9/2AKuFtPLAfxC4Yn7wob1bt0jk=,",
                    "server_key=ZDIm0MctjjO3zzZnKPLFZy3kVPTaXejCXvYPE5mIeNQ=,iterations=4096\",",
                    r#""consumer_byte_rate":"7"}}"#
                ),
            ),
            (
                "/config/users/Ann%20O%27Neill/clients/c%2F1%20%C3%A9",
                concat!(
                    r#"{"version":1,"config":{"consumer_byte_rate":"1024","#,
                    r#""producer_byte_rate":"20000000","request_percentage":"12.5"}}"#
                ),
            ),
            (
                "/config/users/<default>",
                r#"{"version":1,"config":{"controller_mutation_rate":"1.000000025E7"}}"#,
            ),
            ("/config/ips/10.0.0.1", r#"{"version":1,"config":{"connection_creation_rate":"5"}}"#),
            (
                "/kafka-acl/Topic/*",
                concat!(
                    r#"{"version":1,"acls":[{"principal":"User:eve","permissionType":"Deny","#,
                    r#""operation":"All","host":"*"}]}"#
                ),
            ),
            (
                "/kafka-acl/Cluster/kafka-cluster",
                concat!(
                    r#"{"version":1,"acls":[{"principal":"User:ops","permissionType":"Allow","#,
                    r#""operation":"AlterConfigs","host":"*"}]}"#
                ),
            ),
            (
                "/kafka-acl-extended/prefixed/Topic/changes.",
                concat!(
                    r#"{"version":1,"acls":[{"principal":"User:bob","permissionType":"Allow","#,
                    r#""operation":"Write","host":"10.0.0.1"}]}"#
                ),
            ),
            (
                "/latest_producer_id_block",
                r#"{"version":1,"broker":1,"block_start":"0","block_end":"999"}"#,
            ),
        ] {
            assert_eq!(node.text(path), text, "{path}");
        }
        let broker = node.text("/config/brokers/<default>");
        assert!(broker.contains(r#""log.cleaner.backoff.ms":"14000""#), "{broker}");
    });
}

#[test]
fn what_has_no_place_is_told() {
    let image = image();
    let left_out: Vec<_> = plan(&image).left_out().collect();
    assert!(left_out.contains(&("subscriptions of client metrics", "watch".to_owned())));
    let features = left_out.iter().find(|(kind, _)| *kind == "feature levels of KRaft");
    assert!(features.is_some_and(|(_, names)| names.contains("transaction.version=2")));
}

#[test]
fn a_partition_begins_behind_every_epoch_that_is_known() {
    run(async {
        let image = image();
        let of_image = image.topics["orders"].partitions[&PartitionId(0)].leader_epoch;
        let epochs = LogEpochs::from([(("orders".to_owned(), PartitionId(1)), LeaderEpoch(40))]);
        let node = Node::new().await;
        let adoption = Adoption::plan(CLUSTER, ME, &image, &epochs).unwrap();
        adoption.write(&*node.tree).await.unwrap();
        let orders = admin::load_topic(&*node.tree, "orders").await.unwrap().unwrap();
        assert_eq!(orders.id, image.topics["orders"].id);
        assert_eq!(orders.partitions[0].leader_epoch(), LeaderEpoch(of_image.0 + 1));
        assert_eq!(orders.partitions[1].leader_epoch(), LeaderEpoch(41));
        assert_eq!((orders.partitions[1].leader(), orders.partitions[1].isr()), (ME, &[ME][..]));
    });
}

#[test]
fn a_cluster_of_several_brokers_is_refused() {
    let mut image = image();
    let refused = Adoption::plan(CLUSTER, BrokerId(2), &image, &LogEpochs::new()).unwrap_err();
    assert!(matches!(&refused, Refusal::OtherReplicas { partitions } if partitions.len() == 8));
    assert!(refused.to_string().contains("changes.log-0 on 1"), "{refused}");
    let orders = image.topics.get_mut("orders").unwrap();
    orders.partitions.get_mut(&PartitionId(1)).unwrap().replicas.push(BrokerId(2));
    let refused = Adoption::plan(CLUSTER, ME, &image, &LogEpochs::new()).unwrap_err();
    assert_eq!(refused, Refusal::OtherReplicas { partitions: vec!["orders-1 on 1 and 2".into()] });
    image.topics.get_mut("orders").unwrap().partitions.remove(&PartitionId(1));
    let refused = Adoption::plan(CLUSTER, ME, &image, &LogEpochs::new()).unwrap_err();
    let (topic, partition) = ("orders".to_owned(), PartitionId(1));
    assert_eq!(refused, Refusal::Gap { topic, partition });
}

/// Frame version 1, then a record type and its version, then its fields.
#[test]
fn an_unknown_record_is_refused_by_name() {
    let error = |value: &[u8]| Replay::default().apply(value).unwrap_err();
    let unknown = RecordError::UnknownType { record_type: 99, version: 2 };
    assert_eq!(error(&[1, 99, 2]), unknown);
    let later = RecordError::UnknownVersion { name: "TopicRecord", version: 7, known: (0, 0) };
    assert_eq!(error(&[1, 2, 7]), later);
    assert_eq!(error(&[2, 2, 0]), RecordError::UnknownFrame { frame: 2 });
    assert!(matches!(error(&[1, 2, 0, 9]), RecordError::Damaged(_)));
    // A RegisterControllerRecord of a later version: its id, and tags that nobody knows.
    let controller = [&[1, 27, 9, 0, 0, 0, 5][..], &[0; 16], &[0, 1, 1, 1, 77, 1, 8]].concat();
    let mut replay = Replay::default();
    assert_eq!(replay.apply(&controller), Ok(()));
    assert_eq!(replay.finish().controllers, [5].into());
    assert!(matches!(error(&[&controller[..], &[0]].concat()), RecordError::Damaged(_)));
    // A NoOpRecord with a tagged field that nobody knows.
    assert_eq!(Replay::default().apply(&[1, 20, 0, 1, 77, 2, 5, 5]), Ok(()));
}

#[test]
fn a_transaction_counts_with_its_end() {
    let all = values("00000000000000000000.log", Offset(0));
    let (begin, end) = (vec![1, 23, 0, 0], vec![1, 24, 0, 0]);
    let within = |values: &[&[Vec<u8>]]| replayed(&values.concat());
    assert_eq!(within(&[&all, std::slice::from_ref(&begin)]), image());
    let deletion: Vec<u8> = [&[1, 9, 0][..], &image().topics["orders"].id.0, &[0]].concat();
    let open = within(&[&all, &[begin.clone(), deletion.clone()]]);
    assert_eq!(open, image(), "what was not ended has not happened");
    let ended = within(&[&all, &[begin, deletion, end]]);
    assert!(!ended.topics.contains_key("orders") && ended.topics.contains_key("empty_one"));
    assert!(!ended.configs.contains_key(&(2, "orders".to_owned())));
}

/// A tree whose process is killed before the write that has used up `left`.
struct Mortal {
    tree: Arc<dyn Tree>,
    left: AtomicUsize,
}

impl Tree for Mortal {
    fn session(&self) -> SessionId {
        self.tree.session()
    }

    fn state(&self) -> watch::Receiver<SessionState> {
        self.tree.state()
    }

    fn renew(&self) -> Call<'_, ()> {
        self.tree.renew()
    }

    fn close(&self) -> Call<'_, ()> {
        self.tree.close()
    }

    fn watch(&self, watches: Vec<Watch>) -> Call<'_, Changes> {
        self.tree.watch(watches)
    }

    fn get_all(&self, paths: Vec<String>) -> Call<'_, Vec<Option<Znode>>> {
        self.tree.get_all(paths)
    }

    fn children_all(&self, paths: Vec<String>) -> Call<'_, Vec<Option<Vec<String>>>> {
        self.tree.children_all(paths)
    }

    fn multi_all(&self, multis: Vec<Multi>) -> Call<'_, Vec<MultiResult>> {
        let alive = |left: usize| left.checked_sub(1);
        match self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, alive) {
            Ok(_) => self.tree.multi_all(multis),
            Err(_) => Box::pin(async { Err(TreeError::Unavailable { reason: "killed".into() }) }),
        }
    }
}

/// All that is in a tree but ZooKeeper's own nodes.
fn contents(node: &Node) -> BTreeMap<String, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut left = vec![String::new()];
    while let Some(parent) = left.pop() {
        for name in node.children(if parent.is_empty() { "/" } else { &parent }) {
            let path = format!("{parent}/{name}");
            if path == "/zookeeper" {
                continue;
            }
            let data = node.keeper.read(|tree| tree.get(&path)).unwrap().data;
            found.insert(path.clone(), data.map(|data| data.to_vec()));
            left.push(path);
        }
    }
    found
}

#[test]
fn a_kill_in_the_middle_leads_to_the_same_tree() {
    run(async {
        // More nodes than go into one write.
        let mut image = image();
        let wide = image.topics.get_mut("empty_one").unwrap();
        let partition = wide.partitions[&PartitionId(0)].clone();
        wide.partitions.extend((2..1200).map(|id| (PartitionId(id), partition.clone())));
        let whole = Node::new().await;
        plan(&image).write(&*whole.tree).await.unwrap();
        let expected = contents(&whole);

        // What an operator may have done with Kafka between two tries.
        let mut earlier = image.clone();
        let orders = earlier.topics["orders"].clone();
        earlier.topics.insert("deleted since".to_owned(), orders);
        let mut kills = 0;
        loop {
            let node = Node::new().await;
            let left = AtomicUsize::new(kills);
            let mortal: &dyn Tree = &Mortal { tree: node.tree.clone(), left };
            if plan(&earlier).write(mortal).await.is_ok() {
                break;
            }
            let again = node.restarted().await;
            assert!(Adoption::is_due(&*again.tree).await.unwrap(), "{kills}");
            plan(&image).write(&*again.tree).await.unwrap();
            assert!(contents(&again) == expected, "after {kills} writes");
            assert!(!Adoption::is_due(&*again.tree).await.unwrap());
            kills += 1;
        }
        assert!(kills >= 4, "only {kills} writes");
    });
}
