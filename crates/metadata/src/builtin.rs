//! The built-in keeper of this process as a provider of the tree.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use ottla_keeper::{Caller, Command, Keeper, Outcome, Password, ProposeError, Reply, Request};
use ottla_runtime::{Spawner, Task, time};

use crate::tree::{Call, Multi, MultiResult, Node, SessionId, Tree, TreeError};

/// After how long a silence the session ends: `zookeeper.session.timeout.ms`.
const TIMEOUT_MS: u32 = 18_000;

/// A session with a [`Keeper`] of the same process, which someone else drives.
///
/// Reads are answered from memory at once.
pub struct BuiltIn {
    keeper: Arc<Keeper>,
    caller: Caller,
    _heartbeat: Task<()>,
}

impl fmt::Debug for BuiltIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BuiltIn").field("session", &self.caller.session).finish_non_exhaustive()
    }
}

impl BuiltIn {
    /// Opens a session, and keeps it alive from the runtime that this is called on; `password` is one
    /// that nobody else can know.
    pub async fn connect(keeper: Arc<Keeper>, password: Password) -> Result<Self, TreeError> {
        let request = Request::OpenSession { timeout_ms: TIMEOUT_MS, password };
        let outcome = propose(&keeper, Caller::default(), request).await?;
        match outcome.result? {
            Reply::SessionOpened(caller) => {
                let beats = keep_alive(Arc::downgrade(&keeper), caller.session);
                let heartbeat = Spawner::current().spawn(beats);
                Ok(Self { keeper, caller, _heartbeat: heartbeat })
            }
            reply => Err(TreeError::Unavailable { reason: format!("{reply:?}").into() }),
        }
    }

    /// Ends all sessions that there are, and with them their ephemeral nodes: those of a keeper that
    /// serves its own process alone did not outlive that process.
    pub async fn end_former_sessions(keeper: &Keeper) -> Result<(), TreeError> {
        let former: Vec<Caller> = keeper.read(|tree| tree.sessions().collect());
        let end = |caller| Command::new(caller, Request::CloseSession);
        keeper.propose(former.into_iter().map(end).collect())?.await?;
        Ok(())
    }

    /// Ends the session and with it its ephemeral nodes.
    pub async fn close(&self) -> Result<(), TreeError> {
        propose(&self.keeper, self.caller, Request::CloseSession).await?.result?;
        Ok(())
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

async fn propose(keeper: &Keeper, caller: Caller, request: Request) -> Result<Outcome, TreeError> {
    let mut outcomes = keeper.propose(vec![Command::new(caller, request)])?.await?;
    Ok(outcomes.pop().expect("one outcome for one command"))
}

impl Tree for BuiltIn {
    fn session(&self) -> SessionId {
        self.caller.session
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
        let write = |ops| Command::new(self.caller, Request::Write(ops));
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
