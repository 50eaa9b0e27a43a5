//! What the cases find at the broker.

use std::net::SocketAddr;

use ottla_protocol::ErrorCode;
use ottla_protocol::messages::fetch_request::FetchTopic;
use ottla_protocol::messages::metadata_request::MetadataRequestTopic;
use ottla_protocol::messages::{FetchRequest, FindCoordinatorRequest, MetadataRequest};
use ottla_record::{RecordBatch, Uuid};

use crate::client::{append, batch, create_topic, fetch_partition, fetch_request, read_all};
use crate::peer::Peer;

/// Another client's topic.
pub(super) const WITNESS: &str = "witness";
/// A topic as it is by default.
pub(super) const TARGET: &str = "target";
/// A topic whose `cleanup.policy` is `compact`.
pub(super) const COMPACTED: &str = "compacted";
/// A topic with batches of up to [`NARROW_BYTES`].
pub(super) const NARROW: &str = "narrow";
pub(super) const NARROW_BYTES: usize = 1000;
/// A topic with batches that are larger than a segment, which has [`SEGMENT_BYTES`].
pub(super) const SEGMENTED: &str = "segmented";
pub(super) const SEGMENT_BYTES: usize = 1024 * 1024;
/// A topic that takes timestamps of the last and the next minute.
pub(super) const PUNCTUAL: &str = "punctual";

/// A group that has no member.
pub(super) const GROUP: &str = "hostile";

/// How often is asked for what takes a moment.
const PATIENCE: usize = 20_000;

const TOPICS: &[(&str, &[(&str, &str)])] = &[
    (WITNESS, &[]),
    (TARGET, &[]),
    (COMPACTED, &[("cleanup.policy", "compact")]),
    (NARROW, &[("max.message.bytes", "1000")]),
    (SEGMENTED, &[("segment.bytes", "1048576"), ("max.message.bytes", "4194304")]),
    (
        PUNCTUAL,
        &[
            ("message.timestamp.before.max.ms", "60000"),
            ("message.timestamp.after.max.ms", "60000"),
        ],
    ),
];

pub(super) struct Stage {
    pub(super) address: SocketAddr,
    pub(super) target_id: Uuid,
    /// A fetch session over [`TARGET`] whose next epoch is 1.
    pub(super) session_id: i32,
}

/// The witness topic, as it must be.
pub(super) struct Witness(Vec<u8>);

impl Witness {
    /// Expects the batch `sent` at `offset`, as the first leader stores it.
    pub(super) fn push(&mut self, offset: i64, sent: &[u8]) {
        let mut stored = sent.to_vec();
        stored[..8].copy_from_slice(&offset.to_be_bytes());
        stored[12..16].copy_from_slice(&0_i32.to_be_bytes());
        assert!(RecordBatch::parse(&stored).is_ok());
        self.0.extend_from_slice(&stored);
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Stage {
    pub(super) async fn set(address: SocketAddr) -> Self {
        let mut peer = Peer::dial(address).await;
        let mut target_id = Uuid::ZERO;
        for (name, config) in TOPICS {
            let id = create_topic(&mut peer, name, 1, config).await;
            if *name == TARGET {
                target_id = id;
            }
            await_leader(&mut peer, name).await;
        }
        await_coordinator(&mut peer).await;
        append(&mut peer, TARGET, 0, batch(&["first"])).await;
        append(&mut peer, WITNESS, 0, batch(&["first"])).await;
        let open =
            FetchRequest { session_epoch: 0, ..fetch_request(TARGET, vec![fetch_partition(0, 0)]) };
        let session_id = peer.ask(12, &open).await.session_id;
        assert_ne!(session_id, 0);
        Self { address, target_id, session_id }
    }

    pub(super) async fn witness(&self, peer: &mut Peer) -> Witness {
        Witness(read_all(peer, WITNESS, 0, 0).await)
    }

    /// Where the topics other than the witness end.
    pub(super) async fn end_offsets(&self, peer: &mut Peer) -> Vec<i64> {
        let topics = TOPICS.iter().filter(|(name, _)| *name != WITNESS).map(|&(name, _)| {
            let partitions = vec![fetch_partition(0, 0)];
            FetchTopic { topic: name.into(), partitions, ..Default::default() }
        });
        let request = FetchRequest {
            max_bytes: 1,
            topics: topics.collect(),
            ..fetch_request("", Vec::new())
        };
        let response = peer.ask(12, &request).await;
        let partitions = response.responses.iter().flat_map(|topic| &topic.partitions);
        partitions.map(|partition| partition.high_watermark).collect()
    }
}

/// Asks until the broker knows that it leads a topic which it just created.
async fn await_leader(peer: &mut Peer, name: &str) {
    let topic = MetadataRequestTopic { name: Some(name.into()), ..Default::default() };
    let request = MetadataRequest {
        topics: Some(vec![topic]),
        allow_auto_topic_creation: false,
        ..Default::default()
    };
    for _ in 0..PATIENCE {
        let response = peer.ask(12, &request).await;
        let topic = &response.topics[0];
        let codes = topic.partitions.iter().map(|partition| partition.error_code);
        if codes.chain([topic.error_code]).all(|code| code == ErrorCode::NONE.0) {
            return;
        }
    }
    panic!("{name} has no leader");
}

/// Asks until the broker coordinates the group.
async fn await_coordinator(peer: &mut Peer) {
    let request =
        FindCoordinatorRequest { coordinator_keys: vec![GROUP.into()], ..Default::default() };
    for _ in 0..PATIENCE {
        let response = peer.ask(4, &request).await;
        if response.coordinators[0].error_code == ErrorCode::NONE.0 {
            return;
        }
    }
    panic!("{GROUP} has no coordinator");
}
