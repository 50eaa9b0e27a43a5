//! Headers, and whole frames: length prefix, header, body. Also the two-byte prefixes of the
//! coordinators' records and of the consumer protocol.

use std::borrow::Cow;

use crate::decode::invalid;
use crate::encode::invalid as unwritable;
use crate::{
    ApiKey, Decode, DecodeError, DecodeErrorKind, Decoder, Encode, EncodeError, EncodeErrorKind,
    Encoder, IntoOwned, Message, RecordKey,
};

/// What precedes the body of every request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RequestHeader<'a> {
    /// The api that is called, known or not.
    pub api_key: i16,
    /// The version of the body.
    pub api_version: i16,
    /// Chosen by the client; the response repeats it.
    pub correlation_id: i32,
    /// The client's name for itself. Absent in header v0.
    pub client_id: Option<Cow<'a, str>>,
}

impl<'a> RequestHeader<'a> {
    /// Reads a header of the version that api key and api version call for, also where the api
    /// version is beyond what is supported, so that ApiVersions can be answered.
    ///
    /// # Errors
    /// [`DecodeErrorKind::UnknownApiKey`] for a key without an api, whose header cannot be read.
    pub fn decode(d: &mut Decoder<'a>) -> Result<Self, DecodeError> {
        let api_key = d.i16("RequestHeader.api_key")?;
        let api_version = d.i16("RequestHeader.api_version")?;
        let Some(api) = ApiKey::from_i16(api_key) else {
            return Err(invalid("RequestHeader.api_key", DecodeErrorKind::UnknownApiKey(api_key)));
        };
        let correlation_id = d.i32("RequestHeader.correlation_id")?;
        let header_version = api.request_header_version(api_version);
        // The client id never became compact: a broker must read it before it knows the version.
        let client_id = if header_version >= 1 {
            d.opt_string(false, true, "RequestHeader.client_id")?
        } else {
            None
        };
        if header_version >= 2 {
            d.skip_tags("RequestHeader")?;
        }
        Ok(Self { api_key, api_version, correlation_id, client_id })
    }

    /// Writes the header in the version that api key and api version call for.
    ///
    /// # Errors
    /// An api key without an api, or a client id that is too long.
    pub fn encode(&self, e: &mut Encoder) -> Result<(), EncodeError> {
        let Some(api) = ApiKey::from_i16(self.api_key) else {
            return Err(unwritable(
                "RequestHeader.api_key",
                EncodeErrorKind::UnsupportedVersion(self.api_version),
            ));
        };
        let header_version = api.request_header_version(self.api_version);
        e.i16(self.api_key);
        e.i16(self.api_version);
        e.i32(self.correlation_id);
        if header_version >= 1 {
            e.opt_string(false, true, self.client_id.as_deref(), "RequestHeader.client_id")?;
        }
        if header_version >= 2 {
            e.begin_tags();
        }
        Ok(())
    }
}

impl IntoOwned for RequestHeader<'_> {
    type Owned = RequestHeader<'static>;

    fn into_owned(self) -> RequestHeader<'static> {
        let Self { api_key, api_version, correlation_id, client_id } = self;
        RequestHeader { api_key, api_version, correlation_id, client_id: client_id.into_owned() }
    }
}

/// Reads the header of a response to a request of this api and version: its correlation id.
///
/// # Errors
/// The frame ends within the header.
pub fn decode_response_header(
    d: &mut Decoder<'_>,
    api_key: ApiKey,
    version: i16,
) -> Result<i32, DecodeError> {
    let correlation_id = d.i32("ResponseHeader.correlation_id")?;
    if api_key.response_header_version(version) >= 1 {
        d.skip_tags("ResponseHeader")?;
    }
    Ok(correlation_id)
}

/// Writes a request frame, length prefix included, into `buf`; the header tells the version.
///
/// # Errors
/// The request has no form in that version.
pub fn encode_request(
    header: &RequestHeader<'_>,
    request: &impl Encode,
    buf: Vec<u8>,
) -> Result<Encoder, EncodeError> {
    frame(buf, |e| {
        header.encode(e)?;
        request.encode(e, header.api_version)
    })
}

/// Writes a response frame, length prefix included, into `buf`. The length counts splices.
///
/// # Errors
/// The response has no form in that version.
pub fn encode_response(
    correlation_id: i32,
    api_key: ApiKey,
    version: i16,
    response: &impl Encode,
    buf: Vec<u8>,
) -> Result<Encoder, EncodeError> {
    frame(buf, |e| {
        e.i32(correlation_id);
        if api_key.response_header_version(version) >= 1 {
            e.begin_tags();
        }
        response.encode(e, version)
    })
}

fn frame(
    buf: Vec<u8>,
    content: impl FnOnce(&mut Encoder) -> Result<(), EncodeError>,
) -> Result<Encoder, EncodeError> {
    let mut e = Encoder::new(buf);
    e.i32(0);
    content(&mut e)?;
    match i32::try_from(e.total_len() - 4) {
        Ok(len) => {
            e.buf[..4].copy_from_slice(&len.to_be_bytes());
            Ok(e)
        }
        Err(_) => Err(unwritable("frame", EncodeErrorKind::TooLong)),
    }
}

/// Writes a message after its version: the value of a coordinator's record, or the subscription
/// and assignment of the consumer protocol.
///
/// # Errors
/// The message has no form in that version.
pub fn encode_versioned(message: &impl Message, version: i16) -> Result<Vec<u8>, EncodeError> {
    prefixed(version, message, version)
}

/// Writes the key of a coordinator's record after its record type.
///
/// # Errors
/// A string is too long.
pub fn encode_key<K: RecordKey>(key: &K) -> Result<Vec<u8>, EncodeError> {
    prefixed(K::RECORD_TYPE, key, 0)
}

fn prefixed(prefix: i16, message: &impl Encode, version: i16) -> Result<Vec<u8>, EncodeError> {
    let mut e = Encoder::default();
    e.i16(prefix);
    message.encode(&mut e, version)?;
    Ok(e.buf)
}

/// Reads a message after its version, as [`encode_versioned`] writes it. Bytes may follow it.
///
/// # Errors
/// The bytes are not this message, or its version is not known.
pub fn decode_versioned<'a, T: Decode<'a>>(bytes: &'a [u8]) -> Result<(i16, T), DecodeError> {
    let mut d = Decoder::new(bytes);
    let version = d.i16("version")?;
    Ok((version, T::decode(&mut d, version)?))
}
