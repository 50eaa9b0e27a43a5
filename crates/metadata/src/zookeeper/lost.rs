//! What became of a write whose answer was lost with its connection.
//!
//! It is asked when nothing of the former connection can be done any more: the session goes on upon
//! another one, and a sync that was sent there is answered. Then what the tree holds is evidence:
//!
//! - Each change has a zxid larger than all that we had heard of when we sent the write
//!   (`base`). What has not changed since shows that the write was not done, and it may be sent again.
//! - All operations of a multi have one zxid. If all their traces are there with one and the same,
//!   and one of them shows whose it is, the write was done, and by us.
//!
//! What shows whose it is: an ephemeral node of our session, or bytes, written as a node's first or
//! over the version that was demanded. Bytes are the weaker sign: who writes the very same bytes over
//! the very same version cannot be told from us. Kafka's znodes name their writer (broker, controller
//! epoch, random id) or are the same whoever writes them. Nodes without data show nothing.
//!
//! In all other cases it cannot be known.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::changes::parent;
use crate::tree::{ANY_VERSION, CreateMode, Node, Op, SessionId, Stat, Written, Zxid};

/// Nodes as they are now, by path.
pub(super) type Seen = BTreeMap<String, Option<Node>>;

/// What the tree tells about a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It was done, as the change of this zxid.
    Done(Zxid),
    /// It was not done, and never will be.
    NotDone,
    /// One or the other.
    Unknown,
}

/// The nodes to be looked at to judge a write.
pub(super) fn witnesses(ops: &[Op]) -> Vec<String> {
    let mut paths = Vec::new();
    for op in ops {
        let is_named = !matches!(op, Op::Create { mode, .. } if mode.is_sequential());
        if is_named && let Some(path) = path_of(op) {
            paths.push(path.to_owned());
        }
        if let Op::Create { path, .. } | Op::Delete { path, .. } = op {
            paths.extend(parent(path).map(str::to_owned));
        }
    }
    paths.sort_unstable();
    paths.dedup();
    paths
}

/// Judges a write of `session`, sent when `base` was the last zxid that was known.
pub(super) fn judge(ops: &[Op], session: SessionId, base: Zxid, seen: &Seen) -> Verdict {
    if ops.iter().all(|op| matches!(op, Op::Check { .. })) {
        // It leaves no trace, and does no harm twice.
        return Verdict::NotDone;
    }
    if ops.iter().any(|op| is_missing(op, ops, base, seen)) {
        return Verdict::NotDone;
    }
    match traces(ops, session, base, seen) {
        Some(zxid) => Verdict::Done(zxid),
        None => Verdict::Unknown,
    }
}

fn path_of(op: &Op) -> Option<&str> {
    match op {
        Op::Create { path, .. }
        | Op::Set { path, .. }
        | Op::Delete { path, .. }
        | Op::SetAcl { path, .. } => Some(path),
        Op::Check { .. } | Op::Invalid(_) => None,
    }
}

fn node<'a>(seen: &'a Seen, path: &str) -> Option<&'a Node> {
    seen.get(path)?.as_ref()
}

/// Whether the tree would be another one if `op` had been done.
fn is_missing(op: &Op, ops: &[Op], base: Zxid, seen: &Seen) -> bool {
    let children_are_old = |path: &str| {
        let parent = parent(path).and_then(|parent| node(seen, parent));
        parent.is_some_and(|parent| parent.stat.pzxid <= base)
    };
    // It is there, and was all the time.
    let is_old = |path: &str| node(seen, path).is_some_and(|node| node.stat.czxid <= base);
    match op {
        Op::Create { path, mode, .. } => {
            children_are_old(path) || !mode.is_sequential() && is_old(path)
        }
        Op::Delete { path, .. } => children_are_old(path) || is_old(path),
        Op::Set { path, data, version } => {
            let Some(node) = node(seen, path).filter(|_| is_old(path)) else { return false };
            let stat = &node.stat;
            let is_alone = ops.iter().filter(|op| path_of(op) == Some(path)).count() == 1;
            // Of one node, versions only grow.
            stat.mzxid <= base
                || *version != ANY_VERSION && stat.version <= *version
                || is_alone && stat.version.checked_sub(1) == Some(*version) && node.data != *data
        }
        // Nothing tells when an access list was written.
        Op::SetAcl { .. } | Op::Check { .. } | Op::Invalid(_) => false,
    }
}

