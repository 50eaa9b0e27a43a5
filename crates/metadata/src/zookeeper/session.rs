//! The task of one session: its connections, one after the other, and what is under way on them.
//!
//! Requests go out in the order in which they were made, a bounded number of them unanswered. When a
//! connection is lost, the session goes on upon another one, if it is not over; reads are asked
//! again there, and of each unanswered write it is found out whether it was done ([`lost`]), before
//! anything else is sent.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use ottla_keeper::Password;
use ottla_keeper::machine::Corrupt;
use ottla_keeper::wire::jute::Reader;
use ottla_keeper::wire::number::{code, xid};
use ottla_runtime::{World, time};
use tokio::sync::{mpsc, oneshot};
use tracing::{info, warn};

use super::link::{Granted, Link, LinkError, Packet, Shown};
use super::packet::{Answer, Ask, Dialect, event, ping, unavailable};
use super::servers::Servers;
use super::watches::{WatcherId, Watches};
use crate::changes::Inbox;
use crate::state::State;
use crate::tree::{Error, Failure, Op, SessionId, SessionState, TreeError, Zxid};

/// A write that was under way on so many connections that were lost is given up: it may be what
/// ended them.
const LOST_MAX: u32 = 3;

/// What the task is asked to do.
pub(super) enum Job {
    Request(Request),
    Watch { id: WatcherId, inbox: Arc<Inbox>, done: oneshot::Sender<Result<Answer, TreeError>> },
    Unwatch(WatcherId),
}

/// A request that is not answered yet.
pub(super) struct Request {
    pub(super) ask: Ask,
    pub(super) dialect: Dialect,
    /// Who waits for the answer; `None` if nobody does.
    pub(super) answer: Option<oneshot::Sender<Result<Answer, TreeError>>>,
    /// How many connections were lost with it under way.
    pub(super) lost: u32,
}

/// A request under way.
pub(super) struct Sent {
    pub(super) request: Request,
    xid: i32,
    /// The last zxid that was known when it was sent.
    pub(super) base: Zxid,
}

/// What all sessions of a provider are made of.
pub(super) struct Shared {
    pub(super) world: World,
    pub(super) servers: Servers,
    pub(super) dialect: Dialect,
    pub(super) in_flight_max: usize,
    /// The greatest zxid that any answer has told.
    pub(super) last_zxid: AtomicI64,
}

/// One session.
pub(super) struct Session {
    pub(super) shared: Arc<Shared>,
    pub(super) state: Arc<State>,
    pub(super) jobs: mpsc::UnboundedReceiver<Job>,
    pub(super) id: SessionId,
    password: Password,
    timeout: Duration,
    pub(super) known: Zxid,
    last_xid: i32,
    watches: Watches,
    /// What is to be sent next.
    pub(super) queue: VecDeque<Request>,
    pub(super) under_way: VecDeque<Sent>,
    /// When something was sent last, and when something came.
    sent_at: time::Instant,
    heard_at: time::Instant,
}

/// Why a connection is served no more.
#[derive(Debug)]
pub(super) enum End {
    /// The session was closed, or nobody holds it any more.
    Closed,
    Lost(LinkError),
}

impl From<LinkError> for End {
    fn from(error: LinkError) -> Self {
        Self::Lost(error)
    }
}

impl Request {
    pub(super) fn answer(self, answer: Result<Answer, TreeError>) {
        if let Some(waiting) = self.answer {
            // Who does not wait any more has taken it as unanswered.
            let _ = waiting.send(answer);
        }
    }

    fn is_abandoned(&self) -> bool {
        self.answer.as_ref().is_some_and(oneshot::Sender::is_closed)
    }
}

