//! Listening, connecting, and streams of bytes.
//!
//! A [`Stream`] is readiness plus non-blocking calls, not `AsyncRead`: who waits for readiness
//! holds no buffer while waiting, and a file's bytes can go out without passing through us.

use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::Interest;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::disk::File;

/// A future that connects.
pub type Connecting<'a> = Pin<Box<dyn Future<Output = io::Result<Box<dyn Stream>>> + Send + 'a>>;

/// A network.
pub trait Network: Send + Sync + 'static {
    /// Listens on `address`; port 0 takes a free one. Must be called on a runtime.
    fn listen(&self, address: SocketAddr, options: ListenOptions) -> io::Result<Box<dyn Listener>>;

    /// Connects to `host:port`, trying each address that the name has. Dropping the future gives up.
    fn connect<'a>(&'a self, host: &'a str, port: u16) -> Connecting<'a>;

    /// The first address of `host:port`, for listening.
    fn resolve(&self, host: &str, port: u16) -> io::Result<SocketAddr>;
}

/// How to listen.
#[derive(Clone, Copy, Debug)]
pub struct ListenOptions {
    /// How many connections may wait to be accepted.
    pub backlog: u32,
    /// `SO_SNDBUF` of the accepted connections in bytes; `None` leaves it to the system.
    pub send_buffer: Option<u32>,
    /// `SO_RCVBUF` of the accepted connections in bytes; `None` leaves it to the system.
    pub receive_buffer: Option<u32>,
}

/// A listening socket.
pub trait Listener: Send {
    /// The next connection.
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Box<dyn Incoming>>>;
    /// Where it listens.
    fn local_addr(&self) -> io::Result<SocketAddr>;
}

/// A connection that was accepted and not yet given to the runtime that it will live on.
pub trait Incoming: Send {
    /// Makes it a stream of the runtime that this is called on.
    fn into_stream(self: Box<Self>) -> io::Result<Box<dyn Stream>>;
}

