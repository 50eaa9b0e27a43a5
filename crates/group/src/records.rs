//! The records of `__consumer_offsets` that concern groups of the classic protocol.
//!
//! Key types 0 and 1 are committed offsets, 2 is group metadata; all others belong to protocols
//! that this coordinator does not speak, and are skipped.

use ottla_protocol::messages::{
    GroupMetadataKey, GroupMetadataValue, OffsetCommitKey, OffsetCommitValue,
};
use ottla_protocol::{
    Decode, DecodeError, Decoder, EncodeError, Message, decode_versioned, encode_key,
    encode_versioned,
};

pub(crate) use ottla_protocol::messages::GroupMetadataValue as GroupMetadata;
pub(crate) use ottla_protocol::messages::group_metadata_value::MemberMetadata;

/// The newest versions that Kafka 3.9 writes and therefore reads.
const OFFSET_COMMIT_VALUE_VERSION: i16 = 3;
/// The one version that carries an expiry of its own.
const OFFSET_COMMIT_VALUE_VERSION_WITH_EXPIRY: i16 = 1;
const GROUP_METADATA_VALUE_VERSION: i16 = 3;

/// A record to be appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Record type and key.
    pub key: Vec<u8>,
    /// Version and value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
}

/// Upper bounds of what a batch adds to keys and values: its header, and per record the attributes
/// and varints for its length, its timestamp, its offset, key, value and headers.
const BATCH_OVERHEAD_BYTES: usize = 61;
const RECORD_OVERHEAD_BYTES: usize = 36;

impl Record {
    /// No fewer bytes than the record takes in an uncompressed batch.
    fn bytes_bound(&self) -> usize {
        RECORD_OVERHEAD_BYTES + self.key.len() + self.value.as_ref().map_or(0, Vec::len)
    }

    /// Whether a batch of this record alone is within the limit.
    pub(crate) fn fits_in(&self, batch_bytes_max: usize) -> bool {
        fit_in(std::slice::from_ref(self), batch_bytes_max)
    }
}

/// As many of the records, from the first on, as one batch within the limit holds.
pub(crate) fn take_fitting(
    records: impl Iterator<Item = Record>,
    batch_bytes_max: usize,
) -> Vec<Record> {
    let mut bytes = BATCH_OVERHEAD_BYTES;
    let fits = |record: &Record| {
        bytes += record.bytes_bound();
        bytes <= batch_bytes_max
    };
    records.take_while(fits).collect()
}

/// Whether one batch of the records is within the limit.
pub(crate) fn fit_in(records: &[Record], batch_bytes_max: usize) -> bool {
    let bytes: usize = records.iter().map(Record::bytes_bound).sum();
    BATCH_OVERHEAD_BYTES + bytes <= batch_bytes_max
}

pub(crate) fn offset_commit(
    group: &str,
    topic: &str,
    partition: i32,
    value: &OffsetCommitValue<'_>,
) -> Record {
    let version = if value.expire_timestamp < 0 {
        OFFSET_COMMIT_VALUE_VERSION
    } else {
        OFFSET_COMMIT_VALUE_VERSION_WITH_EXPIRY
    };
    let key = offset_key(group, topic, partition);
    Record { key, value: Some(encode_value(value, version)) }
}

pub(crate) fn offset_tombstone(group: &str, topic: &str, partition: i32) -> Record {
    Record { key: offset_key(group, topic, partition), value: None }
}

pub(crate) fn group_metadata(group: &str, value: &GroupMetadataValue<'_>) -> Record {
    let value = encode_value(value, GROUP_METADATA_VALUE_VERSION);
    Record { key: group_key(group), value: Some(value) }
}

pub(crate) fn group_tombstone(group: &str) -> Record {
    Record { key: group_key(group), value: None }
}

fn offset_key(group: &str, topic: &str, partition: i32) -> Vec<u8> {
    fits(encode_key(&OffsetCommitKey { group: group.into(), topic: topic.into(), partition }))
}

fn group_key(group: &str) -> Vec<u8> {
    fits(encode_key(&GroupMetadataKey { group: group.into() }))
}

fn encode_value(value: &impl Message, version: i16) -> Vec<u8> {
    fits(encode_versioned(value, version))
}

/// All that is written came out of requests and records, whose strings are no longer than those of
/// a record; the ids that are made here are checked when they are made.
fn fits(encoded: Result<Vec<u8>, EncodeError>) -> Vec<u8> {
    encoded.expect("what came in a request or a record fits in a record")
}

/// What the key of a record is about.
#[derive(Debug)]
pub(crate) enum Key<'a> {
    Offset(OffsetCommitKey<'a>),
    Group(GroupMetadataKey<'a>),
    /// A type that is not ours.
    Other,
}

pub(crate) fn decode_key(bytes: &[u8]) -> Result<Key<'_>, DecodeError> {
    let mut d = Decoder::new(bytes);
    Ok(match d.i16("key type")? {
        0 | 1 => Key::Offset(OffsetCommitKey::decode(&mut d, 0)?),
        2 => Key::Group(GroupMetadataKey::decode(&mut d, 0)?),
        _ => Key::Other,
    })
}

pub(crate) fn decode_value<'a, T: Decode<'a>>(bytes: &'a [u8]) -> Result<T, DecodeError> {
    decode_versioned(bytes).map(|(_, value)| value)
}
