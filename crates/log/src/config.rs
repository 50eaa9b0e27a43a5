//! The keys of a topic and the settings of a log that follow from them.
//!
//! Owns: the declaration of every topic key, and with it of the broker keys that give its default
//! (`log.segment.bytes` for `segment.bytes`). Must not know: topics, requests, where the broker's
//! values stand.

use std::collections::BTreeMap;

use ottla_config::{
    BrokerSynonym, Check, ConfigError, Entry, FieldValue, Key, Layers, Lookup, Origin, Type, Value,
    describe_topic, keys, nearest, words,
};

const HOUR_MS: i64 = 3_600_000;
const MINUTE_MS: i64 = 60_000;

/// The age of records or their retention: any negative number stands for "unlimited".
const UNLIMITED_OR_POSITIVE: Check = Check::Rule("-1 (unlimited) or at least 1", |n| n != 0);

keys! {
    /// The settings in force for one log: the topic's overrides, then the broker's values, then the
    /// defaults. Names, ranges and defaults are those of Apache Kafka 3.9 where the doc of a key
    /// does not say otherwise.
    pub struct LogConfig {
        /// What becomes of old segments: `delete` drops them by age or size, `compact` keeps the
        /// last value of each key; both may be set, or neither.
        cleanup_policy: CleanupPolicy = Key::topic("cleanup.policy").default("delete")
            .synonyms(&[BrokerSynonym::new("log.cleanup.policy")]);
        /// The codec of stored batches. `producer` keeps what the producer chose.
        compression_type: CompressionType = Key::topic("compression.type").default("producer")
            .synonyms(&[BrokerSynonym::new("compression.type")]);
        /// The level of gzip, where the broker compresses; -1 is the codec's own default.
        compression_gzip_level: i32 = Key::topic("compression.gzip.level").default("-1")
            .check(Check::BetweenOr(1, 9, -1))
            .synonyms(&[BrokerSynonym::new("compression.gzip.level")]);
        /// The level of lz4, where the broker compresses.
        compression_lz4_level: i32 = Key::topic("compression.lz4.level").default("9")
            .check(Check::Between(1, 17))
            .synonyms(&[BrokerSynonym::new("compression.lz4.level")]);
        /// The level of zstd, where the broker compresses.
        compression_zstd_level: i32 = Key::topic("compression.zstd.level").default("3")
            .check(Check::Between(-131_072, 22))
            .synonyms(&[BrokerSynonym::new("compression.zstd.level")]);
        /// How long a compacted log keeps tombstones and markers, in milliseconds.
        delete_retention_ms: i64 = Key::topic("delete.retention.ms").default("86400000")
            .check(Check::AtLeast(0))
            .synonyms(&[BrokerSynonym::new("log.cleaner.delete.retention.ms")]);
        /// How long the files of a deleted log stay on disk, in milliseconds.
        /// What retention deletes of a log goes at once, and who reads it reads on.
        file_delete_delay_ms: i64 = Key::topic("file.delete.delay.ms").default("60000")
            .check(Check::AtLeast(0))
            .synonyms(&[BrokerSynonym::new("log.segment.delete.delay.ms")]);
        /// Whether a batch is acknowledged, and shown to consumers, only once it is on the disk. If
        /// not, as in Kafka, an acknowledgement survives the end of the process and a power cut
        /// takes what the operating system has not written yet. A key of Ottla.
        flush_before_ack: bool = Key::topic("flush.before.ack").default("true")
            .synonyms(&[BrokerSynonym::new("log.flush.before.ack")]);
        /// After how many records the log is flushed to disk.
        /// It counts only where an acknowledgement does not wait for the disk anyway.
        flush_messages: i64 = Key::topic("flush.messages").default("9223372036854775807")
            .check(Check::AtLeast(1))
            .synonyms(&[BrokerSynonym::new("log.flush.interval.messages")]);
        /// After how long the log is flushed to disk, in milliseconds.
        /// It counts only where an acknowledgement does not wait for the disk anyway.
        flush_ms: i64 = Key::topic("flush.ms").default("9223372036854775807")
            .check(Check::AtLeast(0))
            .synonyms(&[
                BrokerSynonym::new("log.flush.interval.ms"),
                BrokerSynonym::new("log.flush.scheduler.interval.ms")
                    .default("9223372036854775807").read_only(),
            ]);
        /// After how many bytes of log an entry is added to the indexes.
        index_interval_bytes: i32 = Key::topic("index.interval.bytes").default("4096")
            .check(Check::AtLeast(0))
            .synonyms(&[BrokerSynonym::new("log.index.interval.bytes")]);
        /// How long a record may stay uncompacted at most, in milliseconds.
        max_compaction_lag_ms: i64 = Key::topic("max.compaction.lag.ms")
            .default("9223372036854775807").check(Check::AtLeast(1))
            .synonyms(&[BrokerSynonym::new("log.cleaner.max.compaction.lag.ms")]);
        /// The largest batch that is accepted, in bytes, with its overhead and after compression.
        max_message_bytes: i32 = Key::topic("max.message.bytes").default("1048588")
            .check(Check::AtLeast(0))
            .synonyms(&[BrokerSynonym::new("message.max.bytes")]);
        /// How far a record's timestamp may lie ahead of the broker's clock, in milliseconds, with
        /// `CreateTime`. One hour as in Kafka 4 (Kafka 3.9: no limit): a timestamp far ahead keeps
        /// a segment from ever being removed by age.
        message_timestamp_after_max_ms: i64 = Key::topic("message.timestamp.after.max.ms")
            .default("3600000").check(Check::AtLeast(0))
            .synonyms(&[BrokerSynonym::new("log.message.timestamp.after.max.ms")]);
        /// How far a record's timestamp may lie behind the broker's clock, in milliseconds, with
        /// `CreateTime`.
        message_timestamp_before_max_ms: i64 = Key::topic("message.timestamp.before.max.ms")
            .default("9223372036854775807").check(Check::AtLeast(0))
            .synonyms(&[BrokerSynonym::new("log.message.timestamp.before.max.ms")]);
        /// Deprecated: stands in for `message.timestamp.before.max.ms` and
        /// `message.timestamp.after.max.ms` where these have their default.
        message_timestamp_difference_max_ms: i64 = Key::topic("message.timestamp.difference.max.ms")
            .default("9223372036854775807").check(Check::AtLeast(0))
            .synonyms(&[BrokerSynonym::new("log.message.timestamp.difference.max.ms")]);
        /// Whose clock a record's timestamp is of: the producer's or the broker's.
        message_timestamp_type: TimestampType = Key::topic("message.timestamp.type")
            .default("CreateTime")
            .synonyms(&[BrokerSynonym::new("log.message.timestamp.type")]);
        /// The share of a log that must be uncompacted before it is compacted.
        min_cleanable_dirty_ratio: f64 = Key::topic("min.cleanable.dirty.ratio").default("0.5")
            .check(Check::Between(0, 1))
            .synonyms(&[BrokerSynonym::new("log.cleaner.min.cleanable.ratio")]);
        /// How long a record stays uncompacted at least, in milliseconds.
        min_compaction_lag_ms: i64 = Key::topic("min.compaction.lag.ms").default("0")
            .check(Check::AtLeast(0))
            .synonyms(&[BrokerSynonym::new("log.cleaner.min.compaction.lag.ms")]);
        /// How many replicas must be in sync for a write with `acks=all` to be accepted.
        min_insync_replicas: i32 = Key::topic("min.insync.replicas").default("1")
            .check(Check::AtLeast(1))
            .synonyms(&[BrokerSynonym::new("min.insync.replicas")]);
        /// Whether the file of a new segment gets its full size at once.
        /// Not honoured yet: a file grows as it is written.
        preallocate: bool = Key::topic("preallocate").default("false")
            .synonyms(&[BrokerSynonym::new("log.preallocate")]);
        /// The size of a partition from which on old segments are deleted, in bytes; -1: no limit.
        retention_bytes: i64 = Key::topic("retention.bytes").default("-1")
            .synonyms(&[BrokerSynonym::new("log.retention.bytes")]);
        /// The age from which on segments are deleted, in milliseconds; -1: no limit.
        retention_ms: i64 = Key::topic("retention.ms").default("604800000")
            .check(Check::AtLeast(-1))
            .synonyms(&[
                BrokerSynonym::new("log.retention.ms").check(UNLIMITED_OR_POSITIVE),
                BrokerSynonym::new("log.retention.minutes")
                    .factor(MINUTE_MS, "As `log.retention.ms`, in minutes.")
                    .check(UNLIMITED_OR_POSITIVE).read_only(),
                BrokerSynonym::new("log.retention.hours")
                    .factor(HOUR_MS, "As `log.retention.ms`, in hours.")
                    .default("168").check(UNLIMITED_OR_POSITIVE).read_only(),
            ]);
        /// The size at which a segment is closed and a new one begun, in bytes.
        segment_bytes: i32 = Key::topic("segment.bytes").default("1073741824")
            .check(Check::AtLeast(14))
            .synonyms(&[BrokerSynonym::new("log.segment.bytes")]);
        /// The largest size of an index file, in bytes; a full index closes its segment.
        segment_index_bytes: i32 = Key::topic("segment.index.bytes").default("10485760")
            .check(Check::AtLeast(4))
            .synonyms(&[BrokerSynonym::new("log.index.size.max.bytes")]);
        /// By how much at most, at random, the time of `segment.ms` is cut short, in milliseconds,
        /// so that not all logs close a segment at once.
        segment_jitter_ms: i64 = Key::topic("segment.jitter.ms").default("0")
            .check(Check::AtLeast(0))
            .synonyms(&[
                BrokerSynonym::new("log.roll.jitter.ms"),
                BrokerSynonym::new("log.roll.jitter.hours")
                    .factor(HOUR_MS, "As `log.roll.jitter.ms`, in hours.")
                    .default("0").read_only(),
            ]);
        /// The age at which a segment is closed even if it is not full, in milliseconds.
        segment_ms: i64 = Key::topic("segment.ms").default("604800000")
            .check(Check::AtLeast(1))
            .synonyms(&[
                BrokerSynonym::new("log.roll.ms"),
                BrokerSynonym::new("log.roll.hours")
                    .factor(HOUR_MS, "As `log.roll.ms`, in hours.")
                    .default("168").read_only(),
            ]);
        /// Whether a replica that was not in sync may lead when no other is left. Not honoured
        /// yet: a partition has one replica.
        unclean_leader_election_enable: bool = Key::topic("unclean.leader.election.enable")
            .default("false")
            .synonyms(&[BrokerSynonym::new("unclean.leader.election.enable")]);
    }
}

