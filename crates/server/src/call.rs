//! One request on its way through the server, and the ways in which it can end.

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use ottla_log::Slice;
use ottla_protocol::{
    ApiKey, DecodeError, Decoder, Encode, EncodeError, Request, RequestHeader, encode_response,
};

use crate::authorize::Principal;
use crate::network::{Reply, Response};

/// Who sends, and over which listener.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    /// The listener's name.
    pub(crate) listener: Arc<str>,
    /// The client's address.
    pub(crate) peer: SocketAddr,
    /// The address that the client dialled.
    pub(crate) dialled: SocketAddr,
    pub(crate) principal: Principal,
}

impl Client {
    pub(crate) fn new(listener: Arc<str>, peer: SocketAddr, dialled: SocketAddr) -> Self {
        Self { listener, peer, dialled, principal: Principal::ANONYMOUS }
    }
}

/// A request whose header was read.
pub(crate) struct Call<'a> {
    pub(crate) api: ApiKey,
    pub(crate) header: RequestHeader<'a>,
    pub(crate) client: &'a Client,
    body: Decoder<'a>,
    scratch: &'a mut Vec<u8>,
}

/// How a response to a call is encoded, also when it comes later.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Responder {
    api: ApiKey,
    version: i16,
    correlation_id: i32,
}

impl<'a> Call<'a> {
    pub(crate) fn new(
        api: ApiKey,
        header: RequestHeader<'a>,
        client: &'a Client,
        body: Decoder<'a>,
        scratch: &'a mut Vec<u8>,
    ) -> Self {
        Self { api, header, client, body, scratch }
    }

    pub(crate) fn version(&self) -> i16 {
        self.header.api_version
    }

    /// The client's name for itself, empty if it has none.
    pub(crate) fn client_id(&self) -> Cow<'a, str> {
        self.header.client_id.clone().unwrap_or_default()
    }

    /// Reads the body. Bytes behind it are passed over, as Kafka does: librdkafka 2.16 sends
    /// three too many when it asks for the metadata of all topics.
    pub(crate) fn decode<R: Request<'a>>(&mut self) -> Result<R, Close> {
        R::decode(&mut self.body, self.header.api_version)
            .map_err(|error| Close::Malformed { api: self.api, error })
    }

    /// The same call, to be answered in another version than it was asked in.
    pub(crate) fn in_version(mut self, version: i16) -> Self {
        self.header.api_version = version;
        self
    }

    /// Answers at once.
    pub(crate) fn respond(self, response: &impl Encode) -> Result<Reply, Close> {
        self.respond_with(response, Vec::new())
    }

    /// Answers at once, with slices of log files for the records that `response` leaves open.
    pub(crate) fn respond_with(
        self,
        response: &impl Encode,
        slices: Vec<Slice>,
    ) -> Result<Reply, Close> {
        let buffer = std::mem::take(self.scratch);
        self.responder().encode(response, slices, buffer).map(Reply::Now)
    }

    /// Answers when `answer` is there.
    pub(crate) fn respond_later<R: Encode>(
        self,
        answer: impl Future<Output = R> + Send + 'static,
    ) -> Result<Reply, Close> {
        let responder = self.responder();
        Ok(Reply::Later(Box::pin(async move { responder.respond(&answer.await) })))
    }

    pub(crate) fn responder(&self) -> Responder {
        let RequestHeader { api_version: version, correlation_id, .. } = self.header;
        Responder { api: self.api, version, correlation_id }
    }
}

impl Responder {
    /// Encodes a response into a buffer of its own.
    pub(crate) fn respond(self, response: &impl Encode) -> Result<Response, Close> {
        self.encode(response, Vec::new(), Vec::new())
    }

    /// Encodes a response with slices for the records that it leaves open.
    pub(crate) fn respond_with(
        self,
        response: &impl Encode,
        slices: Vec<Slice>,
    ) -> Result<Response, Close> {
        self.encode(response, slices, Vec::new())
    }

    fn encode(
        self,
        response: &impl Encode,
        slices: Vec<Slice>,
        buffer: Vec<u8>,
    ) -> Result<Response, Close> {
        let Self { api, version, correlation_id } = self;
        encode_response(correlation_id, api, version, response, buffer)
            .map(|encoded| Response::new(encoded, slices))
            .map_err(|error| Close::Unanswerable { api, version, error })
    }
}

/// Why a connection is closed without an answer.
#[derive(Debug)]
pub(crate) enum Close {
    /// The length before a frame is not one that is accepted.
    FrameSize { got: i32, max: usize },
    /// The client hung up within a frame.
    TruncatedFrame { got: usize },
    /// The header cannot be read.
    Header(DecodeError),
    /// The body cannot be read.
    Malformed { api: ApiKey, error: DecodeError },
    /// The api exists and is not served, or not in this version.
    Unsupported { api: ApiKey, version: i16 },
    /// A Produce with acks=0 failed, and there is no other way to tell (KIP-1).
    UnacknowledgedProduce { reason: String },
    /// Our own response has no form in the version that was asked for: a bug.
    Unanswerable { api: ApiKey, version: i16, error: EncodeError },
}

impl Close {
    pub(crate) fn frame_size(got: i32, max: usize) -> Self {
        Self::FrameSize { got, max }
    }

    pub(crate) fn truncated_frame(got: usize) -> Self {
        Self::TruncatedFrame { got }
    }

    /// Whether an operator has nothing to learn from it.
    pub(crate) fn is_quiet(&self) -> bool {
        matches!(self, Self::TruncatedFrame { .. })
    }
}

impl fmt::Display for Close {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FrameSize { got, max } => write!(
                f,
                "a frame of {got} bytes is not within 0 and socket.request.max.bytes ({max}): \
                 is the client speaking Kafka's protocol in plain text?"
            ),
            Self::TruncatedFrame { got } => {
                write!(f, "the client hung up {got} bytes into a frame")
            }
            Self::Header(error) => write!(f, "the request header cannot be read: {error}"),
            Self::Malformed { api, error } => {
                write!(f, "the {} request cannot be read: {error}", api.name())
            }
            Self::Unsupported { api, version } => {
                write!(f, "{} version {version} is not served", api.name())
            }
            Self::UnacknowledgedProduce { reason } => {
                write!(f, "a produce with acks=0 failed: {reason}")
            }
            Self::Unanswerable { api, version, error } => {
                write!(f, "no answer to {} version {version}: {error}", api.name())
            }
        }
    }
}
