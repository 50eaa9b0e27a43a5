//! What a watcher is told, and how it waits for that.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use ottla_keeper::machine::EventKind;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::tree::Watch;

/// So many paths are told one by one to a watcher that takes its time; of more it is told
/// [`Changed::All`].
const PATHS_MAX: usize = 10_000;

/// What may have changed since the last time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    /// These of the watched nodes and their children.
    Paths(BTreeSet<String>),
    /// Everything that is watched: there were very many changes, or a time in which none was told.
    All,
}

/// Changes of what is watched. Dropping it ends the watch.
pub struct Changes {
    inbox: Arc<Inbox>,
    _watching: Box<dyn Send + Sync>,
}

impl fmt::Debug for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Changes").field("inbox", &*self.inbox.told.lock()).finish_non_exhaustive()
    }
}

impl Changes {
    /// What comes to `inbox` as long as `watching` is kept.
    pub(crate) fn new(inbox: Arc<Inbox>, watching: impl Send + Sync + 'static) -> Self {
        Self { inbox, _watching: Box::new(watching) }
    }

    /// Waits until something has changed; `None` when the session is over, and so is the watch.
    /// Safe to cancel.
    pub async fn next(&mut self) -> Option<Changed> {
        loop {
            // Made before the look, so that what comes in between wakes it.
            let told = self.inbox.came.notified();
            if let Some(next) = self.inbox.take() {
                return next;
            }
            told.await;
        }
    }
}

/// What is told and not taken yet.
#[derive(Debug)]
pub(crate) struct Inbox {
    watches: Vec<Watch>,
    told: Mutex<Told>,
    came: Notify,
}

#[derive(Debug)]
enum Told {
    Changed(Changed),
    Ended,
}

impl Default for Told {
    fn default() -> Self {
        Self::Changed(Changed::Paths(BTreeSet::new()))
    }
}

impl Inbox {
    pub(crate) fn new(watches: Vec<Watch>) -> Arc<Self> {
        Arc::new(Self { watches, told: Mutex::default(), came: Notify::new() })
    }

    pub(crate) fn watches(&self) -> &[Watch] {
        &self.watches
    }

    /// Tells what happened at `path`, if that is watched. A watch of another one on the same path may
    /// be why it came here.
    pub(crate) fn tell(&self, path: &str, kind: EventKind) {
        let is_other_child = matches!(kind, EventKind::Created | EventKind::Deleted);
        for watch in &self.watches {
            match watch {
                Watch::Node(node) if node == path => self.put(path),
                Watch::Node(node) if is_other_child && parent(path) == Some(node) => self.put(node),
                // Each child is told by itself.
                Watch::Children(_) if kind == EventKind::ChildrenChanged => {}
                Watch::Children(node) if node == path || parent(path) == Some(node) => {
                    self.put(path)
                }
                Watch::Node(_) | Watch::Children(_) => {}
            }
        }
    }

    fn put(&self, path: &str) {
        if let Told::Changed(changed) = &mut *self.told.lock()
            && let Changed::Paths(paths) = changed
        {
            paths.insert(path.to_owned());
            if paths.len() > PATHS_MAX {
                *changed = Changed::All;
            }
        }
        self.came.notify_one();
    }

    /// Tells that anything may have changed.
    pub(crate) fn tell_all(&self) {
        if let Told::Changed(changed) = &mut *self.told.lock() {
            *changed = Changed::All;
        }
        self.came.notify_one();
    }

    /// Tells that the session is over.
    pub(crate) fn end(&self) {
        *self.told.lock() = Told::Ended;
        self.came.notify_one();
    }

    fn take(&self) -> Option<Option<Changed>> {
        match &mut *self.told.lock() {
            Told::Changed(Changed::Paths(paths)) if paths.is_empty() => None,
            Told::Changed(changed) => {
                let none = Changed::Paths(BTreeSet::new());
                Some(Some(std::mem::replace(changed, none)))
            }
            Told::Ended => Some(None),
        }
    }
}

/// The path of a node's parent; the root has none.
pub(crate) fn parent(path: &str) -> Option<&str> {
    match path.rsplit_once('/')? {
        ("", "") => None,
        ("", _) => Some("/"),
        (parent, _) => Some(parent),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths<const N: usize>(paths: [&str; N]) -> Option<Option<Changed>> {
        Some(Some(Changed::Paths(paths.map(str::to_owned).into())))
    }

    #[test]
    fn what_is_watched_is_told_once() {
        use EventKind::{ChildrenChanged, Created, DataChanged};
        let inbox =
            Inbox::new(vec![Watch::Node("/a".to_owned()), Watch::Children("/b".to_owned())]);
        assert_eq!(inbox.take(), None);
        inbox.tell("/a/x", Created);
        assert_eq!(inbox.take(), paths(["/a"]), "it has a child more");
        for path in ["/a", "/a/x/y", "/b/x", "/b/x", "/b/x/y", "/c", "/"] {
            inbox.tell(path, Created);
        }
        assert_eq!(inbox.take(), paths(["/a", "/b/x"]));
        inbox.tell("/a/x", DataChanged);
        inbox.tell("/b", ChildrenChanged);
        assert_eq!(inbox.take(), None);
        inbox.tell("/a", ChildrenChanged);
        inbox.tell("/b/x", DataChanged);
        assert_eq!(inbox.take(), paths(["/a", "/b/x"]));
    }

    #[test]
    fn children_of_the_root_have_a_parent() {
        let inbox = Inbox::new(vec![Watch::Node("/".to_owned())]);
        inbox.tell("/a", EventKind::Deleted);
        assert_eq!(inbox.take(), paths(["/"]));
        inbox.tell("/a/b", EventKind::Created);
        assert_eq!(inbox.take(), None);
    }

    #[test]
    fn of_many_changes_all_is_told() {
        let inbox = Inbox::new(vec![Watch::Children("/a".to_owned())]);
        (0..=PATHS_MAX).for_each(|n| inbox.tell(&format!("/a/{n}"), EventKind::Created));
        assert_eq!(inbox.take(), Some(Some(Changed::All)));
        inbox.tell("/a/b", EventKind::Created);
        assert_eq!(inbox.take(), paths(["/a/b"]));
        inbox.tell_all();
        inbox.end();
        inbox.tell("/a/b", EventKind::Created);
        assert_eq!(inbox.take(), Some(None));
    }
}
