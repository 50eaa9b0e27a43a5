//! A whole tree on its way from one service to another.
//!
//! Owns: reading all of a tree as it is at one moment ([`read`]), what of a running Kafka must not be in
//! it ([`Whole::settled`]), and making the same tree elsewhere ([`write`]). Must not know: where the
//! tree is kept.

mod plan;
mod read;
mod write;

use std::fmt;

use ottla_keeper::machine::{Copied, NoTree};

use crate::tree::{SessionId, TreeError, Zxid};

pub use read::read;
pub use write::{Made, write};

/// All that clients are told of a tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Whole {
    /// Its nodes, parents first, without those that are ZooKeeper's own.
    pub nodes: Vec<Copied>,
    /// The last change.
    pub last_zxid: Zxid,
    /// The paths for which ZooKeeper was given quotas.
    pub quotas: Vec<String>,
}

/// A tree that no Kafka is at work on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// Its nodes, parents first, without the ephemeral ones.
    pub nodes: Vec<Copied>,
    /// The last change.
    pub last_zxid: Zxid,
    /// How many ephemeral nodes were left out.
    pub ephemerals: usize,
}

/// Below it the brokers of a Kafka are registered, each as long as it lives.
const BROKERS: &str = "/brokers/ids";
const BROKER: &str = "/brokers/ids/";

/// Who is its controller, as long as there is one.
const CONTROLLER: &str = "/controller";

impl Whole {
    /// The tree without its ephemeral nodes, which belong to sessions; refused while a Kafka is at work
    /// on it, which would go on writing to the tree that it knows.
    pub fn settled(self) -> Result<Settled, CopyError> {
        let paths = || self.nodes.iter().map(|node| &*node.path);
        let kafkas: Vec<&str> = paths().filter_map(|path| path.strip_suffix(BROKERS)).collect();
        let is_at_work = |path: &&str| {
            kafkas.iter().any(|kafka| match path.strip_prefix(kafka) {
                Some(CONTROLLER) => true,
                Some(rest) => rest.starts_with(BROKER),
                None => false,
            })
        };
        let at_work: Vec<String> = paths().filter(is_at_work).map(str::to_owned).collect();
        if !at_work.is_empty() {
            return Err(CopyError::AtWork { paths: at_work });
        }
        let Self { mut nodes, last_zxid, .. } = self;
        let all = nodes.len();
        nodes.retain(|node| node.stat.ephemeral_owner == SessionId::NONE);
        let ephemerals = all - nodes.len();
        Ok(Settled { nodes, last_zxid, ephemerals })
    }
}

/// Why a tree was not copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopyError {
    /// The service did not answer, or refused.
    Tree {
        /// At which node, if it is about one.
        path: Option<String>,
        /// How.
        error: TreeError,
    },
    /// There is no such node.
    Missing {
        /// The path.
        path: String,
    },
    /// Who asks may not read a node.
    Unreadable {
        /// The path.
        path: String,
    },
    /// Who asks may not do with a node, or below it, what has to be done.
    Unwritable {
        /// The path.
        path: String,
    },
    /// Who asks may not see the whole of a node's access list.
    HiddenAcl {
        /// The path.
        path: String,
    },
    /// The tree was written to each time it was read.
    Changing {
        /// The last change when it was read last.
        from: Zxid,
        /// That when it had been read.
        to: Zxid,
    },
    /// Brokers are registered, or there is a controller.
    AtWork {
        /// Their nodes.
        paths: Vec<String>,
    },
    /// It is larger than a tree may be.
    TooLarge {
        /// How large that is.
        bytes_max: usize,
    },
    /// There is something already where the tree is to be.
    NotEmpty {
        /// Some of it.
        paths: Vec<String>,
    },
    /// It would take too many writes to make versions and counters what they were.
    TooManyWrites {
        /// So many.
        writes: u64,
        /// This node alone takes the most of them.
        path: String,
        /// So many are allowed.
        writes_max: u64,
    },
    /// What was written is not what was read.
    Differs {
        /// The first node that does.
        path: String,
    },
    /// The nodes make up no tree.
    NoTree(NoTree),
}

impl fmt::Display for CopyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tree { path: Some(path), error } => write!(f, "{path}: {error}"),
            Self::Tree { path: None, error } => error.fmt(f),
            Self::Missing { path } => write!(f, "there is no {path}"),
            Self::Unreadable { path } => {
                write!(f, "{path} may not be read: show with --auth who may")
            }
            Self::Unwritable { path } => write!(
                f,
                "{path} and what is below it may not be made, written and deleted: show with --auth who may"
            ),
            Self::HiddenAcl { path } => write!(
                f,
                "the access list of {path} is shown in part only: show with --auth who may change it"
            ),
            Self::Changing { from, to } => write!(
                f,
                "the tree was written to while it was read (zxid {from:#x}, then {to:#x}): stop those \
                 who write"
            ),
            Self::AtWork { paths } => write!(
                f,
                "a Kafka is at work on the tree ({}): stop its brokers; of one that was killed, the \
                 session ends after its timeout",
                some(paths)
            ),
            Self::TooLarge { bytes_max } => {
                write!(f, "the tree is larger than a keeper takes ({bytes_max} bytes)")
            }
            Self::NotEmpty { paths } => write!(
                f,
                "there is something already where the tree is to be ({}): name a path that is not \
                 there, or delete it if it is what a copy has left that did not come to its end",
                some(paths)
            ),
            Self::TooManyWrites { writes, path, writes_max } => write!(
                f,
                "{writes} writes would give nodes the versions and counters that they have, most of \
                 them to {path}, and no more than {writes_max} are allowed: say --max-writes {writes} to \
                 have them made"
            ),
            Self::Differs { path } => {
                write!(f, "{path} is not what was written: somebody else writes there")
            }
            Self::NoTree(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for CopyError {}

impl From<TreeError> for CopyError {
    fn from(error: TreeError) -> Self {
        Self::Tree { path: None, error }
    }
}

/// The first few of many paths.
fn some(paths: &[String]) -> String {
    const SHOWN: usize = 5;
    let shown: Vec<&str> = paths.iter().take(SHOWN).map(|path| &**path).collect();
    let more = if paths.len() > SHOWN { ", …" } else { "" };
    format!("{}{more}", shown.join(", "))
}

/// A path below `top`, which is empty where that is the root.
fn outer(top: &str, path: &str) -> String {
    match (top, path) {
        ("", path) => path.to_owned(),
        (top, "/") => top.to_owned(),
        (top, path) => format!("{top}{path}"),
    }
}
