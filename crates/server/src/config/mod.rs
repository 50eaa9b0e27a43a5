//! The configuration of a broker.
//!
//! Owns: which keys a broker has, what they mean together, the typed result. Must not know: where
//! the text comes from (the caller hands over [`Sources`]), who uses a value.

mod coordination;
mod jaas;
mod keeper;
mod keys;
mod listeners;
mod unserved;
mod zookeeper;
mod zookeeper_tls;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use ottla_config::{
    ConfigError, Entry, Key, Layers, Origin, Settings, Sources, Verdict, Warning, describe_broker,
    nearest, reference, split_list,
};
use ottla_log::BrokerLogDefaults;
use ottla_record::BrokerId;

pub use coordination::CoordinationConfig;
pub use keeper::KeeperConfig;
pub use keys::{
    CleanerConfig, GroupConfig, KeeperKeys, NetworkConfig, NodeKeys, StorageConfig, TopicsConfig,
    ZooKeeperKeys, ZooKeeperTlsKeys,
};
pub use listeners::{Address, Listener, Listeners, SecurityProtocol};
pub use zookeeper::ZooKeeperConfig;
pub use zookeeper_tls::{StoreConfig, ZooKeeperTls};

/// The id of a broker that was given none.
const DEFAULT_ID: i32 = 1;

/// The settings that a broker was started with, checked, each of its type.
#[derive(Clone, Debug)]
pub struct BrokerConfig {
    /// `broker.id`, or `node.id`.
    pub id: BrokerId,
    /// `broker.rack`.
    pub rack: Option<String>,
    /// Where the broker listens and what it tells its clients.
    pub listeners: Listeners,
    /// Who keeps the metadata.
    pub coordination: CoordinationConfig,
    /// The log directories: at least one, each once.
    pub log_dirs: Vec<PathBuf>,
    /// Whether the operator accepts an adoption that leaves something open (`--adopt`).
    pub adopt: bool,
    /// How many connections an address may hold, where `max.connections.per.ip` does not say.
    pub connections_per_ip: BTreeMap<IpAddr, u32>,
    /// Connections and requests.
    pub network: NetworkConfig,
    /// Log directories and their upkeep.
    pub storage: StorageConfig,
    /// The log cleaner.
    pub cleaner: CleanerConfig,
    /// How topics come and go.
    pub topics: TopicsConfig,
    /// Consumer groups and their offsets.
    pub group: GroupConfig,
    /// What a topic without overrides gets.
    pub log_defaults: BrokerLogDefaults,
    settings: Settings,
    layers: Layers,
}

impl BrokerConfig {
    /// Reads and checks everything; all errors at once.
    pub fn load(sources: Sources) -> Result<(Self, Vec<Warning>), Vec<ConfigError>> {
        let keys = broker_keys();
        let served = keys.iter().map(|key| key.name);
        let mut settings = sources.merge(served.chain(unserved::names()));
        let mut errors = std::mem::take(&mut settings.errors);
        let mut warnings = std::mem::take(&mut settings.warnings);
        recognise(&keys, &settings, &mut warnings, &mut errors);
        join_ids(&mut settings, &mut errors);
        let config = Self::read(settings, &mut errors);
        match config {
            Some(config) if errors.is_empty() => {
                config.advise(&mut warnings);
                Ok((config, warnings))
            }
            _ => Err(errors),
        }
    }

    fn read(settings: Settings, errors: &mut Vec<ConfigError>) -> Option<Self> {
        let node = take(NodeKeys::read(&settings), errors);
        let network = take(NetworkConfig::read(&settings), errors);
        let storage = take(StorageConfig::read(&settings), errors);
        let cleaner = take(CleanerConfig::read(&settings), errors);
        let topics = take(TopicsConfig::read(&settings), errors);
        let group = take(GroupConfig::read(&settings), errors);
        let layers = Layers::of_static(settings.texts());
        let log_defaults = read_log_defaults(&settings, &layers, errors);

        let listeners = node.as_ref().and_then(|node| Listeners::read(node, &settings, errors));
        let connections_per_ip = network.as_ref().and_then(|network| {
            check_network(network, errors);
            read_connections_per_ip(network, &settings, errors)
        });
        let log_dirs =
            storage.as_ref().and_then(|storage| read_log_dirs(storage, &settings, errors));
        if let Some(group) = &group {
            check_group(group, errors);
        }
        let node = node?;
        let id = BrokerId(if node.broker_id < 0 { DEFAULT_ID } else { node.broker_id });
        let coordination = CoordinationConfig::read(id, &settings, errors);
        Some(Self {
            id,
            coordination: coordination?,
            rack: node.broker_rack,
            listeners: listeners?,
            log_dirs: log_dirs?,
            adopt: false,
            connections_per_ip: connections_per_ip?,
            network: network?,
            storage: storage?,
            cleaner: cleaner?,
            topics: topics?,
            group: group?,
            log_defaults: log_defaults?,
            settings,
            layers,
        })
    }

