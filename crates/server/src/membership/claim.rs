//! Whether another process has this broker's id.
//!
//! A registration outlives its process for as long as its session does. So it is not enough that an
//! id is registered: whoever listens at the registered endpoint is asked who it is. If that is a
//! broker of this id and cluster, it is another one, and this start is refused. If nobody answers,
//! the broker is dead or will be taken for dead, and its session's end is waited for.

use std::fmt;
use std::time::Duration;

use ottla_connection::{Connection, ConnectionOptions};
use ottla_metadata::Tree;
use ottla_metadata::admin::AdminError;
use ottla_metadata::tree::{Node, Watch};
use ottla_metadata::znodes::{BrokerRegistration, SecurityProtocol, broker_path};
use ottla_protocol::ErrorCode;
use ottla_protocol::messages::describe_configs_request::DescribeConfigsResource;
use ottla_protocol::messages::{DescribeConfigsRequest, MetadataRequest};
use ottla_record::BrokerId;
use ottla_runtime::{Clock, Network, World, time};
use tracing::{info, warn};

/// Whoever does not answer within this time is asked again later.
const ANSWER_TIME: Duration = Duration::from_secs(2);

/// How often a silent broker is asked: it may be one that was stopped and goes on.
const ASK_AGAIN: Duration = Duration::from_secs(3);

/// An answer with more bytes is none of those that are asked for.
const RESPONSE_BYTES_MAX: usize = 1 << 20;

/// The type of a broker's resource in DescribeConfigs.
const BROKER: i8 = 4;

/// Why a broker may not use its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimError {
    /// A broker of this id answers.
    Answers {
        /// The id.
        id: BrokerId,
        /// Where it answers, `host:port`.
        address: String,
        /// How long it has been registered.
        registered: Duration,
    },
    /// Nobody answers, and yet the registration stays.
    Stays {
        /// The id.
        id: BrokerId,
        /// Where nobody answers.
        addresses: String,
        /// How long its end was waited for.
        waited: Duration,
    },
}

impl fmt::Display for ClaimError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answers { id, address, registered } => write!(
                f,
                "another process is broker {id} of this cluster: it answers at {address} and \
                 registered {} s ago; stop it, or give this broker another broker.id",
                registered.as_secs()
            ),
            Self::Stays { id, addresses, waited } => write!(
                f,
                "broker {id} is registered by another session, which did not end within {} s, though \
                 nobody answers at {addresses}; stop the process that holds it, or give this broker \
                 another broker.id",
                waited.as_secs()
            ),
        }
    }
}

impl std::error::Error for ClaimError {}

/// Why it is not known whether the id is free.
#[derive(Debug)]
pub(crate) enum Unclaimed {
    Taken(ClaimError),
    Failed(AdminError),
}

impl From<ClaimError> for Unclaimed {
    fn from(error: ClaimError) -> Self {
        Self::Taken(error)
    }
}

/// Waits until nobody is registered with the id, for no longer than `patience`.
pub(crate) async fn claim(
    world: &World,
    tree: &dyn Tree,
    id: BrokerId,
    cluster_id: &str,
    patience: Duration,
) -> Result<(), Unclaimed> {
    let path = broker_path(id);
    let failed = |error| Unclaimed::Failed(AdminError::Tree(error));
    // Set before the node is read, so that its end cannot be missed.
    let mut changes = tree.watch(vec![Watch::Node(path.clone())]).await.map_err(failed)?;
    let began = time::now();
    loop {
        let Some(node) = tree.get(&path).await.map_err(failed)? else { return Ok(()) };
        if node.stat.ephemeral_owner == tree.session() {
            return Ok(());
        }
        let registration = read(&path, &node).map_err(Unclaimed::Failed)?;
        let addresses = addresses(&registration);
        for address in &addresses {
            if is_broker(&*world.network, address, id, cluster_id).await {
                let (address, registered) = (address.clone(), age(&*world.clock, &registration));
                return Err(ClaimError::Answers { id, address, registered }.into());
            }
        }
        let (addresses, waited) = (addresses.join(","), time::now() - began);
        if waited >= patience {
            return Err(ClaimError::Stays { id, addresses, waited }.into());
        }
        warn!(
            broker = id.0,
            addresses,
            patience = ?patience - waited,
            "the broker's id is registered by another session, and nobody answers there: waiting for \
             that session's end"
        );
        let wait = ASK_AGAIN.min(patience - waited);
        if time::timeout(wait, changes.next()).await.is_ok() {
            info!(broker = id.0, "the registration has changed");
        }
    }
}

fn read(path: &str, node: &Node) -> Result<BrokerRegistration, AdminError> {
    let data = node.data.as_deref().unwrap_or_default();
    let malformed = |error| AdminError::Malformed { path: path.to_owned(), error };
    BrokerRegistration::decode(data).map_err(malformed)
}

/// Where the registered broker can be asked, as far as this one can speak there.
fn addresses(registration: &BrokerRegistration) -> Vec<String> {
    let plain = |endpoint: &&ottla_metadata::znodes::Endpoint| {
        endpoint.security_protocol == SecurityProtocol::Plaintext
    };
    let endpoints = registration.endpoints.iter().filter(plain);
    endpoints
        .map(|endpoint| match endpoint.host.contains(':') {
            true => format!("[{}]:{}", endpoint.host, endpoint.port),
            false => format!("{}:{}", endpoint.host, endpoint.port),
        })
        .collect()
}

fn age(clock: &dyn Clock, registration: &BrokerRegistration) -> Duration {
    let age_ms = clock.wall_ms().saturating_sub(registration.timestamp_ms);
    Duration::from_millis(u64::try_from(age_ms).unwrap_or(0))
}

/// Whether a broker of this id and cluster answers at `address`.
///
/// Kafka has no request that asks for the id alone. Metadata tells the cluster; settings of a broker
/// are described by that broker only, and any other says that it is not the one.
async fn is_broker(network: &dyn Network, address: &str, id: BrokerId, cluster_id: &str) -> bool {
    let options = ConnectionOptions {
        setup_timeout: ANSWER_TIME,
        response_bytes_max: RESPONSE_BYTES_MAX,
        ..ConnectionOptions::default()
    };
    let Ok(connection) = Connection::connect(network, address, &options).await else {
        return false;
    };
    let metadata = MetadataRequest { topics: Some(Vec::new()), ..Default::default() };
    let Ok(metadata) = connection.call(&metadata, ANSWER_TIME).await else { return false };
    let Ok(metadata) = metadata.decode() else { return false };
    if metadata.cluster_id.as_deref().is_some_and(|other| other != cluster_id) {
        return false;
    }
    let resource = DescribeConfigsResource {
        resource_type: BROKER,
        resource_name: id.to_string().into(),
        configuration_keys: Some(vec!["broker.id".into()]),
    };
    let describe = DescribeConfigsRequest { resources: vec![resource], ..Default::default() };
    let Ok(described) = connection.call(&describe, ANSWER_TIME).await else { return false };
    let Ok(described) = described.decode() else { return false };
    described.results.first().is_some_and(|result| is_own(ErrorCode(result.error_code)))
}

/// Whether a broker that was asked for its own settings is the one that was meant. One that does not
/// let us ask is taken for it: to be wrong there costs a message, to be wrong otherwise the data.
fn is_own(code: ErrorCode) -> bool {
    code != ErrorCode::INVALID_REQUEST
}
