//! Where to read from, and the offset that this is at present.

use std::collections::BTreeMap;

use ottla_record::{Offset, Timestamp};

use crate::cluster::Cluster;
use crate::offsets::{self, ListedOffset, OffsetSpec};
use crate::{ConsumeError, IsolationLevel, TopicPartition};

/// Where in a partition to read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// The oldest record.
    Beginning,
    /// What is written from now on.
    End,
    /// The record with this offset.
    Offset(Offset),
    /// The first record with this or a later timestamp; the end if there is none.
    Timestamp(Timestamp),
    /// The last so many offsets, or all there are.
    BeforeEnd(u32),
}

impl Position {
    /// What the partition's leader must be asked; `None` if nothing.
    fn question(self) -> Option<OffsetSpec> {
        match self {
            Self::Offset(_) => None,
            Self::Beginning => Some(OffsetSpec::Earliest),
            Self::End | Self::BeforeEnd(_) => Some(OffsetSpec::Latest),
            Self::Timestamp(timestamp) => Some(OffsetSpec::Timestamp(timestamp)),
        }
    }

    /// The offset, or what else must be asked.
    fn decide(self, answer: ListedOffset) -> Result<Offset, OffsetSpec> {
        match self {
            Self::BeforeEnd(_) => Err(OffsetSpec::Earliest),
            Self::Timestamp(_) if answer.offset == Offset::NONE => Err(OffsetSpec::Latest),
            _ => Ok(answer.offset),
        }
    }

    /// The offset, after a second answer.
    fn decide_finally(self, first: ListedOffset, second: ListedOffset) -> Offset {
        match self {
            Self::BeforeEnd(n) => second.offset.max(Offset(first.offset.0 - i64::from(n))),
            _ => second.offset,
        }
    }
}

/// Finds the offsets of `wanted`.
pub(super) async fn resolve(
    cluster: &Cluster,
    wanted: &[(TopicPartition, Position)],
    isolation: IsolationLevel,
) -> Result<BTreeMap<TopicPartition, Offset>, ConsumeError> {
    let mut resolved = BTreeMap::new();
    let mut first = Vec::new();
    for (partition, position) in wanted {
        match (position.question(), position) {
            (Some(question), _) => first.push((partition.clone(), question)),
            (None, Position::Offset(offset)) => {
                resolved.insert(partition.clone(), *offset);
            }
            (None, _) => {}
        }
    }
    let positions: BTreeMap<_, _> = wanted.iter().cloned().collect();
    let mut second = Vec::new();
    let mut answers = BTreeMap::new();
    for (partition, answer) in offsets::list(cluster, &first, isolation).await? {
        let answer = answer?;
        match positions[&partition].decide(answer) {
            Ok(offset) => {
                resolved.insert(partition, offset);
            }
            Err(question) => {
                answers.insert(partition.clone(), answer);
                second.push((partition, question));
            }
        }
    }
    for (partition, answer) in offsets::list(cluster, &second, isolation).await? {
        let offset = positions[&partition].decide_finally(answers[&partition], answer?);
        resolved.insert(partition, offset);
    }
    Ok(resolved)
}
