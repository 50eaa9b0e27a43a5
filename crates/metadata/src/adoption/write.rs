//! Writing an [`Adoption`] into a tree that no cluster has used.

use super::nodes::Adoption;
use crate::admin::{AdminError, create_top_level_paths};
use crate::tree::{ANY_VERSION, Multi, Node, Op, Tree, TreeError};
use crate::znodes::{CLUSTER_ID, TOPICS, encode_cluster_id};

/// What an adoption writes below, and nobody else before there is a cluster id.
const ROOTS: [&str; 8] = [
    TOPICS,
    "/config/topics",
    "/config/brokers",
    "/config/users",
    "/config/clients",
    "/config/ips",
    "/kafka-acl",
    "/kafka-acl-extended",
];

/// Bounds of one multi: ZooKeeper takes no packet beyond 1 MiB (`jute.maxbuffer`).
const OPS_MAX: usize = 1000;
const BYTES_MAX: usize = 512 * 1024;

impl Adoption {
    /// Whether no cluster has used the tree: none has left its id. An adoption writes the id last, so
    /// one that was interrupted is due again.
    pub async fn is_due(tree: &dyn Tree) -> Result<bool, AdminError> {
        Ok(tree.exists(CLUSTER_ID).await?.is_none())
    }

    /// Writes all znodes, the cluster's id last. What an adoption that was interrupted left goes
    /// first, for the directory may have changed since.
    pub async fn write(&self, tree: &dyn Tree) -> Result<(), AdminError> {
        for root in ROOTS {
            clear(tree, root).await?;
        }
        create_top_level_paths(tree).await?;
        let paths: Vec<String> = self.nodes.keys().cloned().collect();
        let present = tree.get_all(paths).await?;
        let nodes = self.nodes.iter().zip(present);
        let ops = nodes.filter_map(|((path, data), present)| write_op(path, data, present));
        in_multis(tree, ops).await?;
        let parent = CLUSTER_ID.rsplit_once('/').map_or("", |(parent, _)| parent);
        let mut last: Multi = Vec::new();
        if tree.exists(parent).await?.is_none() {
            last.push(Op::create(parent, None));
        }
        last.push(Op::create(CLUSTER_ID, Some(encode_cluster_id(&self.cluster_id))));
        Ok(tree.multi(last).await.map(drop)?)
    }
}

fn write_op(path: &str, data: &Option<Vec<u8>>, present: Option<Node>) -> Option<Op> {
    match (data, present) {
        (data, None) => Some(Op::create(path, data.clone())),
        (None, Some(_)) => None,
        (Some(data), Some(node)) if node.data.as_deref() == Some(&**data) => None,
        (Some(data), Some(_)) => Some(Op::set(path, data.clone(), ANY_VERSION)),
    }
}

/// Deletes all that is below a node.
async fn clear(tree: &dyn Tree, root: &str) -> Result<(), AdminError> {
    let mut found: Vec<String> = Vec::new();
    let mut level = vec![root.to_owned()];
    while !level.is_empty() {
        let names = tree.children_all(level.clone()).await?;
        let children = |(parent, names): (String, Option<Vec<String>>)| {
            let names = names.unwrap_or_default().into_iter();
            names.map(move |name| format!("{parent}/{name}"))
        };
        level = level.into_iter().zip(names).flat_map(children).collect();
        found.extend_from_slice(&level);
    }
    // Children were found behind their parents, and go before them.
    let deletes = found.into_iter().rev().map(|path| Op::delete(path, ANY_VERSION));
    in_multis(tree, deletes).await
}

/// Does the operations in their order, as many at a time as a multi may have.
async fn in_multis(tree: &dyn Tree, ops: impl Iterator<Item = Op>) -> Result<(), AdminError> {
    let (mut multi, mut bytes) = (Multi::new(), 0);
    for op in ops {
        let size = size_of(&op);
        if multi.len() == OPS_MAX || !multi.is_empty() && bytes + size > BYTES_MAX {
            done(tree, std::mem::take(&mut multi)).await?;
            bytes = 0;
        }
        bytes += size;
        multi.push(op);
    }
    if multi.is_empty() { Ok(()) } else { done(tree, multi).await }
}

fn size_of(op: &Op) -> usize {
    match op {
        Op::Create { path, data, .. } | Op::Set { path, data, .. } => {
            path.len() + data.as_ref().map_or(0, |data| data.len())
        }
        Op::Delete { path, .. } => path.len(),
        _ => 0,
    }
}

async fn done(tree: &dyn Tree, multi: Multi) -> Result<(), AdminError> {
    tree.multi(multi).await.map(drop).map_err(|error: TreeError| error.into())
}