/// Topic keys of Kafka that are accepted, checked, stored and described, and change nothing.
const WITHOUT_EFFECT: &[Key] = &[
    Key::topic("follower.replication.throttled.replicas")
        .field::<Vec<String>>()
        .default("")
        .doc("No effect: replication is not throttled."),
    Key::topic("leader.replication.throttled.replicas")
        .field::<Vec<String>>()
        .default("")
        .doc("No effect: replication is not throttled."),
    Key::topic("local.retention.bytes")
        .field::<i64>()
        .default("-2")
        .check(Check::AtLeast(-2))
        .doc("No effect: there is no tiered storage.")
        .synonyms(&[BrokerSynonym::new("log.local.retention.bytes")]),
    Key::topic("local.retention.ms")
        .field::<i64>()
        .default("-2")
        .check(Check::AtLeast(-2))
        .doc("No effect: there is no tiered storage.")
        .synonyms(&[BrokerSynonym::new("log.local.retention.ms")]),
    Key::topic("message.downconversion.enable")
        .field::<bool>()
        .default("true")
        .doc("No effect: batches are sent in the format in which they are stored.")
        .synonyms(&[BrokerSynonym::new("log.message.downconversion.enable")]),
    Key::topic("message.format.version")
        .default("3.0-IV1")
        .doc("No effect: batches are stored in format 2, as in Kafka since 3.0.")
        .synonyms(&[BrokerSynonym::new("log.message.format.version").read_only()]),
    Key::topic("remote.log.copy.disable")
        .field::<bool>()
        .default("false")
        .doc("No effect: there is no tiered storage."),
    Key::topic("remote.log.delete.on.disable")
        .field::<bool>()
        .default("false")
        .doc("No effect: there is no tiered storage."),
    Key::topic("remote.storage.enable")
        .field::<bool>()
        .default("false")
        .doc("Only `false`: there is no tiered storage."),
];

