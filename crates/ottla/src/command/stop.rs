//! `ottla stop`: ends the broker that holds a data directory.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use ottla_runtime::{disk, process, time};

use crate::exit::{Failure, Outcome};
use crate::settings::SettingsArgs;
use crate::terminal::print_all;

#[derive(Args, Debug)]
pub(crate) struct Stop {
    /// The broker's data directory; default: that of the configuration
    #[arg(long, value_name = "DIR", conflicts_with_all = ["config", "set"])]
    data_dir: Option<PathBuf>,
    #[command(flatten)]
    settings: SettingsArgs,
    /// How many seconds the broker may take to be down
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    timeout: u64,
}

/// Held by the process that uses a data directory, as Kafka does it.
const LOCK: &str = ".lock";

/// Nothing tells us when another process ends: look again after so long.
const LOOK_EVERY: Duration = Duration::from_millis(50);

impl Stop {
    pub(crate) async fn run(self) -> Outcome {
        let dir = match self.data_dir {
            Some(dir) => dir,
            // A configuration has at least one directory.
            None => self.settings.load()?.0.log_dirs.swap_remove(0),
        };
        let lock = dir.join(LOCK);
        let Some(pid) = disk::lock_holder(&lock) else {
            return Err(Failure::failed(format_args!(
                "no broker runs on {}; name its directory with --data-dir",
                dir.display()
            )));
        };
        process::terminate(pid)
            .map_err(|error| Failure::failed(format_args!("cannot stop process {pid}: {error}")))?;
        let deadline = time::now() + Duration::from_secs(self.timeout);
        // The lock ends with the process, also while nobody has taken note of its end.
        while disk::lock_holder(&lock) == Some(pid) {
            if time::now() >= deadline {
                return Err(Failure::failed(format_args!(
                    "process {pid} was told to stop and is not down after {} s",
                    self.timeout
                )));
            }
            time::sleep(LOOK_EVERY).await;
        }
        print_all(&format!("Stopped process {pid}.\n"))
    }
}