impl Session {
    pub(super) fn new(
        shared: Arc<Shared>,
        state: Arc<State>,
        jobs: mpsc::UnboundedReceiver<Job>,
        granted: Granted,
        known: Zxid,
    ) -> Self {
        let now = time::now();
        Self {
            shared,
            state,
            jobs,
            id: granted.session,
            password: granted.password,
            timeout: timeout_of(&granted),
            known,
            last_xid: 0,
            watches: Watches::default(),
            queue: VecDeque::new(),
            under_way: VecDeque::new(),
            sent_at: now,
            heard_at: now,
        }
    }

    /// Serves the session, at first on `link`, until it is over or nobody holds it.
    pub(super) async fn run(mut self, mut link: Link) {
        loop {
            let End::Lost(error) = self.serve(&mut link).await else { break };
            drop(link);
            if !matches!(error, LinkError::Expired) {
                warn!(session = %format_args!("{:#x}", self.id.0), ?error, "lost ZooKeeper");
                self.state.note(self.id, SessionState::Disconnected);
            }
            match self.go_on(error).await {
                Some(next) => link = next,
                None => break,
            }
        }
        self.end();
    }

    /// Serves one connection until its end.
    async fn serve(&mut self, link: &mut Link) -> End {
        loop {
            self.send(link);
            if let Err(end) = self.step(link).await {
                return end;
            }
        }
    }

