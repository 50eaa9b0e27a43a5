//! An external ZooKeeper ensemble as a provider of the tree.
//!
//! Owns: the protocol of ZooKeeper's clients (3.6 and later), the session, and what is made of its
//! interruptions. Must not know: what the znodes mean.

mod acl;
mod address;
mod judgement;
mod link;
mod login;
mod lost;
mod packet;
mod sasl;
mod servers;
mod session;
mod tls;
mod watches;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use ottla_keeper::Password;
use ottla_keeper::machine::{Acl, is_valid_path};
use ottla_runtime::{Spawner, World, time};
use ottla_tls::Client;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};

pub use self::address::{ConnectError, ConnectString};
use self::link::{Granted, Link, LinkError, Shown};
use self::packet::{Answer, Ask, Dialect, unavailable};
pub use self::sasl::SaslLogin;
use self::servers::Servers;
use self::session::{Job, Request, Session, Shared, expired};
use self::watches::WatcherId;
use crate::changes::{Changes, Inbox};
use crate::session_file::SessionFile;
use crate::state::State;
use crate::tree::{
    Call, Error, Failure, Multi, MultiResult, Node, Op, SessionId, SessionState, Tree, TreeError,
    Watch, Zxid,
};

/// A request with more bytes is not sent: the servers take no more (`jute.maxbuffer`), and hang up.
const REQUEST_BYTES_MAX: usize = 0xf_ffff;

/// After how long servers of which none could be reached are tried again.
const RETRY: Duration = Duration::from_millis(100);

/// So many nodes are read in one request; fewer if their paths are long.
const READS_AT_ONCE: usize = 256;
const READ_BYTES_MAX: usize = 128 << 10;

/// Who the ensemble is, and how it is spoken with.
#[derive(Clone, Debug)]
pub struct ZooKeeperOptions {
    /// `zookeeper.connect`. The chroot is made if it is missing.
    pub connect: ConnectString,
    /// `zookeeper.session.timeout.ms`: after how long a silence the ensemble ends the session. It
    /// may grant another time. A call that is not answered for so long fails.
    pub session_timeout: Duration,
    /// `zookeeper.connection.timeout.ms`: how long a new session may take to begin.
    pub connection_timeout: Duration,
    /// `zookeeper.max.in.flight.requests`: how many requests are under way unanswered.
    pub in_flight_max: usize,
    /// `zookeeper.set.acl`: whether created nodes belong to who creates them.
    pub set_acl: bool,
    /// Whom each connection shows to be: a scheme of the ensemble and the proof, as in `digest` and
    /// `user:password`.
    pub auths: Vec<(String, Vec<u8>)>,
    /// Whom each connection shows to be by SASL, beside those.
    pub sasl: Option<SaslLogin>,
    /// Who connects by TLS, if connections are to be encrypted.
    pub tls: Option<Client>,
    /// Where the session is kept, so that the next start can end it if this process does not.
    pub session_file: Option<PathBuf>,
}

impl ZooKeeperOptions {
    /// Kafka's defaults for an ensemble.
    #[must_use]
    pub fn new(connect: ConnectString) -> Self {
        Self {
            connect,
            session_timeout: Duration::from_secs(18),
            connection_timeout: Duration::from_secs(18),
            in_flight_max: 10,
            set_acl: false,
            auths: Vec::new(),
            sasl: None,
            tls: None,
            session_file: None,
        }
    }
}

/// A session with an external ZooKeeper ensemble.
///
/// Calls wait while no server can be reached, but not longer than the session's timeout. A call that
/// then fails as unavailable may have been carried out.
pub struct ZooKeeper {
    shared: Arc<Shared>,
    options: ZooKeeperOptions,
    spawner: Spawner,
    state: Arc<State>,
    /// To the session that there is, or was at last.
    jobs: Mutex<mpsc::UnboundedSender<Job>>,
    next_watcher: AtomicU64,
    /// One at a time begins a session.
    renewing: tokio::sync::Mutex<()>,
}

