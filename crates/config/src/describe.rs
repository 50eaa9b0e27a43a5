//! What `DescribeConfigs` says of a key, and the difference of two configurations.

use std::collections::BTreeMap;
use std::fmt;

use crate::{BrokerSynonym, Key};

/// Where a value comes from. The discriminants are the codes of `DescribeConfigsResponse`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum Source {
    /// The topic's own override.
    Topic = 1,
    /// A dynamic value of this broker.
    DynamicBroker = 2,
    /// A dynamic value of all brokers.
    DynamicDefaultBroker = 3,
    /// What the broker was started with.
    StaticBroker = 4,
    /// The default.
    Default = 5,
}

impl Source {
    /// The code on the wire.
    pub fn code(self) -> i8 {
        self as i8
    }
}

/// Broker values by key, one map for each source, the strongest first.
#[derive(Clone, Default)]
pub struct Layers(Vec<(Source, BTreeMap<String, String>)>);

/// Names without values, which may be secret.
impl fmt::Debug for Layers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.0.iter().map(|(source, values)| (source, values.keys()));
        f.debug_map().entries(names).finish()
    }
}

impl Layers {
    /// What the broker was started with, and nothing else.
    pub fn of_static(values: BTreeMap<String, String>) -> Self {
        Self(vec![(Source::StaticBroker, values)])
    }

    /// Adds values that are stronger than all so far.
    pub fn with_stronger(mut self, source: Source, values: BTreeMap<String, String>) -> Self {
        self.0.insert(0, (source, values));
        self
    }

    /// The strongest value of a broker key.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find_map(|(_, values)| values.get(name)).map(String::as_str)
    }

    /// The value that gives a topic key its default: of the strongest source that sets a synonym,
    /// the first synonym that it sets.
    pub fn first_set(
        &self,
        synonyms: &'static [BrokerSynonym],
    ) -> Option<(&'static BrokerSynonym, &str)> {
        self.0.iter().find_map(|(_, values)| {
            synonyms.iter().find_map(|s| values.get(s.name).map(|text| (s, text.as_str())))
        })
    }

    /// Every value that `names` have here, strongest first, then their defaults, from the first
    /// that is of `names[0]` on: what Kafka lists as synonyms (`ConfigHelper.configSynonyms`).
    fn synonyms(
        &self,
        start: &'static str,
        names: &[(&'static str, Option<&str>)],
        sensitive: bool,
    ) -> Vec<Synonym> {
        let mut found = Vec::new();
        let mut add = |name, value: &str, source| {
            let value = (!sensitive).then(|| value.to_string());
            found.push(Synonym { name, value, source });
        };
        for (source, values) in &self.0 {
            for (name, _) in names {
                if let Some(value) = values.get(*name) {
                    add(name, value, *source);
                }
            }
        }
        for (name, default) in names {
            if let Some(default) = default {
                add(name, default, Source::Default);
            }
        }
        found.into_iter().skip_while(|synonym| synonym.name != start).collect()
    }
}

/// A value that a key has, or would have if a stronger one were not set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synonym {
    /// The key that holds it.
    pub name: &'static str,
    /// Its text; `None` for a secret.
    pub value: Option<String>,
    /// Where it comes from.
    pub source: Source,
}

/// One entry of a `DescribeConfigs` response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub name: &'static str,
    /// The value in force; `None` if unset or secret.
    pub value: Option<String>,
    /// Where it comes from.
    pub source: Source,
    /// Whether it can be changed only by a restart.
    pub read_only: bool,
    /// Whether it is a secret.
    pub sensitive: bool,
    /// All values, strongest first.
    pub synonyms: Vec<Synonym>,
    /// The type's code ([`Type::code`](crate::Type::code)).
    pub type_code: i8,
    /// What the key does.
    pub documentation: &'static str,
}

/// The names that may give a key its value, each with its default.
fn names(key: &Key) -> Vec<(&'static str, Option<&'static str>)> {
    match key.synonyms {
        [] if key.update == crate::Update::Topic => Vec::new(),
        [] => vec![(key.name, key.default)],
        [one] => vec![(one.name, key.default)],
        several => several.iter().map(|synonym| (synonym.name, synonym.default)).collect(),
    }
}

fn entry(key: &Key, value: Option<String>, synonyms: Vec<Synonym>) -> Entry {
    Entry {
        name: key.name,
        value: value.filter(|_| !key.sensitive()),
        source: synonyms.first().map_or(Source::Default, |synonym| synonym.source),
        read_only: key.update.read_only(),
        sensitive: key.sensitive(),
        synonyms,
        type_code: key.ty.code(),
        documentation: key.doc.trim_start(),
    }
}

/// Describes a key of a broker.
pub fn describe_broker(key: &Key, layers: &Layers) -> Entry {
    let value = layers.get(key.name).or(key.default).map(|text| canonical(key, text));
    entry(key, value, layers.synonyms(key.name, &names(key), key.sensitive()))
}

/// Describes a key of a topic: `value` is the one in force, `overridden` says that it is the
/// topic's own. As in Kafka a default that stems from another synonym than the first, such as
/// `log.retention.hours`, is listed nowhere and counts as the default.
pub fn describe_topic(key: &Key, value: &str, overridden: bool, layers: &Layers) -> Entry {
    let names = names(key);
    let value = canonical(key, value);
    let mut synonyms = match names.first() {
        Some((first, _)) => layers.synonyms(first, &names, key.sensitive()),
        None => Vec::new(),
    };
    if overridden {
        let own = (!key.sensitive()).then(|| value.clone());
        synonyms.insert(0, Synonym { name: key.name, value: own, source: Source::Topic });
    }
    entry(key, Some(value), synonyms)
}

