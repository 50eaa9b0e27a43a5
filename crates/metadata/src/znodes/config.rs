//! `/config/...`: what was set for topics, brokers, clients, users and addresses, and the notes
//! that tell the other brokers.

use std::collections::BTreeMap;

use ottla_record::BrokerId;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Malformed, from_json, malformed, to_json};

const DEFAULT: &str = "<default>";

/// Whom a config is for. `None` is the default entity of its kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConfigEntity {
    /// A topic.
    Topic(String),
    /// A broker.
    Broker(Option<BrokerId>),
    /// Connections of a client id.
    Client(Option<String>),
    /// Connections of a user; a user's SCRAM credentials lie here too.
    User(Option<String>),
    /// Connections of a user with a client id.
    UserClient {
        /// The user.
        user: Option<String>,
        /// The client id.
        client: Option<String>,
    },
    /// Connections from an IP address.
    Ip(Option<String>),
}

impl ConfigEntity {
    /// What stands in a change note: the path below `/config/`.
    #[must_use]
    pub fn entity_path(&self) -> String {
        let name = |name: &Option<String>| name.as_deref().map_or(DEFAULT.to_owned(), sanitize);
        match self {
            Self::Topic(topic) => format!("topics/{topic}"),
            Self::Broker(None) => format!("brokers/{DEFAULT}"),
            Self::Broker(Some(broker)) => format!("brokers/{broker}"),
            Self::Client(client) => format!("clients/{}", name(client)),
            Self::User(user) => format!("users/{}", name(user)),
            Self::UserClient { user, client } => {
                format!("users/{}/clients/{}", name(user), name(client))
            }
            Self::Ip(ip) => format!("ips/{}", ip.as_deref().unwrap_or(DEFAULT)),
        }
    }

    /// Where the config lies.
    #[must_use]
    pub fn path(&self) -> String {
        format!("/config/{}", self.entity_path())
    }

    /// Reads [`ConfigEntity::entity_path`].
    pub fn parse(entity_path: &str) -> Result<Self, Malformed> {
        let fail = || malformed("the path of a config")(entity_path);
        let name = |name: &str| match name {
            DEFAULT => Ok(None),
            name => desanitize(name).map(Some).ok_or_else(fail),
        };
        let parts: Vec<&str> = entity_path.split('/').collect();
        if parts.contains(&"") {
            return Err(fail());
        }
        Ok(match parts[..] {
            ["topics", topic] => Self::Topic(topic.to_owned()),
            ["brokers", DEFAULT] => Self::Broker(None),
            ["brokers", id] => Self::Broker(Some(BrokerId(id.parse().map_err(|_| fail())?))),
            ["clients", client] => Self::Client(name(client)?),
            ["users", user] => Self::User(name(user)?),
            ["users", user, "clients", client] => {
                Self::UserClient { user: name(user)?, client: name(client)? }
            }
            ["ips", ip] => Self::Ip((ip != DEFAULT).then(|| ip.to_owned())),
            _ => return Err(fail()),
        })
    }

    /// Whether the node goes when its last key goes.
    #[must_use]
    pub fn is_quota(&self) -> bool {
        !matches!(self, Self::Topic(_) | Self::Broker(_))
    }
}

#[derive(Serialize)]
struct ConfigJson<'a> {
    version: i32,
    config: &'a BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct ConfigRead {
    version: i32,
    #[serde(default)]
    config: BTreeMap<String, String>,
}

/// Kafka's text of a config.
#[must_use]
pub fn encode_config(config: &BTreeMap<String, String>) -> Vec<u8> {
    to_json(&ConfigJson { version: 1, config })
}

/// Reads a config. Null data, as in a node that is only a parent, is an empty one.
pub fn decode_config(data: Option<&[u8]>) -> Result<BTreeMap<String, String>, Malformed> {
    const WHAT: &str = "a config";
    let Some(data) = data.filter(|data| !data.is_empty()) else { return Ok(BTreeMap::new()) };
    let json: ConfigRead = from_json(WHAT, data)?;
    if json.version != 1 {
        return Err(malformed(WHAT)("unknown version"));
    }
    Ok(json.config)
}

/// `/config/changes/config_change_N`: the note that a config has changed. Version 2 is written;
/// 1 and 2 are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigChange {
    /// Whose config.
    pub entity: ConfigEntity,
}

#[derive(Serialize)]
struct ChangeJson {
    version: i32,
    entity_path: String,
}

impl ConfigChange {
    /// Kafka's text.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        to_json(&ChangeJson { version: 2, entity_path: self.entity.entity_path() })
    }

    /// Reads a note.
    pub fn decode(data: &[u8]) -> Result<Self, Malformed> {
        const WHAT: &str = "a config change";
        let json: Value = from_json(WHAT, data)?;
        let text =
            |key: &str| json.get(key).and_then(Value::as_str).ok_or_else(|| malformed(WHAT)(key));
        let entity_path = match json.get("version").and_then(Value::as_i64) {
            Some(1) => format!("{}/{}", text("entity_type")?, text("entity_name")?),
            Some(2) => text("entity_path")?.to_owned(),
            _ => return Err(malformed(WHAT)("unknown version")),
        };
        Ok(Self { entity: ConfigEntity::parse(&entity_path)? })
    }
}

/// Writes a name so that it is one component of a path: percent-encoded UTF-8, all but letters,
/// digits, `.`, `-` and `_`.
#[must_use]
pub fn sanitize(name: &str) -> String {
    let mut sanitized = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_') {
            sanitized.push(char::from(byte));
        } else {
            sanitized.push_str(&format!("%{byte:02X}"));
        }
    }
    sanitized
}

/// Reads what [`sanitize`] wrote; `None` where a `%` is not followed by two hexadecimal digits or
/// the bytes are not UTF-8.
#[must_use]
pub fn desanitize(name: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let [byte, after @ ..] = rest {
        rest = after;
        if *byte == b'%' {
            let (digits, after) = after.split_first_chunk::<2>()?;
            if !digits.iter().all(u8::is_ascii_hexdigit) {
                return None;
            }
            bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
            rest = after;
        } else {
            bytes.push(*byte);
        }
    }
    String::from_utf8(bytes).ok()
}
