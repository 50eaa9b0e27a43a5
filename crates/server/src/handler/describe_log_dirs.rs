//! DescribeLogDirs: what lies in which log directory (KIP-113).

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use ottla_log::DirectoryUsage;
use ottla_protocol::ErrorCode;
use ottla_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use ottla_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use ottla_protocol::messages::{DescribeLogDirsRequest, DescribeLogDirsResponse};
use ottla_runtime::disk::Space;

use crate::authorize::{Operation, Resource};
use crate::call::{Call, Close};
use crate::dispatch::Services;
use crate::network::Reply;

pub(crate) fn handle(mut call: Call<'_>, services: &Services) -> Result<Reply, Close> {
    let request: DescribeLogDirsRequest<'_> = call.decode()?;
    let principal = &call.client.principal;
    if !services.authorizer.authorize(principal, Operation::Describe, Resource::Cluster) {
        let error_code = ErrorCode::CLUSTER_AUTHORIZATION_FAILED.0;
        return call.respond(&DescribeLogDirsResponse { error_code, ..Default::default() });
    }
    let wanted = request.topics.as_deref().map(by_topic);
    let usage = services.logs.usage();
    let results = usage.iter().map(|directory| describe(directory, wanted.as_ref())).collect();
    call.respond(&DescribeLogDirsResponse { results, ..Default::default() })
}

/// The partitions that are asked for, by topic.
type Wanted<'a> = BTreeMap<&'a str, BTreeSet<i32>>;

fn by_topic<'a>(topics: &'a [DescribableLogDirTopic<'_>]) -> Wanted<'a> {
    let mut wanted = Wanted::new();
    for topic in topics {
        wanted.entry(&*topic.topic).or_default().extend(&topic.partitions);
    }
    wanted
}

fn describe(
    directory: &DirectoryUsage,
    wanted: Option<&Wanted<'_>>,
) -> DescribeLogDirsResult<'static> {
    let is_wanted = |topic: &str, partition: i32| {
        let asked = |wanted: &Wanted<'_>| wanted.get(topic).is_some_and(|p| p.contains(&partition));
        wanted.is_none_or(asked)
    };
    let mut topics: BTreeMap<&str, Vec<DescribeLogDirsPartition>> = BTreeMap::new();
    for log in &directory.logs {
        let (topic, partition_index) = (&log.partition.topic, log.partition.partition.0);
        if is_wanted(topic, partition_index) {
            topics.entry(topic).or_default().push(DescribeLogDirsPartition {
                partition_index,
                partition_size: i64::try_from(log.size).unwrap_or(i64::MAX),
                offset_lag: log.lag,
                is_future_key: log.is_future,
            });
        }
    }
    // Kafka's -1 for what is not known.
    let bytes = |of: fn(Space) -> u64| {
        directory.space.map_or(-1, |space| i64::try_from(of(space)).unwrap_or(i64::MAX))
    };
    DescribeLogDirsResult {
        error_code: match directory.failure {
            None => ErrorCode::NONE.0,
            Some(_) => ErrorCode::KAFKA_STORAGE_ERROR.0,
        },
        log_dir: Cow::Owned(directory.path.display().to_string()),
        topics: topics
            .into_iter()
            .map(|(name, partitions)| DescribeLogDirsTopic {
                name: Cow::Owned(name.to_owned()),
                partitions,
            })
            .collect(),
        total_bytes: bytes(|space| space.total_bytes),
        usable_bytes: bytes(|space| space.usable_bytes),
        ..Default::default()
    }
}
