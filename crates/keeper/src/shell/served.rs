//! What a voter serves: the tree, and the watches that its clients have set on it.

use std::collections::BTreeMap;

use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use tokio::sync::mpsc;

use crate::machine::{Caller, Event, Identity, NodeChange, Told, Tree, Watcher, Watches, acl};

/// Events that may wait for a client to take them. A client that does not is dropped.
const EVENTS_MAX: usize = 10_000;

/// How much of a frozen tree is written out at once.
const PART_BYTES: usize = 1 << 20;

/// The tree of a voter, and its clients.
///
/// Lock order: tree, then clients. Who reads the tree sets watches before letting it go, and what
/// changes the tree fires watches before that: so a client is told of every change of what it read,
/// and before it reads what was changed.
pub(super) struct Served {
    tree: RwLock<Tree>,
    clients: Mutex<Clients>,
}

#[derive(Default)]
struct Clients {
    watches: Watches,
    clients: BTreeMap<Watcher, Client>,
    next: Watcher,
}

struct Client {
    caller: Caller,
    /// Whom it has shown to be.
    shown: Vec<Identity>,
    events: mpsc::Sender<Event>,
}

impl Served {
    pub(super) fn new(tree: Tree) -> Self {
        Self { tree: RwLock::new(tree), clients: Mutex::default() }
    }

    /// The tree, for reading.
    pub(super) fn tree(&self) -> RwLockReadGuard<'_, Tree> {
        self.tree.read()
    }

    /// Looks at the tree, and may set watches on what it sees.
    pub(super) fn watch<T>(&self, look: impl FnOnce(&Tree, &mut Watches) -> T) -> T {
        let tree = self.tree.read();
        look(&tree, &mut self.clients.lock().watches)
    }

    /// Appends the next part of the frozen tree; tells whether there was one. Who reads the tree does not
    /// wait for more than the note of it.
    pub(super) fn write_out(&self, part: &mut Vec<u8>) -> bool {
        let written = self.tree.read().thaw_part(PART_BYTES, part);
        let is_some = written.is_some();
        self.tree.write().note_written(written);
        is_some
    }

    /// Changes the tree; clients are told of what `change` appends.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Tree, &mut Vec<NodeChange>) -> T) -> T {
        let mut tree = self.tree.write();
        let mut changes = Vec::new();
        let changed = change(&mut tree, &mut changes);
        let mut clients = self.clients.lock();
        let mut told = Vec::new();
        changes.iter().for_each(|change| clients.watches.fire(change, &mut told));
        for Told { watcher, event, acl } in told {
            let client = clients.clients.get(&watcher);
            // Who may not read a node is not told of it (CVE-2024-23944 of ZooKeeper).
            let client = client.filter(|client| acl.allows(acl::READ, &client.shown));
            if client.is_some_and(|client| client.events.try_send(event).is_err()) {
                clients.drop_client(watcher);
            }
        }
        changed
    }

    /// A client that goes on with the session of `caller`. It is to end when its events do.
    pub(super) fn add_client(
        &self,
        caller: Caller,
        shown: Vec<Identity>,
    ) -> (Watcher, mpsc::Receiver<Event>) {
        let (events, receiver) = mpsc::channel(EVENTS_MAX);
        let mut clients = self.clients.lock();
        clients.next += 1;
        let watcher = clients.next;
        clients.clients.insert(watcher, Client { caller, shown, events });
        (watcher, receiver)
    }

    /// Notes whom a client has shown to be.
    pub(super) fn show(&self, watcher: Watcher, shown: Vec<Identity>) {
        if let Some(client) = self.clients.lock().clients.get_mut(&watcher) {
            client.shown = shown;
        }
    }

    /// Forgets a client and its watches.
    pub(super) fn drop_client(&self, watcher: Watcher) {
        self.clients.lock().drop_client(watcher);
    }

    /// Drops those clients whose session has ended, or goes on elsewhere.
    pub(super) fn drop_ended(&self) {
        let tree = self.tree.read();
        let mut clients = self.clients.lock();
        let is_over = |client: &Client| tree.check_session(client.caller).is_err();
        let over = clients.clients.iter().filter(|(_, client)| is_over(client));
        for watcher in over.map(|(&watcher, _)| watcher).collect::<Vec<_>>() {
            clients.drop_client(watcher);
        }
    }

    /// Drops all clients: they find another voter, or come again.
    pub(super) fn drop_all(&self) {
        let mut clients = self.clients.lock();
        *clients = Clients { next: clients.next, ..Clients::default() };
    }

    /// How many clients and watches there are.
    pub(super) fn count(&self) -> (usize, usize) {
        let clients = self.clients.lock();
        (clients.clients.len(), clients.watches.len())
    }
}

impl Clients {
    fn drop_client(&mut self, watcher: Watcher) {
        self.clients.remove(&watcher);
        self.watches.remove_all(watcher);
    }
}
