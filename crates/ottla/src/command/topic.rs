//! `ottla topic`: create, list, describe, delete.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use clap::{Args, Subcommand};
use ottla_client::{
    Admin, ConfigResource, ErrorCode, NewTopic, PartitionDescription, RequestError,
    TopicDescription,
};

use crate::connect::Connect;
use crate::exit::{Failure, Outcome};
use crate::terminal::print_all;

#[derive(Args, Debug)]
pub(crate) struct Topic {
    #[command(flatten)]
    connect: Connect,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Create a topic
    Create(Create),
    /// Print the names of all topics
    List {
        /// With the topics that brokers keep for themselves
        #[arg(long)]
        internal: bool,
    },
    /// Print where a topic's partitions are (of all topics if none is named)
    Describe {
        /// The topics
        #[arg(value_name = "NAME")]
        names: Vec<String>,
    },
    /// Delete topics with all their records
    Delete {
        /// The topics
        #[arg(value_name = "NAME", required = true)]
        names: Vec<String>,
    },
}

#[derive(Args, Debug)]
struct Create {
    /// 1 to 249 letters, digits, '.', '_' and '-'
    name: String,
    /// How many; default: the broker's num.partitions
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    partitions: Option<i32>,
    /// On how many brokers each partition is; default: the broker's default.replication.factor
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i16).range(1..))]
    replication_factor: Option<i16>,
    /// A topic-level configuration, such as retention.ms=3600000
    #[arg(long = "config", value_name = "KEY=VALUE", value_parser = super::key_value)]
    configs: Vec<(String, String)>,
    /// Succeed if the topic is there already
    #[arg(long)]
    if_not_exists: bool,
}

impl Topic {
    pub(crate) async fn run(self) -> Outcome {
        let admin = self.connect.client().admin();
        match self.action {
            Action::Create(create) => create.run(&admin).await,
            Action::List { internal } => list(&admin, internal).await,
            Action::Describe { names } => describe(&admin, &names).await,
            Action::Delete { names } => delete(&admin, &names).await,
        }
    }
}

impl Create {
    async fn run(self, admin: &Admin) -> Outcome {
        let topic = NewTopic {
            name: self.name.clone(),
            partitions: self.partitions,
            replication_factor: self.replication_factor,
            configs: self.configs,
        };
        match admin.create_topic(&topic).await {
            Ok(()) => print_all(&format!("Created topic {}.\n", self.name)),
            Err(RequestError::Refused(refusal))
                if self.if_not_exists && refusal.code == ErrorCode::TOPIC_ALREADY_EXISTS =>
            {
                Ok(())
            }
            Err(error) => Err(super::failure(&format!("cannot create topic {}", self.name), error)),
        }
    }
}

async fn list(admin: &Admin, internal: bool) -> Outcome {
    let topics = admin.list_topics().await.map_err(|e| super::failure("cannot list topics", e))?;
    let mut out = String::new();
    for topic in topics.iter().filter(|topic| internal || !topic.internal) {
        out.push_str(&topic.name);
        out.push('\n');
    }
    print_all(&out)
}

async fn describe(admin: &Admin, names: &[String]) -> Outcome {
    let failed = |e| super::failure("cannot describe topics", e);
    let mut topics = if names.is_empty() {
        admin.describe_all_topics().await
    } else {
        admin.describe_topics(names).await
    }
    .map_err(failed)?;
    topics.sort_by(|(a, _), (b, _)| a.cmp(b));
    let mut out = String::new();
    let mut missing = Vec::new();
    for (name, topic) in &topics {
        match topic {
            Ok(topic) => {
                let resource = ConfigResource::Topic(name.clone());
                let configs = admin.describe_configs(&resource).await.map_err(failed)?;
                let overridden = configs
                    .into_iter()
                    .filter(|config| config.is_topic_override())
                    .map(|config| (config.name, config.value.unwrap_or_default()))
                    .collect();
                write_description(topic, &overridden, &mut out);
            }
            Err(refusal) => missing.push(format!("{name}: {refusal}")),
        }
    }
    print_all(&out)?;
    if missing.is_empty() { Ok(()) } else { Err(Failure::failed(missing.join("; "))) }
}

