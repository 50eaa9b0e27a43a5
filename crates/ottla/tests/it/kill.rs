//! A broker that is killed under load loses nothing that it acknowledged.
//!
//! `OTTLA_KILL_ROUNDS` says how often it is killed (3), `OTTLA_KILL_SEED` repeats the draws of an
//! earlier run.

use std::collections::{BTreeMap, VecDeque};
use std::env;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ottla_protocol::ErrorCode;
use ottla_protocol::messages::{InitProducerIdRequest, ProduceRequest};
use ottla_record::{BatchOptions, Codec, ProducerEpoch, ProducerId, Sequence};
use ottla_runtime::World;
use ottla_runtime::task::block_on;
use tokio::sync::Notify;
use tokio::task::LocalSet;

use crate::broker::{Broker, Scratch};
use crate::client::{batch_with, create_topic, produce, produce_request, read_all, values};
use crate::peer::Peer;

const TOPIC: &str = "load";
const PARTITIONS: i32 = 3;
/// Two of them for each partition, one idempotent and one not.
const PRODUCERS: i32 = 2 * PARTITIONS;
/// What Kafka's producer has in flight at most if it is idempotent.
const IN_FLIGHT_MAX: usize = 5;

/// A batch on its way, or arrived.
#[derive(Clone, Debug)]
struct Sent {
    records: Vec<u8>,
    values: Vec<Vec<u8>>,
    /// The offset that was acknowledged.
    acknowledged: Option<i64>,
}

/// What a producer did in one round. It writes to one partition.
struct Story {
    name: String,
    partition: i32,
    idempotent: bool,
    sent: Vec<Sent>,
}

/// Draws of a seed (SplitMix64).
struct Draws(u64);

impl Draws {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

/// Says when it is time to kill.
struct Countdown {
    left: AtomicU64,
    done: Notify,
}

impl Countdown {
    fn acknowledged(&self) {
        if self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.done.notify_one();
        }
    }
}

