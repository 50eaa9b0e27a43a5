//! The records of a batch with magic 2.
//!
//! Owns: how a record is laid out, and the two ways to read them: a lazy iterator over a payload
//! in memory, and a walk that unpacks a compressed payload piece by piece. Records borrow their
//! bytes; nothing is allocated per record. Must not know: what a leader demands of them.

use std::borrow::Cow;
use std::fmt;

use crate::compress::{Decompressor, decompress};
use crate::varint::{VarintError, take_varint, take_varlong};
use crate::{BatchHeader, Codec, DecompressError, Offset, RecordBatch, Timestamp, TimestampType};

/// A record. Its bytes are those of the payload, unpacked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// All bits are unused so far.
    pub attributes: i8,
    /// The base offset of the batch + the offset delta.
    pub offset: Offset,
    /// The position in the batch as it was built, from 0.
    pub offset_delta: i32,
    /// The record's own time, or that of the append if the batch says so.
    pub timestamp: Timestamp,
    /// `None` is null, which is not the same as empty.
    pub key: Option<&'a [u8]>,
    /// `None` is null: a tombstone in a compacted topic.
    pub value: Option<&'a [u8]>,
    /// The headers (KIP-82), in the producer's order.
    pub headers: Headers<'a>,
}

/// One header of a record. A key may occur more than once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// UTF-8 if the producer kept to the protocol, which brokers do not check.
    pub key: &'a [u8],
    /// `None` is null.
    pub value: Option<&'a [u8]>,
}

impl<'a> Header<'a> {
    /// A header to be written.
    #[must_use]
    pub fn new(key: &'a str, value: Option<&'a [u8]>) -> Self {
        Self { key: key.as_bytes(), value }
    }

    /// The key as text, with U+FFFD for what is not UTF-8, as Kafka's consumer reads it.
    #[must_use]
    pub fn key_text(&self) -> Cow<'a, str> {
        String::from_utf8_lossy(self.key)
    }
}

/// Iterates over the headers of a record, which were checked when the record was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Headers<'a> {
    left: usize,
    bytes: &'a [u8],
}

impl<'a> Iterator for Headers<'a> {
    type Item = Header<'a>;

    fn next(&mut self) -> Option<Header<'a>> {
        self.left = self.left.checked_sub(1)?;
        take_header(&mut self.bytes).ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Headers<'_> {}

impl<'a> RecordBatch<'a> {
    /// The records. A compressed payload is unpacked into `unpacked` (which is cleared first), at
    /// most `limit` bytes; another is read where it lies.
    ///
    /// # Errors
    /// The payload cannot be unpacked. Errors of a record come from the iterator.
    pub fn records<'b>(
        &self,
        unpacked: &'b mut Vec<u8>,
        limit: usize,
    ) -> Result<Records<'b>, MalformedRecords>
    where
        'a: 'b,
    {
        let codec = known_codec(self)?;
        let bytes = if codec == Codec::None {
            self.payload()
        } else {
            unpacked.clear();
            decompress(codec, self.payload(), limit, unpacked)?;
            unpacked
        };
        Ok(Records { base: Base::of(self), count: self.count(), index: 0, bytes })
    }

