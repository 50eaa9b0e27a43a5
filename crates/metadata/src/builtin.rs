//! The built-in keeper of this process as a provider of the tree.

use std::fmt;
use std::sync::Arc;

use ottla_keeper::{Keeper, ProposeError, Reply, Request};
use ottla_runtime::Spawner;

use crate::tree::{Call, Multi, MultiResult, Node, SessionId, Tree, TreeError};

/// A session with a [`Keeper`] of the same process.
///
/// Reads are answered from memory at once. A write waits for an fsync, so it runs as a task of its
/// own on `spawner`: that of a worker kept for the keeper in a server, the one runtime of all in a
/// simulation.
pub struct BuiltIn {
    keeper: Arc<Keeper>,
    spawner: Spawner,
    session: SessionId,
}

impl fmt::Debug for BuiltIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BuiltIn").field("session", &self.session).finish_non_exhaustive()
    }
}

impl BuiltIn {
    /// Opens a session. Blocks on the disk: it is meant for the start of a node.
    pub fn connect(keeper: Arc<Keeper>, spawner: Spawner) -> Result<Self, TreeError> {
        let outcome = keeper.propose(SessionId::NONE, Request::OpenSession)?;
        match outcome.result? {
            Reply::SessionOpened(session) => Ok(Self { keeper, spawner, session }),
            reply => Err(TreeError::Unavailable { reason: format!("{reply:?}").into() }),
        }
    }

    /// Ends the session and with it its ephemeral nodes. Blocks on the disk: it is meant for the
    /// stop of a node.
    pub fn close(&self) -> Result<(), TreeError> {
        self.keeper.propose(self.session, Request::CloseSession)?.result?;
        Ok(())
    }
}

impl Tree for BuiltIn {
    fn session(&self) -> SessionId {
        self.session
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
        let keeper = Arc::clone(&self.keeper);
        let session = self.session;
        let requests = multis.into_iter().map(|ops| (session, Request::Write(ops))).collect();
        let task = self.spawner.spawn(async move { keeper.propose_all(requests) });
        Box::pin(async move {
            let outcomes = task.await?.into_iter();
            Ok(outcomes
                .map(|outcome| match outcome.result {
                    Ok(Reply::Written(written)) => Ok(written),
                    Ok(Reply::SessionOpened(_) | Reply::SessionClosed) => Ok(Vec::new()),
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
            ProposeError::Stopped { .. } => Self::Unavailable { reason },
        }
    }
}
