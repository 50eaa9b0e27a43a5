//! A server is killed in the middle of what is written to it.
//!
//! One client writes over its own versions, many writes at once, each with bytes of its own. It is the
//! only writer: if one of its writes is refused, it was done and not recognised, or done twice. A
//! write of which the client is told that nobody knows must have been done wholly or not at all.

use std::collections::BTreeSet;
use std::env;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use ottla_metadata::Tree;
use ottla_metadata::tree::{CreateMode, Multi, Node, Op, SessionState, TreeError, Written};
use ottla_runtime::{Spawner, task, time};

use super::{open, options};
use crate::Outcome;
use crate::zookeeper::Ensemble;

/// How many kills, unless `OTTLA_TREE_KILLS` says otherwise.
const KILLS: usize = 4;
const NODES: usize = 40;
/// Servers and client find each other again within this time.
const BACK: Duration = Duration::from_secs(60);

/// What the client knows.
struct Book {
    tree: Arc<dyn Tree>,
    /// Of each node, the version and what was written last.
    nodes: Vec<(i32, Vec<u8>)>,
    round: usize,
    /// Sequential nodes that were acknowledged, and their data.
    notes: Vec<(String, Vec<u8>)>,
    /// Lists that were acknowledged, those among them whose connection was lost meanwhile, and those
    /// of which a part was not known.
    acknowledged: usize,
    bridged: usize,
    unknown: usize,
}

pub(super) fn run(ensemble: &Arc<Mutex<Ensemble>>) -> Outcome<String> {
    let kills = match env::var("OTTLA_TREE_KILLS") {
        Ok(kills) => kills.parse()?,
        Err(_) => KILLS,
    };
    let connect = format!("{}/kills", lock(ensemble)?.connect_string());
    task::block_on(async {
        let mut book = Book::begin(open(options(&connect)).await?).await?;
        for kill in 0..kills {
            let mut state = book.tree.state();
            time::timeout(BACK, state.wait_for(|state| *state == SessionState::Connected))
                .await??;
            let at = server_of(ensemble, book.tree.session().0).await?;
            state.mark_unchanged();
            let (ensemble, after) =
                (Arc::clone(ensemble), Duration::from_millis(150 + 41 * kill as u64));
            let killing = task::blocking("kill", move || kill_and_restart(&ensemble, at, after));
            let killing = Spawner::current().spawn(killing);
            while !killing.is_finished() {
                book.write().await?;
            }
            killing.await??;
            // It was the client's own server.
            time::timeout(BACK, state.changed()).await??;
            book.write().await?;
        }
        book.check().await?;
        let Book { acknowledged, bridged, unknown, .. } = book;
        Ok(format!(
            ": {kills}; of {acknowledged} lists of {NODES} writes, {bridged} were bridged, and {unknown} more \
             unknown in part"
        ))
    })?
}

fn lock(ensemble: &Mutex<Ensemble>) -> Result<std::sync::MutexGuard<'_, Ensemble>, String> {
    ensemble.lock().map_err(|_| "a thread panicked".to_owned())
}

fn kill_and_restart(ensemble: &Mutex<Ensemble>, at: usize, after: Duration) -> Result<(), String> {
    thread::sleep(after);
    lock(ensemble)?.kill(at).map_err(|error| error.to_string())?;
    // Long enough for the others to notice.
    thread::sleep(Duration::from_millis(500));
    lock(ensemble)?.restart(at).map_err(|error| error.to_string())
}

async fn server_of(ensemble: &Mutex<Ensemble>, session: i64) -> Outcome<usize> {
    let search = async {
        loop {
            if let Some(server) = lock(ensemble)?.server_of(session) {
                return Ok(server);
            }
            time::sleep(Duration::from_millis(50)).await;
        }
    };
    time::timeout(BACK, search).await?
}

impl Book {
    async fn begin(tree: Arc<dyn Tree>) -> Outcome<Self> {
        let nodes = (0..NODES).map(|n| vec![Op::create(path(n), Some(b"-".to_vec()))]);
        let created = tree.multi_all(nodes.collect()).await?;
        if let Some(failure) = created.into_iter().find_map(Result::err) {
            return Err(format!("{failure:?}").into());
        }
        tree.create("/notes", None).await?;
        Ok(Self {
            tree,
            nodes: vec![(0, b"-".to_vec()); NODES],
            round: 0,
            notes: Vec::new(),
            acknowledged: 0,
            bridged: 0,
            unknown: 0,
        })
    }

