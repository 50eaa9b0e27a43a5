//! Listeners: the text of `listeners`, `advertised.listeners` and the protocol map, as types.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use ottla_config::{ConfigError, Settings, split_list, words};

use super::NodeKeys;

words! {
    /// How a listener protects its connections. Only `PLAINTEXT` listeners can be opened so far.
    pub enum SecurityProtocol {
        /// Nothing is encrypted, nobody is asked who they are.
        Plaintext = "PLAINTEXT",
        /// TLS.
        Ssl = "SSL",
        /// SASL without encryption.
        SaslPlaintext = "SASL_PLAINTEXT",
        /// SASL over TLS.
        SaslSsl = "SASL_SSL",
    }
}

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// A name or a numeric address, an IPv6 address without brackets. Empty: every interface.
    pub host: String,
    /// The port. 0, only where one listens: any free port.
    pub port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// One place where the broker listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// The name, in capitals.
    pub name: String,
    /// The protocol that the name is mapped to.
    pub protocol: SecurityProtocol,
    /// Where to listen.
    pub bind: Address,
    /// What to tell clients; `None`: the address that the client has dialled.
    pub advertised: Option<Address>,
}

/// The listeners of a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listeners {
    /// Those that are opened, in the order in which they were given; at least one.
    pub all: Vec<Listener>,
    /// The index in `all` of the one for connections between brokers.
    pub inter_broker: usize,
}

/// A list of listeners or addresses as it was written, for good messages.
struct Given<'a> {
    key: &'static str,
    settings: &'a Settings,
    errors: &'a mut Vec<ConfigError>,
}

impl Given<'_> {
    /// Notes that `value`, a part of the key's text, is bad.
    fn bad(&mut self, value: &str, reason: impl Into<String>) {
        self.errors.push(ConfigError::BadValue {
            key: self.key.to_string(),
            value: value.to_string(),
            reason: reason.into(),
            origin: self.settings.origin(self.key),
        });
    }

    /// `name://host:port, …` without the names that are `left_out`; every name once.
    fn endpoints(&mut self, text: &str, left_out: &[String]) -> Vec<(String, Address)> {
        let mut endpoints: Vec<(String, Address)> = Vec::new();
        for item in split_list(text) {
            match endpoint(&item) {
                Err(reason) => self.bad(&item, reason),
                Ok((name, _)) if left_out.contains(&name) => {}
                Ok((name, _)) if endpoints.iter().any(|(other, _)| *other == name) => {
                    self.bad(
                        text,
                        format!("Each listener must have a different name, {name} is there twice"),
                    );
                }
                Ok(endpoint) => endpoints.push(endpoint),
            }
        }
        endpoints
    }

    /// `name:protocol, …`.
    fn protocols(&mut self, text: &str) -> BTreeMap<String, SecurityProtocol> {
        let mut protocols = BTreeMap::new();
        for item in split_list(text) {
            let parts = item.split_once(':').map(|(name, protocol)| (name.trim(), protocol.trim()));
            let protocol = parts.and_then(|(_, protocol)| SecurityProtocol::from_word(protocol));
            match (parts, protocol) {
                (Some((name, _)), Some(protocol)) => {
                    if protocols.insert(name.to_uppercase(), protocol).is_some() {
                        self.bad(text, format!("{name} is mapped twice"));
                    }
                }
                _ => self.bad(
                    &item,
                    "Must be name:protocol, the protocol one of PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL",
                ),
            }
        }
        protocols
    }
}

/// Reads `name://host:port`; the host may be empty, or an IPv6 address in brackets.
fn endpoint(text: &str) -> Result<(String, Address), String> {
    let shape = || "Must be name://host:port, such as PLAINTEXT://localhost:9092".to_string();
    let (name, address) = text.split_once("://").ok_or_else(shape)?;
    let (host, port) = address.rsplit_once(':').ok_or_else(shape)?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-%._:".contains(c);
    if name.is_empty() || !bare.chars().all(allowed) {
        return Err(shape());
    }
    let port =
        port.parse().map_err(|_| format!("{port} is not a port, a number from 0 to 65535"))?;
    Ok((name.to_uppercase(), Address { host: bare.to_string(), port }))
}

/// Two listeners may share a port only as one IPv4 and one IPv6 address.
fn may_share_port(a: &Address, b: &Address) -> bool {
    let kinds = |address: &Address| {
        (address.host.parse::<Ipv4Addr>().is_ok(), address.host.parse::<Ipv6Addr>().is_ok())
    };
    matches!((kinds(a), kinds(b)), ((true, false), (false, true)) | ((false, true), (true, false)))
}

