//! One client's connection.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use base64::Engine;
use ottla_runtime::net::{Stream, read_exact, write_all};
use ottla_runtime::time;
use sha1::{Digest, Sha1};
use tokio::sync::mpsc;

use super::jute::{Reader, Write, frame};
use super::number::code;
use super::reply::{self, Look, reply};
use super::request::{self, Answer, Asked};
use super::{Shared, words};
use crate::machine::{
    Caller, Command, Error, Event, Identity, Outcome, Password, Reply, Request, SessionId, Watcher,
};
use crate::shell::{ProposeError, Proposed};

/// A client has so long to begin its session.
const START_TIME: Duration = Duration::from_secs(10);

/// A request to connect is no longer than this.
const START_BYTES_MAX: usize = 1024;

/// So many requests of a client are under way; more are not read.
const QUEUE_MAX: usize = 1000;

/// Nothing is read or answered while so many bytes wait for the client to take them.
const OUT_BYTES_MAX: usize = 4 << 20;

/// How much is read at once.
const READ_BYTES: usize = 16 << 10;

/// A client's connection, after its session began.
pub(super) struct Connection {
    shared: Arc<Shared>,
    stream: Box<dyn Stream>,
    /// Whom the client has shown to be.
    shown: Vec<Identity>,
    caller: Caller,
    timeout: Duration,
    /// When the keeper was told last that the client is there.
    heard: Duration,
    watcher: Watcher,
    events: mpsc::Receiver<Event>,
    /// What came and is not a whole packet yet.
    input: Vec<u8>,
    /// What the client has not taken yet, from `sent` on.
    out: Vec<u8>,
    sent: usize,
    /// Requests in their order.
    queue: VecDeque<Waiting>,
    /// Nothing is read any more: what is queued is answered, and then the connection ends.
    is_ending: bool,
}

/// A request that is not answered yet.
struct Waiting {
    xid: i32,
    came: Duration,
    what: What,
}

enum What {
    Write(Proposed, WriteAnswer),
    /// A write that is proposed when all reads before it are done: they must not see it.
    Unproposed(Request, WriteAnswer),
    /// It is done when all requests before it are answered.
    Later(Asked),
}

enum WriteAnswer {
    One(Answer),
    Multi(Vec<i32>),
    Sync(String),
    Close,
}

/// The connection ends.
struct End;

impl From<io::Error> for End {
    fn from(_: io::Error) -> Self {
        Self
    }
}

impl From<ProposeError> for End {
    fn from(_: ProposeError) -> Self {
        Self
    }
}

impl Connection {
    /// Serves a client until it goes, or must.
    pub(super) async fn run(shared: Arc<Shared>, stream: Box<dyn Stream>, peer: SocketAddr) {
        // Whoever is slow to begin is no client.
        let started = time::timeout(START_TIME, Self::start(Arc::clone(&shared), stream, peer));
        let Ok(Ok(Some(mut connection))) = started.await else { return };
        shared.statistics.connected(connection.watcher, peer, connection.caller.session);
        let _ = poll_fn(|cx| connection.poll(cx)).await;
        shared.statistics.disconnected(connection.watcher);
        shared.keeper.drop_client(connection.watcher);
    }

