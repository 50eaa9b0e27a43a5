//! What a power cut leaves of what was acknowledged, over a disk in memory that loses what was not
//! synced.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ottla_fake::{Crash, FakeDisk};
use ottla_protocol::ErrorCode;
use ottla_protocol::messages::create_topics_request::CreatableTopic;
use ottla_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use ottla_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use ottla_protocol::messages::{
    CreateTopicsRequest, DeleteRecordsRequest, FindCoordinatorRequest, OffsetCommitRequest,
};
use ottla_runtime::disk::Disk;
use ottla_runtime::task::block_on;
use ottla_runtime::{World, time};
use ottla_server::Node;

use crate::broker::{address, start_in};
use crate::client::{append, batch, create_topic, produce, read_all, values};
use crate::peer::Peer;

const PARTITIONS: i32 = 4;
const BATCHES: i64 = 20;

async fn start_on(disk: &Arc<FakeDisk>, settings: &[&str]) -> Node {
    let world = World { disk: disk.clone(), ..World::system() };
    start_in(world, Path::new("/data"), settings).await.expect("starts")
}

/// How many acknowledged batches a power cut takes.
async fn lost(settings: &[&str], seed: u64) -> i64 {
    let disk = FakeDisk::with_dir("/");
    let node = start_on(&disk, settings).await;
    let mut peer = Peer::dial(address(&node)).await;
    create_topic(&mut peer, "orders", PARTITIONS, &[("segment.bytes", "1000")]).await;
    for n in 0..BATCHES {
        for partition in 0..PARTITIONS {
            append(&mut peer, "orders", partition, batch(&[format!("{n:0>100}")])).await;
        }
    }
    let cut = disk.after(Crash::Power { seed });
    node.stop().await.expect("stops");

    let node = start_on(&cut, settings).await;
    let mut peer = Peer::dial(address(&node)).await;
    let mut lost = 0;
    for partition in 0..PARTITIONS {
        let found = values(&read_all(&mut peer, "orders", partition, 0).await);
        let expected = (0..BATCHES).map(|n| (n, format!("{n:0>100}").into_bytes()));
        assert!(expected.take(found.len()).eq(found.iter().cloned()), "seed {seed}");
        lost += BATCHES - found.len() as i64;
    }
    node.stop().await.expect("stops");
    lost
}

#[test]
fn a_power_cut_takes_nothing_that_was_acknowledged() {
    let done = block_on(async {
        for seed in 0..10 {
            assert_eq!(lost(&[], seed).await, 0, "seed {seed}");
        }
    });
    done.expect("a runtime");
}

#[test]
fn without_a_flush_before_the_ack_a_power_cut_takes_some() {
    let done = block_on(async {
        let mut sum = 0;
        for seed in 0..10 {
            sum += lost(&["log.flush.before.ack=false"], seed).await;
        }
        assert!(sum > 0, "or the other test shows nothing");
    });
    done.expect("a runtime");
}

/// Asks again and again until there is an answer.
async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let asked = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
        }
    };
    time::timeout(Duration::from_secs(30), asked).await.unwrap_or_else(|_| panic!("{what} in time"))
}

async fn commit_offset(peer: &mut Peer, offset: i64) {
    let partition = OffsetCommitRequestPartition {
        partition_index: 0,
        committed_offset: offset,
        ..Default::default()
    };
    let topics = vec![OffsetCommitRequestTopic {
        name: "orders".into(),
        partitions: vec![partition],
        ..Default::default()
    }];
    let request = OffsetCommitRequest {
        group_id: "readers".into(),
        generation_id_or_member_epoch: -1,
        topics,
        ..Default::default()
    };
    let find = FindCoordinatorRequest { key: "readers".into(), ..Default::default() };
    until("a committed offset", async || {
        peer.ask(2, &find).await;
        let response = peer.ask(8, &request).await;
        (response.topics[0].partitions[0].error_code == 0).then_some(())
    })
    .await;
}

async fn delete_records(peer: &mut Peer, offset: i64) {
    let partitions = vec![DeleteRecordsPartition { partition_index: 0, offset }];
    let topics = vec![DeleteRecordsTopic { name: "orders".into(), partitions }];
    let request = DeleteRecordsRequest { topics, timeout_ms: 1_000 };
    let response = peer.ask(2, &request).await;
    assert_eq!(response.topics[0].partitions[0].error_code, 0);
}