    /// Calls `visit` with each record in turn, without ever holding more of a compressed payload
    /// than a piece and the longest record. At most `limit` bytes are unpacked.
    ///
    /// # Errors
    /// The payload cannot be unpacked, or does not hold exactly the records that the header
    /// counts. `visit` has then seen those before the fault.
    pub fn visit_records(
        &self,
        limit: usize,
        mut visit: impl FnMut(&Record<'_>),
    ) -> Result<(), MalformedRecords> {
        let codec = known_codec(self)?;
        if codec == Codec::None {
            let records = Records {
                base: Base::of(self),
                count: self.count(),
                index: 0,
                bytes: self.payload(),
            };
            for record in records {
                visit(&record?);
            }
            return Ok(());
        }
        self.visit_compressed(Decompressor::new(codec, self.payload(), limit)?, visit)
    }

    fn visit_compressed(
        &self,
        mut payload: Decompressor<'_>,
        mut visit: impl FnMut(&Record<'_>),
    ) -> Result<(), MalformedRecords> {
        let base = Base::of(self);
        let mut window = Vec::new();
        let mut start = 0;
        for index in 0..self.count() {
            let at = |fault| MalformedRecords::Record { index, fault };
            let body = loop {
                let held = &window[start..];
                match frame(held).map_err(at)? {
                    Some(frame) if frame.end <= held.len() => {
                        break start + frame.start..start + frame.end;
                    }
                    _ => {
                        window.drain(..start);
                        start = 0;
                        if payload.fill(&mut window)? == 0 {
                            return Err(at(RecordFault::Truncated));
                        }
                    }
                }
            };
            start = body.end;
            visit(&take_record(&window[body], &base).map_err(at)?);
        }
        if start < window.len() || payload.fill(&mut window)? > 0 {
            return Err(MalformedRecords::Surplus { count: self.count() });
        }
        Ok(())
    }
}

fn known_codec(header: &BatchHeader<'_>) -> Result<Codec, MalformedRecords> {
    let attributes = header.attributes();
    attributes.codec().ok_or(MalformedRecords::UnknownCodec { id: attributes.codec_id() })
}

/// Iterates over the records of a batch, of which it demands exactly as many as the header
/// counts. After an error it ends.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    base: Base,
    count: i32,
    index: i32,
    bytes: &'a [u8],
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, MalformedRecords>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.index >= self.count {
            let surplus = !self.bytes.is_empty();
            self.bytes = &[];
            return surplus.then_some(Err(MalformedRecords::Surplus { count: self.count }));
        }
        let index = self.index;
        self.index += 1;
        let record = self.take();
        if record.is_err() {
            (self.index, self.bytes) = (self.count, &[]);
        }
        Some(record.map_err(|fault| MalformedRecords::Record { index, fault }))
    }
}

impl<'a> Records<'a> {
    fn take(&mut self) -> Result<Record<'a>, RecordFault> {
        let body = frame(self.bytes)?.ok_or(RecordFault::Truncated)?;
        let (record, rest) = self.bytes.split_at_checked(body.end).ok_or(RecordFault::Truncated)?;
        self.bytes = rest;
        take_record(&record[body.start..], &self.base)
    }
}

/// What offset and timestamp of a record are relative to.
#[derive(Clone, Copy, Debug)]
struct Base {
    offset: Offset,
    timestamp: Timestamp,
    append_time: Option<Timestamp>,
}

impl Base {
    fn of(header: &BatchHeader<'_>) -> Self {
        let append_time = match header.attributes().timestamp_type() {
            TimestampType::CreateTime => None,
            TimestampType::LogAppendTime => Some(header.max_timestamp()),
        };
        Self { offset: header.base_offset(), timestamp: header.base_timestamp(), append_time }
    }
}

/// Where the body of the record at the front of `bytes` lies, perhaps beyond their end; `None`
/// if not even its length is there.
#[inline]
fn frame(bytes: &[u8]) -> Result<Option<std::ops::Range<usize>>, RecordFault> {
    let mut rest = bytes;
    let length = match take_varint(&mut rest) {
        Ok(length) => usize::try_from(length).map_err(|_| RecordFault::Length { got: length })?,
        Err(VarintError::Truncated) => return Ok(None),
        Err(VarintError::Overflow) => return Err(RecordFault::Varint),
    };
    let start = bytes.len() - rest.len();
    Ok(Some(start..start + length))
}

/// Reads the record whose body is exactly `body`.
#[inline]
fn take_record<'a>(mut body: &'a [u8], base: &Base) -> Result<Record<'a>, RecordFault> {
    let bytes = &mut body;
    let (&attributes, rest) = bytes.split_first().ok_or(RecordFault::Truncated)?;
    *bytes = rest;
    let timestamp_delta = take_varlong(bytes)?;
    let offset_delta = take_varint(bytes)?;
    let key = take_nullable(bytes)?;
    let value = take_nullable(bytes)?;
    let headers = take_headers(bytes)?;
    if !bytes.is_empty() {
        return Err(RecordFault::Length { got: bytes.len() as i32 });
    }
    Ok(Record {
        attributes: attributes as i8,
        offset: Offset(base.offset.0.wrapping_add(i64::from(offset_delta))),
        offset_delta,
        timestamp: base
            .append_time
            .unwrap_or(Timestamp(base.timestamp.0.wrapping_add(timestamp_delta))),
        key,
        value,
        headers,
    })
}

