//! What clients did to the broker while there was power, and what they were told.
//!
//! Owns: producers, and one client that commits offsets, creates topics and deletes records; the
//! ledger of what was asked and what was acknowledged. Must not know: drives, when the power fails.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::mpsc;
use std::time::Duration;

use ottla_client::{
    Acks, Admin, Client, ClientConfig, Delivery, ErrorCode, NewTopic, PartitionId, Producer,
    ProducerConfig, ProducerRecord,
};
use ottla_connection::{ConnectError, Connection, ConnectionOptions};
use ottla_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use ottla_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use ottla_protocol::messages::{DeleteRecordsRequest, FindCoordinatorRequest, OffsetCommitRequest};
use ottla_runtime::{World, time};
use tokio::sync::watch;
use tokio::task::LocalSet;

use crate::Outcome;
use crate::noise::Noise;

/// Half of them with acks=1, half with acks=all, which are idempotent.
const PRODUCERS: usize = 4;
/// How many records a producer has on their way at most.
const WINDOW: usize = 64;
const LINGER: Duration = Duration::from_millis(1);
/// After it, a record whose fate is not known stays so.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(2);
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// What else is done at least before the power may fail: each kind twice.
const CHORES: u64 = 12;
const VALUE_BYTES_MAX: u64 = 700;
/// What of a topic's name tells the topic that was made under load.
const MADE: &str = "made";

/// All that was asked between two cuts.
pub(crate) struct Ledger {
    pub(crate) topic: String,
    pub(crate) partitions: i32,
    pub(crate) stories: Vec<Story>,
    pub(crate) chores: Chores,
}

/// What one producer sent.
pub(crate) struct Story {
    pub(crate) producer: usize,
    pub(crate) idempotent: bool,
    /// By partition and number: the offset that was acknowledged.
    pub(crate) sent: Vec<Vec<Option<i64>>>,
}

/// A number that grows, and how far it was asked to and was acknowledged.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Progress {
    pub(crate) asked: i64,
    pub(crate) acknowledged: Option<i64>,
}

/// What was asked beside records.
#[derive(Default)]
pub(crate) struct Chores {
    /// Offsets that the group called like the topic committed, by partition.
    pub(crate) commits: BTreeMap<i32, Progress>,
    /// Topics whose creation was acknowledged.
    pub(crate) topics: BTreeSet<String>,
    /// Where records were deleted up to, by partition.
    pub(crate) deletes: BTreeMap<i32, Progress>,
}

impl Ledger {
    pub(crate) fn acknowledged(&self) -> usize {
        let sent = self.stories.iter().flat_map(|story| &story.sent).flatten();
        sent.filter(|offset| offset.is_some()).count()
    }

    pub(crate) fn unknown(&self) -> usize {
        let sent = self.stories.iter().flat_map(|story| &story.sent).flatten();
        sent.filter(|offset| offset.is_none()).count()
    }
}

/// The value of a record, which names it and is followed by bytes of its own.
pub(crate) fn value(topic: &str, producer: usize, partition: i32, number: usize) -> Vec<u8> {
    let mut value = format!("{topic} {producer} {partition} {number} ").into_bytes();
    let seed = value.iter().fold(0, |seed: u64, &b| seed.wrapping_mul(31).wrapping_add(b.into()));
    let mut noise = Noise(seed);
    let length = noise.below(VALUE_BYTES_MAX) as usize;
    value.extend(noise.bytes(length));
    value
}

/// What a value names: topic, producer, partition and number.
pub(crate) fn parse(value: &[u8]) -> Option<(&str, usize, i32, usize)> {
    let mut words =
        value.splitn(5, |&byte| byte == b' ').map(|word| std::str::from_utf8(word).ok());
    let topic = words.next()??;
    let mut number = || words.next()??.parse().ok();
    Some((topic, number()?, i32::try_from(number()?).ok()?, number()?))
}

/// How it stands with the power.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Working,
    /// It may fail at any moment.
    Failing,
    /// The broker is dead.
    Over,
}

