//! Reading of magic 0 and 1, the message sets from before Kafka 0.11.
//!
//! Owns: their layout, their compressed wrappers and what those did to offsets. Nothing here
//! writes: an append is always magic 2. Must not know: conversion for old clients.
//!
//! ```text
//! 0 offset i64   8 size i32   12 crc u32   16 magic i8   17 attributes i8   18 timestamp i64 (magic 1)
//! then key and value, each behind an i32 length of which −1 is null
//! ```

use std::fmt;

use crate::batch::{LOG_OVERHEAD, MIN_MESSAGE_BYTES};
use crate::{
    BatchError, Codec, CrcMismatch, DecompressError, Offset, Timestamp, TimestampType, crc32,
    decompress,
};

const TIMESTAMP_BYTES: usize = 8;
const LOG_APPEND_TIME: u8 = 1 << 3;

/// A message of the log: a record, or a wrapper whose value holds a compressed message set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LegacyEntry<'a> {
    bytes: &'a [u8],
    /// The offset; of a wrapper that of the last message in it.
    pub offset: Offset,
    /// 0 or 1.
    pub magic: i8,
    attributes: u8,
    /// The timestamp; magic 0 has none.
    pub timestamp: Timestamp,
    /// `None` is null.
    pub key: Option<&'a [u8]>,
    /// `None` is null.
    pub value: Option<&'a [u8]>,
}

/// A record of a message set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LegacyRecord<'a> {
    /// The offset in the log.
    pub offset: Offset,
    /// The timestamp; magic 0 has none.
    pub timestamp: Timestamp,
    /// `None` is null.
    pub key: Option<&'a [u8]>,
    /// `None` is null.
    pub value: Option<&'a [u8]>,
}

impl<'a> LegacyEntry<'a> {
    /// Splits the entry off the front of `bytes`, and returns it with the bytes behind it. The
    /// checksum is not looked at.
    ///
    /// # Errors
    /// See [`LegacyError`].
    pub fn parse(bytes: &'a [u8]) -> Result<(Self, &'a [u8]), LegacyError> {
        let truncated = |needed| BatchError::Truncated { needed, got: bytes.len() };
        let prefix = bytes.first_chunk::<18>().ok_or(truncated(18))?;
        let [o0, o1, o2, o3, o4, o5, o6, o7, s0, s1, s2, s3, .., magic, attributes] = *prefix;
        let size = i32::from_be_bytes([s0, s1, s2, s3]);
        let magic = magic as i8;
        let min = match magic {
            0 => MIN_MESSAGE_BYTES,
            1 => MIN_MESSAGE_BYTES + TIMESTAMP_BYTES,
            got => return Err(BatchError::Magic { got }.into()),
        };
        if size < min as i32 {
            return Err(BatchError::Length { got: size, min }.into());
        }
        let needed = LOG_OVERHEAD + size.unsigned_abs() as usize;
        let (entry, rest) = bytes.split_at_checked(needed).ok_or(truncated(needed))?;

        let mut fields = &entry[prefix.len()..];
        let timestamp = match magic {
            0 => Timestamp::NONE,
            _ => Timestamp(i64::from_be_bytes(take(&mut fields)?)),
        };
        let key = take_nullable(&mut fields)?;
        let value = take_nullable(&mut fields)?;
        if !fields.is_empty() {
            return Err(LegacyError::Fields);
        }
        let offset = Offset(i64::from_be_bytes([o0, o1, o2, o3, o4, o5, o6, o7]));
        Ok((Self { bytes: entry, offset, magic, attributes, timestamp, key, value }, rest))
    }

    /// Bytes of the entry, offset and size included.
    #[must_use]
    pub fn size_in_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The number of the codec: 0–7, of which 0–3 are known.
    #[must_use]
    pub fn codec_id(&self) -> u8 {
        self.attributes & 0b111
    }

    /// Whose clock the timestamp is from; magic 0 has none, so that it does not matter.
    #[must_use]
    pub fn timestamp_type(&self) -> TimestampType {
        if self.attributes & LOG_APPEND_TIME == 0 {
            TimestampType::CreateTime
        } else {
            TimestampType::LogAppendTime
        }
    }

    /// Compares the checksum with the bytes.
    ///
    /// # Errors
    /// They disagree.
    pub fn verify_crc(&self) -> Result<(), CrcMismatch> {
        let (covered, claimed) = (&self.bytes[16..], &self.bytes[12..16]);
        let claimed = claimed.iter().fold(0, |crc, &byte| crc << 8 | u32::from(byte));
        let computed = crc32(covered);
        if claimed == computed { Ok(()) } else { Err(CrcMismatch { claimed, computed }) }
    }

