//! The tree of znodes that the cluster's metadata lives in, whoever provides it.
//!
//! Owns: the seam between those who decide about metadata and the service that keeps it. Must not
//! know: what the znodes mean.
//!
//! A call gives a future, for a later provider asks over the network: an external ZooKeeper, or the
//! keeper of a quorum. A blocking call could not be driven by a simulation, where the one who
//! blocks and the one who is to answer are the same thread. The price stays outside of the data
//! paths: brokers answer from [`crate::ClusterMetadata`], which is plain memory, and only the
//! control task and the few requests that change metadata ever await a call.
//!
//! Reads and writes come in lists, so that a provider can pipeline them: loading a cluster or
//! creating a topic then costs a few round trips, whatever its size.
//!
//! Who watches is told *that* something changed, and reads again. So nothing has to be kept for one
//! who is slow or was cut off: what is told of many changes, or of a gap, is "read everything".

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::watch;

pub use crate::changes::{Changed, Changes};
pub use ottla_keeper::{
    ANY_VERSION, CreateMode, Error, Failure, Node, Op, SessionId, Stat, Written, Zxid,
};

/// A call under way. One that is dropped may still be carried out.
pub type Call<'a, T> = Pin<Box<dyn Future<Output = Result<T, TreeError>> + Send + 'a>>;

/// A list of operations of which all are done, or none.
pub type Multi = Vec<Op>;

/// What a [`Multi`] did, operation by operation, or which one failed and why.
pub type MultiResult = Result<Vec<Written>, Failure>;

/// What is watched.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Watch {
    /// A node, there or not: that it is made, written or deleted, and that a child of it is made or
    /// deleted.
    Node(String),
    /// The same, and that a child of it is written. A child is told by its own path.
    Children(String),
}

/// What is known about a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionState {
    /// The provider answers.
    Connected,
    /// The provider cannot be reached at the moment. The session and its ephemeral nodes may be
    /// there still; calls wait, each until its deadline.
    Disconnected,
    /// The session is over, and its ephemeral nodes and its watches with it. Nothing but
    /// [`Tree::renew`] brings another one.
    Expired,
}

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TreeError {
    /// The tree refused it; nothing was written.
    Refused(Failure),
    /// It is larger than the provider takes, or would make the tree so; nothing was written.
    TooLarge {
        /// Which bound it met.
        reason: Arc<str>,
    },
    /// The provider did not answer. A write may or may not have been done.
    Unavailable {
        /// Why.
        reason: Arc<str>,
    },
}

impl TreeError {
    /// Whether the tree refused with `error`.
    #[must_use]
    pub fn is(&self, error: Error) -> bool {
        matches!(self, Self::Refused(failure) if failure.error == error)
    }
}

impl From<Failure> for TreeError {
    fn from(failure: Failure) -> Self {
        Self::Refused(failure)
    }
}

impl fmt::Display for TreeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(Failure { op, error }) => write!(f, "operation {op}: {error}"),
            Self::TooLarge { reason } | Self::Unavailable { reason } => f.write_str(reason),
        }
    }
}

impl std::error::Error for TreeError {}

/// One session with a tree of znodes, and the next one after each that has expired.
///
/// Calls of one session take effect in the order in which they are made, and a read sees all
/// writes that were answered before it.
pub trait Tree: Send + Sync + 'static {
    /// The session that owns the ephemeral nodes this creates.
    fn session(&self) -> SessionId;

    /// What is known about the session, from now on. Only [`SessionState::Expired`] is sure to be
    /// seen: it stays until [`Tree::renew`] is called.
    fn state(&self) -> watch::Receiver<SessionState>;

    /// Begins another session after the former one has expired; does nothing while there is one.
    fn renew(&self) -> Call<'_, ()>;

    /// Ends the session, and with it its ephemeral nodes.
    fn close(&self) -> Call<'_, ()>;

    /// Watches, until what this gives is dropped or the session ends. Who reads after this was
    /// answered is told of every change of what was read, at the latest after a reconnection.
    fn watch(&self, watches: Vec<Watch>) -> Call<'_, Changes>;

    /// Reads nodes, each on its own; `None` for one that does not exist.
    fn get_all(&self, paths: Vec<String>) -> Call<'_, Vec<Option<Node>>>;

    /// Lists the names (not paths) of the children of nodes, each on its own, in no order that a
    /// caller may rely on; `None` for one that does not exist.
    fn children_all(&self, paths: Vec<String>) -> Call<'_, Vec<Option<Vec<String>>>>;

    /// Carries out several multis in order, each on its own: one that is refused does not stop the
    /// others.
    fn multi_all(&self, multis: Vec<Multi>) -> Call<'_, Vec<MultiResult>>;
}

impl dyn Tree {
    /// Reads a node; `None` if it does not exist.
    pub async fn get(&self, path: &str) -> Result<Option<Node>, TreeError> {
        Ok(self.get_all(vec![path.to_owned()]).await?.pop().flatten())
    }

    /// A node's stat; `None` if it does not exist.
    pub async fn exists(&self, path: &str) -> Result<Option<Stat>, TreeError> {
        Ok(self.get(path).await?.map(|node| node.stat))
    }

    /// Lists the names (not paths) of a node's children; `None` if it does not exist.
    pub async fn children(&self, path: &str) -> Result<Option<Vec<String>>, TreeError> {
        Ok(self.children_all(vec![path.to_owned()]).await?.pop().flatten())
    }

    /// Does all operations or none.
    pub async fn multi(&self, ops: Multi) -> Result<Vec<Written>, TreeError> {
        match self.multi_all(vec![ops]).await?.pop() {
            Some(result) => Ok(result?),
            None => Err(TreeError::Unavailable { reason: "no answer to a multi".into() }),
        }
    }

    /// Creates a persistent node.
    pub async fn create(&self, path: &str, data: Option<Vec<u8>>) -> Result<(), TreeError> {
        self.multi(vec![Op::create(path, data)]).await.map(drop)
    }

    /// Replaces a node's data if its version is `version` or that is [`ANY_VERSION`].
    pub async fn set(&self, path: &str, data: Vec<u8>, version: i32) -> Result<Stat, TreeError> {
        match self.multi(vec![Op::set(path, data, version)]).await?.pop() {
            Some(Written::Set { stat }) => Ok(stat),
            _ => Err(TreeError::Unavailable { reason: "no stat in the answer to a set".into() }),
        }
    }

    /// Deletes a node if its version is `version` or that is [`ANY_VERSION`].
    pub async fn delete(&self, path: &str, version: i32) -> Result<(), TreeError> {
        self.multi(vec![Op::delete(path, version)]).await.map(drop)
    }
}
