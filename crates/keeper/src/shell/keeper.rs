//! The voter that is a quorum by itself.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ottla_runtime::disk::{DirLock, LockError};
use ottla_runtime::{Clock, Disk};
use parking_lot::{Mutex, RwLock};

use super::OpenError;
use super::entry::{Entry, LogId, Payload, Voter};
use super::hard_state::{self, HardState};
use super::log::{Log, payload_bytes};
use super::snapshot;
use crate::machine::{Command, Outcome, Request, SessionId, Tree};

/// How large things may grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The memory of the tree in bytes, as [`Tree::bytes`] estimates it. What would go beyond is
    /// refused; deleting is always possible.
    pub tree_bytes: usize,
    /// One proposal in bytes, as the log encodes it.
    pub proposal_bytes: usize,
    /// The log in bytes. Once it is longer than this, and longer than the last snapshot, the next
    /// proposal writes a snapshot and starts the log anew. So the directory never holds more than
    /// two snapshots (one being replaced) and a log of the larger of both, and what snapshots cost
    /// stays in proportion to what was written.
    pub log_bytes: u64,
}

impl Default for Limits {
    /// 1 GiB of tree, 16 MiB in a proposal, 16 MiB of log.
    fn default() -> Self {
        Self { tree_bytes: 1 << 30, proposal_bytes: 16 << 20, log_bytes: 16 << 20 }
    }
}

/// Why a proposal was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProposeError {
    /// The tree would grow beyond [`Limits::tree_bytes`]; nothing was written.
    TreeFull {
        /// The limit.
        limit: usize,
    },
    /// The proposal is larger than [`Limits::proposal_bytes`]; nothing was written.
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// The disk failed, at this proposal or at an earlier one. Whether this proposal is on disk is
    /// not known; none is taken until the directory is opened again.
    Stopped {
        /// How the disk failed.
        reason: Arc<str>,
    },
}

impl fmt::Display for ProposeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TreeFull { limit } => write!(f, "the tree would exceed {limit} bytes"),
            Self::TooLarge { limit } => write!(f, "the proposal exceeds {limit} bytes"),
            Self::Stopped { reason } => write!(f, "the keeper has stopped: {reason}"),
        }
    }
}

impl std::error::Error for ProposeError {}

/// The tree of znodes and the directory that makes it durable.
///
/// Lock order: storage, then tree. A reader waits for no disk: the tree is locked for writing only
/// while a durable entry is applied to it.
pub struct Keeper {
    clock: Arc<dyn Clock>,
    limits: Limits,
    storage: Mutex<Storage>,
    tree: RwLock<Tree>,
}

struct Storage {
    disk: Arc<dyn Disk>,
    paths: Paths,
    log: Log,
    /// The term that this voter leads.
    term: u64,
    voters: Vec<Voter>,
    /// The size of the last snapshot; 0 where there is none.
    snapshot_bytes: u64,
    /// Why nothing more may be written.
    stopped: Option<Arc<str>>,
    _lock: Box<dyn DirLock>,
}

struct Paths {
    dir: PathBuf,
    log: PathBuf,
    hard_state: PathBuf,
    snapshot: PathBuf,
}

/// What a directory holds before anyone is elected.
struct Recovered {
    log: Log,
    hard_state: HardState,
    tree: Tree,
    voters: Vec<Voter>,
    snapshot_bytes: u64,
    /// Entries whose commitment is not known yet.
    pending: Vec<Entry>,
    /// The highest index that `tree` has applied.
    committed: u64,
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl Keeper {
    /// Opens `dir`, making it if missing, as the only voter of its quorum.
    ///
    /// The voter elects itself in a new term and commits what its log holds. All sessions that the
    /// log knows are ended: a quorum of one serves no one but its own process, so no session
    /// outlives it.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        voter: Voter,
        clock: Arc<dyn Clock>,
        limits: Limits,
    ) -> Result<Self, OpenError> {
        let paths = Paths::new(dir);
        disk.create_dir_all(dir).map_err(OpenError::io(dir))?;
        if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            disk.sync_dir(parent).map_err(OpenError::io(parent))?;
        }
        let lock = lock(&*disk, &dir.join(".lock"))?;
        let mut recovered = recover(&disk, &paths)?;
        let term = elect(&*disk, &paths, &mut recovered, voter)?;

