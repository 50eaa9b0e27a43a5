//! Who watches what on one session's connections.

use std::collections::BTreeMap;
use std::sync::Arc;

use ottla_keeper::machine::EventKind;

use super::packet::Ask;
use crate::changes::Inbox;
use crate::tree::Watch;

/// A watcher.
pub(super) type WatcherId = u64;

/// All watchers, and what they need the server to tell.
#[derive(Debug, Default)]
pub(super) struct Watches {
    watchers: BTreeMap<WatcherId, Arc<Inbox>>,
    /// How many watchers want a path told, and how many of them want its children told too.
    paths: BTreeMap<String, (usize, usize)>,
}

impl Watches {
    /// Adds a watcher. Returns what the server has to be asked for.
    pub(super) fn add(&mut self, id: WatcherId, inbox: Arc<Inbox>) -> Vec<Ask> {
        let mut asks = Vec::new();
        for watch in inbox.watches() {
            let (path, children) = split(watch);
            let (all, recursive) = self.paths.entry(path.to_owned()).or_default();
            // A recursive watch tells what a plain one does: of a child, that it came or went.
            let is_told = if children == 0 { *all > 0 } else { *recursive > 0 };
            *all += 1;
            *recursive += children;
            if !is_told {
                asks.push(Ask::AddWatch { path: path.to_owned(), is_recursive: children > 0 });
            }
        }
        self.watchers.insert(id, inbox);
        asks
    }

    /// Removes a watcher. Returns what the server need not tell any more.
    pub(super) fn remove(&mut self, id: WatcherId) -> Vec<Ask> {
        let mut asks = Vec::new();
        let Some(inbox) = self.watchers.remove(&id) else { return asks };
        for watch in inbox.watches() {
            let (path, children) = split(watch);
            let Some((all, recursive)) = self.paths.get_mut(path) else { continue };
            *all -= 1;
            *recursive -= children;
            // As long as anyone watches, what is told too much is passed over.
            if *all == 0 {
                self.paths.remove(path);
                asks.push(Ask::RemoveWatch(path.to_owned()));
            }
        }
        asks
    }

    /// What another connection has to be asked for: a server forgets watches with the connection.
    pub(super) fn all(&self) -> Vec<Ask> {
        let ask = |(path, (_, recursive)): (&String, &(usize, usize))| Ask::AddWatch {
            path: path.clone(),
            is_recursive: *recursive > 0,
        };
        self.paths.iter().map(ask).collect()
    }

    pub(super) fn tell(&self, path: &str, kind: EventKind) {
        self.watchers.values().for_each(|inbox| inbox.tell(path, kind));
    }

    pub(super) fn tell_all(&self) {
        self.watchers.values().for_each(|inbox| inbox.tell_all());
    }

    /// The session is over.
    pub(super) fn end(&mut self) {
        self.watchers.values().for_each(|inbox| inbox.end());
        *self = Self::default();
    }
}

/// The path, and 1 if its children are watched.
fn split(watch: &Watch) -> (&str, usize) {
    match watch {
        Watch::Node(path) => (path, 0),
        Watch::Children(path) => (path, 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(asks: Vec<Ask>) -> Vec<String> {
        let word = |ask| match ask {
            Ask::AddWatch { path, is_recursive } if is_recursive => format!("+{path}/*"),
            Ask::AddWatch { path, .. } => format!("+{path}"),
            Ask::RemoveWatch(path) => format!("-{path}"),
            other => panic!("{other:?}"),
        };
        asks.into_iter().map(word).collect()
    }

    #[test]
    fn a_path_is_asked_for_once_and_let_go_with_its_last_watcher() {
        let (node, children) = (|| Watch::Node("/a".into()), || Watch::Children("/a".into()));
        let mut watches = Watches::default();
        assert_eq!(told(watches.add(1, Inbox::new(vec![node()]))), ["+/a"]);
        assert!(watches.add(2, Inbox::new(vec![node()])).is_empty());
        assert_eq!(told(watches.add(3, Inbox::new(vec![children(), node()]))), ["+/a/*"]);
        assert!(watches.add(4, Inbox::new(vec![children()])).is_empty());
        assert_eq!(told(watches.all()), ["+/a/*"]);
        for id in [1, 3, 4] {
            assert!(watches.remove(id).is_empty());
        }
        assert_eq!(told(watches.all()), ["+/a"]);
        assert_eq!(told(watches.remove(2)), ["-/a"]);
        assert!(watches.all().is_empty() && watches.remove(2).is_empty());
    }
}
