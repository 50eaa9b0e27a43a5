//! `--bootstrap`: how every command finds its brokers.

use std::time::Duration;

use clap::Args;
use ottla_client::{Client, ClientConfig};
use ottla_runtime::World;

/// Where the brokers are.
#[derive(Args, Clone, Debug)]
pub(crate) struct Connect {
    /// Brokers to start from: the others are found through them
    #[arg(
        long,
        value_name = "HOST:PORT",
        env = "OTTLA_BOOTSTRAP",
        value_delimiter = ',',
        default_value = "localhost:9092",
        global = true
    )]
    pub(crate) bootstrap: Vec<String>,
}

/// Shorter than Kafka's default of a minute: somebody is waiting at a terminal.
const API_TIMEOUT: Duration = Duration::from_secs(15);

impl Connect {
    pub(crate) fn client(&self) -> Client {
        let config = ClientConfig::new(self.bootstrap.clone());
        Client::new(&World::system(), ClientConfig { api_timeout: API_TIMEOUT, ..config })
    }
}