impl fmt::Debug for ZooKeeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ZooKeeper")
            .field("connect", &self.options.connect)
            .field("session", &self.session())
            .finish_non_exhaustive()
    }
}

type Pending<T> = oneshot::Receiver<Result<T, TreeError>>;

impl ZooKeeper {
    /// Ends the session that a crash left behind, if there is one, begins another, and keeps it alive
    /// on the runtime that this is called on.
    pub async fn connect(world: &World, options: ZooKeeperOptions) -> Result<Self, TreeError> {
        let ConnectString { servers, chroot } = options.connect.clone();
        let dialect = Dialect { chroot: chroot.into(), is_secure: options.set_acl };
        let (auths, sasl) = (options.auths.clone(), options.sasl.clone());
        let servers = Servers::new(world, servers, auths, sasl, options.tls.clone());
        let in_flight_max = options.in_flight_max.max(1);
        let (world, last_zxid) = (world.clone(), AtomicI64::new(0));
        let shared = Arc::new(Shared { world, servers, dialect, in_flight_max, last_zxid });
        let state = Arc::new(State::of(SessionId::NONE));
        let (jobs, _) = mpsc::unbounded_channel();
        let tree = Self {
            shared,
            options,
            spawner: Spawner::current(),
            state,
            jobs: Mutex::new(jobs),
            next_watcher: AtomicU64::new(0),
            renewing: tokio::sync::Mutex::default(),
        };
        tree.begin().await?;
        Ok(tree)
    }

    /// The last change of the ensemble that the session's server has, when that has caught up with the
    /// leader.
    pub async fn last_zxid(&self) -> Result<Zxid, TreeError> {
        self.read(Ask::Sync).await?;
        Ok(self.shared.last_zxid.load(Ordering::Relaxed))
    }

    /// Who may do what with a node, if it exists; of each path on its own, refused or not.
    pub async fn acl_all(&self, paths: Vec<String>) -> Vec<Result<Option<Vec<Acl>>, TreeError>> {
        let mut all = Vec::with_capacity(paths.len());
        for pending in self.start(paths.into_iter().map(Ask::Acl).collect()) {
            all.push(self.wait(pending).await.map(|answer| match answer {
                Answer::Acl(acl) => acl,
                _ => None,
            }));
        }
        all
    }

    /// Begins a session in the place of the former one, which is over.
    async fn begin(&self) -> Result<(), TreeError> {
        let (granted, jobs) = self.try_begin().await?;
        // Before any ephemeral node is made.
        if let Some(file) = self.session_file() {
            file.write(granted.session, &granted.password)?;
        }
        *self.jobs.lock() = jobs;
        Ok(())
    }

    async fn try_begin(&self) -> Result<(Granted, mpsc::UnboundedSender<Job>), TreeError> {
        self.end_former().await?;
        let (link, granted) = self.link(SessionId::NONE, Password::default()).await?;
        let (jobs, receiver) = mpsc::unbounded_channel();
        let (shared, state) = (Arc::clone(&self.shared), Arc::clone(&self.state));
        let session = Session::new(shared, state, receiver, granted, 0);
        self.state.renew(granted.session);
        self.spawner.detach(session.run(link));
        // What is known of changes is known from here on, before the first write.
        self.ask(&jobs, &self.shared.dialect, Ask::Sync).await?;
        self.make_chroot(&jobs).await?;
        Ok((granted, jobs))
    }

    /// Ends the session that the file tells of.
    async fn end_former(&self) -> Result<(), TreeError> {
        let Some(file) = self.session_file() else { return Ok(()) };
        let Some((session, password)) = file.read()? else { return Ok(()) };
        let (link, granted) = match self.try_link(session, password).await {
            Ok(linked) => linked,
            // It has ended by itself, or was of another ensemble.
            Err(LinkError::Expired) => return Ok(()),
            Err(error) => return Err(self.link_error(error)),
        };
        let (jobs, receiver) = mpsc::unbounded_channel();
        let (shared, state) = (Arc::clone(&self.shared), Arc::new(State::of(session)));
        let ghost = Session::new(shared, state, receiver, granted, 0);
        self.spawner.detach(ghost.run(link));
        match self.ask(&jobs, &self.shared.dialect, Ask::Close).await {
            Err(error) if !error.is(Error::SessionExpired) => Err(error),
            _ => Ok(()),
        }
    }

