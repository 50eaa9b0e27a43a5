//! [`keys!`](crate::keys): a struct with one typed field per key, and its table of [`Key`]s;
//! [`words!`](crate::words): an enum that is spelled as one of a set of words.

use crate::{ConfigError, FieldValue, Key, Value};

/// Where [`keys!`](crate::keys) structs take their values from.
pub trait Lookup {
    /// The checked value that was given for `key`; `None` if none was.
    fn lookup(&self, key: &Key) -> Result<Option<Value>, ConfigError>;
}

/// Reads one field: the value given, else the key's default, else the type's `absent`. An error
/// goes to `errors`. Called by the code of [`keys!`](crate::keys).
pub fn read_field<T: FieldValue>(
    key: &Key,
    from: &dyn Lookup,
    errors: &mut Vec<ConfigError>,
) -> Option<T> {
    let default = || key.default.map(|text| key.parse(text, &crate::Origin::Default)).transpose();
    let field = match from.lookup(key).and_then(|value| value.map_or_else(default, |v| Ok(Some(v))))
    {
        Ok(Some(value)) => T::from_value(value),
        Ok(None) => T::absent(),
        Err(error) => {
            errors.push(error);
            return None;
        }
    };
    if field.is_none() {
        errors.push(ConfigError::Missing { key: key.name.to_string() });
    }
    field
}

/// Declares a struct whose fields are configuration keys. The type of the field is the type of the
/// key, the doc comment of the field is the doc of the key.
///
/// `Struct::KEYS` is the table, `Struct::read` fills the struct from a [`Lookup`] and returns all
/// errors at once. [`Key`], [`Check`](crate::Check), [`Update`](crate::Update) and
/// [`BrokerSynonym`](crate::BrokerSynonym) need no import inside. Example: see the crate's page.
#[macro_export]
macro_rules! keys {
    (
        $(#[$meta:meta])*
        $vis:vis struct $name:ident {
            $( $(#[doc = $doc:literal])+ $field:ident : $ty:ty = $key:expr; )+
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        $vis struct $name {
            $( $(#[doc = $doc])+ $vis $field: $ty, )+
        }

        impl $name {
            /// The keys, in the order of the fields.
            $vis const KEYS: &'static [$crate::Key] = {
                #[allow(unused_imports, reason = "not every table of keys needs all of them")]
                use $crate::{BrokerSynonym, Check, Key, Update};
                &[ $( $key.field::<$ty>().doc(concat!($($doc),+)), )+ ]
            };

            /// Reads every key; all errors at once.
            $vis fn read(
                from: &dyn $crate::Lookup,
            ) -> ::std::result::Result<Self, ::std::vec::Vec<$crate::ConfigError>> {
                let mut errors = ::std::vec::Vec::new();
                let mut keys = Self::KEYS.iter();
                $( let $field = keys
                    .next()
                    .and_then(|key| $crate::read_field::<$ty>(key, from, &mut errors)); )+
                match ($($field,)+) {
                    ($(::std::option::Option::Some($field),)+) => {
                        ::std::result::Result::Ok(Self { $($field),+ })
                    }
                    _ => ::std::result::Result::Err(errors),
                }
            }
        }
    };
}

/// Declares an enum whose values are words in a configuration, and makes it a
/// [`FieldValue`](crate::FieldValue). Words are compared exactly, as Kafka does.
///
/// ```
/// ottla_config::words! {
///     /// When the clock of the broker counts.
///     pub enum TimestampType {
///         /// The producer's.
///         CreateTime = "CreateTime",
///         /// The broker's.
///         LogAppendTime = "LogAppendTime",
///     }
/// }
/// assert_eq!(TimestampType::LogAppendTime.word(), "LogAppendTime");
/// ```
#[macro_export]
macro_rules! words {
    (
        $(#[$meta:meta])*
        $vis:vis enum $name:ident {
            $( $(#[$variant_meta:meta])+ $variant:ident = $word:literal, )+
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        $vis enum $name {
            $( $(#[$variant_meta])+ $variant, )+
        }

        impl $name {
            /// The word of the configuration.
            $vis fn word(self) -> &'static str {
                match self { $( Self::$variant => $word, )+ }
            }

            /// The value that is spelled `word`.
            $vis fn from_word(word: &str) -> ::std::option::Option<Self> {
                match word {
                    $( $word => ::std::option::Option::Some(Self::$variant), )+
                    _ => ::std::option::Option::None,
                }
            }
        }

        impl $crate::FieldValue for $name {
            const TYPE: $crate::Type = $crate::Type::String;
            const WORDS: &'static [&'static str] = &[ $( $word, )+ ];

            fn from_value(value: $crate::Value) -> ::std::option::Option<Self> {
                match value {
                    $crate::Value::Text(word) => Self::from_word(&word),
                    _ => ::std::option::Option::None,
                }
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use crate::{ConfigError, Key, Lookup, Origin, Type, Value};

    crate::words! {
        /// Colours.
        pub(crate) enum Colour {
            /// Red.
            Red = "red",
            /// Green.
            Green = "green",
        }
    }

    crate::keys! {
        /// A sample of every kind of field.
        pub(crate) struct Sample {
            /// First line,
            /// second line.
            count: i32 = Key::broker("count").default("1").check(Check::AtLeast(1));
            /// May be unset.
            rack: Option<String> = Key::broker("rack");
            /// Must be set.
            colour: Colour = Key::broker("colour").update(Update::ClusterWide);
            /// A list.
            dirs: Vec<String> = Key::broker("dirs").default("a, b");
        }
    }

    struct Map(BTreeMap<&'static str, &'static str>);

    impl Lookup for Map {
        fn lookup(&self, key: &Key) -> Result<Option<Value>, ConfigError> {
            self.0.get(key.name).map(|text| key.parse(text, &Origin::Request)).transpose()
        }
    }

    #[test]
    fn a_struct_is_filled_from_values_and_defaults() {
        let sample = Sample::read(&Map(BTreeMap::from([("colour", "green")]))).unwrap();
        let dirs = vec!["a".to_string(), "b".to_string()];
        assert_eq!(sample, Sample { count: 1, rack: None, colour: Colour::Green, dirs });
        assert_eq!(Colour::Red.word(), "red");
    }

    #[test]
    fn all_errors_come_at_once() {
        let errors =
            Sample::read(&Map(BTreeMap::from([("count", "0"), ("dirs", "")]))).unwrap_err();
        let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(
            errors,
            [
                "Invalid value 0 for configuration count: Value must be at least 1",
                "Missing required configuration colour which has no default value",
            ]
        );
    }

    #[test]
    fn the_table_says_what_the_struct_says() {
        let [count, _, colour, _] = Sample::KEYS else { panic!("four keys") };
        assert_eq!((count.ty, count.doc), (Type::Int, " First line, second line."));
        assert_eq!((colour.ty, colour.words), (Type::String, &["red", "green"][..]));
    }
}
