//! Who wants to be told of which changes.
//!
//! Watches belong to the connection that set them, and to the voter that serves it: no other one
//! knows of them. A client that connects anew sets its watches again.

use std::collections::{BTreeMap, BTreeSet};

use super::acl::AccessList;
use super::node::Zxid;
use super::path;

/// A connection that watches.
pub type Watcher = u64;

/// What happened to a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeChange {
    /// Which node.
    pub path: Box<str>,
    /// What happened.
    pub kind: ChangeKind,
    /// By which command.
    pub zxid: Zxid,
    /// Who may do what with the node, at the end.
    pub acl: AccessList,
    /// Who may do what with its parent.
    pub parent_acl: AccessList,
}

/// An event for a watcher, if it may read the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Who watches.
    pub watcher: Watcher,
    /// What is told.
    pub event: Event,
    /// Who may read the node.
    pub acl: AccessList,
}

/// What can happen to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// It was made.
    Created,
    /// It was deleted.
    Deleted,
    /// Its data was replaced.
    DataChanged,
}

/// What a watcher is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Which node.
    pub path: Box<str>,
    /// What happened, in ZooKeeper's numbers.
    pub kind: EventKind,
    /// By which command; -1 where that is not known.
    pub zxid: Zxid,
}

/// What is told of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EventKind {
    /// It was made.
    Created = 1,
    /// It was deleted.
    Deleted = 2,
    /// Its data was replaced.
    DataChanged = 3,
    /// A child was made or deleted.
    ChildrenChanged = 4,
}

/// How a watch is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WatchKind {
    /// Fires once: when the node is made, deleted or written.
    Data,
    /// Fires once: when the node is deleted, or its children change.
    Children,
    /// Fires until it is removed, at all of that.
    Persistent,
    /// As [`WatchKind::Persistent`], for the node and all below it; what changes is told by itself,
    /// not as a change of its parent's children.
    Recursive,
}

const KINDS: usize = 4;

/// All watches of one voter's connections.
#[derive(Clone, Debug, Default)]
pub struct Watches {
    /// By kind and path.
    set: [BTreeMap<Box<str>, BTreeSet<Watcher>>; KINDS],
    of: BTreeMap<Watcher, BTreeSet<(WatchKind, Box<str>)>>,
}

impl Watches {
    /// Sets a watch; to set it twice is to set it once.
    pub fn add(&mut self, watcher: Watcher, kind: WatchKind, path: &str) {
        self.set[kind as usize].entry(path.into()).or_default().insert(watcher);
        self.of.entry(watcher).or_default().insert((kind, path.into()));
    }

    /// Whether there is such a watch.
    #[must_use]
    pub fn contains(&self, watcher: Watcher, kind: WatchKind, path: &str) -> bool {
        self.set[kind as usize].get(path).is_some_and(|watchers| watchers.contains(&watcher))
    }

    /// Takes a watch back. Returns whether there was one.
    pub fn remove(&mut self, watcher: Watcher, kind: WatchKind, path: &str) -> bool {
        if let Some(of) = self.of.get_mut(&watcher) {
            of.remove(&(kind, path.into()));
            if of.is_empty() {
                self.of.remove(&watcher);
            }
        }
        let set = &mut self.set[kind as usize];
        let Some(watchers) = set.get_mut(path) else { return false };
        let was_there = watchers.remove(&watcher);
        if watchers.is_empty() {
            set.remove(path);
        }
        was_there
    }

    /// Takes all watches of a connection back.
    pub fn remove_all(&mut self, watcher: Watcher) {
        for (kind, path) in self.of.remove(&watcher).unwrap_or_default() {
            self.remove(watcher, kind, &path);
        }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.of.values().map(BTreeSet::len).sum()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.of.is_empty()
    }

    /// Appends what is to be told of a change, and forgets the watches that fire once.
    pub fn fire(&mut self, change: &NodeChange, told: &mut Vec<Told>) {
        if self.is_empty() {
            return;
        }
        let path = &*change.path;
        let kind = match change.kind {
            ChangeKind::Created => EventKind::Created,
            ChangeKind::Deleted => EventKind::Deleted,
            ChangeKind::DataChanged => EventKind::DataChanged,
        };
        let mut watchers = self.take(WatchKind::Data, path);
        if change.kind == ChangeKind::Deleted {
            watchers.append(&mut self.take(WatchKind::Children, path));
        }
        watchers.extend(self.get(WatchKind::Persistent, path));
        if !self.set[WatchKind::Recursive as usize].is_empty() {
            for path in path::upwards(path) {
                watchers.extend(self.get(WatchKind::Recursive, path));
            }
        }
        let event = Event { path: path.into(), kind, zxid: change.zxid };
        tell(told, watchers, &event, &change.acl);

        if change.kind != ChangeKind::DataChanged
            && let Some((parent, _)) = path::split(path)
        {
            let mut watchers = self.take(WatchKind::Children, parent);
            watchers.extend(self.get(WatchKind::Persistent, parent));
            let kind = EventKind::ChildrenChanged;
            let event = Event { path: parent.into(), kind, zxid: change.zxid };
            tell(told, watchers, &event, &change.parent_acl);
        }
    }

