//! One configuration key: everything Kafka's `ConfigDef` says about it.

use std::fmt;

use crate::{ConfigError, FieldValue, Origin, Value, split_list};

/// The type of a value. The discriminants are the codes of `DescribeConfigsResponse.ConfigType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum Type {
    /// `true` or `false`, in any case.
    Boolean = 1,
    /// Text.
    String = 2,
    /// 32 bits, signed.
    Int = 3,
    /// 16 bits, signed.
    Short = 4,
    /// 64 bits, signed.
    Long = 5,
    /// A finite floating point number.
    Double = 6,
    /// Items separated by commas.
    List = 7,
    /// The name of a Java class.
    Class = 8,
    /// A secret.
    Password = 9,
}

impl Type {
    /// The code on the wire (`DescribeConfigs`, `ConfigType`).
    pub fn code(self) -> i8 {
        self as i8
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Boolean => "BOOLEAN",
            Self::String => "STRING",
            Self::Int => "INT",
            Self::Short => "SHORT",
            Self::Long => "LONG",
            Self::Double => "DOUBLE",
            Self::List => "LIST",
            Self::Class => "CLASS",
            Self::Password => "PASSWORD",
        })
    }
}

/// When a value may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Update {
    /// Only by a restart of the broker.
    ReadOnly,
    /// At run time, for one broker or as the default of all.
    ClusterWide,
    /// At run time, for one broker only.
    PerBroker,
    /// At run time, for one topic.
    Topic,
}

impl Update {
    /// Whether `DescribeConfigs` calls the key read-only.
    pub fn read_only(self) -> bool {
        self == Self::ReadOnly
    }
}

impl fmt::Display for Update {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ReadOnly => "read-only",
            Self::ClusterWide => "cluster-wide",
            Self::PerBroker => "per broker",
            Self::Topic => "per topic",
        })
    }
}

/// The range of a value, beyond what its type allows.
#[derive(Clone, Copy, Debug)]
pub enum Check {
    /// Anything of the type.
    Any,
    /// A number from here on.
    AtLeast(i64),
    /// A number from the first to the second, both included.
    Between(i64, i64),
    /// A number from the first to the second, or exactly the third.
    BetweenOr(i64, i64, i64),
    /// Text or list that is not blank.
    NotEmpty,
    /// A number for which the function says true; the words finish "Value must be …".
    Rule(&'static str, fn(i64) -> bool),
}

impl Check {
    fn admits(self, value: &Value) -> bool {
        let number = value.number().unwrap_or(f64::NAN);
        match self {
            Self::Any => true,
            Self::AtLeast(min) => number >= min as f64,
            Self::Between(min, max) => (min as f64..=max as f64).contains(&number),
            Self::BetweenOr(min, max, or) => {
                (min as f64..=max as f64).contains(&number) || number == or as f64
            }
            Self::NotEmpty => match value {
                Value::Text(text) => !text.is_empty(),
                Value::List(items) => items.iter().any(|item| !item.is_empty()),
                _ => true,
            },
            Self::Rule(_, admits) => value.integer().is_some_and(admits),
        }
    }
}

/// The range in words: "at least 1". Empty for [`Check::Any`].
impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => Ok(()),
            Self::AtLeast(min) => write!(f, "at least {min}"),
            Self::Between(min, max) => write!(f, "at least {min} and no more than {max}"),
            Self::BetweenOr(min, max, or) => write!(f, "between {min} and {max} or equal to {or}"),
            Self::NotEmpty => f.write_str("non-empty"),
            Self::Rule(words, _) => f.write_str(words),
        }
    }
}

/// A broker key that gives the default of a topic key (`ServerTopicConfigSynonyms` of Kafka).
#[derive(Clone, Copy, Debug)]
pub struct BrokerSynonym {
    /// The broker key.
    pub name: &'static str,
    /// What one unit of the broker key is worth in the unit of the topic key.
    pub factor: i64,
    /// The default of the broker key, where the topic key has several synonyms.
    pub default: Option<&'static str>,
    /// The range of the broker key, where it is not the topic key's.
    pub check: Option<Check>,
    /// When the broker key may change.
    pub update: Update,
    /// What the broker key means, where it has another unit than the topic key.
    pub doc: Option<&'static str>,
}

impl BrokerSynonym {
    /// A broker key in the topic key's unit, to be changed cluster-wide.
    pub const fn new(name: &'static str) -> Self {
        Self { name, factor: 1, default: None, check: None, update: Update::ClusterWide, doc: None }
    }

    /// One unit of the broker key is `factor` of the topic key's; the broker key is an INT. `doc`
    /// names its unit.
    pub const fn factor(mut self, factor: i64, doc: &'static str) -> Self {
        self.factor = factor;
        self.doc = Some(doc);
        self
    }

    /// The broker key's own default.
    pub const fn default(mut self, text: &'static str) -> Self {
        self.default = Some(text);
        self
    }

    /// The broker key's own range.
    pub const fn check(mut self, check: Check) -> Self {
        self.check = Some(check);
        self
    }

