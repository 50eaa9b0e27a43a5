//! What is asked of the tree and what it answers.

use std::fmt;
use std::sync::Arc;

use super::acl::{AccessList, Identity};
use super::node::{Password, SessionId, Stat, Zxid};

/// The version that matches every version.
pub const ANY_VERSION: i32 = -1;

/// One write of one client, with all that its replay needs but the time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Who asks.
    pub caller: Caller,
    /// Whom the caller has shown to be.
    pub shown: Vec<Identity>,
    /// What it asks.
    pub request: Request,
}

impl Command {
    /// What the keeper's own process asks, which may do everything.
    #[must_use]
    pub fn new(caller: Caller, request: Request) -> Self {
        Self { caller, shown: vec![Identity::superuser()], request }
    }
}

/// Who asks: a session, by the connection that it was last opened or attached on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Caller {
    /// The session; [`SessionId::NONE`] where one is to be opened.
    pub session: SessionId,
    /// The number of its attachment, which is another one on each connection: what is still under
    /// way from an earlier one is refused by it.
    pub attachment: i64,
}

/// What a session can ask of the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// A new session.
    OpenSession {
        /// After how long a silence it is ended.
        timeout_ms: u32,
        /// What it must show to be attached again.
        password: Password,
    },
    /// The session goes on upon another connection, maybe to another voter.
    Attach {
        /// That which it was opened with.
        password: Password,
    },
    /// The end of the session, and with it of its ephemeral nodes.
    CloseSession,
    /// All of the operations, or none: ZooKeeper's multi, and any single write.
    Write(Vec<Op>),
    /// The end of those of these nodes whose time has come: containers without children, and nodes
    /// that outlived their time.
    Sweep(Vec<String>),
    /// Nothing: whoever reads when this was applied sees all that was answered before it was asked.
    Sync,
}

/// One operation of a [`Request::Write`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Makes a node. Its parent must exist and must not be ephemeral.
    Create {
        /// Where; of a sequential node, what comes before its number.
        path: String,
        /// The node's data; null and empty differ.
        data: Option<Arc<[u8]>>,
        /// How it lives and is named.
        mode: CreateMode,
        /// Who may do what with it.
        acl: AccessList,
    },
    /// Replaces a node's data.
    Set {
        /// Which node.
        path: String,
        /// Its new data.
        data: Option<Arc<[u8]>>,
        /// The version it must have, or [`ANY_VERSION`].
        version: i32,
    },
    /// Removes a node without children.
    Delete {
        /// Which node.
        path: String,
        /// The version it must have, or [`ANY_VERSION`].
        version: i32,
    },
    /// Replaces who may do what with a node.
    SetAcl {
        /// Which node.
        path: String,
        /// Who may do what with it from here on.
        acl: AccessList,
        /// The version that its list must have, or [`ANY_VERSION`].
        version: i32,
    },
    /// Fails: what a client asked is wrong in itself. It is put into the log all the same, as
    /// ZooKeeper does: within a multi it fails in its place, and it has a zxid.
    Invalid(Error),
    /// Changes nothing, and fails where the node is missing or has another version.
    Check {
        /// Which node.
        path: String,
        /// The version it must have, or [`ANY_VERSION`].
        version: i32,
    },
}

/// How a created node lives and is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CreateMode {
    /// It stays until it is deleted.
    Persistent,
    /// It goes with the session that made it.
    Ephemeral,
    /// As [`CreateMode::Persistent`], with the parent's counter (`%010d`) after its path.
    PersistentSequential,
    /// As [`CreateMode::Ephemeral`], with the parent's counter (`%010d`) after its path.
    EphemeralSequential,
    /// It goes some time after its last child.
    Container,
    /// It goes when it has no children and was not written for so many milliseconds.
    Ttl(i64),
    /// As [`CreateMode::Ttl`], with the parent's counter (`%010d`) after its path.
    TtlSequential(i64),
}

impl CreateMode {
    /// Whether the node goes with its session.
    #[must_use]
    pub fn is_ephemeral(self) -> bool {
        matches!(self, Self::Ephemeral | Self::EphemeralSequential)
    }

