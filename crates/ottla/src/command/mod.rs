//! The commands, one file each.

mod config;
mod consume;
mod keeper;
mod log;
mod produce;
mod start;
mod status;
mod stop;
mod topic;

use std::future::Future;

use clap::Subcommand;
use ottla_client::{Admin, ConsumeError, ErrorCode, RequestError, SendError, TopicDescription};

use crate::exit::{Exit, Failure, Outcome};

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Run a broker until it is told to stop
    Start(start::Start),
    /// Stop the broker of a data directory and wait until it is down
    Stop(stop::Stop),
    /// Ask a broker how its cluster is
    Status(status::Status),
    /// Check or show a broker's configuration
    Config(config::Config),
    /// Create, list, describe and delete topics
    Topic(topic::Topic),
    /// Write lines of standard input to a topic
    Produce(produce::Produce),
    /// Print a topic's records as lines
    Consume(consume::Consume),
    /// Look at the files of logs, check them, put them right
    Log(log::Log),
    /// Run the coordination service without a broker
    Keeper(keeper::KeeperArgs),
}

impl Command {
    pub(crate) fn run(self) -> Outcome {
        match self {
            Self::Start(start) => start.run(),
            Self::Stop(stop) => block_on(stop.run()),
            Self::Status(status) => block_on(status.run()),
            Self::Config(config) => config.run(),
            Self::Topic(topic) => block_on(topic.run()),
            Self::Produce(produce) => block_on(produce.run()),
            Self::Consume(consume) => block_on(consume.run()),
            Self::Log(log) => log.run(),
            Self::Keeper(keeper) => keeper.run(),
        }
    }
}

/// Runs a client command on the calling thread.
fn block_on(command: impl Future<Output = Outcome>) -> Outcome {
    ottla_runtime::task::block_on(command)
        .map_err(|e| Failure::failed(format_args!("cannot start the runtime: {e}")))?
}

/// Reads `key=value`.
fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("not of the form KEY=VALUE")?;
    if key.is_empty() {
        return Err("the key is empty".to_owned());
    }
    Ok((key.to_owned(), value.to_owned()))
}

/// What could not be done, and why. Without a broker only the latter matters.
fn failure(what: &str, error: RequestError) -> Failure {
    if error.is_unreachable() {
        Failure::new(Exit::Unreachable, error)
    } else {
        Failure::failed(format_args!("{what}: {error}"))
    }
}

/// A topic that is going to be written or read. It is not created for that.
async fn existing_topic(admin: &Admin, name: &str) -> Result<TopicDescription, Failure> {
    let described = admin.describe_topics(&[name.to_owned()]).await;
    let mut described = described.map_err(|e| failure(&format!("cannot find topic {name}"), e))?;
    match described.pop() {
        Some((_, Ok(topic))) => Ok(topic),
        Some((_, Err(refusal))) if refusal.code == ErrorCode::UNKNOWN_TOPIC_OR_PARTITION => {
            Err(Failure::failed(format_args!(
                "there is no topic {name}; create it with \"ottla topic create {name}\""
            )))
        }
        Some((_, Err(refusal))) => {
            Err(Failure::failed(format_args!("cannot use topic {name}: {refusal}")))
        }
        None => Err(Failure::failed(format_args!("the broker told nothing of topic {name}"))),
    }
}

fn send_failure(what: &str, error: SendError) -> Failure {
    match error {
        SendError::Request(error) => failure(what, error),
        SendError::DeliveryTimeout { last, .. } if last.is_unreachable() => failure(what, last),
        error => Failure::failed(format_args!("{what}: {error}")),
    }
}

fn consume_failure(what: &str, error: ConsumeError) -> Failure {
    match error {
        ConsumeError::Request(error) => failure(what, error),
        error => Failure::failed(format_args!("{what}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_and_value_are_split_at_the_first_equals_sign() {
        let pair = |key: &str, value: &str| Ok((key.to_owned(), value.to_owned()));
        assert_eq!(key_value("a=b=c"), pair("a", "b=c"));
        assert_eq!(key_value("a="), pair("a", ""));
        assert!(key_value("a").is_err());
        assert!(key_value("=b").is_err());
    }
}
