//! `ottla start`: a broker, until it is told to stop.

use std::env;
use std::io;

use clap::Args;
use ottla_log::DirectoryError;
use ottla_runtime::{World, process, signal};
use ottla_server::config::{BrokerConfig, CoordinationConfig};
use ottla_server::{Node, StartError};
use tracing::{info, warn};

use crate::exit::{Exit, Failure, Outcome};
use crate::settings::SettingsArgs;

#[derive(Args, Debug)]
pub(crate) struct Start {
    #[command(flatten)]
    settings: SettingsArgs,
    /// Found no quorum of keepers on a new directory: wait to be taken into one that is there
    #[arg(long)]
    join: bool,
    /// Adopt directories of Kafka's whose metadata is in a ZooKeeper that is gone, or does not agree
    /// with them; what cannot be known is told
    #[arg(long)]
    adopt: bool,
}

impl Start {
    pub(crate) fn run(self) -> Outcome {
        let (mut config, warnings) = self.settings.load()?;
        config.adopt = self.adopt;
        match &mut config.coordination {
            CoordinationConfig::Keeper(keeper) => keeper.join = self.join,
            CoordinationConfig::ZooKeeper(_) if self.join => {
                let reason = "--join is about the built-in keeper, and zookeeper.connect is set";
                return Err(Failure::usage(reason));
            }
            CoordinationConfig::ZooKeeper(_) if self.adopt => {
                let reason = "--adopt does without the cluster's metadata, which is where \
                              zookeeper.connect points: leave one of the two out";
                return Err(Failure::usage(reason));
            }
            CoordinationConfig::ZooKeeper(zookeeper) => {
                let options = env::var_os("KAFKA_OPTS").unwrap_or_default();
                if zookeeper.sasl_login.is_none() && names_jaas_file(&options.to_string_lossy()) {
                    warn!(
                        "KAFKA_OPTS names a JAAS file, which is not read: to log in to ZooKeeper as \
                         Kafka does, give zookeeper.sasl.jaas.config what its section Client holds"
                    );
                }
            }
        }
        for warning in warnings {
            warn!("{warning}");
        }
        if let Err(error) = process::raise_file_limit() {
            warn!(%error, "cannot raise the limit of open files");
        }
        super::block_on(serve(config))
    }
}

async fn serve(config: BrokerConfig) -> Outcome {
    let world = World::system();
    let data: Vec<String> = config.log_dirs.iter().map(|dir| dir.display().to_string()).collect();
    let told = signal::termination();
    tokio::pin!(told);
    let node = tokio::select! {
        node = Node::start(world.clone(), config) => node.map_err(start_failure)?,
        // Nothing was promised to anybody yet.
        signal = &mut told => return signal.map(drop).map_err(signal_failure),
    };
    for listening in node.listening() {
        info!(listener = listening.listener, address = %listening.address, "listening");
    }
    info!(
        data = data.join(","),
        cluster = node.cluster_id(),
        topics = node.topic_count(),
        took = ?world.clock.elapsed(),
        "ready"
    );
    let signal = tokio::select! {
        signal = told => signal.map_err(signal_failure)?,
        // Not stopped, but left as it is: what cannot be written cannot be closed either.
        reason = node.failed() => return Err(Failure::failed(reason)),
    };
    info!(signal, "stopping");
    node.stop().await.map_err(|e| Failure::failed(format_args!("did not stop cleanly: {e}")))?;
    info!("stopped");
    Ok(())
}

/// Whether the options of a JVM, in which the clients of ZooKeeper find their login so, name such a file.
fn names_jaas_file(options: &str) -> bool {
    let is_it = |option: &str| option.starts_with("-Djava.security.auth.login.config=");
    options.split_whitespace().map(|option| option.trim_matches(['"', '\''])).any(is_it)
}

fn signal_failure(error: io::Error) -> Failure {
    Failure::failed(format_args!("cannot wait for signals: {error}"))
}

fn start_failure(error: StartError) -> Failure {
    let exit = match &error {
        StartError::Directory(DirectoryError::InUse { .. }) => Exit::InUse,
        StartError::Bind { error, .. } if error.kind() == io::ErrorKind::AddrInUse => Exit::InUse,
        StartError::Tls(_) => Exit::Configuration,
        _ => Exit::Failed,
    };
    Failure::new(exit, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_options_of_a_jvm_name_a_jaas_file() {
        for (options, expected) in [
            ("-Djava.security.auth.login.config=/etc/kafka/jaas.conf", true),
            ("-Xmx1g '-Djava.security.auth.login.config=/etc/jaas.conf' -Dx=y", true),
            ("-Xmx1g -Djava.security.krb5.conf=/etc/krb5.conf", false),
            ("", false),
        ] {
            assert_eq!(names_jaas_file(options), expected, "{options}");
        }
    }
}
