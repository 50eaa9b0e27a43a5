//! Log lines to standard error: text for people, JSON for collectors.

use std::io;

use clap::{Args, ValueEnum};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, Registry, fmt};

use crate::exit::Failure;

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// One readable line each
    Text,
    /// One JSON object per line
    Json,
}

/// The options of every command that concern its log.
#[derive(Args, Clone, Debug)]
pub(crate) struct Logging {
    /// How log lines on standard error look
    #[arg(long, global = true, value_enum, env = "OTTLA_LOG_FORMAT", default_value = "text")]
    log_format: LogFormat,
    /// The least important log lines to show: off, error, warn, info, debug or trace
    #[arg(long, global = true, value_name = "LEVEL", env = "OTTLA_LOG", default_value = "info")]
    log_level: LevelFilter,
}

impl Logging {
    /// Sends the process's log lines to standard error from now on.
    pub(crate) fn start(&self) -> Result<(), Failure> {
        use std::io::IsTerminal as _;
        let layer = match self.log_format {
            LogFormat::Text => {
                fmt::layer().with_ansi(io::stderr().is_terminal()).with_writer(io::stderr).boxed()
            }
            LogFormat::Json => fmt::layer().json().with_writer(io::stderr).boxed(),
        };
        Registry::default()
            .with(layer.with_filter(self.log_level))
            .try_init()
            .map_err(|e| Failure::failed(format_args!("cannot start logging: {e}")))
    }
}
