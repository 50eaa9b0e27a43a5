//! The tree of znodes and the sessions that own some of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::acl::{self, AccessList, Acl, Identity};
use super::command::{ANY_VERSION, Caller, CreateMode, Error};
use super::frozen::Frozen;
use super::node::{Life, Node, Session, SessionId, Stat, Znode, Zxid};
use super::path;
use super::watches::{ChangeKind, NodeChange};

/// What a node costs beside its path and data: map entries, the node itself, allocator headers.
const NODE_BYTES: usize = 256;

/// Znodes, sessions, and the number of the last change.
///
/// It is changed by [`Tree::apply`] alone. Invariants: every node but the root has its parent; the
/// children of a node are exactly those one component below it; an ephemeral node has no children
/// and its owner is a session that lists it.
#[derive(Clone, Debug)]
pub struct Tree {
    /// By full path, so that a parent comes before its children.
    pub(super) nodes: BTreeMap<Box<str>, Znode>,
    /// The living sessions.
    pub(super) sessions: BTreeMap<SessionId, Session>,
    pub(super) last_zxid: Zxid,
    /// How often a session was opened or attached.
    pub(super) attachments: i64,
    /// The paths of containers and of nodes with a time to live.
    fleeting: BTreeSet<Box<str>>,
    bytes: usize,
    /// While it is written out as it was.
    pub(super) frozen: Option<Box<Frozen>>,
}

/// Two trees are equal if nobody can tell them apart, whichever of them is being written out.
impl PartialEq for Tree {
    fn eq(&self, other: &Self) -> bool {
        let of = |tree: &Self| (tree.last_zxid, tree.attachments, tree.bytes);
        of(self) == of(other)
            && self.nodes == other.nodes
            && self.sessions == other.sessions
            && self.fleeting == other.fleeting
    }
}

impl Eq for Tree {}

/// How to take one operation back.
pub(super) enum Undo {
    Create { path: Box<str>, parent_pzxid: Zxid },
    Set { path: Box<str>, data: Option<Arc<[u8]>>, mzxid: Zxid, mtime_ms: i64 },
    Delete { path: Box<str>, node: Znode, parent_pzxid: Zxid },
    SetAcl { path: Box<str>, acl: AccessList },
}

/// By which change, when and for whom something happens, and what has happened.
pub(super) struct Change<'a> {
    pub(super) zxid: Zxid,
    pub(super) time_ms: i64,
    pub(super) session: SessionId,
    pub(super) shown: &'a [Identity],
    pub(super) nodes: &'a mut Vec<NodeChange>,
}

impl Change<'_> {
    fn note(&mut self, path: &str, kind: ChangeKind, acl: AccessList, parent_acl: AccessList) {
        let zxid = self.zxid;
        self.nodes.push(NodeChange { path: path.into(), kind, zxid, acl, parent_acl });
    }
}

impl Default for Tree {
    fn default() -> Self {
        Self::new()
    }
}

impl Tree {
    /// The tree at zxid 0: nothing but the nodes that every ZooKeeper has.
    #[must_use]
    pub fn new() -> Self {
        let mut tree = Self::bare(0, 0);
        for path in path::BUILT_IN {
            let empty = Some(Arc::from([]));
            let mut node = Znode::new(empty, AccessList::default(), Life::Persistent, 0, 0);
            if path == path::CONFIG {
                node.acl = acl::read_only();
                node.aversion = -1;
            }
            let inserted = tree.insert(path, node);
            assert!(inserted, "the parent of {path} comes first");
        }
        tree
    }

    /// No node and no session at all: what decoding starts from.
    pub(super) fn bare(last_zxid: Zxid, attachments: i64) -> Self {
        let (nodes, sessions, fleeting) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        Self { nodes, sessions, last_zxid, attachments, fleeting, bytes: 0, frozen: None }
    }