    /// Every key of this broker as `DescribeConfigs` gives it.
    pub fn describe(&self) -> Vec<Entry> {
        broker_keys().iter().map(|key| describe_broker(key, &self.layers)).collect()
    }

    /// Where the value of `key` stands.
    pub fn origin(&self, key: &str) -> Origin {
        self.settings.origin(key)
    }

    /// Warns of what has no effect, and of what a broker that is alone cannot do.
    fn advise(&self, warnings: &mut Vec<Warning>) {
        self.coordination.advise(&self.settings, warnings);
        let replicas = [
            ("default.replication.factor", self.topics.default_replication_factor, "such a topic"),
            (
                "offsets.topic.replication.factor",
                i32::from(self.group.offsets_topic_replication_factor),
                "the topic of consumer groups' offsets",
            ),
        ];
        for (key, factor, what) in replicas {
            if factor > 1 {
                let reason = format!(
                    "{key} is {factor} and this broker is alone: {what} cannot be created ({})",
                    self.origin(key)
                );
                warnings.push(Warning::Advice { reason });
            }
        }
        let in_sync = self.log_defaults.config().min_insync_replicas;
        if in_sync > 1 {
            let reason = format!(
                "min.insync.replicas is {in_sync} and this broker is alone: \
                 writes with acks=all will be refused ({})",
                self.origin("min.insync.replicas")
            );
            warnings.push(Warning::Advice { reason });
        }
    }
}

/// Every key of a broker, by name.
pub fn broker_keys() -> Vec<Key> {
    let mut keys: Vec<Key> = [
        NodeKeys::KEYS,
        KeeperKeys::KEYS,
        ZooKeeperKeys::KEYS,
        ZooKeeperTlsKeys::KEYS,
        NetworkConfig::KEYS,
        StorageConfig::KEYS,
        CleanerConfig::KEYS,
        TopicsConfig::KEYS,
        GroupConfig::KEYS,
    ]
    .into_iter()
    .flatten()
    .copied()
    .chain(ottla_log::broker_log_keys())
    .collect();
    keys.sort_unstable_by_key(|key| key.name);
    keys
}

/// The reference of every key, as Markdown: of the broker, of a topic, and those not served.
pub fn reference_page() -> String {
    let mut topic_keys: Vec<_> = ottla_log::topic_keys().copied().collect();
    topic_keys.sort_unstable_by_key(|key| key.name);
    format!(
        "# Broker keys\n\n\
         Every key can be set in the environment too: `OTTLA_LOG_RETENTION_MS` is \
         `log.retention.ms`.\n\n{}\n# Topic keys\n\n{}\n# Keys of Kafka that have no effect\n\n{}",
        reference(&broker_keys()),
        reference(&topic_keys),
        unserved::table()
    )
}

/// Keeps a result or its errors.
fn take<T>(result: Result<T, Vec<ConfigError>>, errors: &mut Vec<ConfigError>) -> Option<T> {
    result.map_err(|more| errors.extend(more)).ok()
}

/// Finds the settings that no key reads and says so.
fn recognise(
    keys: &[Key],
    settings: &Settings,
    warnings: &mut Vec<Warning>,
    errors: &mut Vec<ConfigError>,
) {
    for (name, setting) in settings.iter() {
        if keys.iter().any(|key| key.name == name) {
            continue;
        }
        let (key, origin) = (name.to_string(), setting.origin.clone());
        let Some(line) = unserved::find(name) else {
            let candidates = keys.iter().map(|key| key.name).chain(unserved::names());
            let nearest = nearest(name, candidates).map(str::to_string);
            warnings.push(Warning::Unknown { key, nearest, origin });
            continue;
        };
        let note = line.note.to_string();
        match (line.judge)(&setting.value) {
            Verdict::Fine => {}
            Verdict::NoEffect => warnings.push(Warning::NoEffect { key, note, origin }),
            Verdict::Refused => errors.push(ConfigError::Refused { key, note, origin }),
        }
    }
}