/// What to do, and who waits for it.
pub(crate) struct Plan {
    /// A new topic's name.
    pub(crate) topic: String,
    pub(crate) partitions: i32,
    /// After so many acknowledged records, and [`CHORES`], `enough` is told.
    pub(crate) records: u64,
    pub(crate) seed: u64,
    pub(crate) enough: mpsc::Sender<()>,
    pub(crate) phase: watch::Receiver<Phase>,
}

/// What all clients of a load share.
struct Stage {
    topic: String,
    partitions: i32,
    /// How many records and chores are still to be acknowledged before the power may fail.
    records_left: Cell<u64>,
    chores_left: Cell<u64>,
    enough: mpsc::Sender<()>,
    phase: watch::Receiver<Phase>,
    /// The end of what is acknowledged, by partition.
    ends: RefCell<Vec<i64>>,
}

impl Stage {
    fn acknowledged(&self, partition: usize, offset: i64) {
        let mut ends = self.ends.borrow_mut();
        ends[partition] = ends[partition].max(offset + 1);
        self.count_down(&self.records_left);
    }

    fn count_down(&self, left: &Cell<u64>) {
        let was = left.get();
        left.set(was.saturating_sub(1));
        if was == 1 && self.records_left.get() == 0 && self.chores_left.get() == 0 {
            // Who waits for it waits no longer if the load has failed elsewhere.
            let _ = self.enough.send(());
        }
    }

    /// Whether an error has no other reason than the power.
    fn is_excused(&self) -> bool {
        *self.phase.borrow() != Phase::Working
    }

    fn is_over(&self) -> bool {
        *self.phase.borrow() == Phase::Over
    }

    /// Returns when there is no broker any more.
    async fn over(&self) {
        // If nobody is left to tell, it is over as well.
        let _ = self.phase.clone().wait_for(|phase| *phase == Phase::Over).await;
    }
}

/// A client for the broker at `bootstrap`. It finds out soon that there is nobody.
pub(crate) fn client(bootstrap: &str) -> Client {
    let config = ClientConfig {
        request_timeout: CALL_TIMEOUT,
        api_timeout: CALL_TIMEOUT,
        retry_backoff: Duration::from_millis(20),
        retry_backoff_max: Duration::from_millis(100),
        ..ClientConfig::new(vec![bootstrap.to_owned()])
    };
    Client::new(&World::system(), config)
}

/// A connection for what [`Client`] has no words for.
pub(crate) async fn connect(bootstrap: &str) -> Result<Connection, ConnectError> {
    let network = World::system().network;
    Connection::connect(&*network, bootstrap, &ConnectionOptions::default()).await
}

/// Works on a new topic from all sides until there is no broker any more. What is not answered by then
/// is not known.
pub(crate) async fn run(bootstrap: &str, plan: Plan) -> Outcome<Ledger> {
    let Plan { topic, partitions, records, seed, enough, phase } = plan;
    let admin = client(bootstrap).admin();
    let new = NewTopic {
        name: topic.clone(),
        partitions: Some(partitions),
        // Small segments: recovery finds many, and cuts meet rolls.
        configs: vec![("segment.bytes".to_owned(), "100000".to_owned())],
        ..NewTopic::default()
    };
    admin.create_topic(&new).await?;
    let ends = RefCell::new(vec![0; partitions as usize]);
    let stage = Rc::new(Stage {
        topic: topic.clone(),
        partitions,
        records_left: Cell::new(records),
        chores_left: Cell::new(CHORES),
        enough,
        phase,
        ends,
    });
    let clients = LocalSet::new();
    let producers = (0..PRODUCERS).map(|producer| {
        let idempotent = producer % 2 == 1;
        let acks = if idempotent { Acks::All } else { Acks::Leader };
        let config = ProducerConfig {
            acks,
            linger: LINGER,
            delivery_timeout: DELIVERY_TIMEOUT,
            ..ProducerConfig::default()
        };
        let story = Story { producer, idempotent, sent: vec![Vec::new(); partitions as usize] };
        let noise = Noise(seed.wrapping_add(producer as u64));
        let client = client(bootstrap);
        let stage = stage.clone();
        clients
            .spawn_local(async move { tell(story, client.producer(config), &stage, noise).await })
    });
    let producers: Vec<_> = producers.collect();
    let connection = connect(bootstrap).await?;
    let chores = clients.spawn_local(do_chores(connection, admin, stage.clone()));
    clients.await;
    let mut stories = Vec::new();
    for producer in producers {
        stories.push(producer.await??);
    }
    Ok(Ledger { topic, partitions, stories, chores: chores.await?? })
}

