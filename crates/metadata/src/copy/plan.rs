//! The writes that make a tree, in order.
//!
//! The protocol has no word for a version or a counter. A node's version counts the times that it was
//! written, so it is written as often; the counter of a parent's sequential names counts the children
//! that were made, so one is made and deleted as often as children are gone. Both matter to Kafka: the
//! version of `/brokers/seqid` is the next broker's id, and a change whose node has a number that
//! brokers have passed is seen by none of them.

use ottla_keeper::machine::{AccessList, Copied};

use super::{CopyError, outer};
use crate::tree::{ANY_VERSION, CreateMode, Op};

/// What Kafka's brokers compare their directories with: it comes last, so that no broker takes half of
/// a tree for a cluster.
const LAST: &str = "/cluster";

/// The name of a child that is made and deleted to be counted.
pub(super) const COUNTED: &str = "/counted";

/// So many operations are one request at most, and about so many bytes.
const OPS_AT_ONCE: usize = 500;
const BYTES_AT_ONCE: usize = 256 << 10;

/// How many writes a node takes beyond the one that makes it.
fn extra(node: &Copied, children: u64) -> u64 {
    let versions = u64::from(node.stat.version as u32);
    let gone = u64::from(node.creates() as u32).saturating_sub(children);
    versions + 2 * gone
}

/// The children that nodes will have, in the order of the nodes.
fn children(nodes: &[Copied]) -> Vec<u64> {
    let parent = |path: &str| match path.rsplit_once('/') {
        Some(("", "")) | None => None,
        Some(("", _)) => Some("/".to_owned()),
        Some((parent, _)) => Some(parent.to_owned()),
    };
    let mut counts = std::collections::BTreeMap::<String, u64>::new();
    for parent in nodes.iter().filter_map(|node| parent(&node.path)) {
        *counts.entry(parent).or_default() += 1;
    }
    nodes.iter().map(|node| counts.get(&node.path).copied().unwrap_or(0)).collect()
}

/// The writes that make `nodes` at and below `top`, in requests. The root of a service is there already.
pub(super) struct Plan<'a> {
    nodes: Vec<(&'a Copied, u64)>,
    top: &'a str,
    /// Writes that only raise versions and counters.
    pub(super) extra: u64,
}

impl<'a> Plan<'a> {
    pub(super) fn new(
        nodes: &'a [Copied],
        top: &'a str,
        writes_max: u64,
    ) -> Result<Self, CopyError> {
        let mut planned: Vec<_> = nodes.iter().zip(children(nodes)).collect();
        let extra_of = |&(node, children): &(&Copied, u64)| extra(node, children);
        let extra = planned.iter().map(extra_of).sum();
        if extra > writes_max {
            let most = planned.iter().max_by_key(|planned| extra_of(planned));
            let path = most.map_or(String::new(), |(node, _)| node.path.clone());
            return Err(CopyError::TooManyWrites { writes: extra, path, writes_max });
        }
        let is_last = |path: &str| {
            path.strip_prefix(LAST).is_some_and(|r| r.is_empty() || r.starts_with('/'))
        };
        planned.sort_by_key(|(node, _)| is_last(&node.path));
        Ok(Self { nodes: planned, top, extra })
    }

    /// The requests, each with the node that its last operation is about.
    pub(super) fn requests(&self) -> impl Iterator<Item = (String, Vec<Op>)> {
        let all = self.nodes.iter().flat_map(|(node, children)| {
            let path = outer(self.top, &node.path);
            let ops = self.ops(node, *children, path.clone());
            ops.map(move |op| (path.clone(), op))
        });
        in_requests(all)
    }

    fn ops(&self, node: &'a Copied, children: u64, path: String) -> impl Iterator<Item = Op> + 'a {
        let is_there = path == "/";
        let versions = node.stat.version as u32;
        let (data, acl) = (node.data.clone(), AccessList::new(node.acl.clone()));
        // Only the last writing has the data, so that a thousand take no more than one.
        let first = data.clone().filter(|_| versions == 0);
        let create =
            Op::Create { path: path.clone(), data: first, mode: CreateMode::Persistent, acl };
        let at = path.clone();
        let set = move |version: u32| {
            let data = data.clone().filter(|_| version + 1 == versions);
            // What the root was before is not ours to know.
            let version = if is_there { ANY_VERSION } else { version as i32 };
            Op::Set { path: at.clone(), data, version }
        };
        let gone = u64::from(node.creates() as u32).saturating_sub(children);
        let name = if is_there { COUNTED.to_owned() } else { format!("{path}{COUNTED}") };
        let count = move |_| [Op::create(&*name, None), Op::delete(&*name, 0)];
        let made = (!is_there).then_some(create).into_iter();
        made.chain((0..versions).map(set)).chain((0..gone).flat_map(count))
    }
}

/// Puts operations into requests.
fn in_requests(ops: impl Iterator<Item = (String, Op)>) -> impl Iterator<Item = (String, Vec<Op>)> {
    let mut ops = ops.peekable();
    std::iter::from_fn(move || {
        let (mut request, mut bytes, mut about) = (Vec::new(), 0, None);
        while request.len() < OPS_AT_ONCE
            && let Some((path, op)) =
                ops.next_if(|(_, op)| bytes == 0 || bytes + size(op) <= BYTES_AT_ONCE)
        {
            bytes += size(&op);
            request.push(op);
            about = Some(path);
        }
        about.map(|path| (path, request))
    })
}

/// About how many bytes an operation takes.
fn size(op: &Op) -> usize {
    const HEAD: usize = 40;
    HEAD + match op {
        Op::Create { path, data, acl, .. } => {
            let acl: usize = acl.list().iter().map(|acl| HEAD + acl.identity.id.len()).sum();
            path.len() + data.as_ref().map_or(0, |data| data.len()) + acl
        }
        Op::Set { path, data, .. } => path.len() + data.as_ref().map_or(0, |data| data.len()),
        Op::Delete { path, .. } | Op::Check { path, .. } | Op::SetAcl { path, .. } => path.len(),
        Op::Invalid(_) => 0,
    }
}
