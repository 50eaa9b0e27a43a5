//! `/brokers/ids/N`: a living broker.

use std::collections::BTreeMap;
use std::fmt;

use ottla_record::Uuid;
use serde::{Deserialize, Serialize};

use super::{Malformed, from_json, malformed, to_json};

const WHAT: &str = "a broker's registration";

/// What a broker tells about itself while it lives. Version 5 is written; 1 to 5 are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerRegistration {
    /// Where it can be reached, one per listener.
    pub endpoints: Vec<Endpoint>,
    /// Its `broker.rack`.
    pub rack: Option<String>,
    /// Its JMX port; −1 for none.
    pub jmx_port: i32,
    /// When it registered, in milliseconds since 1970-01-01 UTC.
    pub timestamp_ms: i64,
    /// The features that it supports.
    pub features: BTreeMap<String, SupportedVersions>,
    /// The ids of its log directories that are online. Kafka tells them to its KRaft controllers by
    /// this name (KIP-858); in a znode it writes none, and ignores ours.
    pub log_dirs: Vec<Uuid>,
}

/// The versions of a feature that a broker supports, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SupportedVersions {
    /// The lowest.
    pub min_version: i16,
    /// The highest.
    pub max_version: i16,
}

/// One of `advertised.listeners`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The listener's name.
    pub listener: String,
    /// How one speaks there.
    pub security_protocol: SecurityProtocol,
    /// A host name or address; an IPv6 address stands without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// How one speaks on a listener (`listener.security.protocol.map`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SecurityProtocol {
    /// Neither encrypted nor authenticated.
    Plaintext,
    /// TLS.
    Ssl,
    /// SASL without encryption.
    SaslPlaintext,
    /// SASL over TLS.
    SaslSsl,
}

impl SecurityProtocol {
    /// Kafka's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Plaintext => "PLAINTEXT",
            Self::Ssl => "SSL",
            Self::SaslPlaintext => "SASL_PLAINTEXT",
            Self::SaslSsl => "SASL_SSL",
        }
    }

    /// Reads a name, in capitals or not.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Plaintext, Self::Ssl, Self::SaslPlaintext, Self::SaslSsl]
            .into_iter()
            .find(|protocol| protocol.name().eq_ignore_ascii_case(name))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "{}://[{}]:{}", self.listener, self.host, self.port)
        } else {
            write!(f, "{}://{}:{}", self.listener, self.host, self.port)
        }
    }
}

#[derive(Serialize)]
struct RegistrationJson<'a> {
    version: i32,
    host: Option<&'a str>,
    port: i32,
    jmx_port: i32,
    timestamp: String,
    endpoints: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rack: Option<&'a str>,
    listener_security_protocol_map: BTreeMap<&'a str, &'static str>,
    features: &'a BTreeMap<String, SupportedVersions>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    log_dirs: Vec<String>,
}

#[derive(Deserialize)]
struct RegistrationRead {
    version: i32,
    host: Option<String>,
    port: Option<i32>,
    #[serde(default = "no_port")]
    jmx_port: i32,
    timestamp: Option<String>,
    endpoints: Option<Vec<String>>,
    rack: Option<String>,
    #[serde(default)]
    listener_security_protocol_map: BTreeMap<String, String>,
    #[serde(default)]
    features: BTreeMap<String, SupportedVersions>,
    #[serde(default)]
    log_dirs: Vec<String>,
}

fn no_port() -> i32 {
    -1
}

impl BrokerRegistration {
    /// Kafka's text. `host` and `port` are those of the first PLAINTEXT endpoint, for clients
    /// that know no others.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let plaintext =
            self.endpoints.iter().find(|e| e.security_protocol == SecurityProtocol::Plaintext);
        to_json(&RegistrationJson {
            version: 5,
            host: plaintext.map(|endpoint| endpoint.host.as_str()),
            port: plaintext.map_or(-1, |endpoint| i32::from(endpoint.port)),
            jmx_port: self.jmx_port,
            timestamp: self.timestamp_ms.to_string(),
            endpoints: self.endpoints.iter().map(Endpoint::to_string).collect(),
            rack: self.rack.as_deref(),
            listener_security_protocol_map: self
                .endpoints
                .iter()
                .map(|endpoint| (endpoint.listener.as_str(), endpoint.security_protocol.name()))
                .collect(),
            features: &self.features,
            log_dirs: self.log_dirs.iter().map(Uuid::to_string).collect(),
        })
    }

    /// Reads any version.
    pub fn decode(data: &[u8]) -> Result<Self, Malformed> {
        let fail = malformed(WHAT);
        let json: RegistrationRead = from_json(WHAT, data)?;
        if json.version < 1 {
            return Err(fail("unknown version"));
        }
        let endpoints = match (json.endpoints, json.host, json.port) {
            (Some(endpoints), ..) => endpoints
                .iter()
                .map(|text| {
                    parse_endpoint(text, &json.listener_security_protocol_map)
                        .ok_or_else(|| fail(text))
                })
                .collect::<Result<_, _>>()?,
            (None, Some(host), Some(port)) => vec![Endpoint {
                listener: SecurityProtocol::Plaintext.name().to_owned(),
                security_protocol: SecurityProtocol::Plaintext,
                host,
                port: u16::try_from(port).map_err(|_| fail("no such port"))?,
            }],
            (None, ..) => return Err(fail("neither endpoints nor host and port")),
        };
        let log_dirs = json.log_dirs.iter().map(|id| Uuid::parse(id).ok_or_else(|| fail(id)));
        Ok(Self {
            endpoints,
            rack: json.rack,
            jmx_port: json.jmx_port,
            timestamp_ms: json.timestamp.and_then(|text| text.parse().ok()).unwrap_or(-1),
            features: json.features,
            log_dirs: log_dirs.collect::<Result<_, _>>()?,
        })
    }
}

/// Reads `NAME://host:port`. Without an entry in `protocols` the listener's name is its protocol.
fn parse_endpoint(text: &str, protocols: &BTreeMap<String, String>) -> Option<Endpoint> {
    let (listener, address) = text.split_once("://")?;
    let (host, port) = address.rsplit_once(':')?;
    let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    let protocol = protocols.get(listener).map_or(listener, String::as_str);
    Some(Endpoint {
        listener: listener.to_owned(),
        security_protocol: SecurityProtocol::parse(protocol)?,
        host: host.to_owned(),
        port: port.parse().ok()?,
    })
}