    async fn make_chroot(&self, jobs: &mpsc::UnboundedSender<Job>) -> Result<(), TreeError> {
        let chroot = &*self.shared.dialect.chroot;
        let outer = Dialect { chroot: "".into(), ..self.shared.dialect.clone() };
        let ends = chroot.match_indices('/').skip(1).map(|(at, _)| at);
        let ends: Vec<usize> = ends.chain([chroot.len()]).filter(|&end| end > 0).collect();
        for end in ends {
            let create = vec![Op::create(&chroot[..end], None)];
            match self.ask(jobs, &outer, Ask::Write(create)).await? {
                // Whoever may not create it needs to do so only if it is missing.
                Answer::Written(Err(failure))
                    if !matches!(failure.error, Error::NodeExists | Error::NoAuth) =>
                {
                    return Err(failure.into());
                }
                _ => {}
            }
        }
        Ok(())
    }

    async fn link(
        &self,
        session: SessionId,
        password: Password,
    ) -> Result<(Link, Granted), TreeError> {
        self.try_link(session, password).await.map_err(|error| self.link_error(error))
    }

    /// Tries all servers again and again, for as long as a session may take to begin.
    async fn try_link(
        &self,
        session: SessionId,
        password: Password,
    ) -> Result<(Link, Granted), LinkError> {
        let limit = self.options.connection_timeout;
        let timeout_ms =
            i32::try_from(self.options.session_timeout.as_millis()).unwrap_or(i32::MAX);
        let shown = Shown { session, password, known: 0, timeout_ms };
        let deadline = time::now() + limit;
        let mut failure = io::Error::from(io::ErrorKind::TimedOut);
        while time::now() < deadline {
            let left = deadline - time::now();
            let round = self.shared.servers.round(&self.shared.world, shown, left);
            match time::timeout(left, round).await {
                Ok(Err(LinkError::Io(error))) => failure = error,
                Ok(result) => return result,
                Err(_) => break,
            }
            time::sleep(RETRY.min(deadline - time::now())).await;
        }
        let late = format!("no session within {} ms: {failure}", limit.as_millis());
        Err(io::Error::new(failure.kind(), late).into())
    }

    fn link_error(&self, error: LinkError) -> TreeError {
        match error {
            LinkError::Io(error) => self.unreachable(&error.to_string()),
            LinkError::Tls(reason) => self.unreachable(&reason),
            LinkError::AuthFailed(reason) => self.unreachable(&reason),
            LinkError::Expired => self.unreachable("it grants no session"),
        }
    }

    fn unreachable(&self, reason: &str) -> TreeError {
        let connect = &self.options.connect;
        unavailable(&format!("ZooKeeper at {connect} (zookeeper.connect): {reason}"))
    }

    fn session_file(&self) -> Option<SessionFile> {
        let path = self.options.session_file.clone()?;
        Some(SessionFile::new(Arc::clone(&self.shared.world.disk), path))
    }

    /// Asks one thing of a session that is beginning.
    async fn ask(
        &self,
        jobs: &mpsc::UnboundedSender<Job>,
        dialect: &Dialect,
        ask: Ask,
    ) -> Result<Answer, TreeError> {
        let pending = put(jobs, dialect, vec![ask]).pop();
        self.wait(pending.ok_or_else(expired)?).await
    }

    /// Makes requests, which are under way when this returns.
    fn start(&self, asks: Vec<Ask>) -> Vec<Pending<Answer>> {
        put(&self.jobs.lock(), &self.shared.dialect, asks)
    }