    /// Answers a four-letter word, or begins a session.
    async fn start(
        shared: Arc<Shared>,
        stream: Box<dyn Stream>,
        peer: SocketAddr,
    ) -> Result<Option<Self>, End> {
        let mut length = [0; 4];
        read_exact(&*stream, &mut length).await?;
        if let Some(answer) = words::answer(&shared, &length) {
            write_all(&*stream, answer.as_bytes()).await?;
            return Ok(None);
        }
        let length = i32::from_be_bytes(length);
        let length = usize::try_from(length).ok().filter(|length| *length <= START_BYTES_MAX);
        let mut packet = vec![0; length.ok_or(End)?];
        read_exact(&*stream, &mut packet).await?;
        let asked = Connect::read(&packet).ok_or(End)?;
        if asked.known > shared.keeper.read(|tree| tree.last_zxid()) {
            // The client has seen what this voter has not yet: it finds another one.
            return Ok(None);
        }
        let begun = begin(&shared, &asked).await?;
        let mut answer = Vec::new();
        asked.answer(&mut answer, begun);
        write_all(&*stream, &answer).await?;
        let Some((caller, timeout_ms, _)) = begun else { return Ok(None) };
        let shown = vec![Identity::new("ip", &peer.ip().to_canonical().to_string())];
        let (watcher, events) = shared.keeper.add_client(caller, shown.clone());
        if shared.keeper.read(|tree| tree.check_session(caller).is_err()) {
            // It went on elsewhere, or ended, when this client could not be told of it yet.
            shared.keeper.drop_client(watcher);
            return Ok(None);
        }
        let heard = shared.clock.elapsed();
        Ok(Some(Self {
            shared,
            stream,
            shown,
            caller,
            timeout: Duration::from_millis(timeout_ms.into()),
            heard,
            watcher,
            events,
            input: Vec::new(),
            out: Vec::new(),
            sent: 0,
            queue: VecDeque::new(),
            is_ending: false,
        }))
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        loop {
            let mut is_moved = self.take_events(cx)?;
            is_moved |= self.answer(cx)?;
            is_moved |= self.send(cx)?;
            is_moved |= self.receive(cx)?;
            if self.is_ending && self.queue.is_empty() && self.out.is_empty() {
                return Poll::Ready(Ok(()));
            }
            if !is_moved {
                return Poll::Pending;
            }
        }
    }

    /// Whether the client takes what it is sent.
    fn has_room(&self) -> bool {
        self.out.len() - self.sent < OUT_BYTES_MAX
    }

    /// Puts what is to be told into the output.
    fn take_events(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        let mut is_moved = false;
        // Events that are left where they are count against a client that does not take them.
        while !self.is_ending
            && self.has_room()
            && let Poll::Ready(event) = self.events.poll_recv(cx)
        {
            let Some(event) = event else {
                // The session is over, or this voter cannot serve it. If the client ended it
                // itself, it is told so.
                let is_closing =
                    |waiting: &Waiting| matches!(waiting.what, What::Write(_, WriteAnswer::Close));
                if !self.queue.iter().any(is_closing) {
                    return Err(End);
                }
                self.is_ending = true;
                break;
            };
            reply::event(&mut self.out, &event);
            is_moved = true;
        }
        Ok(is_moved)
    }

    /// Answers those requests at the head of the queue that can be.
    fn answer(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        let mut is_moved = false;
        while self.has_room()
            && let Some(Waiting { xid, came, what }) = self.queue.pop_front()
        {
            match what {
                What::Write(mut proposed, answer) => match Pin::new(&mut proposed).poll(cx) {
                    Poll::Pending => {
                        let what = What::Write(proposed, answer);
                        self.queue.push_front(Waiting { xid, came, what });
                        break;
                    }
                    Poll::Ready(outcomes) => {
                        let outcome = outcomes?.pop().ok_or(End)?;
                        // What it changed is told before it is answered.
                        self.take_events(cx)?;
                        self.answer_write(xid, &outcome, &answer);
                    }
                },
                What::Unproposed(request, answer) => {
                    let what = self.propose(request, answer)?;
                    self.queue.push_front(Waiting { xid, came, what });
                    continue;
                }
                What::Later(asked) => {
                    self.answer_later(xid, asked);
                    if self.is_ending {
                        // What came behind a refusal that ends the connection was never asked.
                        self.queue.clear();
                    } else {
                        self.propose_next()?;
                    }
                }
            }
            self.shared.statistics.answered(self.shared.clock.elapsed().saturating_sub(came));
            is_moved = true;
        }
        Ok(is_moved)
    }