/// A connected stream. The `try_` calls never block: they answer `WouldBlock`, after which the
/// matching `poll_` call tells when to try again.
pub trait Stream: Send + Sync {
    /// Ready when there may be something to read.
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// Reads what is there; 0 is the end of the stream.
    fn try_read(&self, buf: &mut [u8]) -> io::Result<usize>;
    /// Ready when there may be room to write.
    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// Writes what there is room for. `more` says that more follows at once, so that the kernel
    /// need not send a small packet.
    fn try_write(&self, bytes: &[u8], more: bool) -> io::Result<usize>;
    /// Writes from several places.
    fn try_write_vectored(&self, parts: &[IoSlice<'_>]) -> io::Result<usize>;
    /// Sends up to `len` bytes of `file` from `at`; `Ok(0)` says that the file ends there.
    fn try_send_file(&self, file: &dyn File, at: u64, len: usize) -> io::Result<usize>;
    /// Who is at the other end.
    fn peer_addr(&self) -> io::Result<SocketAddr>;
    /// The address that the peer dialled.
    fn local_addr(&self) -> io::Result<SocketAddr>;
}

/// Waits until `stream` may be read.
pub async fn readable(stream: &dyn Stream) -> io::Result<()> {
    poll_fn(|cx| stream.poll_readable(cx)).await
}

/// Waits until `stream` may be written.
pub async fn writable(stream: &dyn Stream) -> io::Result<()> {
    poll_fn(|cx| stream.poll_writable(cx)).await
}

/// Fills `buf` from `stream`.
pub async fn read_exact(stream: &dyn Stream, buf: &mut [u8]) -> io::Result<()> {
    let mut filled = 0;
    while filled < buf.len() {
        match stream.try_read(&mut buf[filled..]) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => readable(stream).await?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Writes all of `bytes` to `stream`.
pub async fn write_all(stream: &dyn Stream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match stream.try_write(bytes, false) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => writable(stream).await?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Waits for the next connection.
pub async fn accept(listener: &mut dyn Listener) -> io::Result<Box<dyn Incoming>> {
    poll_fn(|cx| listener.poll_accept(cx)).await
}

/// The operating system's TCP.
#[derive(Debug)]
pub struct SystemNetwork;

impl Network for SystemNetwork {
    fn listen(&self, address: SocketAddr, options: ListenOptions) -> io::Result<Box<dyn Listener>> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        // Before listening, so that accepted connections inherit it.
        if let Some(bytes) = options.send_buffer {
            socket.set_send_buffer_size(bytes)?;
        }
        if let Some(bytes) = options.receive_buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        socket.bind(address)?;
        Ok(Box::new(SystemListener(socket.listen(options.backlog)?)))
    }

    #[expect(clippy::disallowed_methods, reason = "this is the door")]
    fn connect<'a>(&'a self, host: &'a str, port: u16) -> Connecting<'a> {
        Box::pin(async move {
            // Looking a name up blocks: at most one call per connection, and only for real names.
            let addresses: Vec<SocketAddr> =
                match host.trim_matches(['[', ']']).parse::<std::net::IpAddr>() {
                    Ok(address) => vec![SocketAddr::new(address, port)],
                    Err(_) => tokio::net::lookup_host((host, port)).await?.collect(),
                };
            let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
            for address in addresses {
                match TcpStream::connect(address).await {
                    Ok(stream) => {
                        return Ok(Box::new(SystemStream::new(stream)?) as Box<dyn Stream>);
                    }
                    Err(error) => failure = error,
                }
            }
            Err(failure)
        })
    }

    fn resolve(&self, host: &str, port: u16) -> io::Result<SocketAddr> {
        use std::net::ToSocketAddrs;
        let host = if host.is_empty() { "0.0.0.0" } else { host.trim_matches(['[', ']']) };
        let addresses: Vec<SocketAddr> = (host, port).to_socket_addrs()?.collect();
        // A name such as `localhost` often has both: older clients know only the IPv4 one.
        let address = addresses.iter().find(|a| a.is_ipv4()).or(addresses.first());
        address.copied().ok_or_else(|| {
            io::Error::new(io::ErrorKind::NotFound, format!("{host} has no address"))
        })
    }
}

struct SystemListener(TcpListener);

impl Listener for SystemListener {
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Box<dyn Incoming>>> {
        self.0.poll_accept(cx).map(|accepted| {
            let (stream, _) = accepted?;
            Ok(Box::new(SystemIncoming(stream.into_std()?)) as Box<dyn Incoming>)
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

struct SystemIncoming(std::net::TcpStream);

impl Incoming for SystemIncoming {
    fn into_stream(self: Box<Self>) -> io::Result<Box<dyn Stream>> {
        Ok(Box::new(SystemStream::new(TcpStream::from_std(self.0)?)?))
    }
}

struct SystemStream(TcpStream);

impl SystemStream {
    fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self(stream))
    }
}

impl Stream for SystemStream {
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_read_ready(cx)
    }

    fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        let mut read = 0;
        let result = self.0.try_io(Interest::READABLE, || {
            read = rustix::net::recv(&self.0, &mut *buf, rustix::net::RecvFlags::empty())?.0;
            // A short read has drained the socket. Saying so spares the call that would only
            // learn it; new bytes raise a new edge, which is not lost.
            if read > 0 && read < buf.len() {
                Err(io::ErrorKind::WouldBlock.into())
            } else {
                Ok(())
            }
        });
        match result {
            Ok(()) => Ok(read),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && read > 0 => Ok(read),
            Err(error) => Err(error),
        }
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_write_ready(cx)
    }

    fn try_write(&self, bytes: &[u8], more: bool) -> io::Result<usize> {
        let mut flags = rustix::net::SendFlags::NOSIGNAL;
        if more {
            flags |= rustix::net::SendFlags::MORE;
        }
        self.0.try_io(Interest::WRITABLE, || Ok(rustix::net::send(&self.0, bytes, flags)?))
    }

    fn try_write_vectored(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(parts)
    }

    fn try_send_file(&self, file: &dyn File, at: u64, len: usize) -> io::Result<usize> {
        if let Some(descriptor) = file.descriptor() {
            return self.0.try_io(Interest::WRITABLE, || {
                let mut offset = at;
                Ok(rustix::fs::sendfile(&self.0, descriptor, Some(&mut offset), len)?)
            });
        }
        let mut bytes = vec![0; len.min(64 * 1024)];
        let read = file.read_at(&mut bytes, at)?;
        if read == 0 { Ok(0) } else { self.try_write(&bytes[..read], false) }
    }

    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.0.peer_addr()
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}