    /// The broker key cannot be changed at run time.
    pub const fn read_only(mut self) -> Self {
        self.update = Update::ReadOnly;
        self
    }
}

/// A key, declared once. [`keys!`](crate::keys) adds type, allowed words and doc from the field.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Kafka's name.
    pub name: &'static str,
    /// The type.
    pub ty: Type,
    /// The text of the default; `None`: unset.
    pub default: Option<&'static str>,
    /// The range.
    pub check: Check,
    /// The words that a STRING or an item of a LIST must be one of; empty: anything.
    pub words: &'static [&'static str],
    /// When it may change.
    pub update: Update,
    /// What it does, with its unit.
    pub doc: &'static str,
    /// For a topic key: the broker keys that give its default; the first one that is set wins.
    /// For a broker key that is one of them: all of them.
    pub synonyms: &'static [BrokerSynonym],
    /// For a broker key that is the default of a topic key: that key.
    pub topic_key: Option<&'static str>,
}

impl Key {
    /// A key of a broker: a read-only string without default, until more is said.
    pub const fn broker(name: &'static str) -> Self {
        Self {
            name,
            ty: Type::String,
            default: None,
            check: Check::Any,
            words: &[],
            update: Update::ReadOnly,
            doc: "",
            synonyms: &[],
            topic_key: None,
        }
    }

    /// A key of a topic.
    pub const fn topic(name: &'static str) -> Self {
        let mut key = Self::broker(name);
        key.update = Update::Topic;
        key
    }

    /// The default, as one would write it in a file.
    pub const fn default(mut self, text: &'static str) -> Self {
        self.default = Some(text);
        self
    }

    /// The range.
    pub const fn check(mut self, check: Check) -> Self {
        self.check = check;
        self
    }

    /// When it may change.
    pub const fn update(mut self, update: Update) -> Self {
        self.update = update;
        self
    }

    /// The broker keys that give a topic key's default, in order of precedence.
    pub const fn synonyms(mut self, synonyms: &'static [BrokerSynonym]) -> Self {
        self.synonyms = synonyms;
        self
    }

    /// Type and words of the field that holds the value.
    pub const fn field<T: FieldValue>(mut self) -> Self {
        self.ty = T::TYPE;
        self.words = T::WORDS;
        self
    }

    /// What it does.
    pub const fn doc(mut self, doc: &'static str) -> Self {
        self.doc = doc;
        self
    }

    /// Whether its value must not be shown.
    pub fn sensitive(&self) -> bool {
        self.ty == Type::Password
    }