    /// A node's data and stat, if it exists.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<Node> {
        self.nodes.get(path).map(|node| Node { data: node.data.clone(), stat: node.stat() })
    }

    /// A node's stat, if it exists.
    #[must_use]
    pub fn exists(&self, path: &str) -> Option<Stat> {
        self.nodes.get(path).map(Znode::stat)
    }

    /// The names (not paths) of a node's children, in order, if it exists.
    #[must_use]
    pub fn children(&self, path: &str) -> Option<impl ExactSizeIterator<Item = &str>> {
        Some(self.nodes.get(path)?.children.iter().map(|name| &**name))
    }

    /// Who may do what with a node, and its stat, if it exists.
    #[must_use]
    pub fn acl(&self, path: &str) -> Option<(Vec<Acl>, Stat)> {
        self.nodes.get(path).map(|node| (node.acl.list(), node.stat()))
    }

    /// Whether one who has shown to be all of `shown` may do one of `permissions` with a node, if it
    /// exists.
    #[must_use]
    pub fn allows(&self, path: &str, permissions: i32, shown: &[Identity]) -> Option<bool> {
        self.nodes.get(path).map(|node| node.acl.allows(permissions, shown))
    }

    /// The paths of a session's ephemeral nodes, in order.
    pub fn ephemerals(&self, session: SessionId) -> impl Iterator<Item = &str> {
        let session = self.sessions.get(&session).into_iter();
        session.flat_map(|session| session.ephemerals.iter().map(|path| &**path))
    }

    /// How many nodes there are below a node.
    #[must_use]
    pub fn descendants(&self, path: &str) -> usize {
        let prefix = if path == path::ROOT { path.to_owned() } else { format!("{path}/") };
        let from = (std::ops::Bound::Excluded(&*prefix), std::ops::Bound::Unbounded);
        let below = self.nodes.range::<str, _>(from);
        below.take_while(|(below, _)| below.starts_with(&prefix)).count()
    }

    /// The nodes that [`super::Request::Sweep`] would take at `time_ms`.
    #[must_use]
    pub fn overdue(&self, time_ms: i64) -> Vec<String> {
        let is_overdue = |path: &str| is_overdue(&self.nodes[path], time_ms);
        let overdue = self.fleeting.iter().filter(|path| is_overdue(path));
        overdue.map(ToString::to_string).collect()
    }

    /// The living sessions as they are attached, in the order of their opening.
    pub fn sessions(&self) -> impl ExactSizeIterator<Item = Caller> {
        let attached = |(&session, s): (&SessionId, &Session)| (session, s.attachment);
        let attached = self.sessions.iter().map(attached);
        attached.map(|(session, attachment)| Caller { session, attachment })
    }

    /// After how long a silence a session is ended, in milliseconds, if it lives.
    #[must_use]
    pub fn timeout_ms(&self, session: SessionId) -> Option<u32> {
        self.sessions.get(&session).map(|session| session.timeout_ms)
    }

    /// The number of the last command that was applied; 0 before the first.
    #[must_use]
    pub fn last_zxid(&self) -> Zxid {
        self.last_zxid
    }

    /// How many nodes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there are no nodes: never, for a tree has ZooKeeper's own.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// An estimate of the memory that the nodes take, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// By how many bytes [`Tree::bytes`] grows with a node of this path, data and access list.
    pub(super) fn node_bytes(path: &str, data: Option<&[u8]>, acl: &AccessList) -> usize {
        // The path is a key of its own and its last component is one of its parent's children.
        NODE_BYTES + 2 * path.len() + data.map_or(0, <[u8]>::len) + acl.bytes()
    }

    /// Makes a node and tells its path.
    pub(super) fn create(
        &mut self,
        requested: &str,
        data: Option<Arc<[u8]>>,
        mode: CreateMode,
        acl: AccessList,
        change: &mut Change<'_>,
    ) -> Result<(String, Stat, Undo), Error> {
        if requested.contains('\0') {
            return Err(Error::BadArguments);
        }
        let (parent_path, _) = path::split(requested).ok_or(Error::BadArguments)?;
        let parent = self.nodes.get_mut(parent_path).ok_or(Error::NoNode)?;
        if !parent.acl.allows(acl::CREATE, change.shown) {
            return Err(Error::NoAuth);
        }
        let mut created = requested.to_owned();
        if mode.is_sequential() {
            created.push_str(&format!("{:010}", parent.creates));
        }
        if !path::is_valid(&created) {
            return Err(Error::BadArguments);
        }
        let (_, name) = path::split(&created).ok_or(Error::BadArguments)?;
        if created == path::ROOT || parent.children.contains(name) {
            return Err(Error::NodeExists);
        }
        if let Life::Ephemeral(_) = parent.life {
            return Err(Error::NoChildrenForEphemerals);
        }

        self.keep(parent_path);
        self.keep(&created);
        let parent = self.nodes.get_mut(parent_path).ok_or(Error::NoNode)?;
        let parent_pzxid = parent.pzxid;
        parent.pzxid = change.zxid;
        parent.creates = parent.creates.wrapping_add(1);
        let life = match mode {
            CreateMode::Persistent | CreateMode::PersistentSequential => Life::Persistent,
            CreateMode::Ephemeral | CreateMode::EphemeralSequential => {
                Life::Ephemeral(change.session)
            }
            CreateMode::Container => Life::Container,
            CreateMode::Ttl(ms) | CreateMode::TtlSequential(ms) => Life::Ttl { ms },
        };
        change.note(&created, ChangeKind::Created, acl.clone(), parent.acl.clone());
        let node = Znode::new(data, acl, life, change.zxid, change.time_ms);
        let stat = node.stat();
        let inserted = self.insert(&created, node);
        assert!(inserted, "its parent is there");
        let undo = Undo::Create { path: created.as_str().into(), parent_pzxid };
        Ok((created, stat, undo))
    }

    /// Replaces a node's data.
    pub(super) fn set(
        &mut self,
        path: &str,
        data: Option<Arc<[u8]>>,
        version: i32,
        change: &mut Change<'_>,
    ) -> Result<(Stat, Undo), Error> {
        self.check(path, version, acl::WRITE, change.shown)?;
        self.keep(path);
        let node = self.nodes.get_mut(path).ok_or(Error::NoNode)?;
        change.note(path, ChangeKind::DataChanged, node.acl.clone(), AccessList::default());
        self.bytes += data.as_ref().map_or(0, |data| data.len());
        let data = std::mem::replace(&mut node.data, data);
        self.bytes -= data.as_ref().map_or(0, |data| data.len());
        let undo =
            Undo::Set { path: path.into(), data, mzxid: node.mzxid, mtime_ms: node.mtime_ms };
        node.mzxid = change.zxid;
        node.mtime_ms = change.time_ms;
        node.version = node.version.wrapping_add(1);
        Ok((node.stat(), undo))
    }

    /// Removes a node without children.
    pub(super) fn delete(
        &mut self,
        path: &str,
        version: i32,
        change: &mut Change<'_>,
    ) -> Result<Undo, Error> {
        let Some((parent, _)) = path::split(path) else { return Err(Error::BadArguments) };
        if path.contains('\0') || path::BUILT_IN.contains(&path) {
            return Err(Error::BadArguments);
        }
        if !self.node(parent)?.acl.allows(acl::DELETE, change.shown) {
            return Err(Error::NoAuth);
        }
        if version != ANY_VERSION && version != self.node(path)?.version {
            return Err(Error::BadVersion);
        }
        if !self.node(path)?.children.is_empty() {
            return Err(Error::NotEmpty);
        }
        self.take_away(path, change)
    }

    fn take_away(&mut self, path: &str, change: &mut Change<'_>) -> Result<Undo, Error> {
        self.keep(path);
        path::split(path).into_iter().for_each(|(parent, _)| self.keep(parent));
        let node = self.remove(path).ok_or(Error::NoNode)?;
        let parent = self.parent_mut(path).ok_or(Error::NoNode)?;
        let parent_pzxid = std::mem::replace(&mut parent.pzxid, change.zxid);
        change.note(path, ChangeKind::Deleted, node.acl.clone(), parent.acl.clone());
        Ok(Undo::Delete { path: path.into(), node, parent_pzxid })
    }

    /// Removes those of the nodes whose time has come.
    pub(super) fn sweep(&mut self, paths: &[String], change: &mut Change<'_>) -> usize {
        let mut swept = 0;
        for path in paths {
            let is_overdue =
                self.nodes.get(&**path).is_some_and(|node| is_overdue(node, change.time_ms));
            if is_overdue && self.take_away(path, change).is_ok() {
                swept += 1;
            }
        }
        swept
    }

    /// Replaces who may do what with a node.
    pub(super) fn set_acl(
        &mut self,
        path: &str,
        acl: AccessList,
        version: i32,
        change: &Change<'_>,
    ) -> Result<(Stat, Undo), Error> {
        self.check(path, ANY_VERSION, acl::ADMIN, change.shown)?;
        let node = self.node(path)?;
        if version != ANY_VERSION && version != node.aversion {
            return Err(Error::BadVersion);
        }
        self.keep(path);
        let node = self.nodes.get_mut(path).ok_or(Error::NoNode)?;
        self.bytes += acl.bytes();
        self.bytes -= node.acl.bytes();
        let acl = std::mem::replace(&mut node.acl, acl);
        node.aversion = node.aversion.wrapping_add(1);
        Ok((node.stat(), Undo::SetAcl { path: path.into(), acl }))
    }

    /// Demands that a node exists, allows something and has a version.
    pub(super) fn check(
        &self,
        path: &str,
        version: i32,
        permission: i32,
        shown: &[Identity],
    ) -> Result<(), Error> {
        if !path::is_valid(path) {
            return Err(Error::BadArguments);
        }
        let node = self.node(path)?;
        if !node.acl.allows(permission, shown) {
            return Err(Error::NoAuth);
        }
        if version != ANY_VERSION && version != node.version {
            return Err(Error::BadVersion);
        }
        Ok(())
    }

    /// Takes the last operation back.
    pub(super) fn undo(&mut self, undo: Undo) {
        match undo {
            Undo::Create { path, parent_pzxid } => {
                self.remove(&path).expect("it was created");
                let parent = self.parent_mut(&path).expect("it has a parent");
                parent.pzxid = parent_pzxid;
                parent.creates = parent.creates.wrapping_sub(1);
            }
            Undo::Set { path, data, mzxid, mtime_ms } => {
                let node = self.nodes.get_mut(&path).expect("it was written");
                self.bytes += data.as_ref().map_or(0, |data| data.len());
                let data = std::mem::replace(&mut node.data, data);
                self.bytes -= data.as_ref().map_or(0, |data| data.len());
                node.mzxid = mzxid;
                node.mtime_ms = mtime_ms;
                node.version = node.version.wrapping_sub(1);
            }
            Undo::Delete { path, node, parent_pzxid } => {
                let inserted = self.insert(&path, node);
                assert!(inserted, "its parent is still there");
                self.parent_mut(&path).expect("it has a parent").pzxid = parent_pzxid;
            }
            Undo::SetAcl { path, acl } => {
                let node = self.nodes.get_mut(&path).expect("it was written");
                self.bytes += acl.bytes();
                self.bytes -= node.acl.bytes();
                node.acl = acl;
                node.aversion = node.aversion.wrapping_sub(1);
            }
        }
    }

    /// Demands that the session lives, and goes on where the caller is.
    pub fn check_session(&self, caller: Caller) -> Result<(), Error> {
        let session = self.sessions.get(&caller.session).ok_or(Error::SessionExpired)?;
        if session.attachment == caller.attachment { Ok(()) } else { Err(Error::SessionMoved) }
    }

    /// Ends a session and its ephemeral nodes.
    pub(super) fn close_session(
        &mut self,
        caller: Caller,
        change: &mut Change<'_>,
    ) -> Result<(), Error> {
        self.check_session(caller)?;
        self.end_session(caller.session, change);
        Ok(())
    }

    /// Goes on from less than may have been promised. All sessions end, for nobody knows what of theirs
    /// is missing, and zxids go on above all that may have been given out.
    pub fn begin_epoch(&mut self) {
        self.last_zxid = next_epoch(self.last_zxid);
        let (zxid, session, nodes) = (self.last_zxid, SessionId::NONE, &mut Vec::new());
        let change = &mut Change { zxid, time_ms: 0, session, shown: &[], nodes };
        let sessions: Vec<SessionId> = self.sessions.keys().copied().collect();
        sessions.into_iter().for_each(|session| self.end_session(session, change));
    }

    fn end_session(&mut self, session: SessionId, change: &mut Change<'_>) {
        let ended = self.sessions.get_mut(&session);
        for path in ended.map(|it| std::mem::take(&mut it.ephemerals)).unwrap_or_default() {
            self.take_away(&path, change).expect("it is there, and a leaf");
        }
        self.sessions.remove(&session);
    }

    /// Puts a node in its place, known to its parent and its owner. `false`, and nothing changed,
    /// where its parent or its owner is missing or it is there already.
    pub(super) fn insert(&mut self, path: &str, node: Znode) -> bool {
        if self.nodes.contains_key(path) {
            return false;
        }
        if let Life::Ephemeral(owner) = node.life
            && !self.sessions.contains_key(&owner)
        {
            return false;
        }
        if path != path::ROOT {
            let Some((parent_path, name)) = path::split(path) else { return false };
            let Some(parent) = self.nodes.get_mut(parent_path) else { return false };
            parent.children.insert(name.into());
        }
        match node.life {
            Life::Persistent => {}
            Life::Container | Life::Ttl { .. } => drop(self.fleeting.insert(path.into())),
            Life::Ephemeral(owner) => {
                let session = self.sessions.get_mut(&owner);
                session.map(|session| session.ephemerals.insert(path.into()));
            }
        }
        self.bytes += Self::node_bytes(path, node.data.as_deref(), &node.acl);
        self.nodes.insert(path.into(), node);
        true
    }

    /// Puts another root in the place of the one that is there, with its children.
    pub(super) fn replace_root(&mut self, mut root: Znode) {
        let Some(former) = self.nodes.get_mut(path::ROOT) else { return };
        root.children = std::mem::take(&mut former.children);
        let bytes = |node: &Znode| Self::node_bytes(path::ROOT, node.data.as_deref(), &node.acl);
        self.bytes = self.bytes + bytes(&root) - bytes(former);
        *former = root;
    }

    fn remove(&mut self, path: &str) -> Option<Znode> {
        let node = self.nodes.remove(path)?;
        self.bytes -= Self::node_bytes(path, node.data.as_deref(), &node.acl);
        match node.life {
            Life::Persistent => {}
            Life::Container | Life::Ttl { .. } => drop(self.fleeting.remove(path)),
            Life::Ephemeral(owner) => {
                let session = self.sessions.get_mut(&owner);
                session.map(|session| session.ephemerals.remove(path));
            }
        }
        if let (Some(parent), Some((_, name))) = (self.parent_mut(path), path::split(path)) {
            parent.children.remove(name);
        }
        Some(node)
    }

    fn node(&self, path: &str) -> Result<&Znode, Error> {
        self.nodes.get(path).ok_or(Error::NoNode)
    }

    fn parent_mut(&mut self, path: &str) -> Option<&mut Znode> {
        self.nodes.get_mut(path::split(path)?.0)
    }
}

/// The first zxid of an epoch that is at least 2^32 changes ahead. ZooKeeper's zxids count leaders in
/// their upper half, and the changes of one in the lower.
fn next_epoch(zxid: Zxid) -> Zxid {
    const CHANGES_BITS: u32 = 32;
    ((zxid >> CHANGES_BITS) + 2) << CHANGES_BITS
}

/// Whether the time of a node has come: a container that had children and has none, or a node that
/// outlived its time and has none.
fn is_overdue(node: &Znode, time_ms: i64) -> bool {
    let is_over = match node.life {
        Life::Persistent | Life::Ephemeral(_) => false,
        Life::Container => node.creates > 0,
        Life::Ttl { ms } => time_ms.saturating_sub(node.mtime_ms) > ms,
    };
    is_over && node.children.is_empty()
}
