//! A client: draws what to ask, asks one server, and takes down what it was told.
//!
//! Owns: its session, and how it goes on when a connection ends. It knows of a request that was not
//! answered only that. Must not know: faults, the judge.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use ottla_fake::{Answered, Asked, Seen};

use super::history::{Call, History, Life, Time};
use super::wire::{Answer, Code, Connection, EPHEMERAL, Request, SEQUENTIAL, Session};
use crate::noise::Noise;

/// So many znodes are asked for at the same time.
const LANES: usize = 4;
/// So many calls clients make of one znode before they go on to another one, or so many that nobody knows
/// the answer of: the judge's search grows with them.
const CALLS: usize = 60;
const UNKNOWN: usize = 6;
/// Between two requests a client does nothing for up to this.
const PAUSE_MICROS_MAX: u64 = 30_000;
/// After a server that takes no connection.
const RETRY: Duration = Duration::from_millis(20);

/// What clients share.
pub(super) struct Board {
    servers: Vec<SocketAddr>,
    begun: Instant,
    /// Reads are made without a sync before them, which is wrong.
    reads_stale: bool,
    is_over: AtomicBool,
    lanes: Mutex<Lanes>,
}

struct Lanes {
    lanes: [Lane; LANES],
    znodes: usize,
    numbers: u32,
}

#[derive(Clone, Copy, Default)]
struct Lane {
    znode: usize,
    calls: usize,
    unknown: usize,
}

impl Board {
    pub(super) fn new(servers: Vec<SocketAddr>, begun: Instant, reads_stale: bool) -> Self {
        let lanes = std::array::from_fn(|znode| Lane { znode, ..Lane::default() });
        let lanes = Mutex::new(Lanes { lanes, znodes: LANES, numbers: 0 });
        Self { servers, begun, reads_stale, is_over: AtomicBool::new(false), lanes }
    }

    pub(super) fn now(&self) -> Time {
        self.begun.elapsed()
    }

    /// Clients end what they are at, and do not go on.
    pub(super) fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    /// How many znodes were asked for.
    pub(super) fn znodes(&self) -> usize {
        self.lock().znodes
    }

    /// Nobody panics with it in the middle of a change.
    fn lock(&self) -> MutexGuard<'_, Lanes> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A znode to ask for, and a number that nobody else has.
    fn enter(&self, dice: &mut Noise) -> (usize, u32) {
        let mut lanes = self.lock();
        let at = dice.below(LANES as u64) as usize;
        let lane = lanes.lanes[at];
        if lane.calls >= CALLS || lane.unknown >= UNKNOWN {
            lanes.lanes[at] = Lane { znode: lanes.znodes, ..Lane::default() };
            lanes.znodes += 1;
        }
        lanes.lanes[at].calls += 1;
        lanes.numbers += 1;
        (lanes.lanes[at].znode, lanes.numbers)
    }

    fn note_unknown(&self, znode: usize) {
        let mut lanes = self.lock();
        if let Some(lane) = lanes.lanes.iter_mut().find(|lane| lane.znode == znode) {
            lane.unknown += 1;
        }
    }
}

/// The path of a znode.
pub(super) fn path(znode: usize) -> String {
    format!("/{znode}")
}

/// One client, which is one thread.
pub(super) struct Client<'a> {
    pub(super) number: usize,
    pub(super) dice: Noise,
    pub(super) board: &'a Board,
    pub(super) history: History,
    /// What no server may answer.
    pub(super) strange: Vec<String>,
    connection: Option<Connection>,
    /// The one that the connection had; its id is 0 if the next one begins anew.
    session: Session,
    server: usize,
}

impl<'a> Client<'a> {
    pub(super) fn new(number: usize, mut dice: Noise, board: &'a Board) -> Self {
        let server = dice.below(board.servers.len() as u64) as usize;
        Self {
            number,
            dice,
            board,
            history: History::default(),
            strange: Vec::new(),
            connection: None,
            session: Session::default(),
            server,
        }
    }

