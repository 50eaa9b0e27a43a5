//! The names on the disk in memory: entries of directories, and how they change.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};

/// The number of the directory in which all paths begin.
const ROOT: u64 = 0;

/// What a name stands for, by its number.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Node {
    /// A directory.
    Dir(u64),
    /// A file.
    File(u64),
}

/// An entry of a directory: the directory's number, and the name.
pub(crate) type Entry = (u64, String);

/// All entries of all directories.
#[derive(Clone, Default)]
pub(crate) struct Names(BTreeMap<Entry, Node>);

/// One change of names. It happens as a whole or not at all.
#[derive(Clone)]
pub(crate) enum NameChange {
    /// A new file or directory.
    Insert(Entry, Node),
    /// A file, or an empty directory.
    Remove(Entry),
    /// Another name, which is taken from what had it.
    Rename(Entry, Entry),
    /// Each has the name of the other.
    Exchange(Entry, Entry),
}

impl NameChange {
    /// Whether it is a change of the directory `dir`.
    pub(crate) fn is_in(&self, dir: u64) -> bool {
        match self {
            Self::Insert((of, _), _) | Self::Remove((of, _)) => *of == dir,
            Self::Rename((from, _), (to, _)) | Self::Exchange((from, _), (to, _)) => {
                *from == dir || *to == dir
            }
        }
    }
}

impl Names {
    /// What a path leads to.
    pub(crate) fn find(&self, path: &Path) -> Option<Node> {
        path.components().try_fold(Node::Dir(ROOT), |node, component| match (node, component) {
            (Node::Dir(dir), Component::Normal(name)) => {
                self.0.get(&(dir, name.to_string_lossy().into_owned())).copied()
            }
            (Node::File(_), _) => None,
            (node, _) => Some(node),
        })
    }

    /// The directory that a path leads to.
    pub(crate) fn find_dir(&self, path: &Path) -> Option<u64> {
        match self.find(path)? {
            Node::Dir(number) => Some(number),
            Node::File(_) => None,
        }
    }

    /// The entry that a path would have, if there is a directory for it.
    pub(crate) fn entry(&self, path: &Path) -> Option<Entry> {
        let name = path.file_name()?.to_string_lossy().into_owned();
        Some((self.find_dir(path.parent()?)?, name))
    }

    /// What the entries of a directory stand for, in the order of names.
    pub(crate) fn list(&self, dir: u64) -> impl Iterator<Item = (&str, Node)> {
        let entries = self.0.range((dir, String::new())..(dir + 1, String::new()));
        entries.map(|((_, name), node)| (name.as_str(), *node))
    }

    /// All files.
    pub(crate) fn files(&self) -> impl Iterator<Item = u64> {
        self.0.values().filter_map(|node| match node {
            Node::Dir(_) => None,
            Node::File(number) => Some(*number),
        })
    }

    pub(crate) fn apply(&mut self, change: &NameChange) {
        match change {
            NameChange::Insert(entry, node) => drop(self.0.insert(entry.clone(), *node)),
            NameChange::Remove(entry) => drop(self.0.remove(entry)),
            NameChange::Rename(from, to) => {
                if let Some(node) = self.0.remove(from) {
                    self.0.insert(to.clone(), node);
                }
            }
            NameChange::Exchange(a, b) => {
                if let (Some(&of_a), Some(&of_b)) = (self.0.get(a), self.0.get(b)) {
                    self.0.insert(a.clone(), of_b);
                    self.0.insert(b.clone(), of_a);
                }
            }
        }
    }

    /// Forgets what no path leads to.
    pub(crate) fn forget_unreachable(&mut self) {
        let mut reachable = BTreeSet::from([ROOT]);
        let mut ahead = vec![ROOT];
        while let Some(dir) = ahead.pop() {
            for (_, node) in self.list(dir) {
                if let Node::Dir(number) = node
                    && reachable.insert(number)
                {
                    ahead.push(number);
                }
            }
        }
        self.0.retain(|(dir, _), _| reachable.contains(dir));
    }
}