    /// Waits for an answer.
    async fn wait(&self, pending: Pending<Answer>) -> Result<Answer, TreeError> {
        let time = self.options.session_timeout;
        match time::timeout(time, pending).await {
            Ok(Ok(answer)) => answer,
            // The session's task is gone, and with it its runtime.
            Ok(Err(_)) => Err(expired()),
            Err(_) => Err(self.unreachable(&format!(
                "no answer within {} ms (zookeeper.session.timeout.ms)",
                time.as_millis()
            ))),
        }
    }

    async fn read(&self, ask: Ask) -> Result<Answer, TreeError> {
        match self.start(vec![ask]).pop() {
            Some(pending) => self.wait(pending).await,
            None => Err(expired()),
        }
    }

    /// Reads what `paths` name, in requests of `ask` of which each is answered by a part of `take`.
    fn read_all<T: Send + 'static>(
        &self,
        paths: Vec<String>,
        ask: fn(Vec<String>) -> Ask,
        take: fn(Answer) -> Option<Vec<T>>,
    ) -> Call<'_, Vec<T>> {
        if let Some(op) = paths.iter().position(|path| !is_valid_path(path)) {
            return Box::pin(async move { Err(Failure { op, error: Error::BadArguments }.into()) });
        }
        let parts = in_parts(paths);
        let pending = self.start(parts.iter().map(|part| ask(part.clone())).collect());
        Box::pin(async move {
            let mut all = Vec::new();
            for (part, pending) in parts.into_iter().zip(pending) {
                match self.wait(pending).await {
                    Err(TreeError::TooLarge { .. }) if part.len() > 1 => {
                        // Each of them may be as large as an answer can be.
                        for path in part {
                            let answer = self.read(ask(vec![path])).await?;
                            all.extend(take(answer).unwrap_or_default());
                        }
                    }
                    answer => all.extend(take(answer?).unwrap_or_default()),
                }
            }
            Ok(all)
        })
    }
}

/// Makes requests of a session.
fn put(
    jobs: &mpsc::UnboundedSender<Job>,
    dialect: &Dialect,
    asks: Vec<Ask>,
) -> Vec<Pending<Answer>> {
    let put = |ask| {
        let (answer, pending) = oneshot::channel();
        let request = Request { ask, dialect: dialect.clone(), answer: Some(answer), lost: 0 };
        if let Err(mpsc::error::SendError(Job::Request(request))) = jobs.send(Job::Request(request))
        {
            request.answer(Err(expired()));
        }
        pending
    };
    asks.into_iter().map(put).collect()
}

/// Lists of paths of which each makes one request.
fn in_parts(paths: Vec<String>) -> Vec<Vec<String>> {
    let mut parts: Vec<Vec<String>> = Vec::new();
    let mut bytes = 0;
    for path in paths {
        bytes += path.len();
        match parts.last_mut() {
            Some(part) if part.len() < READS_AT_ONCE && bytes <= READ_BYTES_MAX => part.push(path),
            _ => {
                bytes = path.len();
                parts.push(vec![path]);
            }
        }
    }
    parts
}

/// Refuses a multi that is not sent at all.
fn refused(dialect: &Dialect, ops: &[Op]) -> Result<(), TreeError> {
    for (op, what) in ops.iter().enumerate() {
        let error = match what {
            Op::Invalid(error) => *error,
            Op::SetAcl { .. } if ops.len() > 1 => Error::BadArguments,
            // Its number makes `/a/` a path.
            Op::Create { path, mode, .. }
                if mode.is_sequential() && is_valid_path(&format!("{path}0")) =>
            {
                continue;
            }
            Op::Create { path, .. }
            | Op::Set { path, .. }
            | Op::Delete { path, .. }
            | Op::SetAcl { path, .. }
            | Op::Check { path, .. }
                if is_valid_path(path) =>
            {
                continue;
            }
            _ => Error::BadArguments,
        };
        return Err(Failure { op, error }.into());
    }
    let mut bytes = Vec::new();
    dialect.request(&mut bytes, 0, &Ask::Write(ops.to_vec()));
    if bytes.len() <= REQUEST_BYTES_MAX {
        return Ok(());
    }
    let reason = format!(
        "a request of {} bytes is more than ZooKeeper takes ({REQUEST_BYTES_MAX}, jute.maxbuffer)",
        bytes.len()
    );
    Err(TreeError::TooLarge { reason: reason.into() })
}