type OnItsWay = (usize, usize, Delivery);

/// Sends until the broker is gone.
async fn tell(
    mut story: Story,
    producer: Producer,
    stage: &Stage,
    mut noise: Noise,
) -> Result<Story, String> {
    let mut window: VecDeque<OnItsWay> = VecDeque::new();
    while !stage.is_over() {
        if window.len() == WINDOW
            && let Some(front) = window.pop_front()
        {
            settle(&mut story, front, stage).await?;
            continue;
        }
        let partition = noise.below(stage.partitions as u64) as usize;
        let number = story.sent[partition].len();
        story.sent[partition].push(None);
        let record = ProducerRecord {
            topic: stage.topic.clone(),
            partition: Some(PartitionId(partition as i32)),
            value: Some(value(&stage.topic, story.producer, partition as i32, number)),
            ..ProducerRecord::default()
        };
        let sent = tokio::select! {
            biased;
            sent = producer.send(record) => sent,
            () = stage.over() => break,
        };
        match sent {
            Ok(delivery) => window.push_back((partition, number, delivery)),
            Err(_) if stage.is_excused() => break,
            Err(error) => return Err(format!("a record was refused: {error}")),
        }
    }
    for left in window {
        settle(&mut story, left, stage).await?;
    }
    Ok(story)
}

/// Waits for what became of a record. Not to know it is no failure, as little as a broker that has
/// lost its drive already.
async fn settle(story: &mut Story, record: OnItsWay, stage: &Stage) -> Result<(), String> {
    let (partition, number, delivery) = record;
    if let Ok(metadata) = delivery.await {
        let offset = metadata.offset.ok_or("an acknowledgement without an offset")?.0;
        story.sent[partition][number] = Some(offset);
        stage.acknowledged(partition, offset);
    }
    Ok(())
}

/// Commits offsets, creates topics and deletes records, one after the other.
async fn do_chores(
    connection: Connection,
    admin: Admin,
    stage: Rc<Stage>,
) -> Result<Chores, String> {
    let mut chores = Chores::default();
    for round in 0.. {
        let work = async {
            match round % 8 {
                0 => find_coordinator(&connection, &stage.topic).await,
                1 | 3 | 5 => delete_records(&connection, &stage, &mut chores).await,
                7 => create_topic(&admin, &stage, round, &mut chores).await,
                _ => commit(&connection, &stage, round, &mut chores).await,
            }
        };
        let done = tokio::select! {
            biased;
            done = work => done,
            () = stage.over() => return Ok(chores),
        };
        match done {
            Ok(()) => stage.count_down(&stage.chores_left),
            Err(_) if stage.is_excused() => return Ok(chores),
            Err(error) => return Err(error),
        }
    }
    Ok(chores)
}

/// Returns when the coordinator of the group takes commits: at first it is made.
pub(crate) async fn find_coordinator(connection: &Connection, group: &str) -> Result<(), String> {
    /// From v4 on several groups are asked for at once.
    const NEWEST: i16 = 3;
    const PAUSE: Duration = Duration::from_millis(20);
    let request = FindCoordinatorRequest { key: group.into(), ..Default::default() };
    let deadline = time::now() + CALL_TIMEOUT;
    loop {
        let reply = connection.call_up_to(NEWEST, &request, CALL_TIMEOUT).await;
        let reply = reply.map_err(|e| format!("FindCoordinator: {e}"))?;
        let response = reply.decode().map_err(|e| format!("FindCoordinator: {e}"))?;
        match ErrorCode(response.error_code) {
            ErrorCode::NONE => return Ok(()),
            code if code.is_retriable() && time::now() < deadline => time::sleep(PAUSE).await,
            code => return Err(format!("FindCoordinator: {code}")),
        }
    }
}

