//! The tree as it was at one moment, written out bit by bit while it changes on.
//!
//! Nodes are written in the order of their paths. What changes behind the last one that was written is
//! kept as it was, encoded, until its turn comes: so what is written is exactly the tree of that moment,
//! and costs memory for what changed meanwhile only.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::codec::{encode_head, encode_node};
use super::tree::Tree;

/// What is needed to know the tree as it was.
#[derive(Clone, Debug, Default)]
pub(super) struct Frozen {
    /// The last path that is written.
    written: Option<Box<str>>,
    /// Nodes behind it as they were: encoded, or not there.
    kept: BTreeMap<Box<str>, Option<Vec<u8>>>,
}

impl Tree {
    /// Begins: what [`Tree::thaw_part`] appends from here on is the tree as it is now. This appends what
    /// comes before the first node.
    pub fn freeze(&mut self, out: &mut Vec<u8>) {
        encode_head(self, out);
        self.frozen = Some(Box::default());
    }

    /// Appends the next nodes of the frozen tree, up to about `bytes`, and returns the path of the last
    /// one; `None` if none was left. [`Tree::note_written`] must follow before the tree changes again.
    #[must_use]
    pub fn thaw_part(&self, bytes: usize, out: &mut Vec<u8>) -> Option<Box<str>> {
        let frozen = self.frozen.as_deref()?;
        let from = match &frozen.written {
            Some(path) => Bound::Excluded(&**path),
            None => Bound::Unbounded,
        };
        let mut nodes = self.nodes.range::<str, _>((from, Bound::Unbounded)).peekable();
        let mut kept = frozen.kept.range::<str, _>((from, Bound::Unbounded)).peekable();
        let (end, mut last) = (out.len() + bytes, None);
        while out.len() < end {
            let next = match (nodes.peek(), kept.peek()) {
                (Some((node, _)), Some((path, _))) => (*node).min(*path),
                (Some((path, _)), None) => path,
                (None, Some((path, _))) => path,
                (None, None) => break,
            };
            let node = nodes.next_if(|(path, _)| *path == next);
            match (kept.next_if(|(path, _)| *path == next), node) {
                (Some((_, before)), _) => before.iter().for_each(|before| out.extend(before)),
                (None, Some((path, node))) => encode_node(path, node, out),
                (None, None) => {}
            }
            last = Some(next);
        }
        last.cloned()
    }

    /// Notes that all up to a path is written, or the whole if there is none.
    pub fn note_written(&mut self, path: Option<Box<str>>) {
        match (path, &mut self.frozen) {
            (Some(path), Some(frozen)) => {
                frozen.kept = frozen.kept.split_off(&path);
                frozen.kept.remove(&path);
                frozen.written = Some(path);
            }
            _ => self.frozen = None,
        }
    }

    /// Keeps a node as it is, before it changes.
    pub(super) fn keep(&mut self, path: &str) {
        let Some(frozen) = &mut self.frozen else { return };
        let is_written = frozen.written.as_deref().is_some_and(|written| path <= written);
        if is_written || frozen.kept.contains_key(path) {
            return;
        }
        let before = self.nodes.get(path).map(|node| {
            let mut bytes = Vec::new();
            encode_node(path, node, &mut bytes);
            bytes
        });
        frozen.kept.insert(path.into(), before);
    }
}
