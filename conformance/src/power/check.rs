//! What is left after a cut, held against what was acknowledged before it.
//!
//! Owns: the comparison. Must not know: producers, drives.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::AddAssign;
use std::time::Duration;

use ottla_client::{
    Client, ConsumerConfig, ErrorCode, IsolationLevel, Offset, OffsetSpec, PartitionId, Position,
    TopicPartition,
};
use ottla_protocol::messages::OffsetFetchRequest;
use ottla_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use ottla_runtime::time;

use super::load::{self, Ledger, Progress, Story};
use crate::Outcome;

/// A partition of which nothing is read for so long is taken for unreadable.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// What is said of one partition at most.
const EXAMPLES: usize = 3;

/// What a comparison found.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// Records that were acknowledged, and those of them that are not at their offset.
    pub(crate) acknowledged: usize,
    pub(crate) lost: usize,
    /// Acknowledged commits, creations and deletions, and those that are undone.
    pub(crate) chores: usize,
    pub(crate) undone: usize,
    /// What must not be even where acknowledged records may be lost.
    pub(crate) wrong: Vec<String>,
    /// What the losses look like, for people.
    pub(crate) losses: Vec<String>,
}

impl AddAssign for Findings {
    fn add_assign(&mut self, other: Self) {
        self.acknowledged += other.acknowledged;
        self.lost += other.lost;
        self.chores += other.chores;
        self.undone += other.undone;
        self.wrong.extend(other.wrong);
        self.losses.extend(other.losses);
    }
}

impl Findings {
    fn loss(&mut self, records: usize, what: String) {
        self.lost += records;
        self.losses.push(what);
    }

    fn undone(&mut self, what: String) {
        self.undone += 1;
        self.losses.push(what);
    }
}

/// Asks the broker at `bootstrap` for everything in the ledger.
pub(crate) async fn check(bootstrap: &str, ledger: &Ledger) -> Outcome<Findings> {
    let client = load::client(bootstrap);
    let mut findings = Findings::default();
    let listed = client.admin().list_topics().await?;
    let topics: BTreeSet<&str> = listed.iter().map(|topic| &*topic.name).collect();
    for topic in &ledger.chores.topics {
        findings.chores += 1;
        if !topics.contains(&**topic) {
            findings.undone(format!("topic {topic}, whose creation was acknowledged, is gone"));
        }
    }
    if topics.contains(&*ledger.topic) {
        for partition in 0..ledger.partitions {
            check_partition(&client, ledger, partition, &mut findings).await?;
        }
        check_commits(bootstrap, ledger, &mut findings).await?;
    } else {
        findings.acknowledged = ledger.acknowledged();
        findings.loss(ledger.acknowledged(), format!("topic {} is gone", ledger.topic));
    }
    Ok(findings)
}

async fn check_partition(
    client: &Client,
    ledger: &Ledger,
    partition: i32,
    findings: &mut Findings,
) -> Outcome<()> {
    let acknowledged = |story: &Story| story.sent[partition as usize].iter().flatten().count();
    let acknowledged = ledger.stories.iter().map(acknowledged).sum();
    findings.acknowledged += acknowledged;
    let name = format!("{}-{partition}", ledger.topic);
    match read(client, TopicPartition::new(&*ledger.topic, PartitionId(partition))).await {
        Ok((start, records)) => {
            check_start(&name, ledger.chores.deletes.get(&partition), start, findings);
            compare(ledger, partition, start, &records, findings);
        }
        // Nothing of it is served, whatever may still be there.
        Err(error) => findings.loss(acknowledged, format!("{name} cannot be read: {error}")),
    }
    Ok(())
}

type Records = Vec<(i64, Vec<u8>)>;

/// The offset that a partition starts at, and its records from there to the end.
async fn read(client: &Client, partition: TopicPartition) -> Outcome<(i64, Records)> {
    let admin = client.admin();
    let bound = async |spec| -> Outcome<i64> {
        let wanted = [(partition.clone(), spec)];
        let listed = admin.list_offsets(&wanted, IsolationLevel::ReadUncommitted);
        let mut listed = time::timeout(READ_TIMEOUT, listed).await??;
        Ok(listed.remove(&partition).ok_or("no offset was listed")??.offset.0)
    };
    let (start, end) = (bound(OffsetSpec::Earliest).await?, bound(OffsetSpec::Latest).await?);
    let config = ConsumerConfig { start: Position::Offset(Offset(start)), ..Default::default() };
    let mut consumer = client.consumer(config);
    consumer.assign([(partition.clone(), Position::Offset(Offset(start)))]);
    let mut records = Records::new();
    while consumer.position(&partition).is_none_or(|at| at.0 < end) {
        let polled = time::timeout(READ_TIMEOUT, consumer.poll(READ_TIMEOUT)).await??;
        if polled.is_empty() {
            return Err(
                format!("nothing comes after offset {:?}", records.last().map(|r| r.0)).into()
            );
        }
        let values = polled.into_iter().map(|r| (r.offset.0, r.value.unwrap_or_default()));
        records.extend(values);
    }
    Ok((start, records))
}

