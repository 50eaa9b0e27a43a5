//! The client's half of ZooKeeper's protocol: a session, and the few requests that a load needs.
//!
//! Owns: frames, the connection, the order of answers. Must not know: loads, clocks.

use std::io::{self, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Longer than any answer takes; a server that is silent for this long is an error.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);
/// The longest that a server grants by default: no load is silent for so long.
const SESSION_TIMEOUT_MS: i32 = 40_000;
const RECEIVE_BUFFER_BYTES: usize = 16 << 10;
/// Larger than any answer that a load asks for.
const MAX_ANSWER_BYTES: usize = 4 << 20;

const CREATE: i32 = 1;
const GET_DATA: i32 = 4;
const SET_DATA: i32 = 5;
const MULTI: i32 = 14;
const CLOSE_SESSION: i32 = -11;
/// The xid of a watch's event, which answers nothing.
const EVENT: i32 = -1;

/// A request with all but its xid fixed, so that it can be sent many times.
#[derive(Clone)]
pub(crate) struct Request(Vec<u8>);

impl Request {
    fn new(kind: i32) -> Self {
        // The length and the xid are put in when it is sent.
        Self(vec![0; 8]).i32(kind)
    }

    fn i32(mut self, value: i32) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    fn i64(mut self, value: i64) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    fn bool(mut self, value: bool) -> Self {
        self.0.push(value.into());
        self
    }

    /// A string has the same form.
    fn buffer(mut self, value: &[u8]) -> Self {
        self = self.i32(i32::try_from(value.len()).expect("what is sent here is small"));
        self.0.extend(value);
        self
    }

    pub(crate) fn close_session() -> Self {
        Self::new(CLOSE_SESSION)
    }

    pub(crate) fn get_data(path: &str, watch: bool) -> Self {
        Self::new(GET_DATA).buffer(path.as_bytes()).bool(watch)
    }

    /// Whatever the node's version is.
    pub(crate) fn set_data(path: &str, data: &[u8]) -> Self {
        const ANY_VERSION: i32 = -1;
        Self::new(SET_DATA).buffer(path.as_bytes()).buffer(data).i32(ANY_VERSION)
    }

    /// All of these nodes or none, each with the same data.
    pub(crate) fn create_all<'a>(paths: impl IntoIterator<Item = &'a str>, data: &[u8]) -> Self {
        const ALL_PERMISSIONS: i32 = 31;
        const PERSISTENT: i32 = 0;
        let head = |request: Self, kind, is_end| request.i32(kind).bool(is_end).i32(-1);
        let each = |request, path: &str| {
            head(request, CREATE, false)
                .buffer(path.as_bytes())
                .buffer(data)
                .i32(1) // access control: one entry
                .i32(ALL_PERMISSIONS)
                .buffer(b"world")
                .buffer(b"anyone")
                .i32(PERSISTENT)
        };
        head(paths.into_iter().fold(Self::new(MULTI), each), -1, true)
    }
}

/// The half of a session that sends requests.
pub(crate) struct Sender {
    stream: TcpStream,
    out: Vec<u8>,
    next: i32,
}

impl Sender {
    /// Puts a request behind those that go out with the next [`Sender::flush`].
    pub(crate) fn put(&mut self, request: &Request) {
        let start = self.out.len();
        self.out.extend(&request.0);
        let length = u32::try_from(request.0.len() - 4).expect("what is sent here is small");
        self.out[start..start + 4].copy_from_slice(&length.to_be_bytes());
        self.out[start + 4..start + 8].copy_from_slice(&self.next.to_be_bytes());
        self.next = self.next.wrapping_add(1) & i32::MAX;
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.stream.write_all(&self.out)?;
        self.out.clear();
        Ok(())
    }

    pub(crate) fn send(&mut self, request: &Request) -> io::Result<()> {
        self.put(request);
        self.flush()
    }
}

/// The half of a session that reads answers, which come in the order of their requests.
pub(crate) struct Receiver {
    stream: BufReader<TcpStream>,
    next: i32,
    frame: Vec<u8>,
}

impl Receiver {
    /// Waits for the answer to the oldest request in flight; what follows its header.
    pub(crate) fn receive(&mut self) -> io::Result<&[u8]> {
        let due = self.next;
        self.next = self.next.wrapping_add(1) & i32::MAX;
        let (xid, body) = self.frame()?;
        if xid != due {
            return Err(io::Error::other(format!("answer {xid} came where {due} was due")));
        }
        Ok(body)
    }

    /// Waits for a watch to fire.
    pub(crate) fn event(&mut self) -> io::Result<()> {
        match self.frame()? {
            (EVENT, _) => Ok(()),
            (xid, _) => Err(io::Error::other(format!("answer {xid} came where an event was due"))),
        }
    }

    /// Whether a whole frame is here already.
    pub(crate) fn has_frame(&self) -> bool {
        let buffered = self.stream.buffer();
        buffered
            .first_chunk()
            .is_some_and(|length| buffered.len() - 4 >= u32::from_be_bytes(*length) as usize)
    }

