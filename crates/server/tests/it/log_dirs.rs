//! Several log directories: where logs lie, moving them, and what fails alone.

use std::fs;
use std::path::Path;

use ottla_protocol::ErrorCode;
use ottla_protocol::messages::alter_replica_log_dirs_request::{
    AlterReplicaLogDir, AlterReplicaLogDirTopic,
};
use ottla_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult,
};
use ottla_protocol::messages::metadata_request::MetadataRequestTopic;
use ottla_protocol::messages::{
    AlterReplicaLogDirsRequest, DescribeLogDirsRequest, DescribeTopicPartitionsRequest,
    MetadataRequest,
};
use ottla_runtime::task::block_on;
use ottla_server::{Node, StartError};

use crate::broker::{Scratch, address, try_start};
use crate::client::{append, batch, create_topic, fetch, produce, read_all};
use crate::peer::Peer;
use crate::produce::idempotent;

/// Starts a node with the log directories `a` and `b`.
async fn try_start_with_two(scratch: &Scratch) -> Result<Node, StartError> {
    let (a, b) = (scratch.join("a"), scratch.join("b"));
    let log_dirs = format!("log.dirs={},{}", a.display(), b.display());
    try_start(&a, &[&log_dirs]).await
}

async fn start_with_two(scratch: &Scratch) -> (Node, Peer) {
    let node = try_start_with_two(scratch).await.expect("starts");
    let peer = Peer::dial(address(&node)).await;
    (node, peer)
}

async fn alter(peer: &mut Peer, topic: &str, partition: i32, dir: &Path) -> ErrorCode {
    let topics = vec![AlterReplicaLogDirTopic { name: topic.into(), partitions: vec![partition] }];
    let path = dir.display().to_string().into();
    let request = AlterReplicaLogDirsRequest { dirs: vec![AlterReplicaLogDir { path, topics }] };
    let response = peer.ask(2, &request).await;
    ErrorCode(response.results[0].partitions[0].error_code)
}

async fn describe(peer: &mut Peer) -> Vec<DescribeLogDirsResult<'static>> {
    peer.ask(4, &DescribeLogDirsRequest { topics: None }).await.results
}

/// The partitions of `topic` in a directory.
fn logs(result: &DescribeLogDirsResult<'_>, topic: &str) -> Vec<DescribeLogDirsPartition> {
    let topics = result.topics.iter().filter(|found| *found.name == *topic);
    topics.flat_map(|topic| topic.partitions.clone()).collect()
}

#[test]
fn a_partition_moves_while_it_is_written_to() {
    let done = block_on(async {
        let scratch = Scratch::new("move");
        let (node, mut peer) = start_with_two(&scratch).await;
        create_topic(&mut peer, "orders", 1, &[("segment.bytes", "100000")]).await;
        let value = "x".repeat(3000);
        let mut sent = 0;
        while sent < 300 {
            append(&mut peer, "orders", 0, idempotent(0, sent, &[&value])).await;
            sent += 1;
        }
        let found = describe(&mut peer).await;
        assert_eq!((logs(&found[0], "orders").len(), logs(&found[1], "orders").len()), (1, 0));
        assert_eq!(alter(&mut peer, "orders", 0, &scratch.join("b")).await, ErrorCode::NONE);
        let mut futures = 0;
        loop {
            append(&mut peer, "orders", 0, idempotent(0, sent, &[&value])).await;
            sent += 1;
            let found = describe(&mut peer).await;
            let (from, to) = (logs(&found[0], "orders"), logs(&found[1], "orders"));
            match to.first() {
                Some(copy) if copy.is_future_key => {
                    assert!(copy.offset_lag >= 0 && !from[0].is_future_key);
                    futures += 1;
                }
                Some(_) if from.is_empty() => break,
                _ => {}
            }
        }
        assert!(futures > 0, "the copy was never seen");
        // The same producer goes on, and what it sends again is known.
        for n in [sent - 5, sent - 1] {
            let again = append(&mut peer, "orders", 0, idempotent(0, n, &[&value])).await;
            assert_eq!(again, i64::from(n));
        }
        append(&mut peer, "orders", 0, idempotent(0, sent, &["last"])).await;
        let all = read_all(&mut peer, "orders", 0, 0).await;
        assert_eq!(crate::client::values(&all).len(), sent as usize + 1);
        node.stop().await.expect("stops");
        let (node, mut peer) = start_with_two(&scratch).await;
        assert_eq!(read_all(&mut peer, "orders", 0, 0).await, all);
        assert_eq!(logs(&describe(&mut peer).await[1], "orders").len(), 1);
        node.stop().await.expect("stops");
    });
    done.expect("a runtime");
}

#[test]
fn a_partition_is_made_where_it_was_to_be_moved() {
    let done = block_on(async {
        let scratch = Scratch::new("preferred");
        let (node, mut peer) = start_with_two(&scratch).await;
        let (a, b) = (scratch.join("a"), scratch.join("b"));
        let nowhere = alter(&mut peer, "orders", 0, &scratch.join("c")).await;
        assert_eq!(nowhere, ErrorCode::LOG_DIR_NOT_FOUND);
        for n in [0, 1] {
            let unknown = alter(&mut peer, "orders", n, &b).await;
            assert_eq!(unknown, ErrorCode::REPLICA_NOT_AVAILABLE);
        }
        let long = alter(&mut peer, &"x".repeat(230), 0, &a).await;
        assert_eq!(long, ErrorCode::INVALID_TOPIC_EXCEPTION);
        create_topic(&mut peer, "orders", 2, &[]).await;
        assert_eq!(logs(&describe(&mut peer).await[1], "orders").len(), 2);
        node.stop().await.expect("stops");
    });
    done.expect("a runtime");
}