/// The free space of the disk, made to be `bytes`.
fn leave_free(disk: &FakeDisk, bytes: u64) {
    let space = disk.space(Path::new("/data")).expect("a disk");
    disk.set_capacity(space.total_bytes - space.usable_bytes + bytes);
}

#[test]
fn a_disk_that_is_nearly_full_refuses_to_be_written_and_goes_on_by_itself() {
    let done = block_on(async {
        let disk = FakeDisk::with_dir("/");
        let settings = ["log.dir.min.free.bytes=1000000", "log.retention.check.interval.ms=100"];
        let node = start_on(&disk, &settings).await;
        let mut peer = Peer::dial(address(&node)).await;
        create_topic(&mut peer, "orders", 1, &[("segment.bytes", "50000")]).await;
        for n in 0..50 {
            append(&mut peer, "orders", 0, batch(&[format!("{n:0>10000}")])).await;
        }
        leave_free(&disk, 999_999);
        let refused = until("a refusal", async || {
            let answer = produce(&mut peer, "orders", 0, batch(&["more"])).await;
            (answer.error_code != 0).then_some(answer)
        })
        .await;
        assert_eq!(ErrorCode(refused.error_code), ErrorCode::KAFKA_STORAGE_ERROR);
        let message = refused.error_message.unwrap_or_default();
        assert!(message.contains("log.dir.min.free.bytes"), "{message}");
        // All else goes on: reads, offset commits, deletions that make room.
        assert!(read_all(&mut peer, "orders", 0, 0).await.len() > 400_000);
        commit_offset(&mut peer, 7).await;
        delete_records(&mut peer, 40).await;
        let base = until("room", async || {
            let answer = produce(&mut peer, "orders", 0, batch(&["more"])).await;
            (answer.error_code == 0).then_some(answer.base_offset)
        })
        .await;
        assert!(base >= 50);
        // A stop finds the room that was kept for it.
        leave_free(&disk, 500_000);
        node.stop().await.expect("stops");
        assert!(disk.exists(Path::new("/data/.kafka_cleanshutdown")));
    });
    done.expect("a runtime");
}

#[test]
fn a_disk_without_any_room_gets_no_mark_of_a_clean_stop() {
    let done = block_on(async {
        let disk = FakeDisk::with_dir("/");
        let node = start_on(&disk, &["log.dir.min.free.bytes=0"]).await;
        let mut peer = Peer::dial(address(&node)).await;
        create_topic(&mut peer, "orders", 1, &[]).await;
        append(&mut peer, "orders", 0, batch(&["one"])).await;
        leave_free(&disk, 10);
        let answer = produce(&mut peer, "orders", 0, batch(&["two"])).await;
        assert_eq!(ErrorCode(answer.error_code), ErrorCode::KAFKA_STORAGE_ERROR);
        node.stop().await.expect_err("nothing can be written");
        assert!(!disk.exists(Path::new("/data/.kafka_cleanshutdown")));
        leave_free(&disk, 1_000_000);
        let disk = disk.after(Crash::Process);
        let node = start_on(&disk, &[]).await;
        let mut peer = Peer::dial(address(&node)).await;
        assert_eq!(append(&mut peer, "orders", 0, batch(&["two"])).await, 1);
        node.stop().await.expect("stops");
    });
    done.expect("a runtime");
}

#[test]
fn a_node_without_room_for_its_metadata_says_that_it_cannot_go_on() {
    let done = block_on(async {
        let disk = FakeDisk::with_dir("/");
        let node = start_on(&disk, &["log.dir.min.free.bytes=0"]).await;
        let mut peer = Peer::dial(address(&node)).await;
        leave_free(&disk, 10);
        let topic = CreatableTopic {
            name: "orders".into(),
            num_partitions: 1,
            replication_factor: 1,
            ..Default::default()
        };
        let request = CreateTopicsRequest { topics: vec![topic], ..Default::default() };
        let response = peer.ask(7, &request).await;
        assert_ne!(response.topics[0].error_code, 0);
        let failed = time::timeout(Duration::from_secs(30), node.failed()).await;
        let reason = failed.expect("in time");
        assert!(reason.starts_with("the keeper cannot go on: "), "{reason}");
        assert!(reason.contains("no storage space"), "{reason}");
    });
    done.expect("a runtime");
}