fn number(variable: &str) -> Option<u64> {
    env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

#[test]
fn what_was_acknowledged_survives_a_kill() {
    let rounds = number("OTTLA_KILL_ROUNDS").unwrap_or(3);
    let seed = number("OTTLA_KILL_SEED").unwrap_or_else(|| World::system().random.next_u64() >> 16);
    // Shown if the test fails.
    eprintln!("OTTLA_KILL_SEED={seed} OTTLA_KILL_ROUNDS={rounds}");
    let mut draws = Draws(seed);
    let scratch = Scratch::new("kill");
    let mut broker = Broker::start(scratch.path());
    let done = block_on(async {
        let mut peer = Peer::dial(broker.address).await;
        // Small segments: recovery finds many, and kills meet rolls.
        create_topic(&mut peer, TOPIC, PARTITIONS, &[("segment.bytes", "100000")]).await;
    });
    done.expect("a runtime");

    let mut stories = Vec::new();
    for round in 0..rounds {
        let kill_after = 1 + draws.below(1500);
        let told = block_on(load(&mut broker, round, kill_after, &mut draws));
        let mut told = told.expect("a runtime");
        broker = Broker::start(scratch.path());
        let done = block_on(async {
            let mut peer = Peer::dial(broker.address).await;
            for story in told.iter_mut().filter(|story| story.idempotent) {
                send_again(&mut peer, story).await;
            }
            stories.append(&mut told);
            check(&mut peer, &stories).await;
        });
        done.expect("a runtime");
    }

    let (status, log) = broker.stop();
    assert!(status.success(), "{status}\n{log}");
    let broker = Broker::start(scratch.path());
    let done = block_on(async { check(&mut Peer::dial(broker.address).await, &stories).await });
    done.expect("a runtime");
}

/// Produces from all sides until so many batches are acknowledged, and kills the broker.
async fn load(broker: &mut Broker, round: u64, kill_after: u64, draws: &mut Draws) -> Vec<Story> {
    let countdown = Arc::new(Countdown { left: AtomicU64::new(kill_after), done: Notify::new() });
    let producers = LocalSet::new();
    let told = (0..PRODUCERS).map(|index| {
        let story = Story {
            name: format!("round {round} producer {index}"),
            partition: index / 2,
            idempotent: index % 2 == 0,
            sent: Vec::new(),
        };
        let draws = Draws(draws.below(u64::MAX));
        producers.spawn_local(tell(story, broker.address, countdown.clone(), draws))
    });
    let told: Vec<_> = told.collect();
    producers.run_until(countdown.done.notified()).await;
    broker.kill();
    producers.await;
    let mut stories = Vec::new();
    for story in told {
        stories.push(story.await.expect("a producer ends with its broker"));
    }
    stories
}

/// Sends until the broker is gone.
async fn tell(
    mut story: Story,
    address: SocketAddr,
    countdown: Arc<Countdown>,
    draws: Draws,
) -> Story {
    let mut peer = Peer::dial(address).await;
    let producer_id = match story.idempotent {
        true => new_producer_id(&mut peer).await,
        false => Some(ProducerId::NONE),
    };
    if let Some(producer_id) = producer_id {
        produce_until_closed(&mut peer, &mut story, producer_id, &countdown, draws).await;
    }
    story
}

/// `None` if the broker is gone already.
async fn new_producer_id(peer: &mut Peer) -> Option<ProducerId> {
    let request = InitProducerIdRequest {
        transactional_id: None,
        transaction_timeout_ms: i32::MAX,
        ..Default::default()
    };
    let asked = peer.begin(4, &request).await;
    let response = peer.try_finish::<InitProducerIdRequest<'_>>(asked).await?;
    assert_eq!(ErrorCode(response.error_code), ErrorCode::NONE);
    Some(ProducerId(response.producer_id))
}

async fn produce_until_closed(
    peer: &mut Peer,
    story: &mut Story,
    producer_id: ProducerId,
    countdown: &Countdown,
    mut draws: Draws,
) {
    let mut in_flight = VecDeque::new();
    let mut sequence = 0;
    loop {
        while in_flight.len() < IN_FLIGHT_MAX {
            let at = story.sent.len();
            let values = new_values(&story.name, at, &mut draws);
            let records = new_batch(story, producer_id, sequence, &values, &mut draws);
            sequence += values.len() as i32;
            let request = produce_request(TOPIC, story.partition, 1, records.clone());
            story.sent.push(Sent { records, values, acknowledged: None });
            in_flight.push_back((at, peer.begin(9, &request).await));
        }
        let Some((at, asked)) = in_flight.pop_front() else { return };
        let Some(response) = peer.try_finish::<ProduceRequest<'_>>(asked).await else { return };
        let answer = &response.responses[0].partition_responses[0];
        assert_eq!(ErrorCode(answer.error_code), ErrorCode::NONE, "{:?}", answer.error_message);
        story.sent[at].acknowledged = Some(answer.base_offset);
        countdown.acknowledged();
    }
}

/// Values that nobody else sends.
fn new_values(name: &str, at: usize, draws: &mut Draws) -> Vec<Vec<u8>> {
    let count = 1 + draws.below(10);
    let value = |i| format!("{name} batch {at} record {i} ").into_bytes();
    let mut values: Vec<Vec<u8>> = (0..count).map(value).collect();
    for value in &mut values {
        value.resize(value.len() + draws.below(500) as usize, b'.');
    }
    values
}

fn new_batch(
    story: &Story,
    producer_id: ProducerId,
    sequence: i32,
    values: &[Vec<u8>],
    draws: &mut Draws,
) -> Vec<u8> {
    let codec = if draws.below(4) == 0 { Codec::Lz4 } else { Codec::None };
    let plain = BatchOptions { codec, ..BatchOptions::default() };
    let options = match story.idempotent {
        true => BatchOptions {
            producer_id,
            producer_epoch: ProducerEpoch(0),
            base_sequence: Sequence(sequence),
            ..plain
        },
        false => plain,
    };
    batch_with(options, values)
}

/// What a producer does that does not know whether its last batches arrived. Each must be stored
/// once, whether it had been or not.
async fn send_again(peer: &mut Peer, story: &mut Story) {
    for sent in story.sent.iter_mut().filter(|sent| sent.acknowledged.is_none()) {
        let answer = produce(peer, TOPIC, story.partition, sent.records.clone()).await;
        let (name, message) = (&story.name, &answer.error_message);
        assert_eq!(ErrorCode(answer.error_code), ErrorCode::NONE, "{name}: {message:?}");
        sent.acknowledged = Some(answer.base_offset);
    }
}

/// Holds everything that is stored against everything that was ever sent.
async fn check(peer: &mut Peer, stories: &[Story]) {
    for partition in 0..PARTITIONS {
        let stored = values(&read_all(peer, TOPIC, partition, 0).await);
        for (expected, (offset, _)) in stored.iter().enumerate() {
            assert_eq!(*offset, expected as i64, "offsets have no gap");
        }
        let mut offsets = BTreeMap::new();
        for (offset, value) in stored {
            let text = String::from_utf8_lossy(&value).into_owned();
            let twice = offsets.insert(value, offset);
            assert_eq!(twice, None, "stored twice: {text}");
        }
        for story in stories.iter().filter(|story| story.partition == partition) {
            check_story(story, &mut offsets);
        }
        assert!(offsets.is_empty(), "nobody sent {:?}", offsets.keys().next());
    }
}

/// Of what one producer sent, the beginning is stored, in order, and all that was acknowledged is
/// part of it. Takes it out of `offsets`.
fn check_story(story: &Story, offsets: &mut BTreeMap<Vec<u8>, i64>) {
    let mut last = -1;
    let mut ended = false;
    for (at, sent) in story.sent.iter().enumerate() {
        let found: Vec<i64> = sent.values.iter().filter_map(|v| offsets.remove(v)).collect();
        let place = format!("{} batch {at}", story.name);
        if found.is_empty() {
            assert_eq!(sent.acknowledged, None, "{place} was acknowledged and is lost");
            ended = true;
            continue;
        }
        assert!(!ended, "{place} is stored, and one before it is not");
        assert_eq!(found.len(), sent.values.len(), "{place} is stored in part");
        let base = found[0];
        assert!(found.iter().copied().eq(base..base + found.len() as i64), "{place} has gaps");
        assert!(base > last, "{place} is stored before the one before it");
        last = base;
        if let Some(acknowledged) = sent.acknowledged {
            assert_eq!(base, acknowledged, "{place} is not where it was acknowledged");
        }
    }
}