    /// What a round writes over a node, with more beside it in the same multi.
    fn multi(&self, n: usize) -> (Multi, Vec<u8>) {
        let bytes = format!("{}-{n}", self.round).into_bytes();
        let set = Op::set(path(n), bytes.clone(), self.nodes[n].0);
        let beside = match n % 4 {
            0 => {
                let (note, mode) = ("/notes/note_", CreateMode::PersistentSequential);
                Some(Op::create_as(note, Some(bytes.clone()), mode))
            }
            1 => Some(Op::create_as(format!("/e{}-{n}", self.round), None, CreateMode::Ephemeral)),
            2 => Some(Op::check("/notes", 0)),
            _ => None,
        };
        (std::iter::once(set).chain(beside).collect(), bytes)
    }

    /// Writes over all nodes once.
    async fn write(&mut self) -> Outcome<()> {
        self.round += 1;
        let (multis, bytes): (Vec<Multi>, Vec<_>) = (0..NODES).map(|n| self.multi(n)).unzip();
        let mut state = self.tree.state();
        state.mark_unchanged();
        match self.tree.multi_all(multis).await {
            Ok(results) => {
                for (n, (result, bytes)) in results.into_iter().zip(bytes).enumerate() {
                    let written = result.map_err(|failure| {
                        format!("round {}, node {n}, the only writer: {failure:?}", self.round)
                    })?;
                    self.note(n, bytes, &written)?;
                }
                self.acknowledged += 1;
                self.bridged += usize::from(state.has_changed()?);
            }
            Err(TreeError::Unavailable { .. }) => {
                self.unknown += 1;
                self.settle(&bytes).await?;
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Takes down what was acknowledged.
    fn note(&mut self, n: usize, bytes: Vec<u8>, written: &[Written]) -> Outcome<()> {
        let Some(Written::Set { stat }) = written.first() else {
            return Err(format!("{written:?}").into());
        };
        if stat.version != self.nodes[n].0 + 1 {
            return Err(format!("node {n} is at {} after {}", stat.version, self.nodes[n].0).into());
        }
        if let Some(Written::Created { path, .. }) = written.get(1)
            && path.starts_with("/notes/")
        {
            self.notes.push((path.clone(), bytes.clone()));
        }
        self.nodes[n] = (stat.version, bytes);
        Ok(())
    }

    /// Finds out what was done of a round of which that was not known.
    async fn settle(&mut self, bytes: &[Vec<u8>]) -> Outcome<()> {
        for (n, (node, bytes)) in self.read().await?.into_iter().zip(bytes).enumerate() {
            let (version, former) = &self.nodes[n];
            let data = node.data.as_deref().unwrap_or_default();
            if node.stat.version == version + 1 && data == bytes {
                self.nodes[n] = (version + 1, bytes.clone());
            } else if node.stat.version != *version || data != former {
                return Err(format!("node {n} is {node:?} after {:?}", self.nodes[n]).into());
            }
        }
        Ok(())
    }

    async fn read(&self) -> Outcome<Vec<Node>> {
        let read = async {
            loop {
                match self.tree.get_all((0..NODES).map(path).collect()).await {
                    Err(TreeError::Unavailable { .. }) => {}
                    nodes => return nodes,
                }
            }
        };
        let nodes = time::timeout(BACK, read).await??;
        nodes.into_iter().map(|node| node.ok_or_else(|| "a node is gone".into())).collect()
    }

    /// All that was acknowledged is there, once.
    async fn check(&self) -> Outcome<()> {
        for (n, (node, (version, bytes))) in
            self.read().await?.into_iter().zip(&self.nodes).enumerate()
        {
            if node.stat.version != *version || node.data.as_deref() != Some(bytes) {
                return Err(format!("node {n} is {node:?}, not {version} {bytes:?}").into());
            }
        }
        let notes = self.notes.iter().map(|(path, _)| path.clone()).collect();
        for ((path, bytes), node) in self.notes.iter().zip(self.tree.get_all(notes).await?) {
            if node.and_then(|node| node.data).as_deref() != Some(bytes) {
                return Err(format!("{path} is not what was acknowledged").into());
            }
        }
        let names = self.tree.children("/notes").await?.unwrap_or_default();
        let paths = names.iter().map(|name| format!("/notes/{name}")).collect();
        let mut seen = BTreeSet::new();
        for node in self.tree.get_all(paths).await?.into_iter().flatten() {
            if !seen.insert(node.data.clone()) {
                return Err(format!("{:?} was noted twice", node.data).into());
            }
        }
        Ok(())
    }
}

fn path(n: usize) -> String {
    format!("/n{n}")
}
