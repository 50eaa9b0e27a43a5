//! A network in memory whose listeners are functions: what a broker would answer to a request.
//!
//! The pipes are narrow, so that frames come apart on their way.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use ottla_protocol::messages::api_versions_response::ApiVersion;
use ottla_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};
use ottla_protocol::{
    ApiKey, Decoder, Encode, Request, RequestHeader, VersionRange, encode_response,
};
use ottla_runtime::net::{Connecting, ListenOptions, Listener, Stream, readable, writable};
use ottla_runtime::{File, Network, Spawner, time};
use parking_lot::Mutex;

const PIPE_BYTES: usize = 1000;

/// A network without a wire. Dial what [`Loopback::listen`] was given.
#[derive(Default)]
pub(crate) struct Loopback {
    brokers: Mutex<BTreeMap<String, Broker>>,
}

type Broker = Arc<Mutex<dyn FnMut(&Asked) -> Answer + Send>>;

/// What becomes of a request.
pub(crate) enum Answer {
    /// These bytes go back, whatever they are.
    Bytes(Vec<u8>),
    /// These bytes go back, and the connection is closed.
    Last(Vec<u8>),
    /// These bytes go back after a while.
    #[allow(dead_code, reason = "not every test binary needs it")]
    Later(Duration, Vec<u8>),
    /// Nothing at all.
    Silence,
}

/// A request as it came, without the length prefix.
pub(crate) struct Asked {
    pub(crate) header: RequestHeader<'static>,
    frame: Vec<u8>,
    body: usize,
}

impl Asked {
    fn new(frame: Vec<u8>) -> Self {
        let mut d = Decoder::new(&frame);
        let header = RequestHeader::decode(&mut d).unwrap();
        let body = d.position();
        let RequestHeader { api_key, api_version, correlation_id, client_id } = header;
        let client_id = client_id.map(|id| id.into_owned().into());
        let header = RequestHeader { api_key, api_version, correlation_id, client_id };
        Self { header, frame, body }
    }

    pub(crate) fn api(&self) -> ApiKey {
        ApiKey::from_i16(self.header.api_key).unwrap()
    }

    /// The request, which must be of this kind.
    pub(crate) fn request<'a, R: Request<'a>>(&'a self) -> R {
        assert_eq!(R::API_KEY, self.api());
        let mut d = Decoder::new(&self.frame[self.body..]);
        let request = R::decode(&mut d, self.header.api_version).unwrap();
        d.finish().unwrap();
        request
    }

    /// A frame in the version of the request.
    pub(crate) fn frame(&self, response: &impl Encode) -> Vec<u8> {
        self.frame_in(self.header.api_version, response)
    }

    pub(crate) fn frame_in(&self, version: i16, response: &impl Encode) -> Vec<u8> {
        let correlation = self.header.correlation_id;
        encode_response(correlation, self.api(), version, response, Vec::new()).unwrap().buf
    }

    pub(crate) fn answer(&self, response: &impl Encode) -> Answer {
        Answer::Bytes(self.frame(response))
    }

    /// Answers ApiVersions with these versions; `None` if it is another request.
    pub(crate) fn versions(&self, apis: &[(ApiKey, VersionRange)]) -> Option<Answer> {
        (self.api() == ApiKey::ApiVersions).then(|| {
            self.request::<ApiVersionsRequest<'_>>();
            let api_keys = apis.iter().map(|(api, versions)| ApiVersion {
                api_key: (*api).into(),
                min_version: versions.min,
                max_version: versions.max,
            });
            self.answer(&ApiVersionsResponse { api_keys: api_keys.collect(), ..Default::default() })
        })
    }
}

impl Loopback {
    pub(crate) fn listen(
        &self,
        address: &str,
        broker: impl FnMut(&Asked) -> Answer + Send + 'static,
    ) {
        self.brokers.lock().insert(address.to_owned(), Arc::new(Mutex::new(broker)));
    }

    /// Refuses connections from now on; those that exist go on.
    #[allow(dead_code, reason = "not every test binary needs it")]
    pub(crate) fn stop(&self, address: &str) {
        self.brokers.lock().remove(address);
    }
}