/// Takes the headers and checks each of them, so that iterating over them later cannot fail.
#[inline]
fn take_headers<'a>(bytes: &mut &'a [u8]) -> Result<Headers<'a>, RecordFault> {
    let count = take_varint(bytes)?;
    let left = usize::try_from(count).map_err(|_| RecordFault::HeaderCount { got: count })?;
    if left > bytes.len() {
        return Err(RecordFault::HeaderCount { got: count });
    }
    let headers = Headers { left, bytes };
    for _ in 0..left {
        take_header(bytes)?;
    }
    Ok(headers)
}

#[inline]
fn take_header<'a>(bytes: &mut &'a [u8]) -> Result<Header<'a>, RecordFault> {
    let key = take_nullable(bytes)?.ok_or(RecordFault::NullHeaderKey)?;
    Ok(Header { key, value: take_nullable(bytes)? })
}

#[inline]
fn take_nullable<'a>(bytes: &mut &'a [u8]) -> Result<Option<&'a [u8]>, RecordFault> {
    let length = take_varint(bytes)?;
    if length == -1 {
        return Ok(None);
    }
    let length = usize::try_from(length).map_err(|_| RecordFault::Length { got: length })?;
    let (field, rest) = bytes.split_at_checked(length).ok_or(RecordFault::Truncated)?;
    *bytes = rest;
    Ok(Some(field))
}

/// Why the payload of a batch is not what its header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MalformedRecords {
    /// Kafka has no codec with this number.
    UnknownCodec {
        /// 5–7.
        id: u8,
    },
    /// The payload cannot be unpacked.
    Decompress(DecompressError),
    /// A record cannot be read.
    Record {
        /// Its position in the batch, from 0.
        index: i32,
        /// What is wrong.
        fault: RecordFault,
    },
    /// More bytes follow after as many records as the header counts.
    Surplus {
        /// The header's count.
        count: i32,
    },
}

/// Why a record cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordFault {
    /// The bytes end within the record, or a field reaches beyond its end.
    Truncated,
    /// A variable-length number does not fit its type.
    Varint,
    /// A length is negative, or does not agree with the fields that it spans.
    Length {
        /// The length, or the number of bytes that no field accounts for.
        got: i32,
    },
    /// The number of headers is negative or more than the bytes could hold.
    HeaderCount {
        /// The number.
        got: i32,
    },
    /// A header has no key.
    NullHeaderKey,
}

impl From<DecompressError> for MalformedRecords {
    fn from(error: DecompressError) -> Self {
        Self::Decompress(error)
    }
}

impl From<VarintError> for RecordFault {
    fn from(error: VarintError) -> Self {
        match error {
            VarintError::Truncated => Self::Truncated,
            VarintError::Overflow => Self::Varint,
        }
    }
}

impl fmt::Display for MalformedRecords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownCodec { id } => write!(f, "unknown compression codec {id}"),
            Self::Decompress(error) => error.fmt(f),
            Self::Record { index, fault } => write!(f, "record {index} of the batch {fault}"),
            Self::Surplus { count } => write!(f, "bytes follow the {count} records of the batch"),
        }
    }
}

impl fmt::Display for RecordFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => write!(f, "is cut off"),
            Self::Varint => write!(f, "has a number that is out of range"),
            Self::Length { got } => write!(f, "has an impossible length {got}"),
            Self::HeaderCount { got } => write!(f, "has an impossible number of headers {got}"),
            Self::NullHeaderKey => write!(f, "has a header without key"),
        }
    }
}

impl std::error::Error for MalformedRecords {}