    pub(super) fn run(mut self) -> Self {
        while !self.board.is_over.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_micros(self.dice.below(PAUSE_MICROS_MAX)));
            match self.connection.take() {
                Some(connection) => self.ask(connection),
                None => self.connect(),
            }
        }
        self
    }

    /// Goes on with the session at the next server, or begins a new one.
    fn connect(&mut self) {
        self.server = (self.server + 1) % self.board.servers.len();
        let called = self.board.now();
        match Connection::open(self.board.servers[self.server], self.session) {
            Ok(Some(connection)) => {
                self.session = connection.session;
                self.note_alive(called);
                self.connection = Some(connection);
            }
            Ok(None) => self.note_end(),
            Err(_) => thread::sleep(RETRY),
        }
    }

    fn life(&mut self) -> &mut Life {
        self.history.lives.entry(self.session.id).or_default()
    }

    fn note_alive(&mut self, called: Time) {
        let life = self.life();
        life.alive = life.alive.max(called);
    }

    /// The server has said that the session is over.
    fn note_end(&mut self) {
        let now = self.board.now();
        self.life().ended = Some(now);
        self.session = Session::default();
    }

    fn ask(&mut self, mut connection: Connection) {
        let (znode, number) = self.board.enter(&mut self.dice);
        let asked = self.draw(number);
        let called = self.board.now();
        let answer = exchange(&mut connection, &asked, &path(znode), !self.board.reads_stale);
        let time = self.board.now();
        self.session = connection.session;
        let answered = match answer {
            Ok(Told::Answered(answered)) => {
                self.note_alive(called);
                self.connection = Some(connection);
                Some(answered)
            }
            Ok(Told::Expired) => {
                self.note_end();
                Some(Answered::Nothing)
            }
            Ok(Told::Strange(code)) => {
                self.strange.push(format!("{time:?}: {asked:?} of {}: {code:?}", path(znode)));
                None
            }
            // A read that was not answered did nothing.
            Err(_) => (asked == Asked::Read).then_some(Answered::Nothing),
        };
        let is_end = matches!(asked, Asked::End(_));
        if is_end {
            if answered == Some(Answered::Done) {
                self.note_end();
            }
            self.connection = None;
            self.session = Session::default();
            return;
        }
        if answered.is_none() {
            self.board.note_unknown(znode);
            // Another one leaves its session to expire, and the lock with it.
            if self.dice.below(3) == 0 {
                self.session = Session::default();
            }
        }
        let answer = answered.map(|answered| (time, answered));
        self.history.calls.push(Call { client: self.number, znode, asked, called, answer });
    }

    fn draw(&mut self, number: u32) -> Asked {
        if self.board.reads_stale && self.dice.below(4) > 0 {
            return Asked::Read;
        }
        match self.dice.below(20) {
            0..4 => Asked::Create(number),
            4..7 => Asked::Set(number, None),
            7..11 => Asked::Set(number, Some(self.dice.below(4) as i32)),
            11 => Asked::Delete,
            12..14 => Asked::Append,
            14 | 15 => Asked::Lock(self.session.id),
            16 if self.dice.below(2) == 0 => Asked::End(self.session.id),
            _ => Asked::Read,
        }
    }
}

enum Told {
    Answered(Answered),
    /// The session is over, and nothing was done.
    Expired,
    Strange(Code),
}

/// Asks, and says what the answer means.
fn exchange(
    connection: &mut Connection,
    asked: &Asked,
    path: &str,
    is_synced: bool,
) -> io::Result<Told> {
    let any = -1;
    let (child, lock) = (format!("{path}/s_"), format!("{path}/lock"));
    let bytes =
        if let &(Asked::Create(number) | Asked::Set(number, _)) = asked { number } else { 0 };
    let data = &bytes.to_be_bytes();
    let requests = match *asked {
        Asked::Create(_) => vec![Request::Create { path, data, flags: 0 }],
        Asked::Set(_, version) => {
            vec![Request::Set { path, data, version: version.unwrap_or(any) }]
        }
        Asked::Delete => vec![Request::Delete { path }],
        Asked::Append => vec![Request::Create { path: &child, data: &[], flags: SEQUENTIAL }],
        Asked::Lock(_) => vec![Request::Create { path: &lock, data: &[], flags: EPHEMERAL }],
        Asked::End(_) => vec![Request::Close],
        Asked::Read if is_synced => vec![Request::Sync, Request::Get { path }],
        Asked::Read => vec![Request::Get { path }],
    };
    let answers = connection.ask(&requests)?;
    if let Some(Err(code)) = answers.iter().rev().skip(1).find(|answer| answer.is_err()) {
        return Ok(failure(asked, *code));
    }
    let Some(last) = answers.into_iter().last() else { return Err(io::ErrorKind::Other.into()) };
    Ok(match last {
        Ok(body) => Told::Answered(success(asked, &mut Answer(&body))?),
        Err(code) => failure(asked, code),
    })
}

fn success(asked: &Asked, body: &mut Answer<'_>) -> io::Result<Answered> {
    Ok(match asked {
        Asked::Append => {
            let made = body.text()?;
            let number = made.len().checked_sub(10).and_then(|at| made[at..].parse().ok());
            Answered::Number(number.ok_or(io::ErrorKind::InvalidData)?)
        }
        Asked::Set(..) => Answered::Version(body.stat()?.version),
        Asked::Read => {
            let number = body.buffer()?.try_into().map_err(|_| io::ErrorKind::InvalidData)?;
            let (number, stat) = (u32::from_be_bytes(number), body.stat()?);
            let children = stat.children as u32;
            Answered::Found(Some(Seen { number, version: stat.version, children }))
        }
        Asked::Create(_) | Asked::Delete | Asked::Lock(_) | Asked::End(_) => Answered::Done,
    })
}

fn failure(asked: &Asked, code: Code) -> Told {
    Told::Answered(match (asked, code) {
        (Asked::Read, Code::NO_NODE) => Answered::Found(None),
        (_, Code::NO_NODE) => Answered::NoNode,
        (_, Code::NODE_EXISTS) => Answered::NodeExists,
        (_, Code::BAD_VERSION) => Answered::BadVersion,
        (_, Code::NOT_EMPTY) => Answered::NotEmpty,
        (_, Code::SESSION_EXPIRED) => return Told::Expired,
        (_, code) => return Told::Strange(code),
    })
}
