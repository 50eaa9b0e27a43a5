//! What `read_committed` consumers see of a directory whose log has transactions.

use std::io::IoSlice;
use std::path::Path;
use std::sync::Arc;

use ottla_fake::{Crash, FakeDisk};
use ottla_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use ottla_protocol::messages::{FetchRequest, ListOffsetsRequest};
use ottla_record::{
    BatchOptions, EndTransactionMarker, LeaderEpoch, Offset, PatchedHeader, ProducerEpoch,
    ProducerId, RecordBatch, Sequence, Timestamp,
};
use ottla_runtime::World;
use ottla_runtime::disk::{Disk, OpenMode};
use ottla_runtime::task::block_on;
use ottla_server::Node;

use crate::broker::{address, start_in};
use crate::client::{batch, batch_with, create_topic, fetch_partition, fetch_request, records_of};
use crate::peer::Peer;

const DIR: &str = "/data/orders-0";
const READ_UNCOMMITTED: i8 = 0;
const READ_COMMITTED: i8 = 1;

async fn start_on(disk: &Arc<FakeDisk>) -> Node {
    let world = World { disk: disk.clone(), ..World::system() };
    start_in(world, Path::new("/data"), &[]).await.expect("starts")
}

fn transactional(id: i64, value: &str) -> Vec<u8> {
    let options = BatchOptions {
        producer_id: ProducerId(id),
        producer_epoch: ProducerEpoch(0),
        base_sequence: Sequence(0),
        is_transactional: true,
        ..BatchOptions::default()
    };
    batch_with(options, &[value])
}

fn marker(id: i64, committed: bool) -> Vec<u8> {
    let marker = EndTransactionMarker { committed, coordinator_epoch: 0 };
    marker.batch(ProducerId(id), ProducerEpoch(0), Timestamp(1))
}

/// A log as an Apache Kafka in a crash leaves it: of three transactions one is aborted, one committed,
/// one open.
fn log() -> Vec<u8> {
    let batches = [
        transactional(1, "aborted"),
        transactional(2, "committed"),
        marker(1, false),
        marker(2, true),
        batch(&["plain"]),
        transactional(3, "open"),
        batch(&["behind"]),
    ];
    let mut log = Vec::new();
    for (offset, bytes) in (0..).zip(&batches) {
        let (batch, _) = RecordBatch::parse(bytes).expect("it was just built");
        let header = PatchedHeader::new(&batch, Offset(offset), LeaderEpoch(0));
        log.extend([header.as_bytes(), batch.payload()].concat());
    }
    log
}

/// The last stable offset, the offsets of the batches that were read, and the aborted transactions
/// by producer and first offset.
async fn read(peer: &mut Peer, isolation_level: i8) -> (i64, Vec<i64>, Option<Vec<(i64, i64)>>) {
    let request = fetch_request("orders", vec![fetch_partition(0, 0)]);
    let mut response = peer.ask(12, &FetchRequest { isolation_level, ..request }).await;
    let data = response.responses.remove(0).partitions.remove(0);
    assert_eq!((data.error_code, data.high_watermark), (0, 7));
    let records = records_of(&data);
    let offsets =
        ottla_record::batches(&records).map(|batch| batch.expect("whole").base_offset().0);
    let aborted = data.aborted_transactions.map(|aborted| {
        aborted.iter().map(|aborted| (aborted.producer_id, aborted.first_offset)).collect()
    });
    (data.last_stable_offset, offsets.collect(), aborted)
}

async fn latest(peer: &mut Peer, isolation_level: i8) -> i64 {
    const LATEST: i64 = -1;
    let partition =
        ListOffsetsPartition { partition_index: 0, timestamp: LATEST, ..Default::default() };
    let topic = ListOffsetsTopic { name: "orders".into(), partitions: vec![partition] };
    let request = ListOffsetsRequest { isolation_level, topics: vec![topic], ..Default::default() };
    peer.ask(7, &request).await.topics[0].partitions[0].offset
}

#[test]
fn read_committed_ends_at_the_first_open_transaction_and_names_the_aborted_ones() {
    let done = block_on(async {
        let disk = FakeDisk::with_dir("/");
        let node = start_on(&disk).await;
        create_topic(&mut Peer::dial(address(&node)).await, "orders", 1, &[]).await;
        let disk = disk.after(Crash::Process);
        node.stop().await.expect("stops");
        let file = Path::new(DIR).join("00000000000000000000.log");
        let file = disk.open(&file, OpenMode::Create).expect("a directory for the log");
        file.write_at(&[IoSlice::new(&log())], 0).expect("room");

        // What recovery finds, and what a clean stop wrote down.
        for _ in 0..2 {
            let node = start_on(&disk).await;
            let mut peer = Peer::dial(address(&node)).await;
            let committed = read(&mut peer, READ_COMMITTED).await;
            assert_eq!(committed, (5, (0..5).collect(), Some(vec![(1, 0)])));
            let all = read(&mut peer, READ_UNCOMMITTED).await;
            assert_eq!(all, (5, (0..7).collect(), None));
            assert_eq!(latest(&mut peer, READ_COMMITTED).await, 5);
            assert_eq!(latest(&mut peer, READ_UNCOMMITTED).await, 7);
            node.stop().await.expect("stops");
        }
    });
    done.expect("a runtime");
}
