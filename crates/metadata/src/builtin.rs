//! The built-in keeper of this process as a provider of the tree.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use ottla_keeper::machine::{Event, Identity, WatchKind, Watcher};
use ottla_keeper::{Caller, Command, Keeper, Outcome, Password, ProposeError, Reply, Request};
use ottla_runtime::{Spawner, Task, time};
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};

use crate::changes::{Changes, Inbox};
use crate::session_file::SessionFile;
use crate::state::State;
use crate::tree::{
    Call, Error, Failure, Multi, MultiResult, Node, SessionId, SessionState, Tree, TreeError, Watch,
};

/// After how long a silence the session ends: `zookeeper.session.timeout.ms`.
const TIMEOUT_MS: u32 = 18_000;

/// After how long a keeper is asked again that did not answer and knows of no other leader since.
const RETRY: Duration = Duration::from_millis(200);

/// A session with a [`Keeper`] of the same process, which someone else drives.
///
/// Reads are answered from memory at once.
pub struct BuiltIn {
    keeper: Arc<Keeper>,
    password: Password,
    file: Option<SessionFile>,
    spawner: Spawner,
    state: Arc<State>,
    current: Mutex<Current>,
    /// One at a time opens a session.
    renewing: tokio::sync::Mutex<()>,
}

/// The session that there is, or was at last.
struct Current {
    caller: Caller,
    _tasks: [Task<()>; 2],
}

impl fmt::Debug for BuiltIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BuiltIn").field("session", &self.session()).finish_non_exhaustive()
    }
}

impl BuiltIn {
    /// Opens a session, and keeps it alive from the runtime that this is called on; `password` is one
    /// that nobody else can know. The session that `file` tells of, which a crash has left behind, is
    /// ended before, and the new one kept there.
    pub async fn connect(
        keeper: Arc<Keeper>,
        password: Password,
        file: Option<SessionFile>,
    ) -> Result<Self, TreeError> {
        let spawner = Spawner::current();
        end_former(&keeper, file.as_ref()).await?;
        let caller = open_session(&keeper, password, file.as_ref()).await?;
        let state = Arc::new(State::of(caller.session));
        let current = Mutex::new(Current::new(&keeper, caller, &spawner, &state));
        let renewing = Default::default();
        Ok(Self { keeper, password, file, spawner, state, current, renewing })
    }

    fn caller(&self) -> Caller {
        self.current.lock().caller
    }
}

async fn open_session(
    keeper: &Keeper,
    password: Password,
    file: Option<&SessionFile>,
) -> Result<Caller, TreeError> {
    let request = Request::OpenSession { timeout_ms: TIMEOUT_MS, password };
    match propose(keeper, Caller::default(), request).await?.result? {
        Reply::SessionOpened(caller) => {
            // Before any ephemeral node is made.
            file.map_or(Ok(()), |file| file.write(caller.session, &password))?;
            Ok(caller)
        }
        reply => Err(TreeError::Unavailable { reason: format!("{reply:?}").into() }),
    }
}

/// Ends the session that the file tells of, if it has not ended by itself.
async fn end_former(keeper: &Keeper, file: Option<&SessionFile>) -> Result<(), TreeError> {
    let former = file.map_or(Ok(None), SessionFile::read)?;
    let Some((session, password)) = former else { return Ok(()) };
    let caller = Caller { session, attachment: 0 };
    let attached = propose(keeper, caller, Request::Attach { password }).await?;
    if let Ok(Reply::Attached { attachment, .. }) = attached.result {
        let caller = Caller { attachment, ..caller };
        propose(keeper, caller, Request::CloseSession).await?.result?;
    }
    Ok(())
}

impl Current {
    fn new(keeper: &Arc<Keeper>, caller: Caller, spawner: &Spawner, state: &Arc<State>) -> Self {
        let beats = keep_alive(Arc::downgrade(keeper), caller.session);
        let looks = look_after(Client::new(keeper, caller), caller, Arc::clone(state));
        Self { caller, _tasks: [spawner.spawn(beats), spawner.spawn(looks)] }
    }
}

/// It does not hold the keeper: a task that is dropped ends a while later, and the directory would be
/// locked until then.
async fn keep_alive(keeper: Weak<Keeper>, session: SessionId) {
    while let Some(keeper) = keeper.upgrade() {
        keeper.hear(vec![session]);
        drop(keeper);
        time::sleep(Duration::from_millis(u64::from(TIMEOUT_MS) / 3)).await;
    }
}

/// Notes the state of a session until it is over.
async fn look_after(mut client: Client, caller: Caller, state: Arc<State>) {
    loop {
        // It watches nothing: what is told is the end.
        while client.events.recv().await.is_some() {}
        let Some(keeper) = client.keeper.upgrade() else { return };
        if is_over(&keeper, caller) {
            return state.note(caller.session, SessionState::Expired);
        }
        state.note(caller.session, SessionState::Disconnected);
        client = Client::new(&keeper, caller);
        let weak = Arc::downgrade(&keeper);
        drop(keeper);
        if !answers(&weak, caller).await {
            return;
        }
        state.note(caller.session, SessionState::Connected);
    }
}

/// Waits until the keeper has a leader again; `false` if it is gone.
async fn answers(keeper: &Weak<Keeper>, caller: Caller) -> bool {
    loop {
        let Some((mut statuses, proposed)) = keeper.upgrade().map(|keeper| {
            (keeper.statuses(), keeper.propose(vec![Command::new(caller, Request::Sync)]))
        }) else {
            return false;
        };
        let is_answered = match proposed {
            Ok(proposed) => proposed.await.is_ok(),
            Err(_) => false,
        };
        if is_answered {
            return true;
        }
        // It may know its leader before it reaches it.
        if matches!(time::timeout(RETRY, statuses.changed()).await, Ok(Err(_))) {
            return false;
        }
    }
}