/// What becomes of old segments (`cleanup.policy`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CleanupPolicy {
    /// Segments are deleted by age and size.
    pub delete: bool,
    /// The last value of each key is kept.
    pub compact: bool,
}

impl FieldValue for CleanupPolicy {
    const TYPE: Type = Type::List;
    const WORDS: &'static [&'static str] = &["compact", "delete"];

    fn from_value(value: Value) -> Option<Self> {
        match value {
            Value::List(items) => {
                let has = |word: &str| items.iter().any(|item| item == word);
                Some(Self { delete: has("delete"), compact: has("compact") })
            }
            _ => None,
        }
    }
}

words! {
    /// The codec of stored batches (`compression.type` of a topic or broker).
    pub enum CompressionType {
        /// Batches are stored without compression.
        Uncompressed = "uncompressed",
        /// Zstandard.
        Zstd = "zstd",
        /// LZ4 frames.
        Lz4 = "lz4",
        /// Snappy.
        Snappy = "snappy",
        /// Gzip.
        Gzip = "gzip",
        /// Whatever the producer chose.
        Producer = "producer",
    }
}

words! {
    /// Whose clock a record's timestamp is of (`message.timestamp.type`).
    pub enum TimestampType {
        /// The producer's.
        CreateTime = "CreateTime",
        /// The broker's, when it appends.
        LogAppendTime = "LogAppendTime",
    }
}