    /// Calls `visit` with each record of the entry: itself, or those that it wraps, of which at
    /// most `limit` bytes are unpacked. Their checksums are verified, this entry's is not.
    ///
    /// # Errors
    /// See [`LegacyError`]. `visit` has then seen the records before the fault.
    pub fn visit_records(
        &self,
        limit: usize,
        mut visit: impl FnMut(&LegacyRecord<'_>),
    ) -> Result<(), LegacyError> {
        let codec = match Codec::from_id(self.codec_id()) {
            Some(Codec::None) => {
                let Self { offset, timestamp, key, value, .. } = *self;
                visit(&LegacyRecord { offset, timestamp, key, value });
                return Ok(());
            }
            // Zstd came with magic 2.
            Some(codec @ (Codec::Gzip | Codec::Snappy | Codec::Lz4)) => codec,
            Some(Codec::Zstd) | None => {
                return Err(LegacyError::UnknownCodec { id: self.codec_id() });
            }
        };
        let packed = self.value.ok_or(LegacyError::Fields)?;
        let mut set = Vec::new();
        if codec == Codec::Lz4 {
            decompress(codec, &with_right_lz4_checksum(packed), limit, &mut set)?;
        } else {
            decompress(codec, packed, limit, &mut set)?;
        }

        // Of magic 1 the inner offsets are relative, and the wrapper tells the last one.
        let base =
            if self.magic == 1 { self.offset.0.wrapping_sub(last_offset(&set)?.0) } else { 0 };
        let mut rest = &set[..];
        while !rest.is_empty() {
            let (inner, behind) = LegacyEntry::parse_inner(rest)?;
            rest = behind;
            let timestamp = match self.timestamp_type() {
                TimestampType::LogAppendTime if self.magic == 1 => self.timestamp,
                _ => inner.timestamp,
            };
            let offset = Offset(inner.offset.0.wrapping_add(base));
            visit(&LegacyRecord { offset, timestamp, key: inner.key, value: inner.value });
        }
        Ok(())
    }

    fn parse_inner(bytes: &'a [u8]) -> Result<(Self, &'a [u8]), LegacyError> {
        let (inner, rest) = Self::parse(bytes)?;
        inner.verify_crc().map_err(LegacyError::Crc)?;
        if inner.codec_id() != 0 {
            return Err(LegacyError::Nested);
        }
        Ok((inner, rest))
    }
}

/// The offset of the last message of a set that is not empty.
fn last_offset(set: &[u8]) -> Result<Offset, LegacyError> {
    let mut rest = set;
    loop {
        let (inner, behind) = LegacyEntry::parse_inner(rest)?;
        if behind.is_empty() {
            return Ok(inner.offset);
        }
        rest = behind;
    }
}

/// The LZ4 frame with the checksum of its descriptor put right. Old clients computed it over the
/// frame's magic number as well (KIP-57), and nothing else in these messages depends on it.
fn with_right_lz4_checksum(frame: &[u8]) -> Vec<u8> {
    const CONTENT_SIZE: u8 = 1 << 3;
    const DICTIONARY_ID: u8 = 1;
    let mut frame = frame.to_vec();
    let flags = frame.get(4).copied().unwrap_or(0);
    let mut checksum_at = 6;
    if flags & CONTENT_SIZE != 0 {
        checksum_at += 8;
    }
    if flags & DICTIONARY_ID != 0 {
        checksum_at += 4;
    }
    if frame.len() > checksum_at {
        frame[checksum_at] = (xxh32_short(&frame[4..checksum_at]) >> 8) as u8;
    }
    frame
}

/// XXH32 with seed 0 of less than 16 bytes, which are not enough for its four lanes.
fn xxh32_short(bytes: &[u8]) -> u32 {
    const PRIMES: [u32; 5] = [0x9e37_79b1, 0x85eb_ca77, 0xc2b2_ae3d, 0x27d4_eb2f, 0x1656_67b1];
    debug_assert!(bytes.len() < 16);
    let mut hash = PRIMES[4].wrapping_add(bytes.len() as u32);
    let (words, tail) = bytes.as_chunks::<4>();
    for word in words {
        let lane = u32::from_le_bytes(*word).wrapping_mul(PRIMES[2]);
        hash = hash.wrapping_add(lane).rotate_left(17).wrapping_mul(PRIMES[3]);
    }
    for &byte in tail {
        let lane = u32::from(byte).wrapping_mul(PRIMES[4]);
        hash = hash.wrapping_add(lane).rotate_left(11).wrapping_mul(PRIMES[0]);
    }
    hash = (hash ^ hash >> 15).wrapping_mul(PRIMES[1]);
    hash = (hash ^ hash >> 13).wrapping_mul(PRIMES[2]);
    hash ^ hash >> 16
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], LegacyError> {
    let (field, rest) = bytes.split_first_chunk().ok_or(LegacyError::Fields)?;
    *bytes = rest;
    Ok(*field)
}

fn take_nullable<'a>(bytes: &mut &'a [u8]) -> Result<Option<&'a [u8]>, LegacyError> {
    let length = i32::from_be_bytes(take(bytes)?);
    if length == -1 {
        return Ok(None);
    }
    let length = usize::try_from(length).map_err(|_| LegacyError::Fields)?;
    let (field, rest) = bytes.split_at_checked(length).ok_or(LegacyError::Fields)?;
    *bytes = rest;
    Ok(Some(field))
}

