//! Someone who deletes the oldest records of a partition now and then.

use std::sync::Arc;
use std::time::Duration;

use ottla_protocol::messages::DeleteRecordsRequest;
use ottla_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use ottla_runtime::time;

use super::places;
use crate::event::{Event, topic_name};
use crate::stage::{Caller, Stage};

pub(crate) async fn run(stage: Arc<Stage>) {
    let (mut caller, mut dice) = (Caller::new(&stage), stage.dice());
    let places = places();
    while !stage.is_calm() {
        time::sleep(Duration::from_millis(500 + dice.roll(3_000))).await;
        let place = places[dice.roll(places.len() as u64) as usize];
        // Beyond the end it is refused.
        let before = dice.roll(120) as i64;
        stage.tell(Event::DeletionAsked { place, before });
        let partition = DeleteRecordsPartition { partition_index: place.partition, offset: before };
        let name = topic_name(place.topic).into();
        let topics = vec![DeleteRecordsTopic { name, partitions: vec![partition] }];
        let request = DeleteRecordsRequest { topics, timeout_ms: 1_000 };
        let start = caller.ask(2, &request, |response| {
            let partition = response.topics.first()?.partitions.first()?;
            (partition.error_code == 0).then_some(partition.low_watermark)
        });
        if let Some(Some(start)) = start.await {
            stage.tell(Event::Deleted { place, start });
        }
    }
}
