//! A client's end of a connection, down to the bytes.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use ottla_protocol::{
    ApiKey, Decode, Decoder, IntoOwned, Request, RequestHeader, decode_response_header,
    encode_request,
};
use ottla_runtime::World;
use ottla_runtime::net::{Stream, readable, writable};
use ottla_runtime::time::timeout;

/// How long anything may take before the test fails. Nothing waits for it to pass.
const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) const CLIENT_ID: &str = "peer";

pub(crate) struct Peer {
    stream: Box<dyn Stream>,
    received: Vec<u8>,
    correlation_id: i32,
}

/// A request that was sent and not yet answered.
#[must_use]
pub(crate) struct Asked {
    api: ApiKey,
    version: i16,
    correlation_id: i32,
}

impl Peer {
    pub(crate) async fn dial(address: SocketAddr) -> Self {
        let network = World::system().network;
        let host = address.ip().to_string();
        let stream = timeout(DEADLINE, network.connect(&host, address.port())).await;
        let stream = stream.expect("connects in time").expect("the broker accepts");
        Self { stream, received: Vec::new(), correlation_id: 0 }
    }

    /// Sends bytes. That the broker has hung up is for [`Self::receive`] to tell.
    pub(crate) async fn send(&self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match self.stream.try_write(bytes, false) {
                Ok(written) => bytes = &bytes[written..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let ready = timeout(DEADLINE, writable(&*self.stream)).await;
                    if ready.expect("the broker reads in time").is_err() {
                        return;
                    }
                }
                Err(_) => return,
            }
        }
    }

    /// Whether the connection was closed within an answer.
    pub(crate) fn is_cut_short(&self) -> bool {
        !self.received.is_empty()
    }

    /// The next frame without its length, or `None` if the broker closed the connection.
    pub(crate) async fn receive(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some((prefix, rest)) = self.received.split_first_chunk() {
                let len = usize::try_from(i32::from_be_bytes(*prefix)).expect("a length");
                if let Some(frame) = rest.get(..len) {
                    let frame = frame.to_vec();
                    self.received.drain(..4 + len);
                    return Some(frame);
                }
            }
            let mut piece = vec![0; 16 * 1024];
            match self.stream.try_read(&mut piece) {
                Ok(0) => return None,
                Ok(read) => self.received.extend_from_slice(&piece[..read]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let ready = timeout(DEADLINE, readable(&*self.stream)).await;
                    ready.expect("the broker answers or hangs up in time").expect("readable");
                }
                // What the broker did not read is answered by a reset.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Sends a request without waiting for its answer.
    pub(crate) async fn begin<'a, R: Request<'a>>(&mut self, version: i16, request: &R) -> Asked {
        self.correlation_id += 1;
        let correlation_id = self.correlation_id;
        let header = RequestHeader {
            api_key: R::API_KEY.into(),
            api_version: version,
            correlation_id,
            client_id: Some(CLIENT_ID.into()),
        };
        let frame = encode_request(&header, request, Vec::new()).expect("has this version");
        self.send(&frame.buf).await;
        Asked { api: R::API_KEY, version, correlation_id }
    }

    /// The answer to the oldest request that has none.
    pub(crate) async fn finish<'a, R: Request<'a>>(
        &mut self,
        asked: Asked,
    ) -> R::Response<'static> {
        self.try_finish::<R>(asked).await.expect("answered")
    }

    /// The same, or `None` if the broker closed the connection.
    pub(crate) async fn try_finish<'a, R: Request<'a>>(
        &mut self,
        asked: Asked,
    ) -> Option<R::Response<'static>> {
        let frame = self.receive().await?;
        let mut d = Decoder::new(&frame);
        let id = decode_response_header(&mut d, asked.api, asked.version).expect("a header");
        assert_eq!(id, asked.correlation_id, "answers come in order");
        let response = R::Response::decode(&mut d, asked.version).expect("a response");
        d.finish().expect("nothing behind it");
        Some(response.into_owned())
    }

    pub(crate) async fn ask<'a, R: Request<'a>>(
        &mut self,
        version: i16,
        request: &R,
    ) -> R::Response<'static> {
        let asked = self.begin(version, request).await;
        self.finish::<R>(asked).await
    }
}
