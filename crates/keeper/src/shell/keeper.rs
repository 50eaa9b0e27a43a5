//! The handle of a voter.

use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use ottla_runtime::{Clock, World, task, time};
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::OpenError;
use super::contacts::{Contacts, Greeting, Refusal};
use super::core::{Answer, Core, Input, Round};
use super::peers::Peers;
use super::served::Served;
use super::storage::{Opened, Storage};
use super::tool::Ask;
use crate::machine::quorum::{Member, Membership, Peer, Timing, Voter, VoterId};
use crate::machine::{
    Caller, Command, Event, Identity, SessionId, Tree, Watcher, Watches, encode_commands,
};

/// How large things may grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The memory of the tree in bytes, as [`Tree::bytes`] estimates it. What would go beyond is
    /// refused; deleting is always possible.
    pub tree_bytes: usize,
    /// One proposal in bytes, as the log encodes it.
    pub proposal_bytes: usize,
    /// The log in bytes. Once it is longer than this, and longer than the last snapshot, a snapshot
    /// is written and the log begun anew. So the directory never holds more than two snapshots (one
    /// being replaced) and a log of the larger of both, and what snapshots cost stays in proportion
    /// to what was written.
    pub log_bytes: u64,
}

impl Default for Limits {
    /// 1 GiB of tree, 16 MiB in a proposal, 16 MiB of log.
    fn default() -> Self {
        Self { tree_bytes: 1 << 30, proposal_bytes: 16 << 20, log_bytes: 16 << 20 }
    }
}

/// What a voter is made of.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its directory.
    pub dir: PathBuf,
    /// Itself, and where it listens for other voters: nowhere if the address is empty.
    pub own: Peer,
    /// The quorum that a new directory begins; one without this belongs to none, until the leader of
    /// a quorum calls or a tool founds one.
    pub founding: Option<Membership>,
    /// How large things may grow.
    pub limits: Limits,
    /// The clockwork of the quorum.
    pub timing: Timing,
}

/// What a voter is at present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// What it does.
    pub role: Role,
    /// The term that it is in.
    pub term: u64,
    /// The leader that it has heard of lately.
    pub leader: Option<VoterId>,
}

/// What a voter does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It is the quorum.
    Alone,
    /// It leads, and has heard of a majority lately.
    Leader,
    /// It follows a leader that it has heard of lately.
    Follower,
    /// It knows of no leader.
    Searching,
    /// Nothing any more: [`Keeper::failure`] says why.
    Stopped,
}

/// So long a leader waits for its successor.
const HAND_OVER_TIME: Duration = Duration::from_millis(500);

/// Why a proposal was not taken, or what became of it is not known.
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
    /// The quorum has no leader at the moment that this voter knows of; nothing was written.
    NoLeader,
    /// The quorum lost its leader in between: the proposal may be done, or never will be.
    LeaderLost,
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
            Self::NoLeader => f.write_str("the keeper's quorum has no leader"),
            Self::LeaderLost => f.write_str("the keeper's quorum lost its leader meanwhile"),
            Self::Stopped { reason } => write!(f, "the keeper has stopped: {reason}"),
        }
    }
}

impl std::error::Error for ProposeError {}

/// The tree of znodes, the directory that makes it durable, and the voter that orders its changes.
///
/// Lock order: core, then tree, then clients; what came in and the contacts are locked for themselves. A reader waits for
/// no disk: the tree is locked for writing only while durable entries are applied to it.
pub struct Keeper {
    clock: Arc<dyn Clock>,
    limits: Limits,
    core: Mutex<Core>,
    served: Served,
    inputs: Mutex<Vec<Input>>,
    /// Something came in.
    came: Notify,
    status: watch::Sender<Status>,
    pub(super) contacts: Mutex<Contacts>,
    pub(super) peers: Peers,
}

/// A proposal under way. It is carried out even if this is dropped.
#[derive(Debug)]
pub struct Proposed(oneshot::Receiver<Answer>);

impl Future for Proposed {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        // The keeper forgets no one who waits, but it may be dropped.
        Pin::new(&mut self.0).poll(cx).map(|answer| answer.unwrap_or(Err(ProposeError::LeaderLost)))
    }
}