impl Listeners {
    /// Reads and checks everything about listeners; all errors at once go to `errors`.
    pub(super) fn read(
        keys: &NodeKeys,
        settings: &Settings,
        errors: &mut Vec<ConfigError>,
    ) -> Option<Self> {
        let before = errors.len();
        let controllers: Vec<String> =
            keys.controller_listener_names.iter().map(|name| name.to_uppercase()).collect();
        let mut given = Given { key: "listener.security.protocol.map", settings, errors };
        let protocols = given.protocols(&keys.listener_security_protocol_map);
        given.key = "advertised.listeners";
        let advertised = advertised(&mut given, keys, &controllers);
        given.key = "listeners";
        let all = bound(&mut given, keys, &controllers, &protocols, &advertised);
        let inter_broker = inter_broker(keys, &all, settings, errors);
        (errors.len() == before).then_some(Self { all, inter_broker: inter_broker? })
    }

    /// The listener for connections between brokers.
    pub fn inter_broker(&self) -> &Listener {
        &self.all[self.inter_broker]
    }
}

/// The addresses of `advertised.listeners`, by name.
fn advertised(
    given: &mut Given<'_>,
    keys: &NodeKeys,
    controllers: &[String],
) -> BTreeMap<String, Address> {
    let Some(text) = keys.advertised_listeners.as_deref() else { return BTreeMap::new() };
    let endpoints = given.endpoints(text, controllers);
    let listens = |name: &String| {
        split_list(&keys.listeners)
            .iter()
            .any(|item| endpoint(item).is_ok_and(|(other, _)| other == *name))
    };
    for (name, address) in &endpoints {
        if matches!(address.host.as_str(), "" | "0.0.0.0" | "::") || address.port == 0 {
            given.bad(
                &format!("{name}://{address}"),
                "Clients cannot connect to it: it must name one host and one port",
            );
        }
        if !listens(name) {
            given.bad(text, format!("{name} is not a name in listeners"));
        }
    }
    endpoints.into_iter().collect()
}

/// The listeners to open.
fn bound(
    given: &mut Given<'_>,
    keys: &NodeKeys,
    controllers: &[String],
    protocols: &BTreeMap<String, SecurityProtocol>,
    advertised: &BTreeMap<String, Address>,
) -> Vec<Listener> {
    let text = keys.listeners.as_str();
    let mut all: Vec<Listener> = Vec::new();
    let endpoints = given.endpoints(text, controllers);
    if endpoints.is_empty() {
        given.bad(
            text,
            "There must be a listener for clients, one that is not in controller.listener.names",
        );
    }
    for (name, bind) in endpoints {
        let Some(protocol) = protocols.get(&name).copied() else {
            given.bad(text, format!("{name} has no protocol in listener.security.protocol.map"));
            continue;
        };
        if protocol != SecurityProtocol::Plaintext {
            let word = protocol.word();
            given.bad(
                text,
                format!("{name} is a listener for {word}, only PLAINTEXT is served so far"),
            );
        }
        let shares = |other: &&Listener| bind.port != 0 && other.bind.port == bind.port;
        if let Some(other) = all.iter().find(shares)
            && !may_share_port(&other.bind, &bind)
        {
            let reason = format!(
                "{} and {name} have the same port: only an IPv4 address and an IPv6 address may",
                other.name
            );
            given.bad(text, reason);
        }
        let advertised = advertised.get(&name).cloned();
        all.push(Listener { name, protocol, bind, advertised });
    }
    all
}

/// The index of the listener for connections between brokers.
fn inter_broker(
    keys: &NodeKeys,
    all: &[Listener],
    settings: &Settings,
    errors: &mut Vec<ConfigError>,
) -> Option<usize> {
    let [by_name, by_protocol] = ["inter.broker.listener.name", "security.inter.broker.protocol"];
    if settings.get(by_name).is_some() && settings.get(by_protocol).is_some() {
        let reason = format!("{by_name} and {by_protocol} cannot both be set");
        errors.push(ConfigError::Conflict { reason });
    }
    let protocol = keys.security_inter_broker_protocol;
    let (name, key) = match &keys.inter_broker_listener_name {
        Some(name) => (name.to_uppercase(), by_name),
        None => (protocol.word().to_string(), by_protocol),
    };
    let found = all.iter().position(|listener| listener.name == name);
    if found.is_none() && !all.is_empty() {
        let names: Vec<_> = all.iter().map(|listener| listener.name.as_str()).collect();
        errors.push(ConfigError::Conflict {
            reason: format!(
                "{key} asks for the listener {name} between brokers, the listeners are: {}",
                names.join(", ")
            ),
        });
    }
    found
}
