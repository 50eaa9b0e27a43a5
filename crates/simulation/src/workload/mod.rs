//! The clients of a run.

mod commit;
mod delete;
mod plain;
mod produce;
mod read;
mod rude;
mod sequenced;

use std::sync::Arc;
use std::time::Duration;

use ottla_protocol::messages::CreateTopicsRequest;
use ottla_protocol::messages::create_topics_request::CreatableTopic;
use ottla_protocol::{ErrorCode, messages};
use ottla_runtime::{Spawner, Task, time};

pub(crate) use read::read_whole;

use crate::event::{Place, topic_name};
use crate::stage::{Caller, Stage};

/// The topics that all runs have, by their partitions.
const TOPICS: [i32; 2] = [1, 2];

/// The partitions that all clients share.
pub(crate) fn places() -> Vec<Place> {
    let partitions = |(topic, &count)| (0..count).map(move |partition| Place { topic, partition });
    (0..).zip(&TOPICS).flat_map(partitions).collect()
}

/// Creates the topics.
pub(crate) async fn prepare(stage: &Arc<Stage>) {
    let topics = (0..).zip(TOPICS).map(|(topic, num_partitions)| CreatableTopic {
        name: topic_name(topic).into(),
        num_partitions,
        replication_factor: 1,
        ..Default::default()
    });
    let topics: Vec<_> = topics.collect();
    let request = CreateTopicsRequest { topics, timeout_ms: 1_000, ..Default::default() };
    let mut caller = Caller::new(stage);
    let is_there = |response: messages::CreateTopicsResponse<'_>| {
        response.topics.iter().all(|topic| {
            let code = ErrorCode(topic.error_code);
            code == ErrorCode::NONE || code == ErrorCode::TOPIC_ALREADY_EXISTS
        })
    };
    while caller.ask(7, &request, is_there).await != Some(true) {
        time::sleep(Duration::from_millis(100)).await;
    }
}

/// Starts all clients. They end some time after all is calm.
pub(crate) fn start(stage: &Arc<Stage>) -> Vec<(&'static str, Task<()>)> {
    let mut clients = Vec::new();
    let spawner = Spawner::current();
    for producer in 0..2 {
        let client = sequenced::Client::new(stage, producer);
        clients.push(("a producer with sequences", spawner.spawn(client.run())));
    }
    for producer in 10..12 {
        let client = plain::Client::new(stage, producer);
        clients.push(("a plain producer", spawner.spawn(client.run())));
    }
    for place in places() {
        clients.push(("a reader", spawner.spawn(read::follow(Arc::clone(stage), place))));
    }
    clients.push(("a committer", spawner.spawn(commit::Client::new(stage).run())));
    clients.push(("one who deletes", spawner.spawn(delete::run(Arc::clone(stage)))));
    clients.push(("one who hangs up", spawner.spawn(rude::run(Arc::clone(stage)))));
    clients
}
