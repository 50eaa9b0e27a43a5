//! The address that a client is told to connect to.

use ottla_metadata::Broker;

use crate::call::Client;
use crate::config::BrokerConfig;

/// Where `client` reaches `broker` over the listener that it came by; `None` if the broker does not
/// have that listener. Without `advertised.listeners`, this broker is where the client found it.
pub(crate) fn advertised_address(
    config: &BrokerConfig,
    broker: &Broker,
    client: &Client,
) -> Option<(String, i32)> {
    let ours = config.listeners.all.iter().find(|listener| *listener.name == *client.listener);
    if broker.id == config.id && ours.is_some_and(|listener| listener.advertised.is_none()) {
        return Some((client.dialled.ip().to_string(), client.dialled.port().into()));
    }
    let mut endpoints = broker.registration.endpoints.iter();
    let endpoint = endpoints.find(|endpoint| *endpoint.listener == *client.listener)?;
    Some((endpoint.host.clone(), endpoint.port.into()))
}
