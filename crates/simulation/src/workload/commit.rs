//! Someone who commits rising offsets, and looks whether they are kept.

use std::sync::Arc;
use std::time::Duration;

use ottla_fake::Dice;
use ottla_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use ottla_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use ottla_protocol::messages::{FindCoordinatorRequest, OffsetCommitRequest, OffsetFetchRequest};
use ottla_runtime::time;

use super::places;
use crate::event::{Event, Place, topic_name};
use crate::stage::{Caller, Stage};

pub(crate) struct Client {
    stage: Arc<Stage>,
    caller: Caller,
    dice: Dice,
    group: u32,
    place: Place,
    offset: i64,
}

impl Client {
    pub(crate) fn new(stage: &Arc<Stage>) -> Self {
        let (caller, dice) = (Caller::new(stage), stage.dice());
        Self { stage: Arc::clone(stage), caller, dice, group: 0, place: places()[0], offset: 0 }
    }

    pub(crate) async fn run(mut self) {
        // Who asks for the coordinator makes the topic where offsets are kept.
        let find = FindCoordinatorRequest { key: self.name().into(), ..Default::default() };
        while self.caller.ask(2, &find, |response| response.error_code).await != Some(0) {
            time::sleep(Duration::from_millis(100)).await;
        }
        while !self.stage.is_calm() {
            time::sleep(Duration::from_millis(self.dice.roll(300))).await;
            match self.dice.roll(4) {
                0 => {
                    if let Some(offset) = self.read().await {
                        self.tell_read(offset);
                    }
                }
                _ => self.commit().await,
            }
        }
        self.look_at_all().await;
    }

    fn name(&self) -> String {
        format!("g{}", self.group)
    }

    fn tell_read(&self, offset: i64) {
        let &Self { group, place, .. } = self;
        self.stage.tell(Event::CommitRead { group, place, offset });
    }

    /// All groups that there were, whether the outcome of their last commit is known or not.
    async fn look_at_all(&mut self) {
        for group in 0..=self.group {
            self.group = group;
            loop {
                if let Some(offset) = self.read().await {
                    self.tell_read(offset);
                    break;
                }
                time::sleep(Duration::from_millis(100)).await;
            }
        }
    }

    async fn commit(&mut self) {
        self.offset += 1;
        let &mut Self { group, place, offset, .. } = self;
        let partition = OffsetCommitRequestPartition {
            partition_index: place.partition,
            committed_offset: offset,
            ..Default::default()
        };
        let topic = OffsetCommitRequestTopic {
            name: topic_name(place.topic).into(),
            partitions: vec![partition],
            ..Default::default()
        };
        let request = OffsetCommitRequest {
            group_id: self.name().into(),
            generation_id_or_member_epoch: -1,
            topics: vec![topic],
            ..Default::default()
        };
        self.stage.tell(Event::CommitAsked { group, place, offset });
        let answer = self.caller.ask(8, &request, |response| {
            Some(response.topics.first()?.partitions.first()?.error_code)
        });
        if answer.await == Some(Some(0)) {
            self.stage.tell(Event::Committed { group, place, offset });
        } else {
            // It may still be under way, and come after what is asked next. Another group, then.
            self.group += 1;
            time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// The committed offset, if there is an answer.
    async fn read(&mut self) -> Option<i64> {
        let topic = OffsetFetchRequestTopic {
            name: topic_name(self.place.topic).into(),
            partition_indexes: vec![self.place.partition],
        };
        let request = OffsetFetchRequest {
            group_id: self.name().into(),
            topics: Some(vec![topic]),
            ..Default::default()
        };
        let answer = self.caller.ask(7, &request, |response| {
            let partition = response.topics.first()?.partitions.first()?;
            let is_answered = response.error_code == 0 && partition.error_code == 0;
            is_answered.then_some(partition.committed_offset)
        });
        answer.await.flatten()
    }
}