    fn answer_write(&mut self, xid: i32, outcome: &Outcome, answer: &WriteAnswer) {
        let out = &mut self.out;
        let head = (xid, outcome.zxid);
        if let Err(failure) = &outcome.result {
            if failure.error == Error::SessionMoved {
                // The client is elsewhere by now, and must not hear there that its session is not: it
                // is this connection that has lost it (ZOOKEEPER-710).
                self.is_ending = true;
                self.queue.clear();
                return;
            }
            let code = code::of(failure.error);
            if code == code::SESSION_EXPIRED {
                self.is_ending = true;
            }
            if let WriteAnswer::Multi(kinds) = answer {
                let result = Err(*failure);
                return reply(out, head, Ok(|out: &mut Vec<u8>| reply::multi(out, kinds, &result)));
            }
            return reply(out, head, Err::<fn(&mut Vec<u8>), _>(code));
        }
        let written = match &outcome.result {
            Ok(Reply::Written(written)) => written.clone(),
            _ => Vec::new(),
        };
        match answer {
            WriteAnswer::One(answer) => reply(
                out,
                head,
                Ok(|out: &mut Vec<u8>| {
                    written.iter().for_each(|written| reply::written(out, written, *answer));
                }),
            ),
            WriteAnswer::Multi(kinds) => {
                reply(out, head, Ok(|out: &mut Vec<u8>| reply::multi(out, kinds, &Ok(written))));
            }
            WriteAnswer::Sync(path) => reply(out, head, Ok(|out: &mut Vec<u8>| out.text(path))),
            WriteAnswer::Close => {
                reply(out, head, Ok(|_: &mut Vec<u8>| {}));
                self.is_ending = true;
            }
        }
    }

    fn answer_later(&mut self, xid: i32, asked: Asked) {
        let Self { shared, events, out, shown, caller, watcher, .. } = self;
        let (mut body, mut told) = (Vec::new(), Vec::new());
        let (zxid, result) = shared.keeper.watch(|tree, watches| {
            // While the tree is looked at, nothing changes: these are all events of before.
            while let Ok(event) = events.try_recv() {
                reply::event(out, &event);
            }
            let (watcher, session) = (*watcher, caller.session);
            let mut look = Look { tree, watches, watcher, shown, session };
            let result = match &asked {
                Asked::Read(read) => look.read(&mut body, read),
                Asked::MultiRead(reads) => {
                    look.read_all(&mut body, reads);
                    Ok(())
                }
                Asked::SetWatches(wanted) => {
                    told = look.set_watches(wanted);
                    Ok(())
                }
                Asked::AddWatch { path, kind } => {
                    look.watches.add(watcher, *kind, path);
                    body.i32(0);
                    Ok(())
                }
                Asked::Watches { path, kinds, is_removal } => {
                    let is_found = look.find_watches(path, kinds, *is_removal);
                    if is_found { Ok(()) } else { Err(code::NO_WATCHER) }
                }
                Asked::WhoAmI => {
                    body.i32(look.shown.len() as i32);
                    for identity in look.shown {
                        body.text(&identity.scheme);
                        let (name, _) = identity.id.split_once(':').unwrap_or((&identity.id, ""));
                        body.text(if &*identity.scheme == "digest" { name } else { &identity.id });
                    }
                    Ok(())
                }
                Asked::Refused { code, .. } => Err(*code),
                _ => Ok(()),
            };
            (tree.last_zxid(), result)
        });
        told.iter().for_each(|event| reply::event(out, event));
        // ZooKeeper answers this before it looks at the tree.
        let zxid = if matches!(asked, Asked::Shown) { 0 } else { zxid };
        let result = result.map(|()| |out: &mut Vec<u8>| out.extend_from_slice(&body));
        reply(out, (xid, zxid), result);
        if let Asked::Refused { is_end: true, .. } = asked {
            self.is_ending = true;
        }
    }