/// What was deleted stays deleted, and nothing else is.
fn check_start(name: &str, deletes: Option<&Progress>, start: i64, findings: &mut Findings) {
    let Progress { asked, acknowledged } = deletes.copied().unwrap_or_default();
    findings.chores += usize::from(acknowledged.is_some());
    if let Some(low) = acknowledged.filter(|&low| start < low) {
        findings.undone(format!("{name} starts at {start}, and was deleted up to {low}"));
    }
    if start > asked {
        findings.wrong.push(format!("{name} starts at {start}, and was deleted up to {asked}"));
    }
}

/// Each record is one that was sent, whole, in its producer's order, at the offset that was
/// acknowledged; offsets have no gap.
fn compare(
    ledger: &Ledger,
    partition: i32,
    start: i64,
    records: &[(i64, Vec<u8>)],
    findings: &mut Findings,
) {
    let name = format!("{}-{partition}", ledger.topic);
    let mut wrong = Vec::new();
    let mut found: BTreeMap<(usize, usize), Vec<i64>> = BTreeMap::new();
    let mut newest: BTreeMap<usize, usize> = BTreeMap::new();
    for (expected, (offset, value)) in (start..).zip(records) {
        if *offset != expected {
            wrong.push(format!("{name} has offset {offset} in the place of {expected}"));
            break;
        }
        let Some((producer, number)) = sent(ledger, partition, value) else {
            wrong.push(format!("{name} has at {offset} what nobody has sent there"));
            continue;
        };
        let earlier = found.entry((producer, number)).or_default();
        let newest = newest.entry(producer).or_insert(number);
        // A producer that is not idempotent may have sent it again.
        if earlier.is_empty() && number < *newest {
            wrong.push(format!("{name} has at {offset} number {number}, after {newest}"));
        }
        if !earlier.is_empty() && ledger.stories[producer].idempotent {
            wrong.push(format!("{name} has at {offset} what it has at {} too", earlier[0]));
        }
        *newest = number.max(*newest);
        earlier.push(*offset);
    }
    for story in &ledger.stories {
        let sent = story.sent[partition as usize].iter().enumerate();
        let kept = sent.filter_map(|(number, offset)| Some((number, (*offset)?)));
        let lost = kept.filter(|(number, offset)| {
            let places = found.get(&(story.producer, *number));
            *offset >= start && !places.is_some_and(|places| places.contains(offset))
        });
        let lost: Vec<_> = lost.collect();
        if let Some((number, offset)) = lost.first() {
            let (count, producer) = (lost.len(), story.producer);
            let end = start + records.len() as i64;
            let first = format!("from number {number} at offset {offset}; the log ends at {end}");
            findings.loss(count, format!("{name} lost {count} of producer {producer}, {first}"));
        }
    }
    wrong.truncate(EXAMPLES);
    findings.wrong.extend(wrong);
}

/// Which record this is, if it was sent to this partition and is whole.
fn sent(ledger: &Ledger, partition: i32, value: &[u8]) -> Option<(usize, usize)> {
    let (topic, producer, place, number) = load::parse(value)?;
    let story = ledger.stories.get(producer)?;
    let known = topic == ledger.topic && place == partition;
    let known = known && number < story.sent.get(partition as usize)?.len();
    (known && value == load::value(topic, producer, place, number)).then_some((producer, number))
}

