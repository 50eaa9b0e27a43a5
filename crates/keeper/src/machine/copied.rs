//! A tree that is put together from what clients are told of another one, node by node.

use std::fmt;
use std::sync::Arc;

use super::acl::{AccessList, Acl};
use super::node::{Life, SessionId, Stat, Znode, Zxid};
use super::path;
use super::tree::Tree;

/// All that clients are told of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    /// Where it is.
    pub path: String,
    /// Its data; null and empty are two things.
    pub data: Option<Arc<[u8]>>,
    /// Who may do what with it.
    pub acl: Vec<Acl>,
    /// Its versions, times and zxids.
    pub stat: Stat,
}

/// Why nodes make up no tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoTree {
    /// The node with which it is not one.
    pub path: String,
    /// What is wrong with it.
    pub what: &'static str,
}

impl fmt::Display for NoTree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.path, self.what)
    }
}

impl std::error::Error for NoTree {}

/// So much is left to count on: half of what [`super::decode_tree`] takes.
const ZXID_MAX: Zxid = i64::MAX / 4;

impl Copied {
    /// Whether a path is one of ZooKeeper's own, which every server has and none takes from another.
    #[must_use]
    pub fn is_own(path: &str) -> bool {
        path.strip_prefix(path::OWN).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// About how much memory it takes in a tree.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let acl = AccessList::new(self.acl.clone());
        Tree::node_bytes(&self.path, self.data.as_deref(), &acl)
    }

    /// How many children were ever created: what the next sequential one is numbered with. A stat has
    /// creations plus deletions, which is twice the creations less the children that there are.
    #[must_use]
    pub fn creates(&self) -> i32 {
        (self.stat.cversion.wrapping_add(self.stat.num_children) as u32 >> 1) as i32
    }
}

impl Tree {
    /// The tree of these nodes, parents first, whose last change had the number `last_zxid`. The root
    /// is among them; ephemeral nodes and ZooKeeper's own are not.
    ///
    /// Containers and nodes with a time to live stay from here on: nobody is told that they are some.
    pub fn of(last_zxid: Zxid, nodes: impl IntoIterator<Item = Copied>) -> Result<Self, NoTree> {
        let mut tree = Self::new();
        tree.last_zxid = last_zxid;
        let no_tree = |path: &str, what| NoTree { path: path.to_owned(), what };
        if !(0..ZXID_MAX).contains(&last_zxid) {
            return Err(no_tree(path::ROOT, "has a last zxid that leaves no room to count on"));
        }
        for node in nodes {
            let Copied { path, stat, .. } = &node;
            if !path::is_valid(path) {
                return Err(no_tree(path, "is no path"));
            }
            if stat.ephemeral_owner != SessionId::NONE {
                return Err(no_tree(path, "is ephemeral, and its session is not here"));
            }
            if [stat.czxid, stat.mzxid, stat.pzxid].iter().any(|zxid| *zxid > last_zxid) {
                return Err(no_tree(path, "is newer than the last change"));
            }
            if path == path::ROOT {
                tree.replace_root(node.znode());
            } else if !tree.insert(path, node.znode()) {
                return Err(no_tree(path, "has no parent, or is there twice"));
            }
        }
        Ok(tree)
    }

    /// All nodes as clients are told of them, parents first; ZooKeeper's own are left out.
    pub fn copy(&self) -> impl Iterator<Item = Copied> {
        let others = self.nodes.iter().filter(|(path, _)| !Copied::is_own(path));
        others.map(|(path, node)| Copied {
            path: path.to_string(),
            data: node.data.clone(),
            acl: node.acl.list(),
            stat: node.stat(),
        })
    }
}

impl Copied {
    fn znode(&self) -> Znode {
        let Stat { czxid, mzxid, pzxid, ctime_ms, mtime_ms, version, aversion, .. } = self.stat;
        let acl = AccessList::new(self.acl.clone());
        let node = Znode::new(self.data.clone(), acl, Life::Persistent, czxid, ctime_ms);
        Znode { mzxid, pzxid, mtime_ms, version, aversion, creates: self.creates(), ..node }
    }
}