    /// Sends what the client takes.
    fn send(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        let mut is_moved = false;
        while self.sent < self.out.len() {
            match self.stream.try_write(&self.out[self.sent..], false) {
                Ok(written) => {
                    self.sent += written;
                    is_moved = true;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    match self.stream.poll_writable(cx)? {
                        Poll::Ready(()) => {}
                        Poll::Pending => return Ok(is_moved),
                    }
                }
                Err(_) => return Err(End),
            }
        }
        self.out.clear();
        self.out.shrink_to(READ_BYTES);
        self.sent = 0;
        Ok(is_moved)
    }

    /// Reads packets, as many as may be under way.
    fn receive(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        let mut is_moved = false;
        while !self.is_ending && self.queue.len() < QUEUE_MAX && self.has_room() {
            if self.take_packet()? {
                is_moved = true;
                continue;
            }
            let start = self.input.len();
            self.input.resize(start + READ_BYTES, 0);
            let read = self.stream.try_read(&mut self.input[start..]);
            self.input.truncate(start + read.as_ref().map_or(0, |read| *read));
            match read {
                Ok(0) => return Err(End),
                Ok(_) => is_moved = true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if self.stream.poll_readable(cx)?.is_pending() {
                        break;
                    }
                }
                Err(_) => return Err(End),
            }
        }
        Ok(is_moved)
    }

    /// Takes a whole packet off the input, if there is one.
    fn take_packet(&mut self) -> Result<bool, End> {
        let Some(length) = self.input.first_chunk::<4>() else { return Ok(false) };
        let length = usize::try_from(i32::from_be_bytes(*length)).map_err(|_| End)?;
        if length > self.shared.options.packet_bytes_max {
            return Err(End);
        }
        if self.input.len() < 4 + length {
            return Ok(false);
        }
        let rest = self.input.split_off(4 + length);
        let packet = std::mem::replace(&mut self.input, rest);
        let now = self.shared.clock.elapsed();
        self.shared.statistics.received();
        if now >= self.heard + self.timeout / 8 {
            self.heard = now;
            self.shared.keeper.hear(vec![self.caller.session]);
        }
        self.take_request(&packet[4..], now)?;
        Ok(true)
    }

    fn take_request(&mut self, packet: &[u8], came: Duration) -> Result<(), End> {
        let mut packet = Reader::new(packet);
        let (xid, kind) = packet.i32().and_then(|xid| Ok((xid, packet.i32()?))).map_err(|_| End)?;
        let asked = request::read(kind, &mut packet, &self.shown);
        let what = match asked {
            Asked::Write(op, answer) => {
                What::Unproposed(Request::Write(vec![op]), WriteAnswer::One(answer))
            }
            Asked::Multi(ops) => {
                let (ops, kinds) = reply::split(ops);
                What::Unproposed(Request::Write(ops), WriteAnswer::Multi(kinds))
            }
            Asked::Sync(path) => What::Unproposed(Request::Sync, WriteAnswer::Sync(path)),
            Asked::CloseSession => What::Unproposed(Request::CloseSession, WriteAnswer::Close),
            Asked::Auth { scheme, auth } => What::Later(match self.show(&scheme, &auth) {
                Some(()) => Asked::Shown,
                None => Asked::Refused { code: code::AUTH_FAILED, is_end: true },
            }),
            asked => What::Later(asked),
        };
        let is_behind_writes =
            self.queue.back().is_none_or(|last| matches!(last.what, What::Write(..)));
        let what = match what {
            What::Unproposed(request, answer) if is_behind_writes => {
                self.propose(request, answer)?
            }
            what => what,
        };
        self.queue.push_back(Waiting { xid, came, what });
        Ok(())
    }

    /// Proposes the writes that no read is before any more.
    fn propose_next(&mut self) -> Result<(), End> {
        for at in 0..self.queue.len() {
            let waiting = &mut self.queue[at];
            match &waiting.what {
                What::Write(..) => {}
                What::Later(_) => break,
                What::Unproposed(..) => {
                    let what = std::mem::replace(&mut waiting.what, What::Later(Asked::Ping));
                    if let What::Unproposed(request, answer) = what {
                        self.queue[at].what = self.propose(request, answer)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn propose(&self, request: Request, answer: WriteAnswer) -> Result<What, End> {
        let command = Command { caller: self.caller, shown: self.shown.clone(), request };
        let refused = |code| Ok(What::Later(Asked::Refused { code, is_end: false }));
        match self.shared.keeper.propose(vec![command]) {
            Ok(proposed) => Ok(What::Write(proposed, answer)),
            Err(ProposeError::TreeFull { .. }) => refused(code::QUOTA_EXCEEDED),
            Err(ProposeError::TooLarge { .. }) => refused(code::SYSTEM_ERROR),
            Err(_) => Err(End),
        }
    }

    /// Notes whom the client shows to be. `None` if that is not to be believed.
    fn show(&mut self, scheme: &str, auth: &[u8]) -> Option<()> {
        match scheme {
            // Known from the connection.
            "ip" => {}
            "digest" => {
                // As ZooKeeper reads it: any bytes, and without a colon all of them are the name.
                let text = String::from_utf8_lossy(auth);
                let user = text.split(':').next().unwrap_or_default();
                let hash = Sha1::digest(text.as_bytes());
                let hash = base64::engine::general_purpose::STANDARD.encode(hash);
                let identity = Identity::new("digest", &format!("{user}:{hash}"));
                if !self.shown.contains(&identity) {
                    self.shown.push(identity);
                    self.shared.keeper.show(self.watcher, self.shown.clone());
                }
            }
            _ => return None,
        }
        Some(())
    }
}

/// A client's request to begin a session or to go on with one.
struct Connect {
    /// The last change that the client knows of.
    known: i64,
    timeout_ms: i32,
    session: SessionId,
    password: Password,
    /// Clients since 3.4 ask whether a voter that may only read is good enough.
    has_read_only: bool,
}

/// A session that has begun or goes on, with its timeout and its password.
type Begun = (Caller, u32, Password);

impl Connect {
    fn read(packet: &[u8]) -> Option<Self> {
        let mut input = Reader::new(packet);
        let _version = input.i32().ok()?;
        let (known, timeout_ms) = (input.i64().ok()?, input.i32().ok()?);
        let session = SessionId(input.i64().ok()?);
        let password = input.buffer().ok()?.unwrap_or_default();
        // One of another length is that of no session.
        let password = Password(password.try_into().unwrap_or_default());
        Some(Self { known, timeout_ms, session, password, has_read_only: !input.is_empty() })
    }

    fn answer(&self, out: &mut Vec<u8>, begun: Option<Begun>) {
        let (caller, timeout_ms, password) = begun.unwrap_or_default();
        frame(out, |out| {
            out.i32(0);
            out.i32(i32::try_from(timeout_ms).unwrap_or(i32::MAX));
            out.i64(caller.session.0);
            out.buffer(Some(&password.0));
            if self.has_read_only {
                out.bool(false);
            }
        });
    }
}

/// Opens or attaches the session; `None` if it has expired.
async fn begin(shared: &Shared, asked: &Connect) -> Result<Option<Begun>, End> {
    let (least, most) = shared.options.session_timeout_ms;
    let timeout_ms = u32::try_from(asked.timeout_ms).unwrap_or(0).clamp(least, most);
    let (request, password) = match asked.session {
        SessionId::NONE => {
            let password = Password(shared.random.bytes16());
            (Request::OpenSession { timeout_ms, password }, password)
        }
        _ => (Request::Attach { password: asked.password }, asked.password),
    };
    let caller = Caller { session: asked.session, attachment: 0 };
    let command = Command { caller, shown: Vec::new(), request };
    let outcome = shared.keeper.propose(vec![command])?.await?.pop().ok_or(End)?;
    Ok(match outcome.result {
        Ok(Reply::SessionOpened(caller)) => Some((caller, timeout_ms, password)),
        Ok(Reply::Attached { timeout_ms, attachment }) => {
            Some((Caller { attachment, ..caller }, timeout_ms, password))
        }
        _ => None,
    })
}