        let Recovered { log, tree, voters, snapshot_bytes, .. } = recovered;
        let storage =
            Storage { disk, paths, log, term, voters, snapshot_bytes, stopped: None, _lock: lock };
        let former: Vec<SessionId> = tree.sessions().collect();
        let keeper = Self { clock, limits, storage: Mutex::new(storage), tree: RwLock::new(tree) };
        if !former.is_empty() {
            let ends = former.into_iter().map(|session| (session, Request::CloseSession));
            keeper.propose_all(ends.collect()).map_err(|error| OpenError::Io {
                path: dir.to_owned(),
                error: std::io::Error::other(error),
            })?;
        }
        Ok(keeper)
    }

    /// Writes one request to the log, waits until it is durable, applies it. Blocks on the disk.
    pub fn propose(&self, session: SessionId, request: Request) -> Result<Outcome, ProposeError> {
        let mut outcomes = self.propose_all(vec![(session, request)])?;
        Ok(outcomes.pop().expect("one outcome for one request"))
    }

    /// Writes requests to the log as one entry with one flush and applies each on its own, in
    /// order: one that is refused does not stop the others. Blocks on the disk.
    pub fn propose_all(
        &self,
        requests: Vec<(SessionId, Request)>,
    ) -> Result<Vec<Outcome>, ProposeError> {
        let time_ms = self.clock.wall_ms();
        let commands: Vec<Command> = requests
            .into_iter()
            .map(|(session, request)| Command { time_ms, session, request })
            .collect();
        let growth: usize = commands.iter().map(|command| Tree::growth(&command.request)).sum();
        let payload = Payload::Normal(commands);
        let bytes = payload_bytes(&payload);
        if bytes.len() > self.limits.proposal_bytes {
            return Err(ProposeError::TooLarge { limit: self.limits.proposal_bytes });
        }

        let mut storage = self.storage.lock();
        if growth > 0 && self.tree.read().bytes() + growth > self.limits.tree_bytes {
            return Err(ProposeError::TreeFull { limit: self.limits.tree_bytes });
        }
        if storage.log.bytes() > self.limits.log_bytes.max(storage.snapshot_bytes) {
            storage.compact(&self.tree.read())?;
        }
        storage.append(&bytes)?;
        let Payload::Normal(commands) = payload else { unreachable!("made above") };
        let mut tree = self.tree.write();
        Ok(commands.iter().map(|command| tree.apply(command)).collect())
    }

    /// Looks at the tree as the last applied entry left it. Writes wait while `look` runs, so it
    /// must not propose.
    pub fn read<T>(&self, look: impl FnOnce(&Tree) -> T) -> T {
        look(&self.tree.read())
    }
}

impl Storage {
    /// Makes an entry durable. A quorum of one has then committed it.
    fn append(&mut self, payload: &[u8]) -> Result<(), ProposeError> {
        self.go_on()?;
        let committed = self.log.last().index;
        let appended = self.log.append(self.term, payload, committed);
        appended.map(drop).map_err(|error| self.stop(&error))
    }

    /// Puts the tree into a snapshot and starts the log anew. A crash in between leaves a snapshot
    /// that holds some or all entries of the log, which recovery skips.
    fn compact(&mut self, tree: &Tree) -> Result<(), ProposeError> {
        self.go_on()?;
        let last = self.log.last();
        let written = snapshot::write(&*self.disk, &self.paths.snapshot, last, &self.voters, tree);
        self.snapshot_bytes = written.map_err(|error| self.stop(&error))?;
        let cleared = self.log.clear();
        cleared.map_err(|error| self.stop(&error))
    }

    fn go_on(&self) -> Result<(), ProposeError> {
        match &self.stopped {
            None => Ok(()),
            Some(reason) => Err(ProposeError::Stopped { reason: Arc::clone(reason) }),
        }
    }

    fn stop(&mut self, error: &std::io::Error) -> ProposeError {
        let reason: Arc<str> = format!("{}: {error}", self.paths.dir.display()).into();
        self.stopped = Some(Arc::clone(&reason));
        ProposeError::Stopped { reason }
    }
}

impl Paths {
    fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            log: dir.join("log"),
            hard_state: dir.join("hard-state"),
            snapshot: dir.join("snapshot"),
        }
    }
}