    /// Waits for one thing to happen on a connection, and sees to it.
    async fn step(&mut self, link: &mut Link) -> Result<(), End> {
        let dead_at = self.heard_at + self.timeout * 2 / 3;
        let now = time::now();
        if now >= dead_at {
            let silent = std::io::Error::new(std::io::ErrorKind::TimedOut, "it fell silent");
            return Err(LinkError::from(silent).into());
        }
        if now >= self.sent_at + self.timeout / 3 {
            link.put(ping);
            self.sent_at = now;
        }
        let wait = dead_at.min(self.sent_at + self.timeout / 3) - now;
        match time::timeout(wait, poll_fn(|cx| self.poll(cx, link))).await {
            Ok(Ok(Happened::Came(packet))) => self.handle(packet),
            Ok(Ok(Happened::Asked(Some(job)))) => {
                self.take(job);
                Ok(())
            }
            Ok(Ok(Happened::Asked(None))) => Err(End::Closed),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Ok(()),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>, link: &mut Link) -> Poll<Result<Happened, LinkError>> {
        if let Poll::Ready(packet) = link.poll(cx) {
            return Poll::Ready(packet.map(Happened::Came));
        }
        self.jobs.poll_recv(cx).map(|job| Ok(Happened::Asked(job)))
    }

    fn take(&mut self, job: Job) {
        match job {
            Job::Request(request) => self.queue.push_back(request),
            Job::Watch { id, inbox, done } => {
                // The last of them answers: those before it came before.
                let asks = self.watches.add(id, inbox);
                let mut requests: Vec<_> = asks.into_iter().map(|ask| self.unasked(ask)).collect();
                let mut last = requests.pop().unwrap_or_else(|| self.unasked(Ask::Sync));
                last.answer = Some(done);
                self.queue.extend(requests);
                self.queue.push_back(last);
            }
            Job::Unwatch(id) => {
                for ask in self.watches.remove(id) {
                    let request = self.unasked(ask);
                    self.queue.push_back(request);
                }
            }
        }
    }

    /// A request for whose answer nobody waits.
    fn unasked(&self, ask: Ask) -> Request {
        Request { ask, dialect: self.shared.dialect.clone(), answer: None, lost: 0 }
    }

    /// Sends what there is to be sent, as far as may be under way.
    pub(super) fn send(&mut self, link: &mut Link) {
        while self.under_way.len() < self.shared.in_flight_max
            && let Some(request) = self.queue.pop_front()
        {
            if request.is_abandoned() {
                continue;
            }
            self.last_xid = self.last_xid.checked_add(1).unwrap_or(1);
            let xid = self.last_xid;
            link.put(|out| request.dialect.request(out, xid, &request.ask));
            self.sent_at = time::now();
            self.under_way.push_back(Sent { request, xid, base: self.known });
        }
    }

    fn handle(&mut self, packet: Packet) -> Result<(), End> {
        self.heard_at = time::now();
        match packet.xid {
            xid::PING => return Ok(()),
            xid::EVENT => {
                let body = packet.body.unwrap_or_default();
                let told = event(&mut Reader::new(&body)).map_err(LinkError::from)?;
                if let Some((kind, path)) = told
                    && let Some(path) = self.shared.dialect.inner(path)
                {
                    self.watches.tell(path, kind);
                }
                return Ok(());
            }
            _ => {}
        }
        self.known = self.known.max(packet.zxid);
        self.shared.last_zxid.fetch_max(self.known, Ordering::Relaxed);
        match packet.code {
            code::SESSION_EXPIRED => return Err(LinkError::Expired.into()),
            code::SESSION_MOVED => {
                let moved = std::io::Error::other("it says that the session has moved");
                return Err(LinkError::from(moved).into());
            }
            _ => {}
        }
        // Answers come in the order of the requests.
        let Some(sent) = self.under_way.pop_front_if(|sent| sent.xid == packet.xid) else {
            return Err(LinkError::from(Corrupt { what: "packet" }).into());
        };
        let request = sent.request;
        let is_close = matches!(request.ask, Ask::Close);
        let answer = match &packet.body {
            None => Err(TreeError::TooLarge {
                reason: "an answer of ZooKeeper is longer than 4 MiB".into(),
            }),
            Some(body) => {
                let answer =
                    request.dialect.answer(&request.ask, packet.code, &mut Reader::new(body));
                answer.map_err(LinkError::from)?
            }
        };
        request.answer(answer);
        if is_close { Err(End::Closed) } else { Ok(()) }
    }

    /// Finds another connection for the session, and out what became of what was under way. `None`
    /// if the session is over, or nobody holds it any more.
    async fn go_on(&mut self, mut error: LinkError) -> Option<Link> {
        loop {
            if matches!(error, LinkError::Expired) {
                return None;
            }
            let mut link = self.reattach().await?;
            (self.sent_at, self.heard_at) = (time::now(), time::now());
            match self.recover(&mut link).await {
                Ok(()) => {
                    self.state.note(self.id, SessionState::Connected);
                    return Some(link);
                }
                Err(End::Closed) => return None,
                Err(End::Lost(lost)) => error = lost,
            }
        }
    }

    /// Tries one server after the other until one goes on with the session.
    async fn reattach(&mut self) -> Option<Link> {
        let (mut wait, mut refused) = (Duration::from_millis(50), None);
        loop {
            let shown = Shown {
                session: self.id,
                password: self.password,
                known: self.known,
                timeout_ms: i32::try_from(self.timeout.as_millis()).unwrap_or(i32::MAX),
            };
            let shared = Arc::clone(&self.shared);
            match shared.servers.round(&shared.world, shown, self.timeout).await {
                Ok((link, granted)) => {
                    info!(session = %format_args!("{:#x}", self.id.0), "back at ZooKeeper");
                    self.timeout = timeout_of(&granted);
                    return Some(link);
                }
                Err(LinkError::Expired) => return None,
                Err(LinkError::AuthFailed(reason)) => {
                    if refused.as_ref() != Some(&reason) {
                        warn!(%reason, "ZooKeeper does not let the session go on");
                    }
                    refused = Some(reason);
                }
                // A certificate may be replaced while the session's time runs.
                Err(LinkError::Tls(reason)) => {
                    let reason = reason.into();
                    if refused.as_ref() != Some(&reason) {
                        warn!(%reason, "ZooKeeper and this broker do not come to terms on TLS");
                    }
                    refused = Some(reason);
                }
                // The session's time runs, as far as it has not run out: someone may answer yet.
                Err(LinkError::Io(_)) => {}
            }
            // Who gave up waiting takes no memory.
            while let Ok(job) = self.jobs.try_recv() {
                self.take(job);
            }
            self.queue.retain(|request| !request.is_abandoned());
            if self.jobs.is_closed() && self.jobs.is_empty() {
                return None;
            }
            time::sleep(wait).await;
            wait = (wait * 2).min(Duration::from_secs(1));
        }
    }

    /// Makes the connection what the former one was.
    async fn recover(&mut self, link: &mut Link) -> Result<(), End> {
        // First of all, so that whoever reads from here on is told of every later change.
        for ask in self.watches.all() {
            self.ask(link, ask).await?;
        }
        self.judge_lost(link).await?;
        self.watches.tell_all();
        Ok(())
    }

    /// Sees to what was under way on the connection that was lost: what is to be asked again stands
    /// at the head of the queue, in its order.
    async fn judge_lost(&mut self, link: &mut Link) -> Result<(), End> {
        // From its answer on, nothing of the former connection can be done any more: requests go one
        // after the other through each server, and one that comes from where the session was before
        // is refused.
        self.ask(link, Ask::Sync).await?;
        let lost = std::mem::take(&mut self.under_way);
        let (writes, reads): (Vec<_>, Vec<_>) =
            lost.into_iter().enumerate().partition(|(_, sent)| {
                matches!(sent.request.ask, Ask::Write(_)) && !sent.request.is_abandoned()
            });
        let mut again = reads;
        let result = self.judge_writes(link, writes, &mut again).await;
        again.sort_unstable_by_key(|(at, _)| *at);
        for (_, mut sent) in again.into_iter().rev() {
            sent.request.lost += 1;
            if result.is_err() {
                // The judgement is still to come.
                self.under_way.push_front(sent);
            } else if sent.request.lost > LOST_MAX {
                sent.request.answer(Err(unavailable("ZooKeeper hung up at this again and again")));
            } else {
                self.queue.push_front(sent.request);
            }
        }
        result
    }

    /// Asks one thing while nothing else is under way.
    pub(super) async fn ask(&mut self, link: &mut Link, ask: Ask) -> Result<Answer, End> {
        let (sender, mut answer) = oneshot::channel();
        let mut request = self.unasked(ask);
        request.answer = Some(sender);
        // What was under way on the former connection stays aside meanwhile.
        let aside = std::mem::take(&mut self.under_way);
        let waiting = std::mem::replace(&mut self.queue, VecDeque::from([request]));
        self.send(link);
        self.queue = waiting;
        let result = loop {
            if let Err(end) = self.step(link).await {
                break Err(end);
            }
            match answer.try_recv() {
                Ok(Ok(answer)) => break Ok(answer),
                Ok(Err(error)) => {
                    let refused = std::io::Error::other(error.to_string());
                    break Err(LinkError::from(refused).into());
                }
                Err(_) => {}
            }
        };
        self.under_way = aside;
        result
    }

    /// Tells everyone that the session is over.
    fn end(&mut self) {
        self.state.note(self.id, SessionState::Expired);
        self.watches.end();
        self.jobs.close();
        for sent in std::mem::take(&mut self.under_way) {
            let is_write = matches!(&sent.request.ask, Ask::Write(ops) if !only_checks(ops));
            sent.request.answer(Err(if is_write {
                unavailable("the session with ZooKeeper ended while this was under way: it may have been done")
            } else {
                expired()
            }));
        }
        while let Ok(job) = self.jobs.try_recv() {
            self.take(job);
        }
        std::mem::take(&mut self.queue)
            .into_iter()
            .for_each(|request| request.answer(Err(expired())));
        self.watches.end();
    }
}

enum Happened {
    Came(Packet),
    Asked(Option<Job>),
}

fn only_checks(ops: &[Op]) -> bool {
    ops.iter().all(|op| matches!(op, Op::Check { .. }))
}

fn timeout_of(granted: &Granted) -> Duration {
    Duration::from_millis(u64::from(granted.timeout_ms.unsigned_abs()))
}

/// There is no session; nothing was done.
pub(super) fn expired() -> TreeError {
    Failure { op: 0, error: Error::SessionExpired }.into()
}