    fn frame(&mut self) -> io::Result<(i32, &[u8])> {
        const HEADER_BYTES: usize = 16;
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let length = u32::from_be_bytes(length) as usize;
        if !(HEADER_BYTES..=MAX_ANSWER_BYTES).contains(&length) {
            return Err(io::Error::other(format!("an answer of {length} bytes")));
        }
        if self.frame.len() < length {
            self.frame.resize(length, 0);
        }
        self.stream.read_exact(&mut self.frame[..length])?;
        let i32_at = |at: usize| {
            i32::from_be_bytes(self.frame[at..at + 4].try_into().expect("it is in the header"))
        };
        // Between the two is the zxid.
        match (i32_at(0), i32_at(12)) {
            (xid, 0) => Ok((xid, &self.frame[HEADER_BYTES..length])),
            (xid, error) => Err(io::Error::other(format!("request {xid}: error {error}"))),
        }
    }
}

/// A session of its own connection, which may have several requests in flight.
pub(crate) struct Session {
    pub(crate) sender: Sender,
    pub(crate) receiver: Receiver,
}

impl Session {
    pub(crate) fn open(address: SocketAddr) -> io::Result<Self> {
        Self::open_within(address, ANSWER_TIMEOUT)
    }

    /// Each answer is an error when it takes longer than `timeout`.
    pub(crate) fn open_within(address: SocketAddr, timeout: Duration) -> io::Result<Self> {
        let mut session = Self::dial(address, timeout)?;
        session.await_grant()?;
        Ok(session)
    }

    /// So many sessions, asked for all together.
    pub(crate) fn open_all(address: SocketAddr, sessions: usize) -> io::Result<Vec<Self>> {
        let dial = |_| Self::dial(address, ANSWER_TIMEOUT);
        let mut sessions: Vec<_> = (0..sessions).map(dial).collect::<io::Result<_>>()?;
        sessions.iter_mut().try_for_each(Self::await_grant)?;
        Ok(sessions)
    }

    /// Connects and asks for a new session. This request and its answer have no header.
    fn dial(address: SocketAddr, timeout: Duration) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, timeout)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        let input = BufReader::with_capacity(RECEIVE_BUFFER_BYTES, stream.try_clone()?);
        let mut session = Self {
            sender: Sender { stream, out: Vec::new(), next: 0 },
            receiver: Receiver { stream: input, next: 0, frame: Vec::new() },
        };
        let request = Request(vec![0; 4])
            .i32(0) // protocol version
            .i64(0) // last zxid seen
            .i32(SESSION_TIMEOUT_MS)
            .i64(0) // session id
            .buffer(&[0; 16]) // password
            .bool(false); // read only
        session.sender.out.extend(u32::to_be_bytes(request.0.len() as u32 - 4));
        session.sender.out.extend(&request.0[4..]);
        session.sender.flush()?;
        Ok(session)
    }

    fn await_grant(&mut self) -> io::Result<()> {
        let mut answer = [0; 41];
        self.receiver.stream.read_exact(&mut answer)?;
        let timeout_ms = i32::from_be_bytes(answer[8..12].try_into().expect("four bytes"));
        if timeout_ms <= 0 {
            return Err(io::Error::other("no session was granted"));
        }
        Ok(())
    }

    pub(crate) fn call(&mut self, request: &Request) -> io::Result<&[u8]> {
        self.sender.send(request)?;
        self.receiver.receive()
    }

    /// Ends the session, so that the server has not to end it in the middle of what comes next.
    pub(crate) fn close(mut self) -> io::Result<()> {
        self.call(&Request::close_session()).map(drop)
    }
}

/// Fails unless all that [`Request::create_all`] asked for was done: the first result is an error's
/// if any is.
pub(crate) fn check_created(answer: &[u8]) -> io::Result<()> {
    match answer.first_chunk() {
        Some(kind) if i32::from_be_bytes(*kind) == CREATE => Ok(()),
        _ => Err(io::Error::other("nodes were not created")),
    }
}

/// Whether a server serves sessions at that address, and answers a first request.
pub(crate) fn is_ready(address: SocketAddr) -> io::Result<bool> {
    let mut session = Session::open(address)?;
    session.call(&Request::get_data("/", false))?;
    session.close()?;
    Ok(true)
}

/// What a server is, in the words of ZooKeeper's `srvr`: standalone, leader or follower.
pub(crate) fn mode(address: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(b"srvr")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let mode = text.lines().find_map(|line| line.strip_prefix("Mode: "));
    mode.map(str::to_owned).ok_or_else(|| io::Error::other(format!("srvr says: {text}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_have_the_form_that_zookeeper_reads() {
        let Request(set) = Request::set_data("/a", b"xyz");
        #[rustfmt::skip]
        let expected = [
            &[0; 8][..], &[0, 0, 0, 5], &[0, 0, 0, 2], b"/a", &[0, 0, 0, 3], b"xyz", &[255; 4],
        ]
        .concat();
        assert_eq!(set, expected);
        let Request(multi) = Request::create_all(["/a"], b"");
        #[rustfmt::skip]
        let expected = [
            &[0; 8][..], &[0, 0, 0, 14],
            &[0, 0, 0, 1, 0, 255, 255, 255, 255], &[0, 0, 0, 2], b"/a", &[0; 4],
            &[0, 0, 0, 1, 0, 0, 0, 31], &[0, 0, 0, 5], b"world", &[0, 0, 0, 6], b"anyone", &[0; 4],
            &[255, 255, 255, 255, 1, 255, 255, 255, 255],
        ]
        .concat();
        assert_eq!(multi, expected);
    }
}