/// What a multi leaves at one path.
#[derive(Default)]
struct Trace<'a> {
    is_created: bool,
    owner: SessionId,
    /// `None` where it was written over whatever there was.
    version: Option<i32>,
    /// `None` if it is deleted in the end.
    data: Option<&'a Option<Arc<[u8]>>>,
}

/// The zxid that all traces of a multi have, if they are there and show that it was `session`.
fn traces(ops: &[Op], session: SessionId, base: Zxid, seen: &Seen) -> Option<Zxid> {
    let mut zxid = None;
    let mut is_ours = false;
    for (path, trace) in traces_by_path(ops, session)? {
        let Some(data) = trace.data else { continue };
        let Node { data: is, stat } = node(seen, path)?;
        let is_there = is == data
            && stat.mzxid > base
            && *zxid.get_or_insert(stat.mzxid) == stat.mzxid
            && trace.version.is_none_or(|version| version == stat.version)
            && (!trace.is_created
                || stat.czxid == stat.mzxid && stat.ephemeral_owner == trace.owner);
        if !is_there {
            return None;
        }
        let has_bytes = data.as_ref().is_some_and(|data| !data.is_empty());
        is_ours |= trace.owner == session || has_bytes && trace.version.is_some();
    }
    zxid.filter(|_| is_ours)
}

/// What each path is left with; `None` for a multi of which that cannot be told. Sequential nodes
/// are left out: their names are not known.
fn traces_by_path(ops: &[Op], session: SessionId) -> Option<BTreeMap<&str, Trace<'_>>> {
    let mut traces: BTreeMap<&str, Trace<'_>> = BTreeMap::new();
    for op in ops {
        match op {
            Op::Create { path, data, mode, .. } if !mode.is_sequential() => {
                let owner = match mode {
                    CreateMode::Persistent => SessionId::NONE,
                    CreateMode::Ephemeral => session,
                    _ => return None,
                };
                let trace = Trace { is_created: true, owner, version: Some(0), data: Some(data) };
                traces.insert(path, trace);
            }
            Op::Set { path, data, version } => {
                let trace = traces.entry(path).or_default();
                trace.version = match (*version, trace.version) {
                    (ANY_VERSION, before) => before.map(|before| before.saturating_add(1)),
                    (version, _) => Some(version.saturating_add(1)),
                };
                trace.data = Some(data);
            }
            Op::Delete { path, .. } => {
                traces.insert(path, Trace::default());
            }
            Op::SetAcl { .. } => return None,
            Op::Create { .. } | Op::Check { .. } | Op::Invalid(_) => {}
        }
    }
    Some(traces)
}

/// What comes before the numbers of the sequential nodes that a multi creates, each once.
pub(super) fn prefixes(ops: &[Op]) -> Vec<&str> {
    let mut prefixes: Vec<&str> = ops.iter().filter_map(sequential).collect();
    prefixes.sort_unstable();
    prefixes.dedup();
    prefixes
}

fn sequential(op: &Op) -> Option<&str> {
    match op {
        Op::Create { path, mode, .. } if mode.is_sequential() => Some(path),
        _ => None,
    }
}

/// What is answered to a multi that was done as the change `zxid`. `None` if a part of the answer is
/// gone: a sequential node that was deleted since.
///
/// `numbered` are the children that begin with [`prefixes`], in the order of their numbers.
pub(super) fn answer(
    ops: &[Op],
    zxid: Zxid,
    seen: &Seen,
    numbered: &[(String, Stat)],
) -> Option<Vec<Written>> {
    let mut ours: Vec<_> = numbered.iter().filter(|(_, stat)| stat.czxid == zxid).collect();
    let mut written = Vec::new();
    for (at, op) in ops.iter().enumerate() {
        let stat = || path_of(op).and_then(|path| node(seen, path)).map(|node| node.stat);
        written.push(match op {
            Op::Create { path, mode, .. } if mode.is_sequential() => {
                let found = ours.iter().position(|(name, _)| is_numbered(name, path))?;
                let (path, stat) = ours.remove(found);
                Written::Created { path: path.clone(), stat: *stat }
            }
            Op::Create { path, data, .. } => {
                let data_length = data.as_ref().map_or(0, |data| data.len() as i32);
                // What is deleted again within the multi has no stat that could be told.
                let stat = Stat { version: 0, data_length, ..stat()? };
                Written::Created { path: path.clone(), stat }
            }
            Op::Set { path, data, .. } => {
                let later = ops[at + 1..].iter().filter(|op| path_of(op) == Some(path)).count();
                let stat = stat()?;
                let data_length = data.as_ref().map_or(0, |data| data.len() as i32);
                Written::Set {
                    stat: Stat {
                        version: stat.version.wrapping_sub(later as i32),
                        data_length,
                        ..stat
                    },
                }
            }
            Op::Delete { .. } => Written::Deleted,
            Op::Check { .. } => Written::Checked,
            Op::SetAcl { .. } | Op::Invalid(_) => return None,
        });
    }
    Some(written)
}

