//! A connection to one broker, with the versions that it speaks.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use ottla_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};
use ottla_protocol::{
    ApiKey, Decode, Decoder, ErrorCode, Message, Request, RequestHeader, VersionRange,
    decode_response_header, encode_request,
};
use ottla_runtime::{Network, time};

use crate::link::Link;
use crate::versions::Versions;
use crate::{CallError, Closed, ConnectError};

/// How to connect, and the bounds of a connection.
#[derive(Clone, Debug)]
pub struct ConnectionOptions {
    /// `client.id`: what brokers log and count this client as.
    pub client_id: String,
    /// `socket.connection.setup.timeout.ms`: for the connection and for the exchange of versions.
    pub setup_timeout: Duration,
    /// `max.in.flight.requests.per.connection`, at least 1: further calls wait for their turn.
    pub in_flight_max: usize,
    /// A response with more bytes ends the connection.
    pub response_bytes_max: usize,
}

impl Default for ConnectionOptions {
    /// Kafka's defaults; responses as large as `socket.request.max.bytes` allows requests to be,
    /// which leaves room for `fetch.max.bytes` (50 MiB) and one batch above it.
    fn default() -> Self {
        Self {
            client_id: "ottla".to_owned(),
            setup_timeout: Duration::from_secs(10),
            in_flight_max: 5,
            response_bytes_max: 100 * 1024 * 1024,
        }
    }
}

/// A connection to one broker. Calls may overlap: they are answered in the order in which they were
/// made. Once it has failed it stays failed, see [`Connection::closed`]; dropping it closes it.
#[derive(Debug)]
pub struct Connection {
    address: String,
    client_id: String,
    link: Link,
    versions: Versions,
}

impl Connection {
    /// Connects to `address` (`host:port`) on the present runtime and learns which versions the
    /// broker speaks.
    ///
    /// # Errors
    /// See [`ConnectError`]. Dropping the future gives up.
    pub async fn connect(
        network: &dyn Network,
        address: &str,
        options: &ConnectionOptions,
    ) -> Result<Self, ConnectError> {
        let after = options.setup_timeout;
        time::timeout(after, Self::set_up(network, address, options))
            .await
            .unwrap_or_else(|_| Err(ConnectError::TimedOut { address: address.to_owned(), after }))
    }

    async fn set_up(
        network: &dyn Network,
        address: &str,
        options: &ConnectionOptions,
    ) -> Result<Self, ConnectError> {
        let (host, port) = split_address(address)
            .ok_or_else(|| ConnectError::Address { address: address.to_owned() })?;
        let stream = network
            .connect(host, port)
            .await
            .map_err(|error| ConnectError::from_io(address, &error))?;
        let mut connection = Self {
            address: address.to_owned(),
            client_id: options.client_id.clone(),
            link: Link::new(stream, options.in_flight_max, options.response_bytes_max),
            versions: Versions::default(),
        };
        connection.versions = connection.exchange_versions().await?;
        Ok(connection)
    }

    /// Asks with the newest ApiVersions that we have. A broker that does not have it answers with
    /// v0 and UNSUPPORTED_VERSION, and is asked again with v0, which every broker has.
    async fn exchange_versions(&self) -> Result<Versions, ConnectError> {
        let handshake = |reason| ConnectError::Handshake { address: self.address.clone(), reason };
        let request = ApiVersionsRequest {
            client_software_name: "ottla".into(),
            client_software_version: env!("CARGO_PKG_VERSION").into(),
        };
        // v4 says the same in another way of counting features, which we do not use.
        for version in [3, 0] {
            let reply = self.exchange(&request, version).await.map_err(handshake)?;
            let answer = reply.decode_versions().map_err(handshake)?;
            match ErrorCode(answer.error_code) {
                ErrorCode::NONE => return Ok(Versions::new(&answer.api_keys)),
                ErrorCode::UNSUPPORTED_VERSION if version > 0 => {}
                code => {
                    return Err(ConnectError::Refusal { address: self.address.clone(), code });
                }
            }
        }
        Err(ConnectError::Refusal {
            address: self.address.clone(),
            code: ErrorCode::UNSUPPORTED_VERSION,
        })
    }

    /// The `host:port` that was dialled.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The versions of `api` that the broker serves; `None` if it does not serve it.
    #[must_use]
    pub fn versions_of(&self, api: ApiKey) -> Option<VersionRange> {
        self.versions.of(api)
    }

    /// Why the connection ended; `None` while it lives.
    #[must_use]
    pub fn closed(&self) -> Option<&Closed> {
        self.link.closed()
    }

    /// Calls with the highest version that both sides have, and waits for the response, but not
    /// longer than `timeout`, which counts from now: waiting for earlier calls is part of it.
    ///
    /// Dropping the future forgets the response, not the request.
    ///
    /// # Errors
    /// See [`CallError`]. After [`CallError::TimedOut`] the connection is closed, for its broker
    /// owes a response that nobody waits for.
    pub async fn call<'a, R: Request<'a>>(
        &self,
        request: &R,
        timeout: Duration,
    ) -> Result<Reply<R>, CallError> {
        self.call_up_to(i16::MAX, request, timeout).await
    }