async fn commit(
    connection: &Connection,
    stage: &Stage,
    round: i64,
    chores: &mut Chores,
) -> Result<(), String> {
    /// From v9 on only members of groups commit.
    const NEWEST: i16 = 8;
    let partition = (round % i64::from(stage.partitions)) as i32;
    let request = OffsetCommitRequest {
        group_id: (&*stage.topic).into(),
        generation_id_or_member_epoch: -1,
        topics: vec![OffsetCommitRequestTopic {
            name: (&*stage.topic).into(),
            partitions: vec![OffsetCommitRequestPartition {
                partition_index: partition,
                committed_offset: round,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    let progress = chores.commits.entry(partition).or_default();
    progress.asked = round;
    let reply = connection.call_up_to(NEWEST, &request, CALL_TIMEOUT).await;
    let reply = reply.map_err(|e| format!("OffsetCommit: {e}"))?;
    let response = reply.decode().map_err(|e| format!("OffsetCommit: {e}"))?;
    let answer = response.topics.first().and_then(|topic| topic.partitions.first());
    let code = ErrorCode(answer.ok_or("OffsetCommit: no answer")?.error_code);
    match code {
        ErrorCode::NONE => progress.acknowledged = Some(round),
        code if code.is_retriable() => {}
        code => return Err(format!("OffsetCommit: {code}")),
    }
    Ok(())
}

/// Deletes half of what is acknowledged of partition 0.
async fn delete_records(
    connection: &Connection,
    stage: &Stage,
    chores: &mut Chores,
) -> Result<(), String> {
    const PARTITION: i32 = 0;
    let offset = stage.ends.borrow()[PARTITION as usize] / 2;
    if offset == 0 {
        return Ok(());
    }
    let request = DeleteRecordsRequest {
        topics: vec![DeleteRecordsTopic {
            name: (&*stage.topic).into(),
            partitions: vec![DeleteRecordsPartition { partition_index: PARTITION, offset }],
        }],
        timeout_ms: 30_000,
    };
    let progress = chores.deletes.entry(PARTITION).or_default();
    progress.asked = offset;
    let reply = connection.call(&request, CALL_TIMEOUT).await;
    let reply = reply.map_err(|e| format!("DeleteRecords: {e}"))?;
    let response = reply.decode().map_err(|e| format!("DeleteRecords: {e}"))?;
    let answer = response.topics.first().and_then(|topic| topic.partitions.first());
    let answer = answer.ok_or("DeleteRecords: no answer")?;
    match ErrorCode(answer.error_code) {
        ErrorCode::NONE => progress.acknowledged = Some(answer.low_watermark),
        code if code.is_retriable() => {}
        code => return Err(format!("DeleteRecords: {code}")),
    }
    Ok(())
}

async fn create_topic(
    admin: &Admin,
    stage: &Stage,
    round: i64,
    chores: &mut Chores,
) -> Result<(), String> {
    let name = format!("{}-{MADE}-{round}", stage.topic);
    let new = NewTopic { name: name.clone(), partitions: Some(1), ..NewTopic::default() };
    admin.create_topic(&new).await.map_err(|e| format!("CreateTopics: {e}"))?;
    chores.topics.insert(name);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_names_its_record() {
        let made = value("cut-1", 2, 3, 456);
        assert_eq!(parse(&made), Some(("cut-1", 2, 3, 456)));
        assert_eq!(made, value("cut-1", 2, 3, 456));
        assert_ne!(made, value("cut-1", 2, 3, 457));
        assert_eq!(parse(b"cut-1 2 3"), None);
        assert_eq!(parse(&[0; 40]), None);
    }
}