/// Ends a watch when it is dropped.
struct Watching {
    id: WatcherId,
    jobs: mpsc::UnboundedSender<Job>,
}

impl Drop for Watching {
    fn drop(&mut self) {
        // A session that is over watches nothing.
        let _ = self.jobs.send(Job::Unwatch(self.id));
    }
}

impl Tree for ZooKeeper {
    fn session(&self) -> SessionId {
        self.state.session()
    }

    fn state(&self) -> watch::Receiver<SessionState> {
        self.state.subscribe()
    }

    fn renew(&self) -> Call<'_, ()> {
        Box::pin(async move {
            let _alone = self.renewing.lock().await;
            if self.state.get() == SessionState::Expired { self.begin().await } else { Ok(()) }
        })
    }

    fn close(&self) -> Call<'_, ()> {
        let pending = self.start(vec![Ask::Close]).pop();
        Box::pin(async move {
            self.wait(pending.ok_or_else(expired)?).await?;
            self.session_file().map_or(Ok(()), |file| file.remove())
        })
    }

    fn watch(&self, watches: Vec<Watch>) -> Call<'_, Changes> {
        let id = self.next_watcher.fetch_add(1, Ordering::Relaxed);
        let inbox = Inbox::new(watches);
        let (done, pending) = oneshot::channel();
        let jobs = self.jobs.lock().clone();
        let is_over = jobs.send(Job::Watch { id, inbox: Arc::clone(&inbox), done }).is_err();
        let changes = Changes::new(inbox, Watching { id, jobs });
        Box::pin(async move {
            if is_over {
                return Err(expired());
            }
            self.wait(pending).await?;
            Ok(changes)
        })
    }

    fn get_all(&self, paths: Vec<String>) -> Call<'_, Vec<Option<Node>>> {
        self.read_all(paths, Ask::Get, |answer| match answer {
            Answer::Nodes(nodes) => Some(nodes),
            _ => None,
        })
    }

    fn children_all(&self, paths: Vec<String>) -> Call<'_, Vec<Option<Vec<String>>>> {
        self.read_all(paths, Ask::Children, |answer| match answer {
            Answer::Children(children) => Some(children),
            _ => None,
        })
    }

    fn multi_all(&self, multis: Vec<Multi>) -> Call<'_, Vec<MultiResult>> {
        let mut refusals = Vec::new();
        for ops in &multis {
            match refused(&self.shared.dialect, ops) {
                Err(TreeError::Refused(failure)) => refusals.push(Some(failure)),
                Err(error) => return Box::pin(async move { Err(error) }),
                Ok(()) => refusals.push(None),
            }
        }
        let sound = multis.into_iter().zip(&refusals).filter(|(_, refusal)| refusal.is_none());
        // They are under way before they are awaited.
        let mut pending = self.start(sound.map(|(ops, _)| Ask::Write(ops)).collect()).into_iter();
        Box::pin(async move {
            let mut results = Vec::new();
            for refusal in refusals {
                let answer = match refusal {
                    Some(failure) => Err(failure.into()),
                    None => self.wait(pending.next().ok_or_else(expired)?).await,
                };
                results.push(match answer {
                    Ok(Answer::Written(result)) => result,
                    Ok(_) => Ok(Vec::new()),
                    Err(TreeError::Refused(failure)) => Err(failure),
                    // Those that were not sent yet are not, now that nobody waits for them.
                    Err(error) => return Err(error),
                });
            }
            Ok(results)
        })
    }
}
