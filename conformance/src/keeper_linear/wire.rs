//! ZooKeeper's protocol as far as the clients here speak it, without a library between.
//!
//! Owns: one connection, its frames, and how long it waits. It sends nothing twice and hides nothing:
//! what was not answered is an error, and nobody knows what became of it. Must not know: what answers
//! mean.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A server that takes no connection within that time is not there.
const CONNECT_TIME: Duration = Duration::from_millis(500);
/// What clients ask for, and are granted.
pub(super) const SESSION_TIMEOUT: Duration = Duration::from_millis(3000);
/// So long an answer is waited for: two thirds of the session's time, as ZooKeeper's client does.
const PATIENCE: Duration = Duration::from_millis(2000);
/// Longer than any answer here.
const FRAME_BYTES_MAX: usize = 4 << 20;
const PASSWORD_BYTES: usize = 16;

/// Flags of a create.
pub(super) const EPHEMERAL: i32 = 1;
pub(super) const SEQUENTIAL: i32 = 2;

/// An error code of ZooKeeper's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Code(pub(super) i32);

impl Code {
    pub(super) const NO_NODE: Self = Self(-101);
    pub(super) const BAD_VERSION: Self = Self(-103);
    pub(super) const NODE_EXISTS: Self = Self(-110);
    pub(super) const NOT_EMPTY: Self = Self(-111);
    pub(super) const SESSION_EXPIRED: Self = Self(-112);
}

/// What a session is known by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Session {
    pub(super) id: i64,
    password: [u8; PASSWORD_BYTES],
    /// The last change that it was told of: a server that knows less does not go on with it.
    zxid: i64,
}

/// The numbers of a znode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) mtime_ms: i64,
    pub(super) version: i32,
    pub(super) owner: i64,
    pub(super) children: i32,
    /// All of it, as it came.
    pub(super) whole: Vec<u8>,
}

/// What is asked of a server.
#[derive(Clone, Debug)]
pub(super) enum Request<'a> {
    Create { path: &'a str, data: &'a [u8], flags: i32 },
    Delete { path: &'a str },
    Get { path: &'a str },
    Set { path: &'a str, data: &'a [u8], version: i32 },
    Sync,
    Children { path: &'a str },
    Close,
}

/// A connection with a session.
pub(super) struct Connection {
    stream: TcpStream,
    xid: i32,
    pub(super) session: Session,
}

impl Connection {
    /// Begins a session, or goes on with one. `None` if that one is over.
    pub(super) fn open(at: SocketAddr, session: Session) -> io::Result<Option<Self>> {
        let mut stream = TcpStream::connect_timeout(&at, CONNECT_TIME)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut packet = Packet::default();
        packet.int(0).long(session.zxid).int(SESSION_TIMEOUT.as_millis() as i32);
        packet.long(session.id).buffer(&session.password).0.push(0);
        stream.write_all(&packet.framed())?;
        let frame = read_frame(&mut stream)?;
        let mut answer = Answer(&frame);
        let (_, timeout, id) = (answer.int()?, answer.int()?, answer.long()?);
        let password = answer.buffer()?.try_into().map_err(|_| broken())?;
        if timeout <= 0 {
            return Ok(None);
        }
        Ok(Some(Self { stream, xid: 0, session: Session { id, password, ..session } }))
    }

    /// Sends requests, all before the first is answered; gives the body or the code of each.
    pub(super) fn ask(
        &mut self,
        requests: &[Request<'_>],
    ) -> io::Result<Vec<Result<Vec<u8>, Code>>> {
        let mut out = Vec::new();
        let first = self.xid + 1;
        for request in requests {
            self.xid += 1;
            out.extend(encode(self.xid, request));
        }
        self.stream.write_all(&out)?;
        (first..=self.xid).map(|xid| self.answer(xid)).collect()
    }

    fn answer(&mut self, xid: i32) -> io::Result<Result<Vec<u8>, Code>> {
        let frame = read_frame(&mut self.stream)?;
        let mut answer = Answer(&frame);
        let (found, zxid, code) = (answer.int()?, answer.long()?, answer.int()?);
        if found != xid {
            return Err(broken());
        }
        self.session.zxid = self.session.zxid.max(zxid);
        Ok(if code == 0 { Ok(answer.0.to_vec()) } else { Err(Code(code)) })
    }
}

fn encode(xid: i32, request: &Request<'_>) -> Vec<u8> {
    let mut packet = Packet::default();
    packet.int(xid);
    match *request {
        Request::Create { path, data, flags } => {
            packet.int(1).buffer(path.as_bytes()).buffer(data);
            // One entry: everything for everybody.
            packet.int(1).int(31).buffer(b"world").buffer(b"anyone").int(flags);
        }
        Request::Delete { path } => {
            packet.int(2).buffer(path.as_bytes()).int(-1);
        }
        Request::Get { path } => packet.int(4).buffer(path.as_bytes()).0.push(0),
        Request::Set { path, data, version } => {
            packet.int(5).buffer(path.as_bytes()).buffer(data).int(version);
        }
        Request::Sync => {
            packet.int(9).buffer(b"/");
        }
        Request::Children { path } => packet.int(12).buffer(path.as_bytes()).0.push(0),
        Request::Close => {
            packet.int(-11);
        }
    }
    packet.framed()
}

#[derive(Default)]
struct Packet(Vec<u8>);

impl Packet {
    fn int(&mut self, number: i32) -> &mut Self {
        self.0.extend(number.to_be_bytes());
        self
    }

    fn long(&mut self, number: i64) -> &mut Self {
        self.0.extend(number.to_be_bytes());
        self
    }

    fn buffer(&mut self, bytes: &[u8]) -> &mut Self {
        self.int(bytes.len() as i32).0.extend(bytes);
        self
    }

    fn framed(&self) -> Vec<u8> {
        [&(self.0.len() as u32).to_be_bytes(), &*self.0].concat()
    }
}

fn read_frame(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length) as usize;
    if length > FRAME_BYTES_MAX {
        return Err(broken());
    }
    let mut frame = vec![0; length];
    stream.read_exact(&mut frame)?;
    Ok(frame)
}

/// What of an answer was not read yet.
pub(super) struct Answer<'a>(pub(super) &'a [u8]);

impl<'a> Answer<'a> {
    fn take(&mut self, length: usize) -> io::Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or_else(broken)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn int(&mut self) -> io::Result<i32> {
        Ok(i32::from_be_bytes(self.take(4)?.try_into().map_err(|_| broken())?))
    }

    pub(super) fn long(&mut self) -> io::Result<i64> {
        Ok(i64::from_be_bytes(self.take(8)?.try_into().map_err(|_| broken())?))
    }

    /// A length of -1 is that of no bytes at all, and is read as none.
    pub(super) fn buffer(&mut self) -> io::Result<&'a [u8]> {
        let length = self.int()?.max(0) as usize;
        self.take(length)
    }

    pub(super) fn text(&mut self) -> io::Result<String> {
        String::from_utf8(self.buffer()?.to_vec()).map_err(|_| broken())
    }

    pub(super) fn stat(&mut self) -> io::Result<Stat> {
        let whole = self.0.get(..68).ok_or_else(broken)?.to_vec();
        // czxid, mzxid, ctime.
        self.take(24)?;
        let mtime_ms = self.long()?;
        let version = self.int()?;
        // cversion, aversion.
        self.take(8)?;
        let owner = self.long()?;
        self.int()?;
        let children = self.int()?;
        self.take(8)?;
        Ok(Stat { mtime_ms, version, owner, children, whole })
    }
}

fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "an answer that is none")
}
