//! `ottla config`: what a broker would be started with.

use std::fmt::Write as _;

use clap::{Args, Subcommand};
use ottla_config::Warning;
use ottla_server::config::BrokerConfig;

use crate::exit::Outcome;
use crate::settings::SettingsArgs;
use crate::terminal::print_all;

#[derive(Args, Debug)]
pub(crate) struct Config {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Say what is wrong with the configuration, and what has no effect
    Check(SettingsArgs),
    /// Print every key with its value
    Show {
        #[command(flatten)]
        settings: SettingsArgs,
        /// With where each value comes from, behind a tab
        #[arg(long)]
        origin: bool,
    },
}

impl Config {
    pub(crate) fn run(self) -> Outcome {
        match self.action {
            Action::Check(settings) => {
                let (_, warnings) = settings.load()?;
                print_warnings(&warnings);
                print_all("The configuration is valid.\n")
            }
            Action::Show { settings, origin } => {
                let (config, warnings) = settings.load()?;
                print_warnings(&warnings);
                print_all(&show(&config, origin))
            }
        }
    }
}

fn print_warnings(warnings: &[Warning]) {
    for warning in warnings {
        eprintln!("ottla: warning: {warning}");
    }
}

/// `key=value` lines; a key without a value is a comment, a secret is hidden.
fn show(config: &BrokerConfig, origin: bool) -> String {
    let mut out = String::new();
    for entry in config.describe() {
        match entry.value {
            _ if entry.sensitive => {
                out.push_str(entry.name);
                out.push_str("=[hidden]");
            }
            Some(value) => {
                // Writing to a string does not fail.
                let _ = write!(out, "{}={value}", entry.name);
            }
            None => {
                out.push_str("# ");
                out.push_str(entry.name);
                out.push('=');
            }
        }
        if origin {
            let _ = write!(out, "\t{}", config.origin(entry.name));
        }
        out.push('\n');
    }
    out
}
