//! Answers, as they are on the wire.

use super::jute::{Write, frame};
use super::number::{code, op, put_multi_end, put_multi_head, xid};
use super::request::{Answer, Read, SetWatches};
use crate::machine::{
    Event, EventKind, Failure, Identity, Op, SessionId, Stat, Tree, WatchKind, Watcher, Watches,
    Written, acl,
};

/// The state of a session that is connected, as events tell it.
const SYNC_CONNECTED: i32 = 3;

/// Appends the answer to the request `xid`: `body` if all went well, else nothing but the code.
pub(super) fn reply(
    out: &mut Vec<u8>,
    (xid, zxid): (i32, i64),
    body: Result<impl FnOnce(&mut Vec<u8>), i32>,
) {
    frame(out, |out| {
        out.i32(xid);
        out.i64(zxid);
        match body {
            Ok(body) => {
                out.i32(code::OK);
                body(out);
            }
            Err(code) => out.i32(code),
        }
    });
}

/// Appends what is told of a change.
pub(super) fn event(out: &mut Vec<u8>, event: &Event) {
    frame(out, |out| {
        out.i32(xid::EVENT);
        out.i64(event.zxid);
        out.i32(0);
        out.i32(event.kind as i32);
        out.i32(SYNC_CONNECTED);
        out.text(&event.path);
    });
}

/// Appends what one write did, as it is answered.
pub(super) fn written(out: &mut Vec<u8>, written: &Written, answer: Answer) {
    match (written, answer) {
        (_, Answer::Nothing) => {}
        (Written::Created { path, .. }, Answer::Path) => out.text(path),
        (Written::Created { path, stat }, Answer::PathAndStat) => {
            out.text(path);
            out.stat(stat);
        }
        (Written::Created { stat, .. } | Written::Set { stat } | Written::AclSet { stat }, _) => {
            out.stat(stat);
        }
        (Written::Deleted | Written::Checked, _) => {}
    }
}

/// Appends what a multi did.
pub(super) fn multi(out: &mut Vec<u8>, kinds: &[i32], result: &Result<Vec<Written>, Failure>) {
    match result {
        Ok(all) => {
            for (done, &kind) in all.iter().zip(kinds) {
                let (kind, answer) = match kind {
                    op::CREATE => (kind, Answer::Path),
                    op::SET_DATA => (kind, Answer::Stat),
                    op::DELETE | op::CHECK => (kind, Answer::Nothing),
                    _ => (op::CREATE2, Answer::PathAndStat),
                };
                put_multi_head(out, kind, 0);
                written(out, done, answer);
            }
        }
        Err(failure) => {
            for at in 0..kinds.len() {
                let code = match at.cmp(&failure.op) {
                    std::cmp::Ordering::Less => 0,
                    std::cmp::Ordering::Equal => code::of(failure.error),
                    std::cmp::Ordering::Greater => code::RUNTIME_INCONSISTENCY,
                };
                put_multi_head(out, op::ERROR, code);
                out.i32(code);
            }
        }
    }
    put_multi_end(out);
}

/// One who reads, and may set watches.
pub(super) struct Look<'a> {
    pub(super) tree: &'a Tree,
    pub(super) watches: &'a mut Watches,
    pub(super) watcher: Watcher,
    pub(super) shown: &'a [Identity],
    pub(super) session: SessionId,
}

