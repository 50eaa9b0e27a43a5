//! Readers: one for each partition while it storms, and once more when all is calm.

use std::sync::Arc;
use std::time::Duration;

use ottla_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use ottla_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use ottla_protocol::messages::{FetchRequest, ListOffsetsRequest};
use ottla_protocol::{ErrorCode, Records};
use ottla_runtime::time;

use crate::event::{Event, Place, Value, topic_name};
use crate::records;
use crate::stage::{Caller, Stage};

/// `ListOffsets` names the first offset so.
const EARLIEST: i64 = -2;

/// What a fetch got.
struct Fetched {
    code: ErrorCode,
    high_watermark: i64,
    records: Vec<u8>,
}

async fn fetch(caller: &mut Caller, place: Place, offset: i64, wait_ms: i32) -> Option<Fetched> {
    let partition = FetchPartition {
        partition: place.partition,
        fetch_offset: offset,
        partition_max_bytes: 100_000,
        ..Default::default()
    };
    let topic = topic_name(place.topic).into();
    let request = FetchRequest {
        max_wait_ms: wait_ms,
        min_bytes: 1,
        max_bytes: 100_000,
        topics: vec![FetchTopic { topic, partitions: vec![partition], ..Default::default() }],
        ..Default::default()
    };
    let fetched = caller.ask(12, &request, |response| {
        let data = response.responses.first()?.partitions.first()?;
        Some(Fetched {
            code: ErrorCode(data.error_code),
            high_watermark: data.high_watermark,
            records: data.records.as_ref().and_then(Records::as_bytes).unwrap_or_default().to_vec(),
        })
    });
    fetched.await.flatten()
}

/// Where a partition begins.
async fn earliest(caller: &mut Caller, place: Place) -> Option<i64> {
    let (partition_index, timestamp) = (place.partition, EARLIEST);
    let partitions =
        vec![ListOffsetsPartition { partition_index, timestamp, ..Default::default() }];
    let topics = vec![ListOffsetsTopic { name: topic_name(place.topic).into(), partitions }];
    let request = ListOffsetsRequest { replica_id: -1, topics, ..Default::default() };
    let listed = caller.ask(5, &request, |response| {
        let partition = response.topics.first()?.partitions.first()?;
        (partition.error_code == 0).then_some(partition.offset)
    });
    listed.await.flatten()
}

/// The records of a fetch from an offset on: a batch begins where it begins.
fn decode(stage: &Stage, place: Place, from: i64, records: &[u8]) -> Vec<(i64, Value)> {
    match records::decode(records) {
        Ok(mut found) => {
            found.retain(|&(offset, _)| offset >= from);
            found
        }
        Err(what) => {
            stage.complain("what is served is whole", format!("{place} from {from} on: {what}"));
            Vec::new()
        }
    }
}

/// Reads a partition as it grows, until all is calm.
pub(crate) async fn follow(stage: Arc<Stage>, place: Place) {
    let mut caller = Caller::new(&stage);
    let mut position = 0;
    while !stage.is_calm() {
        let Some(fetched) = fetch(&mut caller, place, position, 500).await else { continue };
        match fetched.code {
            ErrorCode::NONE => {
                let high_watermark = fetched.high_watermark;
                stage.tell(Event::HighWatermark { place, high_watermark });
                for (offset, value) in decode(&stage, place, position, &fetched.records) {
                    stage.tell(Event::Read { place, offset, value });
                    position = offset + 1;
                }
            }
            ErrorCode::OFFSET_OUT_OF_RANGE => {
                let Some(start) = earliest(&mut caller, place).await else { continue };
                if start <= position {
                    let what = format!("{place} begins at {start}, and {position} is out of range");
                    stage.complain("watermarks never go back", what);
                }
                position = start.max(position);
            }
            _ => time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Reads a partition from its start to its end, when nothing is written any more.
pub(crate) async fn read_whole(stage: &Arc<Stage>, place: Place) {
    let mut caller = Caller::new(stage);
    let start = loop {
        if let Some(start) = earliest(&mut caller, place).await {
            break start;
        }
        time::sleep(Duration::from_millis(100)).await;
    };
    let (mut position, mut found) = (start, Vec::new());
    loop {
        let Some(fetched) = fetch(&mut caller, place, position, 0).await else { continue };
        if fetched.code != ErrorCode::NONE {
            time::sleep(Duration::from_millis(100)).await;
            continue;
        }
        if position >= fetched.high_watermark {
            let high_watermark = fetched.high_watermark;
            stage.tell(Event::HighWatermark { place, high_watermark });
            break;
        }
        let records = decode(stage, place, position, &fetched.records);
        let Some(&(last, _)) = records.last() else {
            let what = format!("{place} has nothing from {position} on");
            stage.complain("what is served is whole", what);
            break;
        };
        position = last + 1;
        found.extend(records);
    }
    stage.tell(Event::ReadWhole { place, start, records: found });
}
