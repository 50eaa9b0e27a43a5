//! One connection with one server of the ensemble: the beginning of a session on it, and packets.

use std::borrow::Cow;
use std::io;
use std::task::{Context, Poll};

use ottla_keeper::Password;
use ottla_keeper::machine::Corrupt;
use ottla_keeper::wire::jute::{Reader, Write, frame};
use ottla_keeper::wire::number::{code, xid};
use ottla_runtime::Network;
use ottla_runtime::net::{Stream, read_exact, write_all};
use ottla_tls::Client;

use super::packet::auth;
use crate::tree::{SessionId, Zxid};

/// The body of an answer may be as long; the limit that Kafka gives its own client. A longer one is
/// passed over, and asked for in parts.
pub(super) const BODY_BYTES_MAX: usize = 4 << 20;

/// `xid`, `zxid` and error.
const HEAD_BYTES: usize = 16;

/// How much is read at once.
const READ_BYTES: usize = 64 << 10;

/// The longest answer to a request to connect.
const CONNECT_BYTES_MAX: usize = 1024;

/// A length that none can have.
const MALFORMED: Corrupt = Corrupt { what: "packet" };

/// A session as it is shown to a server.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shown {
    /// [`SessionId::NONE`] where one is to begin.
    pub(super) session: SessionId,
    pub(super) password: Password,
    /// The last change that we know of: a server that is behind it does not serve us.
    pub(super) known: Zxid,
    pub(super) timeout_ms: i32,
}

/// A session as a server granted it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Granted {
    pub(super) session: SessionId,
    pub(super) password: Password,
    pub(super) timeout_ms: i32,
}

/// Why there is no connection.
#[derive(Debug)]
pub(super) enum LinkError {
    /// The session is over.
    Expired,
    /// The ensemble does not believe whom we claim to be, or we do not believe it.
    AuthFailed(Cow<'static, str>),
    /// No server and we come to terms on TLS, and waiting changes nothing.
    Tls(String),
    /// The server cannot be reached, or does not speak as it should.
    Io(io::Error),
}

impl From<io::Error> for LinkError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Corrupt> for LinkError {
    fn from(_: Corrupt) -> Self {
        let malformed = "what it sends is not ZooKeeper's protocol";
        Self::Io(io::Error::new(io::ErrorKind::InvalidData, malformed))
    }
}

/// What came.
#[derive(Debug)]
pub(super) struct Packet {
    pub(super) xid: i32,
    pub(super) zxid: Zxid,
    pub(super) code: i32,
    /// `None` if it was longer than [`BODY_BYTES_MAX`].
    pub(super) body: Option<Vec<u8>>,
}

/// A connection on which a session has begun or goes on.
pub(super) struct Link {
    stream: Box<dyn Stream>,
    /// What came and is not a whole packet yet.
    input: Vec<u8>,
    /// So many bytes of a long packet are still to be passed over; it is kept as far as its head.
    passing_over: Option<(Vec<u8>, usize)>,
    /// What the server has not taken yet, from `sent` on.
    out: Vec<u8>,
    sent: usize,
}

impl Link {
    /// Connects with a server, by TLS if there is a client of it, shows a session or begins one, and says who we are.
    pub(super) async fn open(
        network: &dyn Network,
        tls: Option<&Client>,
        (host, port): &(String, u16),
        shown: Shown,
        auths: &[(String, Vec<u8>)],
    ) -> Result<(Self, Granted), LinkError> {
        let mut stream = network.connect(host, *port).await?;
        if let Some(tls) = tls {
            stream = Box::new(tls.connect(stream, host).await?);
        }
        let mut out = Vec::new();
        frame(&mut out, |out| {
            out.i32(0);
            out.i64(shown.known);
            out.i32(shown.timeout_ms);
            out.i64(shown.session.0);
            out.buffer(Some(&shown.password.0));
            // A server that may only read is not good enough.
            out.bool(false);
        });
        for (scheme, proof) in auths {
            frame(&mut out, |out| auth(out, scheme, proof));
        }
        write_all(&*stream, &out).await?;
        let granted = granted(&*stream).await?;
        let (input, passing_over) = (Vec::new(), None);
        let mut link = Self { stream, input, passing_over, out: Vec::new(), sent: 0 };
        for (scheme, _) in auths {
            let packet = link.receive().await?;
            if packet.xid != xid::AUTH || packet.code != code::OK {
                let refused = format!("it does not accept the credentials of the scheme {scheme}");
                return Err(LinkError::AuthFailed(refused.into()));
            }
        }
        Ok((link, granted))
    }

