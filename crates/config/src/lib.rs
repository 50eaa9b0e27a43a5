//! Configuration keys in Kafka's names and rules.
//!
//! Owns: declaring a key once (name, type, default, range, update mode, doc, broker synonyms) and
//! everything that follows from the declaration: parsing and validation, `DescribeConfigs` data,
//! diff, the reference table; reading `.properties` text and `OTTLA_*` environment variables, with
//! the origin of every value. Must not know: who uses a key, files, the process's environment.
//!
//! ```
//! ottla_config::keys! {
//!     /// What the greeter needs.
//!     pub struct Greeter {
//!         /// How many times it says hello.
//!         greetings: i32 = Key::broker("greeter.greetings").default("2").check(Check::AtLeast(1));
//!     }
//! }
//! use ottla_config::Sources;
//!
//! let settings = Sources::new()
//!     .properties("greeter.properties", "greeter.greetings = 0")
//!     .environment([("OTTLA_GREETER_GREETINGS".to_string(), "3".to_string())])
//!     .merge(Greeter::KEYS.iter().map(|key| key.name));
//! assert_eq!(Greeter::read(&settings).unwrap().greetings, 3);
//! ```

mod declare;
mod describe;
mod error;
mod key;
mod nearest;
mod properties;
mod reference;
mod sources;
mod unserved;
mod value;

pub use declare::{Lookup, read_field};
pub use describe::{Change, Entry, Layers, Source, Synonym, describe_broker, describe_topic, diff};
pub use error::{ConfigError, Origin, Warning};
pub use key::{BrokerSynonym, Check, Key, Type, Update};
pub use nearest::nearest;
pub use properties::{Properties, Property};
pub use reference::reference;
pub use sources::{Setting, Settings, Sources, environment_name};
pub use unserved::{Unserved, Verdict};
pub use value::{FieldValue, Password, Value, split_list};