async fn check_commits(bootstrap: &str, ledger: &Ledger, findings: &mut Findings) -> Outcome<()> {
    /// From v8 on several groups are asked for at once.
    const NEWEST: i16 = 7;
    let connection = load::connect(bootstrap).await?;
    load::find_coordinator(&connection, &ledger.topic).await?;
    let request = OffsetFetchRequest {
        group_id: (&*ledger.topic).into(),
        topics: Some(vec![OffsetFetchRequestTopic {
            name: (&*ledger.topic).into(),
            partition_indexes: ledger.chores.commits.keys().copied().collect(),
        }]),
        ..Default::default()
    };
    let deadline = time::now() + READ_TIMEOUT;
    let committed: BTreeMap<i32, i64> = loop {
        let reply = connection.call_up_to(NEWEST, &request, READ_TIMEOUT).await?;
        let response = reply.decode()?;
        match ErrorCode(response.error_code) {
            ErrorCode::NONE => {
                let all = response.topics.iter().flat_map(|topic| &topic.partitions);
                break all.map(|p| (p.partition_index, p.committed_offset)).collect();
            }
            // It may still be loading.
            code if code.is_retriable() && time::now() < deadline => {
                time::sleep(Duration::from_millis(20)).await;
            }
            code => {
                findings.losses.push(format!("the group {} does not load: {code}", ledger.topic));
                break BTreeMap::new();
            }
        }
    };
    for (partition, &Progress { asked, acknowledged }) in &ledger.chores.commits {
        let offset = committed.get(partition).copied().unwrap_or(-1);
        let name = format!("{}-{partition}", ledger.topic);
        findings.chores += usize::from(acknowledged.is_some());
        if let Some(acknowledged) = acknowledged.filter(|&acknowledged| offset < acknowledged) {
            let what = format!("{name} is committed up to {offset}, and was up to {acknowledged}");
            findings.undone(what);
        }
        if offset > asked {
            findings.wrong.push(format!("{name} is committed up to {offset}, which nobody has"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::load::Chores;
    use super::*;

    const TOPIC: &str = "t";

    /// Producer 0 sent four records, of which the first three are acknowledged at 0, 1 and 2.
    fn ledger(idempotent: bool) -> Ledger {
        let sent = vec![vec![Some(0), Some(1), Some(2), None]];
        let stories = vec![Story { producer: 0, idempotent, sent }];
        Ledger { topic: TOPIC.to_owned(), partitions: 1, stories, chores: Chores::default() }
    }

    fn compared(ledger: &Ledger, start: i64, numbers: &[usize]) -> Findings {
        let records = numbers.iter().map(|&number| load::value(TOPIC, 0, 0, number));
        let records: Vec<_> = (start..).zip(records).collect();
        let mut findings = Findings::default();
        compare(ledger, 0, start, &records, &mut findings);
        findings
    }

    #[test]
    fn what_is_acknowledged_must_be_there_and_the_rest_may() {
        for numbers in [&[0, 1, 2][..], &[0, 1, 2, 3]] {
            let findings = compared(&ledger(true), 0, numbers);
            assert_eq!((findings.lost, findings.wrong.len()), (0, 0), "{findings:?}");
        }
        let findings = compared(&ledger(true), 0, &[0, 1]);
        assert_eq!((findings.lost, findings.wrong.len()), (1, 0), "{findings:?}");
        assert_eq!(compared(&ledger(true), 0, &[]).lost, 3);
        assert_eq!(compared(&ledger(true), 2, &[2]).lost, 0, "what is deleted is not lost");
    }

    #[test]
    fn a_record_elsewhere_than_acknowledged_is_lost() {
        let findings = compared(&ledger(true), 0, &[0, 2]);
        assert_eq!((findings.lost, findings.wrong.len()), (2, 0), "{findings:?}");
    }

    #[test]
    fn what_nobody_sent_is_wrong() {
        assert_eq!(compared(&ledger(true), 0, &[0, 1, 2, 4]).wrong.len(), 1, "not sent");
        assert_eq!(compared(&ledger(true), 0, &[0, 1, 2, 1]).wrong.len(), 1, "twice");
        assert_eq!(compared(&ledger(false), 0, &[0, 1, 2, 1]).wrong.len(), 0, "sent again");
        assert_eq!(compared(&ledger(false), 0, &[0, 1, 3, 2]).wrong.len(), 1, "out of order");
        let mut torn = load::value(TOPIC, 0, 0, 2);
        *torn.last_mut().expect("a value") ^= 1;
        let mut findings = Findings::default();
        compare(&ledger(true), 0, 2, &[(2, torn)], &mut findings);
        assert_eq!((findings.lost, findings.wrong.len()), (1, 1), "{findings:?}");
        let mut findings = Findings::default();
        compare(&ledger(true), 0, 0, &[(1, load::value(TOPIC, 0, 0, 1))], &mut findings);
        assert_eq!(findings.wrong.len(), 1, "a gap: {findings:?}");
    }

    #[test]
    fn a_log_starts_where_it_was_deleted_up_to() {
        let found = |start, asked, acknowledged| {
            let mut findings = Findings::default();
            check_start("t-0", Some(&Progress { asked, acknowledged }), start, &mut findings);
            (findings.undone, findings.wrong.len())
        };
        assert_eq!(found(5, 5, Some(5)), (0, 0));
        assert_eq!(found(7, 7, Some(5)), (0, 0), "asked, and not answered");
        assert_eq!(found(0, 5, Some(5)), (1, 0));
        assert_eq!(found(6, 5, Some(5)), (0, 1));
    }
}