    /// Whether a number is put after its path.
    #[must_use]
    pub fn is_sequential(self) -> bool {
        matches!(
            self,
            Self::PersistentSequential | Self::EphemeralSequential | Self::TtlSequential(_)
        )
    }
}

impl Op {
    /// Makes a persistent node.
    pub fn create(path: impl Into<String>, data: Option<Vec<u8>>) -> Self {
        Self::create_as(path, data, CreateMode::Persistent)
    }

    /// Makes a node of a mode.
    pub fn create_as(path: impl Into<String>, data: Option<Vec<u8>>, mode: CreateMode) -> Self {
        let acl = AccessList::default();
        Self::Create { path: path.into(), data: data.map(Arc::from), mode, acl }
    }

    /// Replaces data if the version is `version` or that is [`ANY_VERSION`].
    pub fn set(path: impl Into<String>, data: Vec<u8>, version: i32) -> Self {
        Self::Set { path: path.into(), data: Some(Arc::from(data)), version }
    }

    /// Removes a node if the version is `version` or that is [`ANY_VERSION`].
    pub fn delete(path: impl Into<String>, version: i32) -> Self {
        Self::Delete { path: path.into(), version }
    }

    /// Demands a version.
    pub fn check(path: impl Into<String>, version: i32) -> Self {
        Self::Check { path: path.into(), version }
    }
}

/// What became of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The command's own number; a refused command has one too. A [`Request::Sync`] and a
    /// [`Request::Attach`] change no node and have none: of them, that of the command before.
    pub zxid: Zxid,
    /// What it did, or why it did nothing.
    pub result: Result<Reply, Failure>,
}

/// What a command did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The new session as it is attached.
    SessionOpened(Caller),
    /// The session goes on.
    Attached {
        /// After how long a silence it is ended.
        timeout_ms: u32,
        /// The number of its attachment.
        attachment: i64,
    },
    /// The session and its ephemeral nodes are gone.
    SessionClosed,
    /// What each operation did, in their order.
    Written(Vec<Written>),
    /// So many nodes are gone.
    Swept(usize),
    /// All before it is applied.
    Synced,
}

/// What one operation did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// The node was made.
    Created {
        /// Its path, with the number of a sequential node.
        path: String,
        /// The node as it was when the operation was done.
        stat: Stat,
    },
    /// The data was replaced.
    Set {
        /// The node as it was when the operation was done.
        stat: Stat,
    },
    /// The node was removed.
    Deleted,
    /// Who may do what was replaced.
    AclSet {
        /// The node as it was when the operation was done.
        stat: Stat,
    },
    /// The version was as demanded.
    Checked,
}

/// Why a command did nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The index of the operation that failed; 0 where the command has none.
    pub op: usize,
    /// What was wrong with it.
    pub error: Error,
}

/// What can be wrong with an operation, in ZooKeeper's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Error {
    /// The node, or the parent of a node to be created, does not exist.
    NoNode,
    /// A node to be created exists.
    NodeExists,
    /// The node has another version than the one demanded.
    BadVersion,
    /// A node to be deleted has children.
    NotEmpty,
    /// The parent of a node to be created is ephemeral.
    NoChildrenForEphemerals,
    /// The caller may not do this with the node.
    NoAuth,
    /// An access list is empty, or has entries of no scheme that there is.
    InvalidAcl,
    /// The path is none, or names a node that must stay.
    BadArguments,
    /// The session does not exist, or does no longer, or has another password.
    SessionExpired,
    /// The session goes on upon another connection.
    SessionMoved,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoNode => "no such node",
            Self::NodeExists => "the node exists",
            Self::BadVersion => "the node has another version",
            Self::NotEmpty => "the node has children",
            Self::NoChildrenForEphemerals => "an ephemeral node has no children",
            Self::NoAuth => "the node's access list does not allow it",
            Self::InvalidAcl => "not an access list",
            Self::BadArguments => "not a path that can be written",
            Self::SessionExpired => "the session has ended",
            Self::SessionMoved => "the session goes on upon another connection",
        })
    }
}

impl std::error::Error for Error {}