    /// The broker keys that follow from a topic key's synonyms.
    pub fn broker_keys(&self) -> impl Iterator<Item = Key> + '_ {
        let alone = self.synonyms.len() == 1;
        self.synonyms.iter().map(move |synonym| Key {
            name: synonym.name,
            ty: if synonym.factor == 1 { self.ty } else { Type::Int },
            default: if alone { self.default } else { synonym.default },
            check: synonym.check.unwrap_or(self.check),
            update: synonym.update,
            doc: synonym.doc.unwrap_or(self.doc),
            topic_key: Some(self.name),
            ..*self
        })
    }

    /// Reads and checks a value that stands at `origin`.
    pub fn parse(&self, text: &str, origin: &Origin) -> Result<Value, ConfigError> {
        self.parse_reason(text).map_err(|reason| ConfigError::BadValue {
            key: self.name.to_string(),
            value: if self.sensitive() { "[hidden]".into() } else { text.trim().into() },
            reason,
            origin: origin.clone(),
        })
    }

    fn parse_reason(&self, text: &str) -> Result<Value, String> {
        let value = Value::parse(self.ty, text)?;
        let is_word = |word: &String| self.words.contains(&word.as_str());
        let words_fit = self.words.is_empty()
            || match &value {
                Value::Text(text) => is_word(text),
                Value::List(items) => items.iter().all(is_word),
                _ => true,
            };
        if !words_fit {
            return Err(format!("String must be one of: {}", self.words.join(", ")));
        }
        if !self.check.admits(&value) {
            let what = if self.ty == Type::String { "String" } else { "Value" };
            return Err(format!("{what} must be {}", self.check));
        }
        Ok(value)
    }

    /// The value in the form in which Kafka prints it (`" 010 "` is `10`); `None` if it is bad.
    pub fn canonical(&self, text: &str) -> Option<String> {
        self.parse_reason(text).ok().map(|value| value.to_string())
    }

    /// `current` with the items of `added` that it has not yet (`IncrementalAlterConfigs` APPEND).
    pub fn append(&self, current: &str, added: &str) -> Result<String, ConfigError> {
        self.alter_list("append", current, added, |items, added| {
            let new: Vec<_> = added.into_iter().filter(|item| !items.contains(item)).collect();
            items.extend(new);
        })
    }

    /// `current` without the items of `removed` (`IncrementalAlterConfigs` SUBTRACT).
    pub fn subtract(&self, current: &str, removed: &str) -> Result<String, ConfigError> {
        self.alter_list("subtract", current, removed, |items, removed| {
            items.retain(|item| !removed.contains(item));
        })
    }

    fn alter_list(
        &self,
        verb: &str,
        current: &str,
        change: &str,
        apply: impl FnOnce(&mut Vec<String>, Vec<String>),
    ) -> Result<String, ConfigError> {
        if self.ty != Type::List {
            return Err(ConfigError::Conflict {
                reason: format!(
                    "Config value {verb} is not allowed for config key: {}, its type is {}, not LIST",
                    self.name, self.ty
                ),
            });
        }
        let mut items = split_list(current);
        apply(&mut items, split_list(change));
        Ok(items.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error_of(key: Key, text: &str) -> String {
        key.parse(text, &Origin::File { path: "s.properties".into(), line: 3 })
            .map_or_else(|error| error.to_string(), |value| format!("accepted {value}"))
    }

    #[test]
    fn errors_name_key_value_range_and_place() {
        let int = Key::broker("n").field::<i32>();
        let words = Key { words: &["gzip", "zstd"], ..Key::broker("codec") };
        let list =
            Key { words: &["delete", "compact"], ..Key::broker("policy").field::<Vec<String>>() };
        let odd = Check::Rule("odd", |n| n % 2 != 0);
        let cases = [
            (int, "x", "Invalid value x for configuration n: Not a number of type INT"),
            (
                int.check(Check::AtLeast(1)),
                "0",
                "Invalid value 0 for configuration n: Value must be at least 1",
            ),
            (
                Key::broker("ratio").field::<f64>().check(Check::Between(0, 1)),
                "1.01",
                "Invalid value 1.01 for configuration ratio: Value must be at least 0 and no more than 1",
            ),
            (
                int.check(Check::BetweenOr(1, 9, -1)),
                "-2",
                "Invalid value -2 for configuration n: Value must be between 1 and 9 or equal to -1",
            ),
            (int.check(odd), "2", "Invalid value 2 for configuration n: Value must be odd"),
            (
                words,
                "lz4",
                "Invalid value lz4 for configuration codec: String must be one of: gzip, zstd",
            ),
            (
                list,
                "delete,keep",
                "Invalid value delete,keep for configuration policy: String must be one of: delete, compact",
            ),
            (
                Key::broker("b").field::<bool>(),
                "yes",
                "Invalid value yes for configuration b: Expected value to be either true or false",
            ),
            (
                Key::broker("name").check(Check::NotEmpty),
                " ",
                "Invalid value  for configuration name: String must be non-empty",
            ),
        ];
        for (key, text, expected) in cases {
            assert_eq!(error_of(key, text), format!("{expected} (s.properties:3)"));
        }
        assert_eq!(error_of(int.check(Check::BetweenOr(1, 9, -1)), "-1"), "accepted -1");
        assert_eq!(error_of(list, ""), "accepted ");
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_parsed_without_panic_and_prints_as_it_is_read(text in "[-+.,0-9a-eE ]{0,24}") {
            for ty in [Type::Boolean, Type::Int, Type::Short, Type::Long, Type::Double, Type::List] {
                let key = Key { ty, ..Key::broker("k").check(Check::BetweenOr(0, i64::MAX, i64::MIN)) };
                if let Some(printed) = key.canonical(&text) {
                    proptest::prop_assert_eq!(key.canonical(&printed), Some(printed.clone()));
                }
            }
        }
    }

    #[test]
    fn a_bad_secret_is_not_shown() {
        let key = Key { words: &["a"], ..Key::broker("p") }.field::<crate::Password>();
        assert_eq!(
            error_of(key.check(Check::Rule("a number", |_| true)), "s3cret"),
            "Invalid value [hidden] for configuration p: Value must be a number (s.properties:3)"
        );
    }

    #[test]
    fn broker_keys_follow_from_a_topic_key() {
        const KEY: Key =
            Key::topic("retention.ms").default("604800000").field::<i64>().synonyms(&[
                BrokerSynonym::new("log.retention.ms").check(Check::AtLeast(-1)),
                BrokerSynonym::new("log.retention.hours")
                    .factor(3_600_000, "In hours.")
                    .default("168")
                    .read_only(),
            ]);
        let keys: Vec<_> = KEY
            .broker_keys()
            .map(|key| (key.name, key.ty, key.default, key.update, key.topic_key))
            .collect();
        let topic_key = Some("retention.ms");
        assert_eq!(
            keys,
            [
                ("log.retention.ms", Type::Long, None, Update::ClusterWide, topic_key),
                ("log.retention.hours", Type::Int, Some("168"), Update::ReadOnly, topic_key),
            ]
        );
    }

    #[test]
    fn lists_are_appended_to_and_subtracted_from() {
        let list = Key::topic("cleanup.policy").field::<Vec<String>>();
        assert_eq!(list.append("delete", "compact,delete").unwrap(), "delete,compact");
        assert_eq!(list.subtract("delete,compact", "delete,x").unwrap(), "compact");
        let error = Key::topic("segment.ms").field::<i64>().append("1", "2").unwrap_err();
        assert_eq!(
            error.to_string(),
            "Config value append is not allowed for config key: segment.ms, its type is LONG, not LIST"
        );
    }
}