impl Look<'_> {
    /// Appends what is read.
    pub(super) fn read(&mut self, out: &mut Vec<u8>, read: &Read) -> Result<(), i32> {
        match read {
            Read::Exists { path, watch } => {
                if self.check(path, acl::READ) == Err(code::NO_AUTH) {
                    return Err(code::NO_AUTH);
                }
                let stat = self.tree.exists(path);
                // A node that is not there yet can be waited for.
                self.watch(*watch, WatchKind::Data, path);
                out.stat(&stat.ok_or(code::NO_NODE)?);
            }
            Read::Data { path, watch } => {
                self.check(path, acl::READ)?;
                let node = self.tree.get(path).ok_or(code::NO_NODE)?;
                self.watch(*watch, WatchKind::Data, path);
                out.buffer(node.data.as_deref());
                out.stat(&node.stat);
            }
            Read::Children { path, watch, with_stat } => {
                self.check(path, acl::READ)?;
                let stat = self.children(out, path)?;
                self.watch(*watch, WatchKind::Children, path);
                if *with_stat {
                    out.stat(&stat);
                }
            }
            Read::Acl { path } => {
                self.check(path, acl::READ | acl::ADMIN)?;
                let (mut list, stat) = self.tree.acl(path).ok_or(code::NO_NODE)?;
                if self.check(path, acl::ADMIN).is_err() {
                    // Who may not change the list does not see hashes of passwords.
                    for entry in list.iter_mut().filter(|acl| &*acl.identity.scheme == "digest") {
                        let user = entry.identity.id.split(':').next().unwrap_or_default();
                        entry.identity.id = format!("{user}:x").into();
                    }
                }
                out.acl(&list);
                out.stat(&stat);
            }
            Read::Ephemerals { prefix } => {
                let own = self.tree.ephemerals(self.session);
                let own: Vec<&str> = own.filter(|path| path.starts_with(&**prefix)).collect();
                out.texts(own.into_iter());
            }
            Read::Descendants { path } => {
                self.check(path, acl::READ)?;
                out.i32(self.tree.descendants(path) as i32);
            }
        }
        Ok(())
    }

    /// Appends what several reads find, each on its own.
    pub(super) fn read_all(&mut self, out: &mut Vec<u8>, reads: &[Read]) {
        for read in reads {
            let kind = match read {
                Read::Data { .. } => op::GET_DATA,
                _ => op::GET_CHILDREN,
            };
            let start = out.len();
            put_multi_head(out, kind, 0);
            if let Err(code) = self.read(out, read) {
                out.truncate(start);
                put_multi_head(out, op::ERROR, code);
                out.i32(code);
            }
        }
        put_multi_end(out);
    }

    fn children(&self, out: &mut Vec<u8>, path: &str) -> Result<Stat, i32> {
        let names = self.tree.children(path).ok_or(code::NO_NODE)?;
        out.texts(names);
        self.tree.exists(path).ok_or(code::NO_NODE)
    }

    fn watch(&mut self, is_wanted: bool, kind: WatchKind, path: &str) {
        if is_wanted {
            self.watches.add(self.watcher, kind, path);
        }
    }

    fn check(&self, path: &str, permissions: i32) -> Result<(), i32> {
        match self.tree.allows(path, permissions, self.shown) {
            None => Err(code::NO_NODE),
            Some(false) => Err(code::NO_AUTH),
            Some(true) => Ok(()),
        }
    }

    /// Sets again the watches that a client had before. Those whose node has changed since fire at
    /// once: returned is what is to be told.
    pub(super) fn set_watches(&mut self, wanted: &SetWatches) -> Vec<Event> {
        let mut events = Vec::new();
        let mut tell = |path: &str, kind| events.push(Event { path: path.into(), kind, zxid: -1 });
        for path in &wanted.data {
            match self.tree.exists(path) {
                None => tell(path, EventKind::Deleted),
                Some(stat) if stat.mzxid > wanted.known => tell(path, EventKind::DataChanged),
                Some(_) => self.watches.add(self.watcher, WatchKind::Data, path),
            }
        }
        for path in &wanted.exist {
            match self.tree.exists(path) {
                Some(_) => tell(path, EventKind::Created),
                None => self.watches.add(self.watcher, WatchKind::Data, path),
            }
        }
        for path in &wanted.children {
            match self.tree.exists(path) {
                None => tell(path, EventKind::Deleted),
                Some(stat) if stat.pzxid > wanted.known => tell(path, EventKind::ChildrenChanged),
                Some(_) => self.watches.add(self.watcher, WatchKind::Children, path),
            }
        }
        for (kind, paths) in
            [(WatchKind::Persistent, &wanted.persistent), (WatchKind::Recursive, &wanted.recursive)]
        {
            paths.iter().for_each(|path| self.watches.add(self.watcher, kind, path));
        }
        events
    }

    /// Whether there are watches of one of these kinds on a path, and takes them back if asked to.
    pub(super) fn find_watches(&mut self, path: &str, kinds: &[WatchKind], remove: bool) -> bool {
        let mut is_found = false;
        for &kind in kinds {
            is_found |= match remove {
                true => self.watches.remove(self.watcher, kind, path),
                false => self.watches.contains(self.watcher, kind, path),
            };
        }
        is_found
    }
}

/// The operations of a multi apart from the types as which they are answered.
pub(super) fn split(multi: Vec<(Op, i32)>) -> (Vec<Op>, Vec<i32>) {
    multi.into_iter().unzip()
}