/// Makes `broker.id` and `node.id` the same: one may be set, or both to one value.
fn join_ids(settings: &mut Settings, errors: &mut Vec<ConfigError>) {
    let (broker_id, node_id) = (settings.get("broker.id"), settings.get("node.id"));
    match (broker_id.cloned(), node_id.cloned()) {
        (Some(id), None) => settings.insert("node.id", id),
        (None, Some(id)) => settings.insert("broker.id", id),
        (Some(broker), Some(node)) if broker.value.trim() != node.value.trim() => {
            errors.push(ConfigError::Conflict {
                reason: format!(
                    "broker.id is {} ({}) and node.id is {} ({}): they must be equal, or one unset",
                    broker.value.trim(),
                    broker.origin,
                    node.value.trim(),
                    node.origin
                ),
            });
        }
        _ => {}
    }
}

/// Reads the keys that give the defaults of topics.
fn read_log_defaults(
    settings: &Settings,
    layers: &Layers,
    errors: &mut Vec<ConfigError>,
) -> Option<BrokerLogDefaults> {
    let before = errors.len();
    for key in ottla_log::broker_log_keys() {
        if let Some(setting) = settings.get(key.name) {
            errors.extend(key.parse(&setting.value, &setting.origin).err());
        }
    }
    if errors.len() > before {
        return None;
    }
    take(BrokerLogDefaults::new(layers.clone()), errors)
}

fn check_network(network: &NetworkConfig, errors: &mut Vec<ConfigError>) {
    let (queued, request) =
        (network.queued_max_request_bytes, i64::from(network.socket_request_max_bytes));
    if queued > 0 && queued < request {
        errors.push(ConfigError::Conflict {
            reason: format!(
                "queued.max.request.bytes ({queued}) must be at least socket.request.max.bytes \
                 ({request}), or 0 for no limit"
            ),
        });
    }
    if network.max_connections_per_ip == 0 && network.max_connections_per_ip_overrides.is_empty() {
        errors.push(ConfigError::Conflict {
            reason: "max.connections.per.ip can be 0 only if max.connections.per.ip.overrides \
                     names the addresses that may connect"
                .to_string(),
        });
    }
}

fn check_group(group: &GroupConfig, errors: &mut Vec<ConfigError>) {
    let (min, max) = (group.group_min_session_timeout_ms, group.group_max_session_timeout_ms);
    if min > max {
        errors.push(ConfigError::Conflict {
            reason: format!(
                "group.min.session.timeout.ms ({min}) must be at most \
                 group.max.session.timeout.ms ({max})"
            ),
        });
    }
}

/// Reads `address:count, …`.
fn read_connections_per_ip(
    network: &NetworkConfig,
    settings: &Settings,
    errors: &mut Vec<ConfigError>,
) -> Option<BTreeMap<IpAddr, u32>> {
    let key = "max.connections.per.ip.overrides";
    let before = errors.len();
    let mut limits = BTreeMap::new();
    for item in split_list(&network.max_connections_per_ip_overrides) {
        let parsed = item.rsplit_once(':').and_then(|(address, count)| {
            let address = address.trim_start_matches('[').trim_end_matches(']');
            Some((address.parse().ok()?, count.trim().parse().ok()?))
        });
        match parsed {
            Some((address, count)) => drop(limits.insert(address, count)),
            None => errors.push(ConfigError::BadValue {
                key: key.to_string(),
                value: item,
                reason: "Must be address:count with a numeric address, such as 127.0.0.1:100"
                    .into(),
                origin: settings.origin(key),
            }),
        }
    }
    (errors.len() == before).then_some(limits)
}

/// `log.dirs`, else `log.dir`.
fn read_log_dirs(
    storage: &StorageConfig,
    settings: &Settings,
    errors: &mut Vec<ConfigError>,
) -> Option<Vec<PathBuf>> {
    let (key, text) = match &storage.log_dirs {
        Some(dirs) => ("log.dirs", dirs),
        None => ("log.dir", &storage.log_dir),
    };
    let mut bad = |reason: String| {
        errors.push(ConfigError::BadValue {
            key: key.to_string(),
            value: text.clone(),
            reason,
            origin: settings.origin(key),
        });
        None
    };
    let mut dirs: Vec<PathBuf> = Vec::new();
    for dir in split_list(text).into_iter().filter(|dir| !dir.is_empty()).map(PathBuf::from) {
        if dirs.contains(&dir) {
            return bad(format!("{} is there twice", dir.display()));
        }
        dirs.push(dir);
    }
    if dirs.is_empty() {
        return bad("At least one log directory must be named".to_string());
    }
    Some(dirs)
}

#[cfg(test)]
mod tests;
