//! Where a value stands, and what can be wrong with a configuration.

use std::fmt;
use std::sync::Arc;

/// Where a value was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nowhere: it is the default.
    Default,
    /// In a `.properties` file.
    File {
        /// The file, as the user named it.
        path: Arc<str>,
        /// The line on which the property starts, from 1.
        line: usize,
    },
    /// In an environment variable of this name.
    Environment(String),
    /// On the command line.
    CommandLine,
    /// In a request of a client, or stored by an earlier one.
    Request,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{path}:{line}"),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::CommandLine => f.write_str("command line"),
            Self::Request => f.write_str("request"),
        }
    }
}

/// Ends a message with the place, unless the reader knows it already.
fn write_place(f: &mut fmt::Formatter<'_>, origin: &Origin) -> fmt::Result {
    match origin {
        Origin::Default | Origin::Request => Ok(()),
        place => write!(f, " ({place})"),
    }
}

fn write_nearest(f: &mut fmt::Formatter<'_>, nearest: &Option<String>) -> fmt::Result {
    match nearest {
        Some(name) => write!(f, ", did you mean {name}?"),
        None => Ok(()),
    }
}

/// Why a configuration cannot be used. The text is for the person who wrote the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigError {
    /// A value of the wrong type or out of range.
    BadValue {
        /// The key.
        key: String,
        /// The value as given; `[hidden]` for a secret.
        value: String,
        /// What the value must be.
        reason: String,
        /// Where it stands.
        origin: Origin,
    },
    /// A key without default is not set.
    Missing {
        /// The key.
        key: String,
    },
    /// A topic key that does not exist.
    UnknownTopicKey {
        /// The key.
        key: String,
        /// The existing key that looks most like it.
        nearest: Option<String>,
    },
    /// A key of Kafka that must not be ignored and that Ottla does not serve.
    Refused {
        /// The key.
        key: String,
        /// What to do instead.
        note: String,
        /// Where it stands.
        origin: Origin,
    },
    /// Values that are fine alone and not together.
    Conflict {
        /// Which, and why.
        reason: String,
    },
    /// Text that cannot be read.
    Malformed {
        /// What is wrong with it.
        reason: String,
        /// Where it stands.
        origin: Origin,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadValue { key, value, reason, origin } => {
                write!(f, "Invalid value {value} for configuration {key}: {reason}")?;
                write_place(f, origin)
            }
            Self::Missing { key } => {
                write!(f, "Missing required configuration {key} which has no default value")
            }
            Self::UnknownTopicKey { key, nearest } => {
                write!(f, "Unknown topic config name: {key}")?;
                write_nearest(f, nearest)
            }
            Self::Refused { key, note, origin } => {
                write!(f, "{key} cannot be used: {note}")?;
                write_place(f, origin)
            }
            Self::Conflict { reason } => f.write_str(reason),
            Self::Malformed { reason, origin } => {
                f.write_str(reason)?;
                write_place(f, origin)
            }
        }
    }
}

impl std::error::Error for ConfigError {}

/// What a user should know about a configuration that can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Warning {
    /// A key that neither Ottla nor Kafka knows: probably a typing error.
    Unknown {
        /// The key.
        key: String,
        /// The existing key that looks most like it.
        nearest: Option<String>,
        /// Where it stands.
        origin: Origin,
    },
    /// A property that stands twice in one file; the last one counts.
    Duplicate {
        /// The key.
        key: String,
        /// The line that does not count.
        earlier: usize,
        /// The line that counts.
        origin: Origin,
    },
    /// A key of Kafka that has no effect on Ottla.
    NoEffect {
        /// The key.
        key: String,
        /// What Ottla does instead.
        note: String,
        /// Where it stands.
        origin: Origin,
    },
    /// A value that will not do what one would think.
    Advice {
        /// Which, and why.
        reason: String,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { key, nearest, origin } => {
                write!(f, "unknown configuration {key}")?;
                write_nearest(f, nearest)?;
                write_place(f, origin)
            }
            Self::Duplicate { key, earlier, origin } => {
                write!(f, "{key} is set twice, the value of line {earlier} does not count")?;
                write_place(f, origin)
            }
            Self::NoEffect { key, note, origin } => {
                write!(f, "{key} has no effect: {note}")?;
                write_place(f, origin)
            }
            Self::Advice { reason } => f.write_str(reason),
        }
    }
}