async fn delete(admin: &Admin, names: &[String]) -> Outcome {
    let results =
        admin.delete_topics(names).await.map_err(|e| super::failure("cannot delete topics", e))?;
    let mut refused = Vec::new();
    let mut out = String::new();
    for (name, result) in results {
        match result {
            Ok(()) => {
                // Writing to a string does not fail.
                let _ = writeln!(out, "Deleted topic {name}.");
            }
            Err(refusal) => refused.push(format!("cannot delete topic {name}: {refusal}")),
        }
    }
    print_all(&out)?;
    if refused.is_empty() { Ok(()) } else { Err(Failure::failed(refused.join("; "))) }
}

/// The lines of `kafka-topics --describe`: one for the topic, one for each partition.
fn write_description(
    topic: &TopicDescription,
    configs: &BTreeMap<String, String>,
    out: &mut String,
) {
    let replication_factor = topic.partitions.first().map_or(0, |p| p.replicas.len());
    let configs: Vec<_> = configs.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let mut columns = vec![format!("Topic: {}", topic.name)];
    if !topic.id.is_zero() {
        columns.push(format!("TopicId: {}", topic.id));
    }
    columns.push(format!("PartitionCount: {}", topic.partitions.len()));
    columns.push(format!("ReplicationFactor: {replication_factor}"));
    columns.push(format!("Configs: {}", configs.join(",")));
    out.push_str(&columns.join("\t"));
    out.push('\n');
    for partition in &topic.partitions {
        write_partition(&topic.name, partition, out);
    }
}

fn write_partition(topic: &str, partition: &PartitionDescription, out: &mut String) {
    let list = |brokers: &[_]| -> String {
        brokers.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
    };
    let leader = partition.leader.map_or("none".to_owned(), |leader| leader.to_string());
    // Writing to a string does not fail.
    let _ = writeln!(
        out,
        "\tTopic: {topic}\tPartition: {}\tLeader: {leader}\tReplicas: {}\tIsr: {}\tElr: N/A\tLastKnownElr: N/A",
        partition.partition,
        list(&partition.replicas),
        list(&partition.in_sync_replicas),
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use ottla_client::{BrokerId, PartitionId, Uuid};

    #[test]
    fn a_description_is_that_of_kafka_topics() {
        let partition = |index, leader: Option<i32>| PartitionDescription {
            partition: PartitionId(index),
            leader: leader.map(BrokerId),
            leader_epoch: Default::default(),
            replicas: vec![BrokerId(1), BrokerId(2)],
            in_sync_replicas: leader.map(BrokerId).into_iter().collect(),
        };
        let mut topic = TopicDescription {
            name: "foo".to_owned(),
            id: Uuid([1; 16]),
            internal: false,
            partitions: vec![partition(0, Some(1)), partition(1, None)],
        };
        let configs = [("a", "b"), ("c", "d")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        let mut out = String::new();
        write_description(&topic, &BTreeMap::from(configs), &mut out);
        let expected = "\
Topic: foo\tTopicId: AQEBAQEBAQEBAQEBAQEBAQ\tPartitionCount: 2\tReplicationFactor: 2\tConfigs: a=b,c=d
\tTopic: foo\tPartition: 0\tLeader: 1\tReplicas: 1,2\tIsr: 1\tElr: N/A\tLastKnownElr: N/A
\tTopic: foo\tPartition: 1\tLeader: none\tReplicas: 1,2\tIsr: \tElr: N/A\tLastKnownElr: N/A
";
        assert_eq!(out, expected);
        topic.id = Uuid::ZERO;
        topic.partitions.clear();
        out.clear();
        write_description(&topic, &BTreeMap::new(), &mut out);
        assert_eq!(out, "Topic: foo\tPartitionCount: 0\tReplicationFactor: 0\tConfigs: \n");
    }
}