    fn get(&self, kind: WatchKind, path: &str) -> impl Iterator<Item = Watcher> {
        self.set[kind as usize].get(path).into_iter().flatten().copied()
    }

    fn take(&mut self, kind: WatchKind, path: &str) -> BTreeSet<Watcher> {
        let watchers = self.set[kind as usize].remove(path).unwrap_or_default();
        for watcher in &watchers {
            if let Some(of) = self.of.get_mut(watcher) {
                of.remove(&(kind, path.into()));
                if of.is_empty() {
                    self.of.remove(watcher);
                }
            }
        }
        watchers
    }
}

fn tell(told: &mut Vec<Told>, watchers: BTreeSet<Watcher>, event: &Event, acl: &AccessList) {
    let one = |watcher| Told { watcher, event: event.clone(), acl: acl.clone() };
    told.extend(watchers.into_iter().map(one));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fire(
        watches: &mut Watches,
        path: &str,
        kind: ChangeKind,
    ) -> Vec<(Watcher, String, EventKind)> {
        let mut told = Vec::new();
        let (acl, parent_acl) = (AccessList::default(), AccessList::default());
        watches.fire(&NodeChange { path: path.into(), kind, zxid: 7, acl, parent_acl }, &mut told);
        let told = told.into_iter().map(|told| (told.watcher, told.event));
        told.map(|(watcher, event)| (watcher, event.path.into(), event.kind)).collect()
    }

    #[test]
    fn watches_of_one_change_fire_once() {
        let mut watches = Watches::default();
        watches.add(1, WatchKind::Data, "/a");
        watches.add(1, WatchKind::Data, "/a");
        watches.add(2, WatchKind::Children, "/a");
        watches.add(3, WatchKind::Children, "/");
        let (a, root) = ("/a".to_owned(), "/".to_owned());
        let changed = fire(&mut watches, "/a", ChangeKind::DataChanged);
        assert_eq!(changed, [(1, a.clone(), EventKind::DataChanged)]);
        assert_eq!(fire(&mut watches, "/a", ChangeKind::DataChanged), []);
        let deleted = fire(&mut watches, "/a", ChangeKind::Deleted);
        let expected = [(2, a, EventKind::Deleted), (3, root, EventKind::ChildrenChanged)];
        assert_eq!(deleted, expected);
        assert!(watches.is_empty());
    }

    #[test]
    fn persistent_watches_stay_and_recursive_ones_tell_what_is_below() {
        let mut watches = Watches::default();
        watches.add(1, WatchKind::Persistent, "/a");
        watches.add(2, WatchKind::Recursive, "/a");
        watches.add(3, WatchKind::Recursive, "/");
        for _ in 0..2 {
            let (a, b) = ("/a".to_owned(), "/a/b".to_owned());
            let expected = [
                (2, b.clone(), EventKind::Created),
                (3, b, EventKind::Created),
                (1, a, EventKind::ChildrenChanged),
            ];
            assert_eq!(fire(&mut watches, "/a/b", ChangeKind::Created), expected);
        }
        let other = fire(&mut watches, "/ab", ChangeKind::Created);
        assert_eq!(other, [(3, "/ab".to_owned(), EventKind::Created)]);
        assert!(watches.remove(1, WatchKind::Persistent, "/a"));
        assert!(!watches.remove(1, WatchKind::Persistent, "/a"));
        watches.remove_all(3);
        let left = fire(&mut watches, "/a", ChangeKind::Deleted);
        assert_eq!(left, [(2, "/a".to_owned(), EventKind::Deleted)]);
        assert_eq!(watches.len(), 1);
    }

    #[test]
    fn a_watcher_hears_of_one_change_once_however_it_watches() {
        let mut watches = Watches::default();
        for kind in [WatchKind::Data, WatchKind::Children, WatchKind::Persistent] {
            watches.add(1, kind, "/a");
        }
        watches.add(1, WatchKind::Recursive, "/");
        let deleted = fire(&mut watches, "/a", ChangeKind::Deleted);
        assert_eq!(deleted, [(1, "/a".to_owned(), EventKind::Deleted)]);
    }
}
