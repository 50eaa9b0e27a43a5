//! AlterReplicaLogDirs: moves logs to other log directories (KIP-113).

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use ottla_log::{MoveError, TopicPartition};
use ottla_protocol::ErrorCode;
use ottla_protocol::messages::alter_replica_log_dirs_response::{
    AlterReplicaLogDirPartitionResult, AlterReplicaLogDirTopicResult,
};
use ottla_protocol::messages::{AlterReplicaLogDirsRequest, AlterReplicaLogDirsResponse};
use ottla_runtime::task;
use tracing::{info, warn};

use crate::authorize::{Operation, Resource};
use crate::call::{Call, Close};
use crate::dispatch::Services;
use crate::network::Reply;

/// Where partitions are to go. Of one that is named twice the last directory counts, as in Kafka.
type Wanted = BTreeMap<TopicPartition, String>;

pub(crate) fn handle(mut call: Call<'_>, services: &Arc<Services>) -> Result<Reply, Close> {
    let request: AlterReplicaLogDirsRequest<'_> = call.decode()?;
    let mut wanted = Wanted::new();
    for dir in &request.dirs {
        for topic in &dir.topics {
            for &partition in &topic.partitions {
                let partition = TopicPartition::new(&*topic.name, partition);
                wanted.insert(partition, dir.path.to_string());
            }
        }
    }
    let principal = &call.client.principal;
    if !services.authorizer.authorize(principal, Operation::Alter, Resource::Cluster) {
        let refused = wanted.into_keys().map(|p| (p, ErrorCode::CLUSTER_AUTHORIZATION_FAILED));
        return call.respond(&response(refused));
    }
    let services = services.clone();
    // A copy that is not wanted any more is removed first.
    call.respond_later(async move {
        let alter = move || {
            wanted
                .into_iter()
                .map(|(partition, dir)| {
                    let code = alter(&services, &partition, &dir);
                    (partition, code)
                })
                .collect::<Vec<_>>()
        };
        response(task::blocking("alter-log-dirs", alter).await.unwrap_or_default())
    })
}

fn alter(services: &Services, partition: &TopicPartition, dir: &str) -> ErrorCode {
    let code = match services.logs.begin_move(partition, Path::new(dir)) {
        Ok(()) => {
            info!(%partition, dir, "the log is to lie in this directory");
            return ErrorCode::NONE;
        }
        Err(error) => {
            warn!(%partition, dir, %error, "the log is not moved");
            error
        }
    };
    match code {
        MoveError::UnknownDirectory => ErrorCode::LOG_DIR_NOT_FOUND,
        MoveError::NameTooLong => ErrorCode::INVALID_TOPIC_EXCEPTION,
        MoveError::NoLog => ErrorCode::REPLICA_NOT_AVAILABLE,
        MoveError::DirectoryOffline { .. } | MoveError::Offline { .. } | MoveError::Io(_) => {
            ErrorCode::KAFKA_STORAGE_ERROR
        }
    }
}

fn response(
    results: impl IntoIterator<Item = (TopicPartition, ErrorCode)>,
) -> AlterReplicaLogDirsResponse<'static> {
    let mut topics: BTreeMap<String, Vec<AlterReplicaLogDirPartitionResult>> = BTreeMap::new();
    for (TopicPartition { topic, partition }, code) in results {
        let (partition_index, error_code) = (partition.0, code.0);
        let result = AlterReplicaLogDirPartitionResult { partition_index, error_code };
        topics.entry(topic).or_default().push(result);
    }
    let topics = topics.into_iter().map(|(name, partitions)| AlterReplicaLogDirTopicResult {
        topic_name: Cow::Owned(name),
        partitions,
    });
    AlterReplicaLogDirsResponse { results: topics.collect(), ..Default::default() }
}