fn canonical(key: &Key, text: &str) -> String {
    key.canonical(text).unwrap_or_else(|| text.to_string())
}

/// A key whose value differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key.
    pub key: String,
    /// The value before; `None` if it was not set.
    pub old: Option<String>,
    /// The value after; `None` if it is no longer set.
    pub new: Option<String>,
}

/// What changed from `old` to `new`, by key.
pub fn diff(old: &BTreeMap<String, String>, new: &BTreeMap<String, String>) -> Vec<Change> {
    let added = new.keys().filter(|key| !old.contains_key(*key));
    let mut keys: Vec<_> = old.keys().chain(added).collect();
    keys.sort_unstable();
    keys.into_iter()
        .filter(|key| old.get(*key) != new.get(*key))
        .map(|key| Change {
            key: key.clone(),
            old: old.get(key).cloned(),
            new: new.get(key).cloned(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Check;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
    }

    fn shown(entry: &Entry) -> String {
        let synonyms: Vec<_> = entry
            .synonyms
            .iter()
            .map(|s| format!("{:?}:{}={}", s.source, s.name, s.value.as_deref().unwrap_or("null")))
            .collect();
        let value = entry.value.as_deref().unwrap_or("null");
        format!("{}={value} {:?} {{{}}}", entry.name, entry.source, synonyms.join(", "))
    }

    const RETENTION: Key =
        Key::topic("retention.ms").default("604800000").field::<i64>().synonyms(&[
            BrokerSynonym::new("log.retention.ms"),
            BrokerSynonym::new("log.retention.hours").factor(3_600_000, "In hours.").default("168"),
        ]);
    const SEGMENT: Key = Key::topic("segment.bytes")
        .default("1073741824")
        .check(Check::AtLeast(14))
        .field::<i32>()
        .synonyms(&[BrokerSynonym::new("log.segment.bytes")]);

    #[test]
    fn a_topic_key_lists_what_kafka_lists() {
        let plain = Layers::default();
        let segment = describe_topic(&SEGMENT, "1073741824", false, &plain);
        assert_eq!(
            shown(&segment),
            "segment.bytes=1073741824 Default {Default:log.segment.bytes=1073741824}"
        );
        let set = Layers::of_static(map(&[("log.segment.bytes", "2048")]))
            .with_stronger(Source::DynamicBroker, map(&[("log.segment.bytes", "4096")]));
        assert_eq!(
            shown(&describe_topic(&SEGMENT, " 0100 ", true, &set)),
            "segment.bytes=100 Topic {Topic:segment.bytes=100, DynamicBroker:log.segment.bytes=4096, \
             StaticBroker:log.segment.bytes=2048, Default:log.segment.bytes=1073741824}"
        );
        let hours = Layers::of_static(map(&[("log.retention.hours", "1")]));
        assert_eq!(
            shown(&describe_topic(&RETENTION, "3600000", false, &hours)),
            "retention.ms=3600000 Default {}"
        );
        let both =
            Layers::of_static(map(&[("log.retention.hours", "1"), ("log.retention.ms", "5")]));
        assert_eq!(
            shown(&describe_topic(&RETENTION, "5", false, &both)),
            "retention.ms=5 StaticBroker {StaticBroker:log.retention.ms=5, \
             StaticBroker:log.retention.hours=1, Default:log.retention.hours=168}"
        );
    }

    #[test]
    fn a_broker_key_lists_its_sources_and_a_secret_none() {
        let layers = Layers::of_static(map(&[("n", "2"), ("secret", "x")]));
        let number = Key::broker("n").default("1").field::<i32>();
        assert_eq!(
            shown(&describe_broker(&number, &layers)),
            "n=2 StaticBroker {StaticBroker:n=2, Default:n=1}"
        );
        let secret = Key::broker("secret").field::<crate::Password>();
        let entry = describe_broker(&secret, &layers);
        assert_eq!(shown(&entry), "secret=null StaticBroker {StaticBroker:secret=null}");
        assert!(entry.sensitive && entry.read_only);
        let shown_layers = format!("{layers:?}");
        assert_eq!(shown_layers, r#"{StaticBroker: ["n", "secret"]}"#);
        let rack = Key::broker("broker.rack");
        assert_eq!(shown(&describe_broker(&rack, &layers)), "broker.rack=null Default {}");
    }

    #[test]
    fn the_strongest_source_gives_the_default_of_a_topic() {
        let layers = Layers::of_static(map(&[("log.retention.ms", "5")]))
            .with_stronger(Source::DynamicBroker, map(&[("log.retention.hours", "1")]));
        let (synonym, text) = layers.first_set(RETENTION.synonyms).unwrap();
        assert_eq!((synonym.name, text), ("log.retention.hours", "1"));
    }

    #[test]
    fn a_diff_says_what_was_added_changed_and_removed() {
        let changes = diff(
            &map(&[("a", "1"), ("b", "1"), ("c", "1")]),
            &map(&[("a", "1"), ("b", "2"), ("d", "1")]),
        );
        let shown: Vec<_> = changes
            .iter()
            .map(|c| format!("{} {:?} {:?}", c.key, c.old.as_deref(), c.new.as_deref()))
            .collect();
        assert_eq!(
            shown,
            [r#"b Some("1") Some("2")"#, r#"c Some("1") None"#, r#"d None Some("1")"#]
        );
    }
}
