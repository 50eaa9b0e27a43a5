//! All of a tree, as it is at one moment.

use ottla_keeper::machine::{Acl, Copied};

use super::{CopyError, Whole, outer};
use crate::ZooKeeper;
use crate::tree::{Error, Tree as _, Zxid};

/// So often a tree may be written to while it is read.
const ATTEMPTS: usize = 5;

/// So many nodes are asked for before the answers are looked at.
const NODES_AT_ONCE: usize = 1_000;

/// Where ZooKeeper keeps quotas.
const QUOTAS: &str = "/zookeeper/quota";

/// Reads what is at and below `top`, which becomes the root; an empty `top` is the root itself. It may
/// take about `bytes_max` of memory.
///
/// The server tells the number of its last change with each answer. If that is the same before and
/// after, nothing was written in between, and what was read is the tree of one moment.
pub async fn read(from: &ZooKeeper, top: &str, bytes_max: usize) -> Result<Whole, CopyError> {
    let mut zxids = (0, 0);
    for _ in 0..ATTEMPTS {
        let before = from.last_zxid().await?;
        let nodes = Reading { from, top, bytes_left: bytes_max, bytes_max }.all().await?;
        let quotas = if top.is_empty() { quotas(from).await? } else { Vec::new() };
        let after = from.last_zxid().await?;
        if let (Some(nodes), true) = (nodes, before == after) {
            let known = nodes.iter().map(|Copied { stat, .. }| newest(stat));
            let last_zxid = known.fold(after, Zxid::max);
            return Ok(Whole { nodes, last_zxid, quotas });
        }
        zxids = (before, after);
    }
    Err(CopyError::Changing { from: zxids.0, to: zxids.1 })
}

fn newest(stat: &crate::tree::Stat) -> Zxid {
    stat.czxid.max(stat.mzxid).max(stat.pzxid)
}

/// The paths that quotas were given for: ZooKeeper keeps each below a path of its own.
async fn quotas(from: &ZooKeeper) -> Result<Vec<String>, CopyError> {
    let (mut limited, mut level) = (Vec::new(), vec![QUOTAS.to_owned()]);
    while !level.is_empty() {
        let children = from.children_all(level.clone()).await?;
        let mut next = Vec::new();
        for (path, children) in level.iter().zip(children) {
            for child in children.unwrap_or_default() {
                match &*child {
                    "zookeeper_limits" => limited.push(path[QUOTAS.len()..].to_owned()),
                    "zookeeper_stats" => {}
                    child => next.push(format!("{path}/{child}")),
                }
            }
        }
        level = next;
    }
    Ok(limited)
}

/// Whether it is what ZooKeeper shows to who may not change the list: a digest without its hash.
fn is_hidden(acl: &Acl) -> bool {
    &*acl.identity.scheme == "digest" && acl.identity.id.ends_with(":x")
}

struct Reading<'a> {
    from: &'a ZooKeeper,
    top: &'a str,
    bytes_left: usize,
    bytes_max: usize,
}

impl Reading<'_> {
    /// All nodes, level by level; `None` if some went meanwhile.
    async fn all(&mut self) -> Result<Option<Vec<Copied>>, CopyError> {
        let (mut nodes, mut level) = (Vec::new(), vec!["/".to_owned()]);
        while !level.is_empty() {
            let mut next = Vec::new();
            for paths in level.chunks(NODES_AT_ONCE) {
                let Some(read) = self.some(paths).await? else {
                    if nodes.is_empty() && !self.top.is_empty() {
                        return Err(CopyError::Missing { path: self.top.to_owned() });
                    }
                    return Ok(None);
                };
                for (node, children) in read {
                    let path = if node.path == "/" { "" } else { &node.path };
                    let below = children.into_iter().map(|child| format!("{path}/{child}"));
                    next.extend(below.filter(|path| !self.top.is_empty() || !Copied::is_own(path)));
                    nodes.push(node);
                }
            }
            level = next;
        }
        Ok(Some(nodes))
    }

    /// Nodes and the names of their children; `None` if one is not there.
    async fn some(
        &mut self,
        paths: &[String],
    ) -> Result<Option<Vec<(Copied, Vec<String>)>>, CopyError> {
        let all: Vec<String> = paths.iter().map(|path| outer(self.top, path)).collect();
        let acls = self.from.acl_all(all.clone()).await;
        let read = match self.from.get_all(all.clone()).await {
            Ok(read) => read,
            Err(error) if error.is(Error::NoAuth) => return self.unreadable(all).await,
            Err(error) => return Err(error.into()),
        };
        // Who may read a node may list it.
        let children = self.from.children_all(all.clone()).await?;
        let mut some = Vec::new();
        for (((path, outer), acl), (node, children)) in
            paths.iter().zip(all).zip(acls).zip(read.into_iter().zip(children))
        {
            let acl = acl.map_err(|error| CopyError::Tree { path: Some(outer.clone()), error })?;
            let (Some(acl), Some(node), Some(children)) = (acl, node, children) else {
                return Ok(None);
            };
            if acl.iter().any(is_hidden) {
                return Err(CopyError::HiddenAcl { path: outer });
            }
            let node = Copied { path: path.clone(), data: node.data, acl, stat: node.stat };
            let left = self.bytes_left.checked_sub(node.bytes());
            self.bytes_left = left.ok_or(CopyError::TooLarge { bytes_max: self.bytes_max })?;
            some.push((node, children));
        }
        Ok(Some(some))
    }

    /// Tells which of the paths may not be read; `None` if by now all may.
    async fn unreadable<T>(&self, paths: Vec<String>) -> Result<Option<T>, CopyError> {
        for path in paths {
            match self.from.get_all(vec![path.clone()]).await {
                Err(error) if error.is(Error::NoAuth) => {
                    return Err(CopyError::Unreadable { path });
                }
                Err(error) => return Err(error.into()),
                Ok(_) => {}
            }
        }
        Ok(None)
    }
}