    /// [`Connection::call`] with a version not above `newest`, for who cannot say in a newer
    /// version what the request says.
    ///
    /// # Errors
    /// See [`Connection::call`].
    pub async fn call_up_to<'a, R: Request<'a>>(
        &self,
        newest: i16,
        request: &R,
        timeout: Duration,
    ) -> Result<Reply<R>, CallError> {
        let version = self.version_for::<R>(newest)?;
        time::timeout(timeout, self.exchange(request, version)).await.unwrap_or_else(|_| {
            self.link.close(Closed::Deadline);
            Err(CallError::TimedOut { api: R::API_KEY, after: timeout })
        })
    }

    /// Sends a request that is not answered, which is Produce with `acks=0` alone. It returns when
    /// the request is on its way, not when it has arrived.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn send_up_to<'a, R: Request<'a>>(
        &self,
        newest: i16,
        request: &R,
        timeout: Duration,
    ) -> Result<(), CallError> {
        let version = self.version_for::<R>(newest)?;
        let correlation = self.link.next_correlation();
        let frame = self.encode::<R>(request, version, correlation)?;
        time::timeout(timeout, self.link.send(frame)).await.map_or_else(
            |_| {
                self.link.close(Closed::Deadline);
                Err(CallError::TimedOut { api: R::API_KEY, after: timeout })
            },
            |sent| Ok(sent?),
        )
    }

    fn version_for<'a, R: Request<'a>>(&self, newest: i16) -> Result<i16, CallError> {
        let ours = VersionRange { min: R::VERSIONS.min, max: R::VERSIONS.max.min(newest) };
        self.versions.highest_common(R::API_KEY, ours).ok_or(CallError::NoCommonVersion {
            api: R::API_KEY,
            ours,
            theirs: self.versions.of(R::API_KEY),
        })
    }

    async fn exchange<'a, R: Request<'a>>(
        &self,
        request: &R,
        version: i16,
    ) -> Result<Reply<R>, CallError> {
        let correlation = self.link.next_correlation();
        let frame = self.encode::<R>(request, version, correlation)?;
        let frame = self.link.exchange(correlation, frame).await?;
        Ok(Reply { frame, version, request: PhantomData })
    }

    fn encode<'a, R: Request<'a>>(
        &self,
        request: &R,
        version: i16,
        correlation_id: i32,
    ) -> Result<Vec<u8>, CallError> {
        let header = RequestHeader {
            api_key: R::API_KEY.into(),
            api_version: version,
            correlation_id,
            client_id: Some((&*self.client_id).into()),
        };
        encode_request(&header, request, Vec::new())
            .map(|encoder| encoder.buf)
            .map_err(|reason| CallError::Encode { api: R::API_KEY, version, reason })
    }
}

/// The response to a call, as it came. Decoding borrows from it.
pub struct Reply<R> {
    /// Without the length prefix.
    frame: Vec<u8>,
    version: i16,
    request: PhantomData<fn() -> R>,
}

impl<R> fmt::Debug for Reply<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply")
            .field("version", &self.version)
            .field("bytes", &self.frame.len())
            .finish()
    }
}

impl<'a, R: Request<'a>> Reply<R> {
    /// The version that was spoken.
    #[must_use]
    pub fn version(&self) -> i16 {
        self.version
    }

    /// Reads the response.
    ///
    /// # Errors
    /// [`CallError::Malformed`].
    pub fn decode(&self) -> Result<R::Response<'_>, CallError> {
        decode(&self.frame, R::API_KEY, self.version, self.version)
    }
}

impl Reply<ApiVersionsRequest<'_>> {
    /// A broker that does not have the version answers in v0. In every version the error code
    /// comes first.
    fn decode_versions(&self) -> Result<ApiVersionsResponse<'_>, CallError> {
        const API: ApiKey = ApiKey::ApiVersions;
        let refused = self.frame.get(4..6) == Some(&ErrorCode::UNSUPPORTED_VERSION.0.to_be_bytes());
        decode(&self.frame, API, self.version, if refused { 0 } else { self.version })
    }
}

fn decode<'r, T: Message + Decode<'r>>(
    frame: &'r [u8],
    api: ApiKey,
    asked: i16,
    version: i16,
) -> Result<T, CallError> {
    let malformed = |reason| CallError::Malformed { api, version, reason };
    let mut d = Decoder::new(frame);
    // The correlation id was compared when the frame came.
    decode_response_header(&mut d, api, asked).map_err(malformed)?;
    let response = T::decode(&mut d, version).map_err(malformed)?;
    d.finish().map_err(malformed)?;
    Ok(response)
}

/// `host:port`, where an IPv6 host stands in brackets.
fn split_address(address: &str) -> Option<(&str, u16)> {
    let (host, port) = address.trim().rsplit_once(':')?;
    let plain = !host.contains(':') || (host.starts_with('[') && host.ends_with(']'));
    let port = port.parse().ok().filter(|&port| port != 0)?;
    (plain && !host.is_empty()).then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_host_and_port() {
        for (address, expected) in [
            ("localhost:9092", Some(("localhost", 9092))),
            (" 127.0.0.1:1 ", Some(("127.0.0.1", 1))),
            ("[::1]:9092", Some(("[::1]", 9092))),
            ("::1:9092", None),
            ("localhost", None),
            (":9092", None),
            ("localhost:0", None),
            ("localhost:65536", None),
            ("localhost:kafka", None),
        ] {
            assert_eq!(split_address(address), expected, "{address:?}");
        }
    }
}