/// Why a message set cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LegacyError {
    /// There is no whole message with magic 0 or 1.
    Framing(BatchError),
    /// Key and value do not fill the message.
    Fields,
    /// The checksum of a wrapped message is wrong.
    Crc(CrcMismatch),
    /// Magic 0 and 1 know no codec with this number.
    UnknownCodec {
        /// 4–7.
        id: u8,
    },
    /// The wrapped messages cannot be unpacked.
    Decompress(DecompressError),
    /// A wrapped message is itself a wrapper.
    Nested,
}

impl From<BatchError> for LegacyError {
    fn from(error: BatchError) -> Self {
        Self::Framing(error)
    }
}

impl From<DecompressError> for LegacyError {
    fn from(error: DecompressError) -> Self {
        Self::Decompress(error)
    }
}

impl fmt::Display for LegacyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Framing(error) => error.fmt(f),
            Self::Fields => write!(f, "key and value do not fill the message"),
            Self::Crc(error) => error.fmt(f),
            Self::UnknownCodec { id } => write!(f, "codec {id} is unknown to magic 0 and 1"),
            Self::Decompress(error) => error.fmt(f),
            Self::Nested => write!(f, "a wrapped message is itself a wrapper"),
        }
    }
}

impl std::error::Error for LegacyError {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compress;

    /// A message with magic 1 and a null key.
    fn message(offset: i64, codec: Codec, value: &[u8]) -> Vec<u8> {
        let mut covered = vec![1, codec.id()];
        covered.extend_from_slice(&7i64.to_be_bytes());
        covered.extend_from_slice(&(-1i32).to_be_bytes());
        covered.extend_from_slice(&(value.len() as i32).to_be_bytes());
        covered.extend_from_slice(value);
        let size = covered.len() as i32 + 4;
        let crc = crc32(&covered);
        [&offset.to_be_bytes()[..], &size.to_be_bytes(), &crc.to_be_bytes(), &covered].concat()
    }

    fn wrapper(offset: i64, codec: Codec, set: &[u8]) -> Vec<u8> {
        let mut packed = Vec::new();
        compress(codec, None, set, &mut packed);
        message(offset, codec, &packed)
    }

    fn offsets(entry: &[u8]) -> Result<Vec<i64>, LegacyError> {
        let (entry, rest) = LegacyEntry::parse(entry)?;
        assert!(rest.is_empty());
        let mut offsets = Vec::new();
        entry.visit_records(1 << 20, |record| offsets.push(record.offset.0))?;
        Ok(offsets)
    }

    #[test]
    fn a_wrapper_tells_the_last_offset() {
        // Compaction removed 0 and 2 of the inner offsets.
        let set = [message(1, Codec::None, b"a"), message(3, Codec::None, b"b")].concat();
        assert_eq!(offsets(&wrapper(103, Codec::Gzip, &set)), Ok(vec![101, 103]));
    }

    #[test]
    fn a_wrapper_that_is_not_sound_is_refused() {
        let inner = message(0, Codec::None, b"value");
        let nested = wrapper(0, Codec::Gzip, &wrapper(0, Codec::Gzip, &inner));
        assert_eq!(offsets(&nested), Err(LegacyError::Nested));

        let mut corrupt = inner.clone();
        *corrupt.last_mut().expect("not empty") ^= 1;
        let crc = offsets(&wrapper(0, Codec::Snappy, &corrupt));
        assert!(matches!(crc, Err(LegacyError::Crc(_))), "{crc:?}");

        let torn = offsets(&wrapper(0, Codec::Lz4, &inner[..inner.len() - 1]));
        assert!(matches!(torn, Err(LegacyError::Framing(BatchError::Truncated { .. }))));

        let zstd = wrapper(0, Codec::Zstd, &inner);
        assert_eq!(offsets(&zstd), Err(LegacyError::UnknownCodec { id: 4 }));
    }

    #[test]
    fn fields_fill_the_message() {
        let whole = message(0, Codec::None, b"value");
        let value_length_at = whole.len() - 9;
        for length in [-2i32, 4, 6, i32::MAX] {
            let mut forged = whole.clone();
            forged[value_length_at..value_length_at + 4].copy_from_slice(&length.to_be_bytes());
            assert_eq!(LegacyEntry::parse(&forged).map(|_| ()), Err(LegacyError::Fields));
        }
        let (entry, _) = LegacyEntry::parse(&whole).expect("sound");
        assert_eq!((entry.verify_crc(), entry.value), (Ok(()), Some(&b"value"[..])));
    }
}