fn lock(disk: &dyn Disk, path: &Path) -> Result<Box<dyn DirLock>, OpenError> {
    disk.lock(path).map_err(|error| match error {
        LockError::Held { pid } => OpenError::Locked { path: path.to_owned(), pid },
        LockError::Io(error) => OpenError::Io { path: path.to_owned(), error },
    })
}

/// Reads the directory: the snapshot, and the entries after it as far as they are known to be
/// committed. A directory without a log is new, and must then hold nothing else.
fn recover(disk: &Arc<dyn Disk>, paths: &Paths) -> Result<Recovered, OpenError> {
    let hard_state = hard_state::read(&**disk, &paths.hard_state)?;
    let snapshot = snapshot::read(&**disk, &paths.snapshot)?;
    if !disk.exists(&paths.log) {
        if hard_state.is_some() || snapshot.is_some() {
            return Err(OpenError::corrupt(&paths.log, 0, "the file is missing"));
        }
        Log::create(Arc::clone(disk), &paths.log, LogId::default())
            .map_err(OpenError::io(&paths.log))?;
    }
    let opened = Log::open(Arc::clone(disk), &paths.log)?;
    let hard_state = hard_state.unwrap_or_default();
    if opened.log.last().term > hard_state.term {
        return Err(OpenError::corrupt(&paths.hard_state, 0, "the log has a later term"));
    }
    let (applied, mut voters, tree, snapshot_bytes) = match snapshot {
        Some(s) => (s.last.index, s.voters, s.tree, s.bytes),
        None => (0, Vec::new(), Tree::new(), 0),
    };
    if opened.base.index > applied {
        return Err(OpenError::corrupt(
            &paths.snapshot,
            0,
            "it is missing, or too old for the log",
        ));
    }
    if opened.log.last().index < applied {
        return Err(OpenError::corrupt(&paths.log, 0, "it ends before the snapshot"));
    }
    let pending: Vec<Entry> =
        opened.entries.into_iter().filter(|entry| entry.id.index > applied).collect();
    // Membership counts from the moment it is in the log, committed or not (Raft §4.1).
    for entry in &pending {
        if let Payload::Membership(new) = &entry.payload {
            voters.clone_from(new);
        }
    }
    let mut recovered = Recovered {
        log: opened.log,
        hard_state,
        tree,
        voters,
        snapshot_bytes,
        pending,
        committed: applied,
    };
    recovered.commit(opened.committed);
    Ok(recovered)
}

impl Recovered {
    /// Applies the entries up to `index`.
    fn commit(&mut self, index: u64) {
        let known = self.pending.partition_point(|entry| entry.id.index <= index);
        for entry in self.pending.drain(..known) {
            apply(&mut self.tree, &entry.payload);
            self.committed = entry.id.index;
        }
    }
}

/// Makes `voter` the leader of a new term and tells that term: it votes for itself, which is a
/// majority, and commits all that is in its log together with a blank entry of the new term.
fn elect(
    disk: &dyn Disk,
    paths: &Paths,
    recovered: &mut Recovered,
    voter: Voter,
) -> Result<u64, OpenError> {
    if recovered.log.last() == LogId::default() {
        let founding = Payload::Membership(vec![voter]);
        recovered.log.append(0, &payload_bytes(&founding), 0).map_err(OpenError::io(&paths.log))?;
        recovered.voters = vec![voter];
    }
    if recovered.voters != [voter] {
        return Err(OpenError::OtherVoter {
            path: paths.dir.clone(),
            voters: recovered.voters.clone(),
        });
    }
    let term = recovered.hard_state.term + 1;
    recovered.hard_state = HardState { term, voted_for: Some(voter.id) };
    hard_state::write(disk, &paths.hard_state, recovered.hard_state)
        .map_err(OpenError::io(&paths.hard_state))?;
    let committed = recovered.committed;
    let last = recovered
        .log
        .append(term, &payload_bytes(&Payload::Blank), committed)
        .map_err(OpenError::io(&paths.log))?;
    recovered.commit(last.index);
    Ok(term)
}

fn apply(tree: &mut Tree, payload: &Payload) {
    if let Payload::Normal(commands) = payload {
        for command in commands {
            tree.apply(command);
        }
    }
}