    /// Appends a packet to what is to be sent.
    pub(super) fn put(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        frame(&mut self.out, write);
    }

    /// Waits for the next packet, and sends meanwhile.
    pub(super) async fn receive(&mut self) -> Result<Packet, LinkError> {
        std::future::poll_fn(|cx| self.poll(cx)).await
    }

    /// Sends what the server takes, and gives the next packet that came.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Packet, LinkError>> {
        self.send(cx)?;
        loop {
            if let Some(packet) = self.take()? {
                return Poll::Ready(Ok(packet));
            }
            let start = self.input.len();
            self.input.resize(start + READ_BYTES, 0);
            let read = self.stream.try_read(&mut self.input[start..]);
            self.input.truncate(start + read.as_ref().map_or(0, |read| *read));
            match read {
                Ok(0) => {
                    let closed = io::Error::new(io::ErrorKind::UnexpectedEof, "it hung up");
                    return Poll::Ready(Err(closed.into()));
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if self.stream.poll_readable(cx)?.is_pending() {
                        return Poll::Pending;
                    }
                }
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }

    fn send(&mut self, cx: &mut Context<'_>) -> Result<(), LinkError> {
        while self.sent < self.out.len() {
            match self.stream.try_write(&self.out[self.sent..], false) {
                Ok(written) => self.sent += written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if self.stream.poll_writable(cx)?.is_pending() {
                        return Ok(());
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        self.out.clear();
        self.out.shrink_to(READ_BYTES);
        self.sent = 0;
        Ok(())
    }

    /// Takes a whole packet off the input, if there is one.
    fn take(&mut self) -> Result<Option<Packet>, Corrupt> {
        if let Some((head, left)) = &mut self.passing_over {
            let passed = self.input.len().min(*left);
            self.input.drain(..passed);
            *left -= passed;
            if *left > 0 {
                return Ok(None);
            }
            let packet = Packet::new(head, None)?;
            self.passing_over = None;
            return Ok(Some(packet));
        }
        let Some(length) = self.input.first_chunk::<4>() else { return Ok(None) };
        let length = usize::try_from(i32::from_be_bytes(*length)).map_err(|_| MALFORMED)?;
        let have = self.input.len() - 4;
        if length > HEAD_BYTES + BODY_BYTES_MAX {
            if have < HEAD_BYTES {
                return Ok(None);
            }
            let head = self.input[4..4 + HEAD_BYTES].to_vec();
            self.input.drain(..4 + HEAD_BYTES);
            self.passing_over = Some((head, length - HEAD_BYTES));
            return self.take();
        }
        if have < length {
            return Ok(None);
        }
        let rest = self.input.split_off(4 + length);
        let packet = std::mem::replace(&mut self.input, rest);
        Packet::new(&packet[4..], Some(HEAD_BYTES)).map(Some)
    }
}

impl Packet {
    fn new(packet: &[u8], body_at: Option<usize>) -> Result<Self, Corrupt> {
        let mut head = Reader::new(packet);
        let (xid, zxid, code) = (head.i32()?, head.i64()?, head.i32()?);
        Ok(Self { xid, zxid, code, body: body_at.map(|at| packet[at..].to_vec()) })
    }
}

/// What a server answers to a request to connect.
async fn granted(stream: &dyn Stream) -> Result<Granted, LinkError> {
    let mut length = [0; 4];
    read_exact(stream, &mut length).await?;
    let length = usize::try_from(i32::from_be_bytes(length)).map_err(|_| MALFORMED)?;
    if length > CONNECT_BYTES_MAX {
        return Err(MALFORMED.into());
    }
    let mut packet = vec![0; length];
    read_exact(stream, &mut packet).await?;
    let mut body = Reader::new(&packet);
    let (_version, timeout_ms, session) = (body.i32()?, body.i32()?, SessionId(body.i64()?));
    let password = body.buffer()?.unwrap_or_default();
    if timeout_ms <= 0 || session == SessionId::NONE {
        return Err(LinkError::Expired);
    }
    let password = Password(password.try_into().map_err(|_| MALFORMED)?);
    Ok(Granted { session, password, timeout_ms })
}
