//! Which names a topic can have.

use std::fmt;

use crate::cluster::ClusterMetadata;

/// The longest name: with `-` and a partition it must be a directory's name.
pub const LENGTH_MAX: usize = 249;

/// The topic of committed offsets and groups.
pub const CONSUMER_OFFSETS: &str = "__consumer_offsets";
/// The topic of transactions.
pub const TRANSACTION_STATE: &str = "__transaction_state";

/// Why a name is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidName {
    /// There is none.
    Empty,
    /// It is `.` or `..`.
    Dots,
    /// It is longer than [`LENGTH_MAX`] characters.
    TooLong,
    /// It has another character than ASCII letters, digits, `.`, `_` and `-`.
    IllegalCharacter,
}

impl fmt::Display for InvalidName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the empty string is not allowed"),
            Self::Dots => f.write_str("'.' or '..' is not allowed"),
            Self::TooLong => {
                write!(f, "the length of the name is longer than the max allowed length {LENGTH_MAX}")
            }
            Self::IllegalCharacter => f.write_str(
                "it contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'",
            ),
        }
    }
}

impl std::error::Error for InvalidName {}

/// Whether `name` can be a topic's.
pub fn validate(name: &str) -> Result<(), InvalidName> {
    if name.is_empty() {
        return Err(InvalidName::Empty);
    }
    if matches!(name, "." | "..") {
        return Err(InvalidName::Dots);
    }
    if name.chars().count() > LENGTH_MAX {
        return Err(InvalidName::TooLong);
    }
    let is_legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if !name.bytes().all(is_legal) {
        return Err(InvalidName::IllegalCharacter);
    }
    Ok(())
}

/// Whether the topic is one that brokers write themselves.
#[must_use]
pub fn is_internal(name: &str) -> bool {
    matches!(name, CONSUMER_OFFSETS | TRANSACTION_STATE)
}

/// The topic, if any, whose name differs from `name` only in `.` and `_`: metric names have no
/// dots, so the metrics of both would be one.
#[must_use]
pub fn colliding<'a>(name: &str, cluster: &'a ClusterMetadata) -> Option<&'a str> {
    let is_same = |a: u8, b: u8| a == b || (is_either(a) && is_either(b));
    // What collides is equal up to the first of both characters.
    let prefix = &name[..name.bytes().position(is_either)?];
    cluster
        .topics_from(prefix)
        .map(|topic| &*topic.name)
        .take_while(|other| other.starts_with(prefix))
        .find(|other| {
            *other != name
                && other.len() == name.len()
                && other.bytes().zip(name.bytes()).all(|(a, b)| is_same(a, b))
        })
}

fn is_either(byte: u8) -> bool {
    matches!(byte, b'.' | b'_')
}