fn is_over(keeper: &Keeper, caller: Caller) -> bool {
    keeper.read(|tree| tree.check_session(caller)).is_err()
}

/// A client of the keeper, for as long as it is kept.
struct Client {
    keeper: Weak<Keeper>,
    watcher: Watcher,
    events: mpsc::Receiver<Event>,
}

impl Client {
    fn new(keeper: &Arc<Keeper>, caller: Caller) -> Self {
        let (watcher, events) = keeper.add_client(caller, vec![Identity::superuser()]);
        Self { keeper: Arc::downgrade(keeper), watcher, events }
    }

    /// A client that watches.
    fn watching(keeper: &Arc<Keeper>, caller: Caller, wanted: &[Watch]) -> Self {
        let client = Self::new(keeper, caller);
        keeper.watch(|_, watches| {
            for watch in wanted {
                let (kind, path) = match watch {
                    Watch::Node(path) => (WatchKind::Persistent, path),
                    Watch::Children(path) => (WatchKind::Recursive, path),
                };
                watches.add(client.watcher, kind, path);
            }
        });
        client
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if let Some(keeper) = self.keeper.upgrade() {
            keeper.drop_client(self.watcher);
        }
    }
}

/// Passes on what a client is told, until its session is over.
async fn pass_on(mut client: Client, caller: Caller, inbox: Arc<Inbox>) {
    loop {
        while let Some(event) = client.events.recv().await {
            inbox.tell(&event.path, event.kind);
        }
        let Some(keeper) = client.keeper.upgrade() else { break };
        if is_over(&keeper, caller) {
            break;
        }
        // It took its time, or this voter could not serve for a while.
        client = Client::watching(&keeper, caller, inbox.watches());
        inbox.tell_all();
    }
    inbox.end();
}

async fn propose(keeper: &Keeper, caller: Caller, request: Request) -> Result<Outcome, TreeError> {
    let mut outcomes = keeper.propose(vec![Command::new(caller, request)])?.await?;
    Ok(outcomes.pop().expect("one outcome for one command"))
}

impl Tree for BuiltIn {
    fn session(&self) -> SessionId {
        self.state.session()
    }

    fn state(&self) -> watch::Receiver<SessionState> {
        self.state.subscribe()
    }

    fn renew(&self) -> Call<'_, ()> {
        Box::pin(async move {
            let _alone = self.renewing.lock().await;
            if is_over(&self.keeper, self.caller()) {
                let caller = open_session(&self.keeper, self.password, self.file.as_ref()).await?;
                self.state.renew(caller.session);
                *self.current.lock() =
                    Current::new(&self.keeper, caller, &self.spawner, &self.state);
            }
            Ok(())
        })
    }

    fn close(&self) -> Call<'_, ()> {
        Box::pin(async move {
            propose(&self.keeper, self.caller(), Request::CloseSession).await?.result?;
            self.file.as_ref().map_or(Ok(()), SessionFile::remove)
        })
    }

    fn watch(&self, watches: Vec<Watch>) -> Call<'_, Changes> {
        Box::pin(async move {
            let caller = self.caller();
            let inbox = Inbox::new(watches);
            let client = Client::watching(&self.keeper, caller, inbox.watches());
            if is_over(&self.keeper, caller) {
                return Err(Failure { op: 0, error: Error::SessionExpired }.into());
            }
            let passing = self.spawner.spawn(pass_on(client, caller, Arc::clone(&inbox)));
            Ok(Changes::new(inbox, passing))
        })
    }

    fn get_all(&self, paths: Vec<String>) -> Call<'_, Vec<Option<Node>>> {
        Box::pin(async move {
            Ok(self.keeper.read(|tree| paths.iter().map(|path| tree.get(path)).collect()))
        })
    }

    fn children_all(&self, paths: Vec<String>) -> Call<'_, Vec<Option<Vec<String>>>> {
        Box::pin(async move {
            Ok(self.keeper.read(|tree| {
                let names = |path: &String| {
                    tree.children(path).map(|names| names.map(str::to_owned).collect())
                };
                paths.iter().map(names).collect()
            }))
        })
    }

    fn multi_all(&self, multis: Vec<Multi>) -> Call<'_, Vec<MultiResult>> {
        let caller = self.caller();
        let write = |ops| Command::new(caller, Request::Write(ops));
        // It is under way before it is awaited, and goes on if it never is.
        let proposed = self.keeper.propose(multis.into_iter().map(write).collect());
        Box::pin(async move {
            let outcomes = proposed?.await?.into_iter();
            Ok(outcomes
                .map(|outcome| match outcome.result {
                    Ok(Reply::Written(written)) => Ok(written),
                    Ok(_) => Ok(Vec::new()),
                    Err(failure) => Err(failure),
                })
                .collect())
        })
    }
}

impl From<ProposeError> for TreeError {
    fn from(error: ProposeError) -> Self {
        let reason = error.to_string().into();
        match error {
            ProposeError::TreeFull { .. } | ProposeError::TooLarge { .. } => {
                Self::TooLarge { reason }
            }
            ProposeError::NoLeader | ProposeError::LeaderLost | ProposeError::Stopped { .. } => {
                Self::Unavailable { reason }
            }
        }
    }
}