/// How a partition of `orders` is shown: error, leader and offline replicas.
async fn shown(peer: &mut Peer, partition: usize) -> (ErrorCode, i32, Vec<i32>) {
    let topic = MetadataRequestTopic { name: Some("orders".into()), ..Default::default() };
    let request = MetadataRequest { topics: Some(vec![topic]), ..Default::default() };
    let metadata = peer.ask(12, &request).await;
    let found = &metadata.topics[0].partitions[partition];
    let request =
        DescribeTopicPartitionsRequest { response_partition_limit: 10, ..Default::default() };
    let described = peer.ask(0, &request).await;
    let same = &described.topics[0].partitions[partition];
    assert_eq!(
        (same.error_code, same.leader_id, &same.offline_replicas),
        (found.error_code, found.leader_id, &found.offline_replicas)
    );
    (ErrorCode(found.error_code), found.leader_id, found.offline_replicas.clone())
}

#[test]
fn a_damaged_log_takes_its_own_partition_offline() {
    let done = block_on(async {
        let scratch = Scratch::new("damaged");
        let (node, mut peer) = start_with_two(&scratch).await;
        create_topic(&mut peer, "orders", 2, &[]).await;
        for partition in [0, 1] {
            append(&mut peer, "orders", partition, batch(&["one"])).await;
        }
        node.stop().await.expect("stops");
        let path = scratch.join("a/orders-0/00000000000000000000.log");
        let whole = fs::read(&path).expect("readable");
        fs::write(&path, []).expect("written");

        let (node, mut peer) = start_with_two(&scratch).await;
        let none = (ErrorCode::LEADER_NOT_AVAILABLE, -1, vec![1]);
        assert_eq!(shown(&mut peer, 0).await, none);
        assert_eq!(shown(&mut peer, 1).await, (ErrorCode::NONE, 1, vec![]));
        let refused = produce(&mut peer, "orders", 0, batch(&["two"])).await;
        assert_eq!(ErrorCode(refused.error_code), ErrorCode::KAFKA_STORAGE_ERROR);
        let message = refused.error_message.expect("a reason");
        let named = format!("orders-0 is offline: {} is damaged", path.display());
        assert!(message.starts_with(&named), "{message}");
        let fetched = fetch(&mut peer, "orders", 0, 0).await;
        assert_eq!(ErrorCode(fetched.error_code), ErrorCode::KAFKA_STORAGE_ERROR);
        append(&mut peer, "orders", 1, batch(&["two"])).await;
        node.stop().await.expect("stops");
        // Once it is repaired, nothing is missing.
        fs::write(&path, &whole).expect("written");
        let (node, mut peer) = start_with_two(&scratch).await;
        assert_eq!(append(&mut peer, "orders", 0, batch(&["two"])).await, 1);
        node.stop().await.expect("stops");
    });
    done.expect("a runtime");
}

/// Makes the identity of a directory unreadable, as root reads everything else.
fn break_dir(dir: &Path) {
    let meta = dir.join("meta.properties");
    fs::rename(&meta, dir.join("meta.aside")).expect("renamed");
    fs::create_dir(&meta).expect("made");
}

fn heal_dir(dir: &Path) {
    let meta = dir.join("meta.properties");
    fs::remove_dir(&meta).expect("removed");
    fs::rename(dir.join("meta.aside"), &meta).expect("renamed");
}

#[test]
fn a_directory_that_fails_takes_its_own_partitions_offline_but_the_first_one_all() {
    let done = block_on(async {
        let scratch = Scratch::new("failing-dir");
        let (node, mut peer) = start_with_two(&scratch).await;
        create_topic(&mut peer, "orders", 2, &[]).await;
        for partition in [0, 1] {
            append(&mut peer, "orders", partition, batch(&["one"])).await;
        }
        node.stop().await.expect("stops");
        let (a, b) = (scratch.join("a"), scratch.join("b"));
        break_dir(&b);
        let (node, mut peer) = start_with_two(&scratch).await;
        let found = describe(&mut peer).await;
        assert_eq!(ErrorCode(found[0].error_code), ErrorCode::NONE);
        assert_eq!(ErrorCode(found[1].error_code), ErrorCode::KAFKA_STORAGE_ERROR);
        assert!(found[1].topics.is_empty());
        assert_eq!(shown(&mut peer, 0).await, (ErrorCode::NONE, 1, vec![]));
        assert_eq!(shown(&mut peer, 1).await.0, ErrorCode::LEADER_NOT_AVAILABLE);
        let moved = alter(&mut peer, "orders", 0, &b).await;
        assert_eq!(moved, ErrorCode::KAFKA_STORAGE_ERROR);
        // What is new goes where there is a disk.
        create_topic(&mut peer, "bills", 2, &[]).await;
        assert_eq!(logs(&describe(&mut peer).await[0], "bills").len(), 2);
        node.stop().await.expect("stops");

        heal_dir(&b);
        break_dir(&a);
        let error = try_start_with_two(&scratch).await.err().expect("does not start").to_string();
        assert!(
            error.ends_with("without the first one of log.dirs: its metadata is there"),
            "{error}"
        );
        heal_dir(&a);
        let (node, mut peer) = start_with_two(&scratch).await;
        for partition in [0, 1] {
            assert_eq!(append(&mut peer, "orders", partition, batch(&["two"])).await, 1);
        }
        node.stop().await.expect("stops");
    });
    done.expect("a runtime");
}