/// Whether `path` is `prefix` and the number of a sequential node.
pub(super) fn is_numbered(path: &str, prefix: &str) -> bool {
    let number = path.strip_prefix(prefix);
    number.is_some_and(|number| number.len() >= 10 && number.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: SessionId = SessionId(77);
    const BASE: Zxid = 100;
    const BLANK: Stat = Stat {
        czxid: 0,
        mzxid: 0,
        pzxid: 0,
        ctime_ms: 0,
        mtime_ms: 0,
        version: 0,
        cversion: 0,
        aversion: 0,
        ephemeral_owner: SessionId::NONE,
        data_length: 0,
        num_children: 0,
    };

    /// A node of `czxid` and `mzxid`, written over `version` times, whose children changed last at 90.
    fn seen_as(data: &str, czxid: Zxid, mzxid: Zxid, version: i32, owner: SessionId) -> Node {
        let stat = Stat { czxid, mzxid, pzxid: 90, version, ephemeral_owner: owner, ..BLANK };
        let data = (!data.is_empty()).then(|| Arc::from(data.as_bytes()));
        Node { data, stat }
    }

    fn persistent(data: &str, czxid: Zxid, mzxid: Zxid, version: i32) -> Node {
        seen_as(data, czxid, mzxid, version, SessionId::NONE)
    }

    /// A parent whose children changed last at `pzxid`.
    fn parent_of(pzxid: Zxid) -> Node {
        let mut node = persistent("", 1, 1, 0);
        node.stat.pzxid = pzxid;
        node
    }

    fn seen<const N: usize>(nodes: [(&str, Option<Node>); N]) -> Seen {
        nodes.map(|(path, node)| (path.to_owned(), node)).into()
    }

    fn check(ops: &[Op], seen: &Seen, expected: Verdict) {
        assert_eq!(judge(ops, ME, BASE, seen), expected, "{ops:?} with {seen:?}");
    }

    #[test]
    fn a_set_over_a_version() {
        let set = [Op::set("/a", b"new".to_vec(), 3)];
        let is = |node| seen([("/a", node)]);
        check(&set, &is(Some(persistent("old", 5, 99, 3))), Verdict::NotDone);
        check(&set, &is(Some(persistent("new", 5, 101, 4))), Verdict::Done(101));
        check(&set, &is(Some(persistent("other", 5, 101, 4))), Verdict::NotDone);
        check(&set, &is(Some(persistent("later", 5, 102, 5))), Verdict::Unknown);
        check(&set, &is(None), Verdict::Unknown);
        // Another node of that name: it tells nothing about the former one.
        check(&set, &is(Some(persistent("old", 101, 102, 3))), Verdict::Unknown);
        check(&set, &is(Some(persistent("old", 101, 101, 0))), Verdict::Unknown);
    }

    #[test]
    fn a_set_over_any_version_shows_nobody() {
        let set = [Op::set("/a", b"new".to_vec(), ANY_VERSION)];
        let is = |node| seen([("/a", Some(node))]);
        check(&set, &is(persistent("old", 5, 99, 3)), Verdict::NotDone);
        check(&set, &is(persistent("new", 5, 101, 4)), Verdict::Unknown);
        let empty = [Op::set("/a", Vec::new(), 3)];
        let mut node = persistent("", 5, 101, 4);
        node.data = Some(Arc::from([]));
        check(&empty, &is(node), Verdict::Unknown);
    }

    #[test]
    fn a_create() {
        let is = |pzxid, node| seen([("/", Some(parent_of(pzxid))), ("/a", node)]);
        let create = [Op::create("/a", Some(b"new".to_vec()))];
        check(&create, &is(90, None), Verdict::NotDone);
        check(&create, &is(101, None), Verdict::Unknown);
        check(&create, &is(101, Some(persistent("new", 101, 101, 0))), Verdict::Done(101));
        check(&create, &is(101, Some(persistent("other", 101, 101, 0))), Verdict::Unknown);
        check(&create, &is(101, Some(persistent("new", 101, 102, 1))), Verdict::Unknown);
        check(&create, &is(101, Some(persistent("new", 50, 101, 3))), Verdict::NotDone);
        // Whoever made it.
        let bare = [Op::create("/a", None)];
        check(&bare, &is(101, Some(persistent("", 101, 101, 0))), Verdict::Unknown);
    }

    #[test]
    fn an_ephemeral_node_names_its_owner() {
        let ops = [
            Op::create_as("/a", None, CreateMode::Ephemeral),
            Op::set("/b", Vec::new(), ANY_VERSION),
        ];
        let is = |owner, mzxid| {
            let mut b = persistent("", 5, mzxid, 9);
            b.data = Some(Arc::from([]));
            seen([
                ("/", Some(parent_of(101))),
                ("/a", Some(seen_as("", 101, 101, 0, owner))),
                ("/b", Some(b)),
            ])
        };
        check(&ops, &is(ME, 101), Verdict::Done(101));
        check(&ops, &is(SessionId(78), 101), Verdict::Unknown);
        check(&ops, &is(ME, 103), Verdict::Unknown);
        check(&ops, &is(ME, 99), Verdict::NotDone);
    }

    #[test]
    fn a_delete_shows_nobody_but_goes_with_the_rest() {
        let delete = Op::delete("/a", 0);
        let is = |pzxid, node| seen([("/", Some(parent_of(pzxid))), ("/a", node)]);
        check(std::slice::from_ref(&delete), &is(90, None), Verdict::NotDone);
        check(std::slice::from_ref(&delete), &is(101, None), Verdict::Unknown);
        let old = Some(persistent("", 5, 5, 0));
        check(std::slice::from_ref(&delete), &is(101, old), Verdict::NotDone);
        let ops = [Op::set("/b", b"x".to_vec(), 1), delete];
        let mut gone = is(101, None);
        gone.insert("/b".to_owned(), Some(persistent("x", 5, 101, 2)));
        check(&ops, &gone, Verdict::Done(101));
    }

    #[test]
    fn checks_alone_are_asked_again() {
        check(&[Op::check("/a", 1)], &Seen::new(), Verdict::NotDone);
    }

    #[test]
    fn the_answer_is_put_together_again() {
        let ops = [
            Op::check("/c", 1),
            Op::create_as("/a", None, CreateMode::Ephemeral),
            Op::set("/a", b"xyz".to_vec(), 0),
            Op::create_as("/n_", None, CreateMode::PersistentSequential),
        ];
        assert_eq!(witnesses(&ops), ["/", "/a"]);
        let seen =
            seen([("/a", Some(seen_as("xyz", 101, 101, 1, ME))), ("/", Some(parent_of(101)))]);
        check(&ops, &seen, Verdict::Done(101));
        assert_eq!(prefixes(&ops), ["/n_"]);
        let numbered = [("/n_0000000007", 99), ("/n_0000000008", 101)]
            .map(|(path, czxid)| (path.to_owned(), Stat { czxid, ..BLANK }));
        let written = answer(&ops, 101, &seen, &numbered).unwrap();
        let [
            Written::Checked,
            Written::Created { stat: created, .. },
            Written::Set { stat },
            Written::Created { path, .. },
        ] = &written[..]
        else {
            panic!("{written:?}")
        };
        assert_eq!((created.version, created.data_length), (0, 0));
        assert_eq!((stat.version, stat.data_length, stat.czxid), (1, 3, 101));
        assert_eq!(path, "/n_0000000008");
        assert_eq!(answer(&ops, 101, &seen, &numbered[..1]), None);
    }
}