/// A topic's own settings, by key.
pub type Overrides = BTreeMap<String, String>;

/// The keys of a topic.
pub fn topic_keys() -> impl Iterator<Item = &'static Key> {
    LogConfig::KEYS.iter().chain(WITHOUT_EFFECT)
}

/// The key of a topic that has this name.
pub fn topic_key(name: &str) -> Option<&'static Key> {
    topic_keys().find(|key| key.name == name)
}

/// The keys of a broker that give the defaults of topic keys.
pub fn broker_log_keys() -> impl Iterator<Item = Key> {
    topic_keys().flat_map(Key::broker_keys)
}

/// What a topic without overrides gets from its broker.
#[derive(Clone, Debug)]
pub struct BrokerLogDefaults {
    layers: Layers,
    config: LogConfig,
}

impl BrokerLogDefaults {
    /// Reads the [`broker_log_keys`] among the values of a broker; others may be there too.
    pub fn new(layers: Layers) -> Result<Self, Vec<ConfigError>> {
        let values = Effective { layers: &layers, overrides: &Overrides::new() };
        let config = LogConfig::read(&values)?.finish().map_err(|error| vec![error])?;
        Ok(Self { layers, config })
    }

    /// The settings of a log whose topic has no overrides.
    pub fn config(&self) -> &LogConfig {
        &self.config
    }
}

impl LogConfig {
    /// The settings of a log whose topic has these overrides. The first override that is unknown or
    /// bad is the error: the answer to `CreateTopics` and `AlterConfigs` is then `INVALID_CONFIG`.
    pub fn from_overrides(
        defaults: &BrokerLogDefaults,
        overrides: &Overrides,
    ) -> Result<Self, ConfigError> {
        for (name, text) in overrides {
            check_override(name, text)?;
        }
        let values = Effective { layers: &defaults.layers, overrides };
        Self::read(&values).map_err(|mut errors| errors.swap_remove(0)).and_then(Self::finish)
    }

