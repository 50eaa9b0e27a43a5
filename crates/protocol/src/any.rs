//! Messages whose type is known at run time only: for tools that show frames and records to
//! people, and for fuzzing. A server or client names its types instead.

use std::fmt;

use crate::decode::invalid;
use crate::messages::{ApiKey, MESSAGES};
use crate::{
    Coordinator, DecodeError, DecodeErrorKind, Decoder, Encode, RequestHeader, VersionRange,
    decode_response_header,
};

/// Any message, when it matters only that it can be shown and written again.
pub trait AnyMessage: Encode + fmt::Debug {}

impl<T: Encode + fmt::Debug> AnyMessage for T {}

/// What a message is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageKind {
    /// A request of this api.
    Request(ApiKey),
    /// A response of this api.
    Response(ApiKey),
    /// The key of this coordinator's records of this type.
    RecordKey(Coordinator, i16),
    /// The value of this coordinator's records of this type.
    RecordValue(Coordinator, i16),
    /// A record of this type in KRaft's metadata log.
    MetadataRecord(i16),
    /// Something inside other messages or records.
    Data,
}

/// One row of [`MESSAGES`].
#[derive(Debug, Clone, Copy)]
pub struct MessageInfo {
    /// The schema's name.
    pub name: &'static str,
    /// What it is for.
    pub kind: MessageKind,
    /// The versions that can be read and written.
    pub versions: VersionRange,
    /// The first version with compact lengths and tagged fields.
    pub flexible_from: Option<i16>,
    /// Reads one.
    pub decode: DecodeFn,
}

/// Reads a message whose type is known at run time only.
pub type DecodeFn =
    for<'a> fn(&mut Decoder<'a>, i16) -> Result<Box<dyn AnyMessage + 'a>, DecodeError>;

fn of_kind(kind: MessageKind) -> Option<&'static MessageInfo> {
    MESSAGES.iter().find(|info| info.kind == kind)
}

/// The message of this name.
#[must_use]
pub fn message_named(name: &str) -> Option<&'static MessageInfo> {
    MESSAGES.iter().find(|info| info.name == name)
}

/// Reads a request frame, without its length prefix: header, body, nothing after it.
///
/// # Errors
/// The frame is not a request that this crate knows.
pub fn decode_any_request(
    frame: &[u8],
) -> Result<(RequestHeader<'_>, Box<dyn AnyMessage + '_>), DecodeError> {
    let mut d = Decoder::new(frame);
    let header = RequestHeader::decode(&mut d)?;
    let unknown = DecodeErrorKind::UnknownApiKey(header.api_key);
    let info = ApiKey::from_i16(header.api_key).map(MessageKind::Request).and_then(of_kind);
    let info = info.ok_or_else(|| invalid("RequestHeader.api_key", unknown))?;
    let body = (info.decode)(&mut d, header.api_version)?;
    d.finish()?;
    Ok((header, body))
}

/// Reads a response frame, without its length prefix: correlation id, body, nothing after it.
///
/// # Errors
/// The frame is not the response to a request of this api and version.
pub fn decode_any_response(
    api_key: ApiKey,
    version: i16,
    frame: &[u8],
) -> Result<(i32, Box<dyn AnyMessage + '_>), DecodeError> {
    let mut d = Decoder::new(frame);
    let correlation_id = decode_response_header(&mut d, api_key, version)?;
    let unknown = DecodeErrorKind::UnknownApiKey(api_key.into());
    let info = of_kind(MessageKind::Response(api_key));
    let body = (info.ok_or_else(|| invalid("api_key", unknown))?.decode)(&mut d, version)?;
    d.finish()?;
    Ok((correlation_id, body))
}

/// Reads the key of a coordinator's record, as [`encode_key`] writes it, and tells its type.
///
/// [`encode_key`]: crate::encode_key
///
/// # Errors
/// The key is of no type that this crate knows, or is damaged.
pub fn decode_any_key(
    coordinator: Coordinator,
    key: &[u8],
) -> Result<(i16, Box<dyn AnyMessage + '_>), DecodeError> {
    let mut d = Decoder::new(key);
    let record_type = d.i16("record type")?;
    let info = of_kind(MessageKind::RecordKey(coordinator, record_type));
    let info = info.ok_or_else(|| unknown_record(record_type))?;
    let key = (info.decode)(&mut d, 0)?;
    d.finish()?;
    Ok((record_type, key))
}

/// Reads the value of a coordinator's record of this type, as [`encode_versioned`] writes it.
///
/// [`encode_versioned`]: crate::encode_versioned
///
/// # Errors
/// The value is of no version that this crate knows, or is damaged.
pub fn decode_any_value(
    coordinator: Coordinator,
    record_type: i16,
    value: &[u8],
) -> Result<(i16, Box<dyn AnyMessage + '_>), DecodeError> {
    let mut d = Decoder::new(value);
    let version = d.i16("version")?;
    let info = of_kind(MessageKind::RecordValue(coordinator, record_type));
    let value = (info.ok_or_else(|| unknown_record(record_type))?.decode)(&mut d, version)?;
    d.finish()?;
    Ok((version, value))
}

fn unknown_record(record_type: i16) -> DecodeError {
    invalid("record type", DecodeErrorKind::UnknownRecordType(record_type))
}
