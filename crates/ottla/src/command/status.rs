//! `ottla status`: what a broker says of its cluster.

use std::fmt::Write as _;

use clap::Args;
use ottla_client::{Admin, Broker, CallError, ClusterDescription, LogDir, RequestError};
use serde_json::json;

use crate::connect::Connect;
use crate::exit::Outcome;
use crate::terminal::{human_bytes, print_all};

#[derive(Args, Debug)]
pub(crate) struct Status {
    #[command(flatten)]
    connect: Connect,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What is printed.
#[derive(Debug)]
struct Report {
    cluster: ClusterDescription,
    topics: usize,
    partitions: usize,
    /// In the order of the brokers; `None` where the broker does not tell.
    log_dirs: Vec<Option<Vec<LogDir>>>,
}

impl Status {
    pub(crate) async fn run(self) -> Outcome {
        let report = self.ask().await.map_err(|e| super::failure("no status", e))?;
        print_all(&if self.json { report.json() } else { report.text() })
    }

    async fn ask(&self) -> Result<Report, RequestError> {
        let admin = self.connect.client().admin();
        let cluster = admin.describe_cluster().await?;
        let topics = admin.list_topics().await?;
        let mut log_dirs = Vec::new();
        for broker in &cluster.brokers {
            log_dirs.push(dirs_of(&admin, broker).await?);
        }
        let partitions = topics.iter().map(|topic| topic.partitions).sum();
        Ok(Report { cluster, topics: topics.len(), partitions, log_dirs })
    }
}

async fn dirs_of(admin: &Admin, broker: &Broker) -> Result<Option<Vec<LogDir>>, RequestError> {
    match admin.describe_log_dirs(broker.id).await {
        Ok(dirs) => Ok(Some(dirs)),
        Err(RequestError::Call(CallError::NoCommonVersion { .. }) | RequestError::Refused(_)) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

impl Report {
    fn text(&self) -> String {
        let cluster = &self.cluster;
        let controller = cluster.controller.map_or("none".to_owned(), |id| id.to_string());
        let mut out = format!(
            "cluster     {}\ncontroller  {controller}\ntopics      {}\npartitions  {}\n",
            cluster.cluster_id.as_deref().unwrap_or("unknown"),
            self.topics,
            self.partitions,
        );
        for (broker, dirs) in cluster.brokers.iter().zip(&self.log_dirs) {
            // Writing to a string does not fail.
            let _ = writeln!(out, "broker      {} at {}:{}", broker.id, broker.host, broker.port);
            for dir in dirs.iter().flatten() {
                let bytes = human_bytes(dir.bytes.unsigned_abs());
                let _ = writeln!(out, "  log dir   {} ({bytes})", dir.path);
            }
        }
        out
    }

    fn json(&self) -> String {
        let cluster = &self.cluster;
        let brokers = cluster.brokers.iter().zip(&self.log_dirs).map(|(broker, dirs)| {
            let dirs = dirs.as_ref().map(|dirs| {
                dirs.iter().map(|d| json!({"path": d.path, "bytes": d.bytes})).collect::<Vec<_>>()
            });
            json!({"id": broker.id.0, "host": broker.host, "port": broker.port, "log_dirs": dirs})
        });
        let report = json!({
            "cluster_id": cluster.cluster_id,
            "controller": cluster.controller.map(|id| id.0),
            "topics": self.topics,
            "partitions": self.partitions,
            "brokers": brokers.collect::<Vec<_>>(),
        });
        format!("{report}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ottla_client::BrokerId;

    fn report() -> Report {
        let broker =
            |id| Broker { id: BrokerId(id), host: format!("b{id}"), port: 9092, rack: None };
        let dir = LogDir { path: "/data".to_owned(), bytes: 2048 };
        Report {
            cluster: ClusterDescription {
                cluster_id: Some("c".to_owned()),
                controller: Some(BrokerId(1)),
                brokers: vec![broker(1), broker(2)],
            },
            topics: 2,
            partitions: 7,
            log_dirs: vec![Some(vec![dir]), None],
        }
    }

    #[test]
    fn text_is_one_fact_a_line() {
        let expected = "\
cluster     c
controller  1
topics      2
partitions  7
broker      1 at b1:9092
  log dir   /data (2.0 KiB)
broker      2 at b2:9092
";
        assert_eq!(report().text(), expected);
    }

    #[test]
    fn json_is_one_object() {
        let expected = json!({
            "cluster_id": "c", "controller": 1, "topics": 2, "partitions": 7,
            "brokers": [
                {"id": 1, "host": "b1", "port": 9092, "log_dirs": [{"path": "/data", "bytes": 2048}]},
                {"id": 2, "host": "b2", "port": 9092, "log_dirs": null},
            ],
        });
        let printed: serde_json::Value = serde_json::from_str(&report().json()).unwrap();
        assert_eq!(printed, expected);
    }
}