    /// As [`Self::from_overrides`], for overrides that were stored earlier, perhaps by another
    /// version: those that are bad are dropped and returned, so that the log can be opened.
    pub fn from_stored(
        defaults: &BrokerLogDefaults,
        overrides: &Overrides,
    ) -> (Self, Vec<ConfigError>) {
        let mut errors = Vec::new();
        let mut good = overrides.clone();
        good.retain(|name, text| match check_override(name, text) {
            Ok(()) => true,
            Err(error) => {
                errors.push(error);
                false
            }
        });
        let config = Self::from_overrides(defaults, &good).unwrap_or_else(|error| {
            errors.push(error);
            defaults.config.clone()
        });
        (config, errors)
    }

    /// Every key of a topic as `DescribeConfigs` gives it.
    pub fn describe(defaults: &BrokerLogDefaults, overrides: &Overrides) -> Vec<Entry> {
        let values = Effective { layers: &defaults.layers, overrides };
        topic_keys()
            .map(|key| {
                let value = match values.lookup(key) {
                    Ok(Some(value)) => value.to_string(),
                    Ok(None) | Err(_) => key.default.unwrap_or_default().to_string(),
                };
                let overridden = overrides.contains_key(key.name);
                describe_topic(key, &value, overridden, &defaults.layers)
            })
            .collect()
    }

    /// What depends on more than one key.
    fn finish(mut self) -> Result<Self, ConfigError> {
        if self.min_compaction_lag_ms > self.max_compaction_lag_ms {
            return Err(ConfigError::Conflict {
                reason: format!(
                    "conflict topic config setting min.compaction.lag.ms ({}) > max.compaction.lag.ms ({})",
                    self.min_compaction_lag_ms, self.max_compaction_lag_ms
                ),
            });
        }
        let difference = self.message_timestamp_difference_max_ms;
        if difference != i64::MAX {
            for (limit, default) in [
                (&mut self.message_timestamp_before_max_ms, i64::MAX),
                (&mut self.message_timestamp_after_max_ms, HOUR_MS),
            ] {
                if *limit == default {
                    *limit = difference;
                }
            }
        }
        Ok(self)
    }
}

/// Checks one override alone.
fn check_override(name: &str, text: &str) -> Result<(), ConfigError> {
    let Some(key) = topic_key(name) else {
        let nearest = nearest(name, topic_keys().map(|key| key.name)).map(str::to_string);
        return Err(ConfigError::UnknownTopicKey { key: name.to_string(), nearest });
    };
    match key.parse(text, &Origin::Request)? {
        Value::Bool(true) if name == "remote.storage.enable" => Err(ConfigError::Refused {
            key: name.to_string(),
            note: "there is no tiered storage, the topic's records stay on the broker".to_string(),
            origin: Origin::Request,
        }),
        _ => Ok(()),
    }
}

/// A topic's overrides over its broker's values.
struct Effective<'a> {
    layers: &'a Layers,
    overrides: &'a Overrides,
}

impl Lookup for Effective<'_> {
    fn lookup(&self, key: &Key) -> Result<Option<Value>, ConfigError> {
        if let Some(text) = self.overrides.get(key.name) {
            return key.parse(text, &Origin::Request).map(Some);
        }
        let Some((synonym, text)) = self.layers.first_set(key.synonyms) else { return Ok(None) };
        let broker_key = key.broker_keys().find(|broker_key| broker_key.name == synonym.name);
        let value = broker_key.unwrap_or(*key).parse(text, &Origin::Default)?;
        Ok(Some(match value {
            // Hours and minutes; what is negative is "unlimited" in any unit.
            Value::Int(units) if synonym.factor != 1 => {
                Value::Long((i64::from(units) * synonym.factor).max(-1))
            }
            Value::Long(number) if synonym.name == "log.retention.ms" => {
                Value::Long(number.max(-1))
            }
            value => value,
        }))
    }
}

#[cfg(test)]
mod tests;
