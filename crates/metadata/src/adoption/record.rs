//! The records of KRaft's metadata log, as bytes.
//!
//! A record's value is a frame version, the record type and its version, each a varint, and then the
//! message. An unknown tagged field is passed over, as its writer allowed; an unknown type or
//! version is refused by name, for what it says cannot be known to be of no concern.

use std::fmt;

use ottla_protocol::messages::*;
use ottla_protocol::{Decode, DecodeError, DecodeErrorKind, Decoder, Message};

/// The one frame version that there is.
const FRAME_VERSION: u32 = 1;

/// The types in which brokers and controllers tell of themselves. Of a broker that is adopted little
/// of it counts, and it tells all of it anew. So a later version is read as the last one that is
/// known, as long as what it adds is tagged: Kafka 4.4 writes versions that 4.3 did not have.
const REGISTRATIONS: [u32; 3] = [0, 17, 27];

macro_rules! metadata_records {
    ($($record_type:literal $name:ident $message:ty,)*) => {
        /// A record of the metadata log.
        #[derive(Clone, Debug, PartialEq)]
        #[allow(missing_docs, reason = "each has the name and the text of its message")]
        pub enum MetadataRecord<'a> {
            $($name($message),)*
        }

        impl<'a> MetadataRecord<'a> {
            fn of(record_type: u32, d: &mut Decoder<'a>, version: i16) -> Result<Self, RecordError> {
                match record_type {
                    $($record_type => {
                        let range = <$message>::VERSIONS;
                        let version = match REGISTRATIONS.contains(&record_type) {
                            true => version.min(range.max),
                            false => version,
                        };
                        if !range.contains(version) {
                            let (name, known) = (<$message>::NAME, (range.min, range.max));
                            return Err(RecordError::UnknownVersion { name, version, known });
                        }
                        let record = <$message>::decode(d, version);
                        Ok(Self::$name(record.map_err(RecordError::Damaged)?))
                    })*
                    record_type => Err(RecordError::UnknownType { record_type, version }),
                }
            }
        }
    };
}

metadata_records! {
    0 RegisterBroker RegisterBrokerRecord<'a>,
    1 UnregisterBroker UnregisterBrokerRecord,
    2 Topic TopicRecord<'a>,
    3 Partition PartitionRecord,
    4 Config ConfigRecord<'a>,
    5 PartitionChange PartitionChangeRecord,
    7 FenceBroker FenceBrokerRecord,
    8 UnfenceBroker UnfenceBrokerRecord,
    9 RemoveTopic RemoveTopicRecord,
    10 DelegationToken DelegationTokenRecord<'a>,
    11 UserScramCredential UserScramCredentialRecord<'a>,
    12 FeatureLevel FeatureLevelRecord<'a>,
    14 ClientQuota ClientQuotaRecord<'a>,
    15 ProducerIds ProducerIdsRecord,
    17 BrokerRegistrationChange BrokerRegistrationChangeRecord,
    18 AccessControlEntry AccessControlEntryRecord<'a>,
    19 RemoveAccessControlEntry RemoveAccessControlEntryRecord,
    20 NoOp NoOpRecord,
    21 ZkMigrationState ZkMigrationStateRecord,
    22 RemoveUserScramCredential RemoveUserScramCredentialRecord<'a>,
    23 BeginTransaction BeginTransactionRecord<'a>,
    24 EndTransaction EndTransactionRecord,
    25 AbortTransaction AbortTransactionRecord<'a>,
    26 RemoveDelegationToken RemoveDelegationTokenRecord<'a>,
    27 RegisterController RegisterControllerRecord<'a>,
    28 ClearElr ClearElrRecord<'a>,
}

impl<'a> MetadataRecord<'a> {
    /// Reads a record's value.
    ///
    /// # Errors
    /// It is no record of the metadata log, or one that a later Kafka brought.
    pub fn decode(value: &'a [u8]) -> Result<Self, RecordError> {
        let mut d = Decoder::new(value);
        let mut varint = |field| d.uvarint(field).map_err(RecordError::Damaged);
        let frame = varint("frame version")?;
        if frame != FRAME_VERSION {
            return Err(RecordError::UnknownFrame { frame });
        }
        let record_type = varint("record type")?;
        let version = varint("record version")?;
        let version = i16::try_from(version).map_err(|_| {
            let (field, kind) = ("record version", DecodeErrorKind::InvalidVarint);
            RecordError::Damaged(DecodeError { field, kind })
        })?;
        let record = Self::of(record_type, &mut d, version)?;
        d.finish().map_err(RecordError::Damaged)?;
        Ok(record)
    }
}

/// Why a record of the metadata log cannot be replayed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordError {
    /// It has no value.
    Empty,
    /// Its frame is of a version that is not known.
    UnknownFrame {
        /// The version.
        frame: u32,
    },
    /// It is of a type that is not known.
    UnknownType {
        /// The type.
        record_type: u32,
        /// The version of that type.
        version: i16,
    },
    /// It is of a version that is not known.
    UnknownVersion {
        /// Kafka's name of the type.
        name: &'static str,
        /// The version.
        version: i16,
        /// The first and the last version that are known.
        known: (i16, i16),
    },
    /// It is not the record that it claims to be.
    Damaged(DecodeError),
    /// It speaks of something that no record before it made.
    Contradiction(String),
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LATER: &str = "a later Kafka wrote it than this Ottla knows";
        match self {
            Self::Empty => f.write_str("the record has no value"),
            Self::UnknownFrame { frame } => write!(f, "unknown frame version {frame}: {LATER}"),
            Self::UnknownType { record_type, version } => {
                write!(f, "unknown record type {record_type} (version {version}): {LATER}")
            }
            Self::UnknownVersion { name, version, known: (min, max) } => {
                write!(f, "{name} of version {version}, and {min} to {max} are known: {LATER}")
            }
            Self::Damaged(error) => error.fmt(f),
            Self::Contradiction(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for RecordError {}
