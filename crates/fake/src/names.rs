//! The names on the disk in memory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What a name stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Node {
    /// A directory.
    Dir,
    /// A file, by its number.
    File(u64),
}

/// All names of a disk.
pub(crate) type Names = BTreeMap<PathBuf, Node>;

/// One change of names. It happens as a whole or not at all.
#[derive(Clone)]
pub(crate) enum NameChange {
    /// A new file or directory.
    Insert(PathBuf, Node),
    /// A file, or an empty directory.
    Remove(PathBuf),
    /// With all that is below.
    Rename(PathBuf, PathBuf),
}

impl NameChange {
    pub(crate) fn apply(&self, names: &mut Names) {
        match self {
            Self::Insert(path, node) => drop(names.insert(path.clone(), *node)),
            Self::Remove(path) => drop(names.remove(path)),
            Self::Rename(from, to) => {
                for path in below(names, from) {
                    if let (Some(node), Ok(rest)) = (names.remove(&path), path.strip_prefix(from)) {
                        let is_itself = rest.as_os_str().is_empty();
                        let target = if is_itself { to.clone() } else { to.join(rest) };
                        names.insert(target, node);
                    }
                }
            }
        }
    }

    /// Whether it is a change of the directory `dir`.
    pub(crate) fn is_in(&self, dir: &Path) -> bool {
        match self {
            Self::Insert(path, _) | Self::Remove(path) => path.parent() == Some(dir),
            Self::Rename(from, to) => from.parent() == Some(dir) || to.parent() == Some(dir),
        }
    }
}

/// A path and all paths below it.
pub(crate) fn below(names: &Names, path: &Path) -> Vec<PathBuf> {
    names.keys().filter(|p| p.starts_with(path)).cloned().collect()
}
