//! What a node finds when it starts.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use ottla_protocol::ErrorCode;
use ottla_protocol::messages::MetadataRequest;
use ottla_record::Uuid;
use ottla_runtime::task::block_on;

use crate::broker::{Scratch, address, start, try_start};
use crate::client::{append, batch, create_topic, produce, read_all};
use crate::peer::Peer;
use crate::produce::idempotent;

/// What clients see of a node that must outlive it.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    cluster_id: String,
    topics: Vec<(String, Uuid, usize)>,
    orders: Vec<u8>,
    bills: Vec<u8>,
}

async fn fill(peer: &mut Peer) {
    create_topic(peer, "orders", 2, &[("segment.bytes", "1000")]).await;
    create_topic(peer, "bills", 1, &[("cleanup.policy", "compact")]).await;
    for i in 0..50 {
        append(peer, "orders", 1, batch(&[format!("{i:0>100}")])).await;
        append(peer, "bills", 0, idempotent(0, i, &[format!("bill {i}")])).await;
    }
}

async fn look(peer: &mut Peer) -> Seen {
    let metadata = peer.ask(12, &MetadataRequest { topics: None, ..Default::default() }).await;
    let topics = metadata.topics.iter().map(|topic| {
        let name = topic.name.as_deref().unwrap_or_default().to_owned();
        (name, topic.topic_id, topic.partitions.len())
    });
    let topics = topics.collect();
    let cluster_id = metadata.cluster_id.as_deref().unwrap_or_default().to_owned();
    let orders = read_all(peer, "orders", 1, 0).await;
    let bills = read_all(peer, "bills", 0, 0).await;
    Seen { cluster_id, topics, orders, bills }
}

/// The idempotent producer of [`fill`] goes on where it was.
async fn go_on(peer: &mut Peer) {
    assert_eq!(append(peer, "bills", 0, idempotent(0, 49, &["bill 49"])).await, 49, "again");
    let gap = produce(peer, "bills", 0, idempotent(0, 60, &["gap"])).await;
    assert_eq!(ErrorCode(gap.error_code), ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
    assert_eq!(append(peer, "bills", 0, idempotent(0, 50, &["bill 50"])).await, 50);
    assert_eq!(append(peer, "orders", 1, batch(&["the next"])).await, 50);
}

#[test]
fn a_stop_and_a_start_lose_nothing() {
    let done = block_on(async {
        let scratch = Scratch::new("restart");
        let node = start(scratch.path(), &[]).await;
        let mut peer = Peer::dial(address(&node)).await;
        fill(&mut peer).await;
        let before = look(&mut peer).await;
        assert_eq!(before.cluster_id, node.cluster_id());
        assert_eq!(node.topic_count(), 2);
        node.stop().await.expect("stops");
        assert_eq!(peer.receive().await, None, "a stop ends connections");
        assert!(scratch.join(".kafka_cleanshutdown").exists());

        let node = start(scratch.path(), &[]).await;
        assert!(!scratch.join(".kafka_cleanshutdown").exists());
        let mut peer = Peer::dial(address(&node)).await;
        assert_eq!(look(&mut peer).await, before);
        go_on(&mut peer).await;
        node.stop().await.expect("stops");
    });
    done.expect("a runtime");
}

/// A copy of a running node's directory is what a crash leaves: nothing was flushed or closed, and
/// here the last write of one log was torn, too.
#[test]
fn a_crash_loses_nothing_that_was_written() {
    let done = block_on(async {
        let scratch = Scratch::new("crash");
        let running = start(&scratch.join("running"), &[]).await;
        let mut peer = Peer::dial(address(&running)).await;
        fill(&mut peer).await;
        let before = look(&mut peer).await;
        let crashed = scratch.join("crashed");
        copy(&scratch.join("running"), &crashed);
        tear(&crashed.join("bills-0/00000000000000000000.log"));

        let node = start(&crashed, &[]).await;
        let mut peer = Peer::dial(address(&node)).await;
        assert_eq!(look(&mut peer).await, before);
        go_on(&mut peer).await;
        node.stop().await.expect("stops");
        running.stop().await.expect("stops");
    });
    done.expect("a runtime");
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("readable") {
        let entry = entry.expect("readable");
        let to = to.join(entry.file_name());
        if entry.file_type().expect("known").is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).expect("copied");
        }
    }
}

/// Appends the beginning of a batch.
fn tear(log: &Path) {
    let mut half = idempotent(0, 50, &["torn"]);
    half.truncate(half.len() - 10);
    half[..8].copy_from_slice(&50_i64.to_be_bytes());
    let mut file = fs::OpenOptions::new().append(true).open(log).expect("the log is there");
    file.write_all(&half).expect("written");
}

#[test]
fn who_holds_the_port_is_named() {
    let done = block_on(async {
        let scratch = Scratch::new("port");
        let node = start(&scratch.join("first"), &[]).await;
        let listener = format!("listeners=PLAINTEXT://{}", address(&node));
        let error = try_start(&scratch.join("second"), &[&listener]).await.err().expect("in use");
        let error = error.to_string();
        let pid = format!("(pid {}) listens there", std::process::id());
        assert!(error.starts_with("cannot listen on PLAINTEXT://127.0.0.1:"), "{error}");
        assert!(error.ends_with(&pid), "{error}");
        // What was opened before is let go.
        start(&scratch.join("second"), &[]).await.stop().await.expect("stops");
        node.stop().await.expect("stops");
    });
    done.expect("a runtime");
}
