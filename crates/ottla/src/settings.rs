//! `--config` and `--set`: where a broker's configuration comes from.

use std::env;
use std::fs;
use std::path::PathBuf;

use clap::Args;
use ottla_config::{Sources, Warning};
use ottla_server::config::BrokerConfig;

use crate::exit::{Exit, Failure};

/// Variables that have another meaning than a key of the broker.
const OTHER_VARIABLES: [&str; 3] = ["OTTLA_BOOTSTRAP", "OTTLA_LOG", "OTTLA_LOG_FORMAT"];

/// What is read, the later winning: the file, variables of the environment (`OTTLA_LOG_DIRS` is
/// `log.dirs`), the command line.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct SettingsArgs {
    /// A file of the form of Kafka's server.properties
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One configuration, which wins over the file and the environment
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl SettingsArgs {
    /// Reads and checks everything. All errors are told at once.
    pub(crate) fn load(&self) -> Result<(BrokerConfig, Vec<Warning>), Failure> {
        BrokerConfig::load(self.sources()?).map_err(|errors| {
            let lines: Vec<_> = errors.iter().map(ToString::to_string).collect();
            Failure::new(Exit::Configuration, lines.join("\nottla: "))
        })
    }

    fn sources(&self) -> Result<Sources, Failure> {
        let mut sources = Sources::new();
        if let Some(path) = &self.config {
            let path = path.display().to_string();
            let text = fs::read_to_string(&path).map_err(|error| {
                Failure::new(Exit::Configuration, format_args!("cannot read {path}: {error}"))
            })?;
            sources = sources.properties(&path, &text);
        }
        // What is not UTF-8 cannot be the value of a key.
        let variables = env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| !OTHER_VARIABLES.contains(&name.as_str()));
        Ok(sources.environment(variables).command_line(self.set.iter().map(String::as_str)))
    }
}
