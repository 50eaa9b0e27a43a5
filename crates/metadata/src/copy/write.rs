//! The same tree elsewhere.

use ottla_keeper::machine::{AccessList, Copied};

use super::plan::{COUNTED, Plan};
use super::{CopyError, outer, read};
use crate::ZooKeeper;
use crate::tree::{ANY_VERSION, Error, Op, Tree as _};

/// So many requests are under way before the answers are looked at.
const REQUESTS_AT_ONCE: usize = 16;

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Made {
    /// So many nodes.
    pub nodes: usize,
    /// So many writes only raised versions and counters.
    pub extra: u64,
}

/// Makes `nodes` at and below `top`, which must not be there, or below the root if `top` is empty, where
/// nothing must be but ZooKeeper's own. Data, access lists, versions of data and counters of sequential
/// names become what they were; times, zxids and versions of access lists begin anew. No more than
/// `writes_max` writes are made for versions and counters. What was written is read and compared.
///
/// After an error there may be a part of it, without `/cluster`, on which no broker of the cluster
/// starts; another attempt is refused until that is deleted.
pub async fn write(
    to: &ZooKeeper,
    top: &str,
    nodes: &[Copied],
    writes_max: u64,
) -> Result<Made, CopyError> {
    let plan = Plan::new(nodes, top, writes_max)?;
    make_room(to, top).await?;
    let mut requests = plan.requests().peekable();
    while requests.peek().is_some() {
        let (paths, multis): (Vec<_>, Vec<_>) = requests.by_ref().take(REQUESTS_AT_ONCE).unzip();
        let results = to.multi_all(multis.clone()).await?;
        for ((path, ops), result) in paths.into_iter().zip(multis).zip(results) {
            if let Err(failure) = result {
                let path = ops.get(failure.op).and_then(path_of).unwrap_or(&path);
                let path = path.strip_suffix(COUNTED).unwrap_or(path).to_owned();
                return Err(match failure.error {
                    Error::NoAuth => CopyError::Unwritable { path },
                    _ => CopyError::Tree { path: Some(path), error: failure.into() },
                });
            }
        }
    }
    if let (true, Some(root)) = (top.is_empty(), nodes.iter().find(|node| node.path == "/")) {
        let acl = AccessList::new(root.acl.clone());
        if acl != AccessList::default() {
            let path = "/".to_owned();
            to.multi_all(vec![vec![Op::SetAcl { path, acl, version: ANY_VERSION }]]).await?;
        }
    }
    compare(to, top, nodes).await?;
    Ok(Made { nodes: nodes.len(), extra: plan.extra })
}

/// Demands that nothing is there, and makes the parents of `top`.
async fn make_room(to: &ZooKeeper, top: &str) -> Result<(), CopyError> {
    if top.is_empty() {
        let children = to.children_all(vec!["/".to_owned()]).await?.into_iter().flatten().flatten();
        let paths = children.map(|child| format!("/{child}"));
        let paths: Vec<String> = paths.filter(|path| !Copied::is_own(path)).collect();
        return if paths.is_empty() { Ok(()) } else { Err(CopyError::NotEmpty { paths }) };
    }
    if to.get_all(vec![top.to_owned()]).await?.into_iter().flatten().next().is_some() {
        return Err(CopyError::NotEmpty { paths: vec![top.to_owned()] });
    }
    for (at, _) in top.match_indices('/').skip(1) {
        let made = to.multi_all(vec![vec![Op::create(&top[..at], None)]]).await?;
        match made.into_iter().find_map(Result::err) {
            Some(failure) if failure.error != Error::NodeExists => {
                let path = Some(top[..at].to_owned());
                return Err(CopyError::Tree { path, error: failure.into() });
            }
            _ => {}
        }
    }
    Ok(())
}

/// Compares what is there with what was to be.
async fn compare(to: &ZooKeeper, top: &str, nodes: &[Copied]) -> Result<(), CopyError> {
    let mut there = read(to, top, usize::MAX).await?.nodes;
    there.sort_by(|a, b| a.path.cmp(&b.path));
    let mut wanted: Vec<&Copied> = nodes.iter().collect();
    wanted.sort_by(|a, b| a.path.cmp(&b.path));
    let is_root = |node: &Copied| top.is_empty() && node.path == "/";
    let is_same = |a: &Copied, b: &Copied| {
        let of = |node: &Copied| (node.path.clone(), node.data.clone(), node.acl.clone());
        // The root has versions of its own, and its counter counted before.
        of(a) == of(b)
            && (is_root(a) || a.stat.version == b.stat.version && a.creates() == b.creates())
    };
    let differing = there.iter().zip(&wanted).find(|(a, b)| !is_same(a, b));
    let path = match differing {
        Some((there, wanted)) => there.path.as_str().min(&wanted.path),
        None if there.len() > wanted.len() => &*there[wanted.len()].path,
        None if there.len() < wanted.len() => &*wanted[there.len()].path,
        None => return Ok(()),
    };
    Err(CopyError::Differs { path: outer(top, path) })
}

fn path_of(op: &Op) -> Option<&str> {
    match op {
        Op::Create { path, .. }
        | Op::Set { path, .. }
        | Op::Delete { path, .. }
        | Op::SetAcl { path, .. }
        | Op::Check { path, .. } => Some(path),
        Op::Invalid(_) => None,
    }
}
