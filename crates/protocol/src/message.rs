//! What messages have in common.

use crate::{ApiKey, DecodeError, Decoder, EncodeError, Encoder, IntoOwned};

/// The versions in which something exists, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VersionRange {
    /// The oldest.
    pub min: i16,
    /// The newest.
    pub max: i16,
}

impl VersionRange {
    /// Whether `version` is one of them.
    #[inline]
    #[must_use]
    pub fn contains(self, version: i16) -> bool {
        self.min <= version && version <= self.max
    }
}

/// Reading a message or a struct of one. A struct trusts its message to have checked the version.
pub trait Decode<'a>: Sized {
    /// Reads the value in `version`, borrowing from the decoder's frame. Fields that the version
    /// does not have get their defaults; unknown tagged fields are skipped.
    ///
    /// # Errors
    /// The bytes are not this message, or it does not exist in this version.
    fn decode(d: &mut Decoder<'a>, version: i16) -> Result<Self, DecodeError>;
}

/// Writing a message or a struct of one.
pub trait Encode {
    /// Writes the value in `version`.
    ///
    /// # Errors
    /// A value has no place in this version, or is too long. What was written so far is useless.
    fn encode(&self, e: &mut Encoder, version: i16) -> Result<(), EncodeError>;
}

/// A message with a schema of its own.
pub trait Message: Encode {
    /// The schema's name, such as `ProduceRequest`.
    const NAME: &'static str;
    /// The versions that can be read and written.
    const VERSIONS: VersionRange;
    /// The first version with compact lengths and tagged fields.
    const FLEXIBLE_FROM: Option<i16>;
}

/// A request, linked to its api and its response.
pub trait Request<'a>: Message + Decode<'a> {
    /// The api that it calls.
    const API_KEY: ApiKey;
    /// What answers it.
    type Response<'r>: Message + Decode<'r> + IntoOwned<Owned = Self::Response<'static>>;
}

/// Who keeps its state as records in a topic of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coordinator {
    /// Groups and offsets, in `__consumer_offsets`.
    Group,
    /// Transactions, in `__transaction_state`.
    Transaction,
    /// Share groups' positions, in `__share_group_state`.
    Share,
}

/// The key of a record that a coordinator writes to its topic.
pub trait RecordKey: Message {
    /// Whose record it is; each has its own numbers of record types.
    const COORDINATOR: Coordinator;
    /// The number that precedes the key in its record and tells what it is.
    const RECORD_TYPE: i16;
}