impl Proposed {
    /// The answer, if it is there already.
    pub fn now(&mut self) -> Option<Answer> {
        self.0.try_recv().ok()
    }
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl Keeper {
    /// Opens the directory of a voter, making it if missing. A voter that is alone elects itself at
    /// once, and has committed what its log holds when this returns.
    pub fn open(world: &World, options: &Options) -> Result<Self, OpenError> {
        let Options { dir, own, founding, limits, timing } = options;
        let voter = own.voter;
        let disk = Arc::clone(&world.disk);
        let opened = Storage::open(disk, dir, own, founding.as_ref(), &*world.random)?;
        let Opened { storage, tree, remembered } = opened;
        let (seed, now) = (world.random.next_u64(), world.clock.elapsed());
        let member = Member::new(voter, remembered, *timing, seed, now).ok_or_else(|| {
            OpenError::corrupt(&dir.join("log"), 0, "terms do not follow on each other")
        })?;
        // Numbers of a former life are not used again, for nobody counts that far.
        let number = world.random.next_u64() >> 1;
        let core = Core::new(voter.id, member, storage, number);
        let status = watch::Sender::new(core.status(now));
        let keeper = Self {
            clock: Arc::clone(&world.clock),
            limits: *limits,
            core: Mutex::new(core),
            served: Served::new(tree),
            inputs: Mutex::default(),
            came: Notify::new(),
            status,
            contacts: Mutex::new(Contacts::new(own.clone())),
            peers: Peers::default(),
        };
        keeper.put(Input::Called);
        keeper.step();
        let stopped = keeper.core.lock().stopped().map(ToString::to_string);
        match stopped {
            None => Ok(keeper),
            Some(reason) => Err(OpenError::io(dir)(std::io::Error::other(reason))),
        }
    }

    /// Proposes commands. They are applied one right after the other, and each on its own: one that
    /// is refused does not stop the others. Someone must run [`Keeper::drive`].
    pub fn propose(&self, commands: Vec<Command>) -> Result<Proposed, ProposeError> {
        let mut bytes = Vec::new();
        encode_commands(&commands, &mut bytes);
        if bytes.len() > self.limits.proposal_bytes {
            return Err(ProposeError::TooLarge { limit: self.limits.proposal_bytes });
        }
        let growth: usize = commands.iter().map(|command| Tree::growth(&command.request)).sum();
        if growth > 0 && self.served.tree().bytes() + growth > self.limits.tree_bytes {
            return Err(ProposeError::TreeFull { limit: self.limits.tree_bytes });
        }
        let (answer, answered) = oneshot::channel();
        self.put(Input::Commands(bytes, answer));
        Ok(Proposed(answered))
    }

    /// Looks at the tree as the last applied entry left it. Writes wait while `look` runs.
    pub fn read<T>(&self, look: impl FnOnce(&Tree) -> T) -> T {
        look(&self.served.tree())
    }

    /// Looks at the tree as the last applied entry left it, and may set watches on what it sees.
    pub fn watch<T>(&self, look: impl FnOnce(&Tree, &mut Watches) -> T) -> T {
        self.served.watch(look)
    }

    /// A client that goes on with the session of `caller`, for [`Keeper::watch`]. It is to end when
    /// its events do: its session has ended or moved, or this voter cannot serve it any more. When it
    /// ends, [`Keeper::drop_client`] is to be called.
    pub fn add_client(
        &self,
        caller: Caller,
        shown: Vec<Identity>,
    ) -> (Watcher, mpsc::Receiver<Event>) {
        self.served.add_client(caller, shown)
    }

    /// Notes whom a client has shown to be.
    pub fn show(&self, watcher: Watcher, shown: Vec<Identity>) {
        self.served.show(watcher, shown);
    }

    /// Forgets a client and its watches.
    pub fn drop_client(&self, watcher: Watcher) {
        self.served.drop_client(watcher);
    }

    /// Notes that clients of these sessions were heard of. A session that is not heard of for its
    /// timeout is ended.
    pub fn hear(&self, sessions: Vec<SessionId>) {
        self.put(Input::Heard(sessions));
    }

    /// What the voter is at present.
    #[must_use]
    pub fn status(&self) -> Status {
        self.core.lock().status(self.clock.elapsed())
    }

    /// What the voter is, each time that it becomes something else. It ends with the keeper.
    #[must_use]
    pub fn statuses(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    /// Why it does nothing any more, if so.
    #[must_use]
    pub fn failure(&self) -> Option<Arc<str>> {
        self.core.lock().stopped().cloned()
    }

    /// Whether its directory belongs to no quorum yet.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.core.lock().is_waiting()
    }

    /// How many clients and watches there are.
    #[must_use]
    pub fn count_clients(&self) -> (usize, usize) {
        self.served.count()
    }

    /// Works as long as it is polled: sees to what came in, and to what time brings. Blocks on the
    /// disk.
    pub async fn drive(self: Arc<Self>) {
        loop {
            let deadline = task::occupy(|| self.step()).await;
            let wait = deadline.saturating_sub(self.clock.elapsed());
            let _ = time::timeout(wait, self.came.notified()).await;
            // What comes in, and what is to leave, has its turn between two steps of long work.
            task::yield_now().await;
        }
    }

    /// Has another voter lead if this one does, so that the others need not find out that it is gone:
    /// for one that is about to stop. Waits until that is so, but not for long.
    pub async fn hand_over(&self) {
        let (answer, answered) = oneshot::channel();
        self.put(Input::Tool(Ask::HandOver, answer));
        let Ok(Ok(_)) = answered.await else { return };
        let mut statuses = self.statuses();
        let is_over = statuses.wait_for(|status| status.role != Role::Leader);
        // Nobody hears it any more, or it is still the leader: it stops all the same.
        let _ = time::timeout(HAND_OVER_TIME, is_over).await;
    }

    /// Does what is to be done now, and tells when it is to be called again if nothing comes in.
    /// Blocks on the disk.
    pub fn step(&self) -> Duration {
        let mut core = self.core.lock();
        loop {
            let inputs = std::mem::take(&mut *self.inputs.lock());
            let now = self.clock.elapsed();
            if inputs.is_empty() && now < core.deadline() {
                break;
            }
            let round = Round {
                now,
                time_ms: self.clock.wall_ms(),
                served: &self.served,
                limits: &self.limits,
                peers: &self.peers,
                contacts: &self.contacts,
            };
            for (to, letter) in core.round(inputs, &round) {
                self.peers.send(to, &letter);
            }
        }
        if core.is_working() {
            core.work(&self.served);
        }
        let status = core.status(self.clock.elapsed());
        self.status.send_if_modified(|known| std::mem::replace(known, status) != status);
        if core.is_working() { Duration::ZERO } else { core.deadline() }
    }

    /// How this voter introduces itself.
    pub(super) fn greeting(&self, to: Voter) -> Greeting {
        self.contacts.lock().greeting(to)
    }

    /// Hears one who calls, or tells why not.
    pub(super) fn greet(&self, connection: u64, greeting: Greeting) -> Option<Refusal> {
        let refusal = self.contacts.lock().greet(connection, greeting).err();
        self.put(Input::Called);
        refusal
    }

    /// Hands something in.
    pub(super) fn put(&self, input: Input) {
        self.inputs.lock().push(input);
        self.came.notify_one();
    }
}