impl Network for Loopback {
    fn listen(&self, _: SocketAddr, _: ListenOptions) -> io::Result<Box<dyn Listener>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn connect<'a>(&'a self, host: &'a str, port: u16) -> Connecting<'a> {
        Box::pin(async move {
            let broker = self.brokers.lock().get(&format!("{host}:{port}")).map(Arc::clone);
            let broker = broker.ok_or(io::ErrorKind::ConnectionRefused)?;
            let (client, server) = pair();
            Spawner::current().detach(serve(server, broker));
            Ok(Box::new(client) as Box<dyn Stream>)
        })
    }

    fn resolve(&self, _: &str, _: u16) -> io::Result<SocketAddr> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

async fn serve(stream: End, broker: Broker) {
    while let Some(prefix) = read(&stream, 4).await {
        let length = u32::from_be_bytes(prefix.try_into().unwrap());
        let Some(frame) = read(&stream, length as usize).await else { return };
        let answer = broker.lock()(&Asked::new(frame));
        match answer {
            Answer::Bytes(bytes) => write(&stream, &bytes).await,
            Answer::Later(wait, bytes) => {
                time::sleep(wait).await;
                write(&stream, &bytes).await;
            }
            Answer::Last(bytes) => return write(&stream, &bytes).await,
            Answer::Silence => {}
        }
    }
}

async fn read(stream: &End, length: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; length];
    let mut filled = 0;
    while filled < length {
        readable(stream).await.unwrap();
        match stream.try_read(&mut bytes[filled..]) {
            Ok(0) => return None,
            Ok(n) => filled += n,
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
        }
    }
    Some(bytes)
}

async fn write(stream: &End, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        writable(stream).await.unwrap();
        match stream.try_write(bytes, false) {
            Ok(n) => bytes = &bytes[n..],
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return,
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
        }
    }
}

/// One direction.
#[derive(Default)]
struct Pipe {
    bytes: VecDeque<u8>,
    closed: bool,
    wakers: Vec<Waker>,
}

impl Pipe {
    fn wake(&mut self) {
        self.wakers.drain(..).for_each(Waker::wake);
    }
}

struct End {
    inbound: Arc<Mutex<Pipe>>,
    outbound: Arc<Mutex<Pipe>>,
}

fn pair() -> (End, End) {
    let (a, b) = (Arc::<Mutex<Pipe>>::default(), Arc::<Mutex<Pipe>>::default());
    let other = End { inbound: Arc::clone(&b), outbound: Arc::clone(&a) };
    (End { inbound: a, outbound: b }, other)
}

impl Drop for End {
    fn drop(&mut self) {
        for pipe in [&self.inbound, &self.outbound] {
            let mut pipe = pipe.lock();
            pipe.closed = true;
            pipe.wake();
        }
    }
}

fn poll(pipe: &Mutex<Pipe>, cx: &Context<'_>, ready: fn(&Pipe) -> bool) -> Poll<io::Result<()>> {
    let mut pipe = pipe.lock();
    if pipe.closed || ready(&pipe) {
        return Poll::Ready(Ok(()));
    }
    pipe.wakers.push(cx.waker().clone());
    Poll::Pending
}

impl Stream for End {
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        poll(&self.inbound, cx, |pipe| !pipe.bytes.is_empty())
    }

    fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        let mut pipe = self.inbound.lock();
        if pipe.bytes.is_empty() {
            return if pipe.closed { Ok(0) } else { Err(io::ErrorKind::WouldBlock.into()) };
        }
        let n = buf.len().min(pipe.bytes.len());
        for (to, from) in buf.iter_mut().zip(pipe.bytes.drain(..n)) {
            *to = from;
        }
        pipe.wake();
        Ok(n)
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        poll(&self.outbound, cx, |pipe| pipe.bytes.len() < PIPE_BYTES)
    }

    fn try_write(&self, bytes: &[u8], _more: bool) -> io::Result<usize> {
        let mut pipe = self.outbound.lock();
        if pipe.closed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let n = bytes.len().min(PIPE_BYTES - pipe.bytes.len());
        if n == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        pipe.bytes.extend(&bytes[..n]);
        pipe.wake();
        Ok(n)
    }

    fn try_write_vectored(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        self.try_write(parts.first().map_or(&[], |part| part), false)
    }

    fn try_send_file(&self, _: &dyn File, _: u64, _: usize) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn peer_addr(&self) -> io::Result<SocketAddr> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
