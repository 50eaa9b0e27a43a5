//! The directory of one voter: read whole when it is opened, written in one order after that.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ottla_runtime::disk::{DirEntry, DirLock, LockError, OpenMode};
use ottla_runtime::{Disk, File, Random};
use tracing::info;

use super::OpenError;
use super::hard_state;
use super::log::Log;
use super::snapshot;
use super::writing::{Step, Writing};
use crate::machine::quorum::{
    Appended, Batch, Entry, HardState, LogId, Membership, Payload, Peer, QuorumId, Remembered,
};
use crate::machine::{Corrupt, NodeChange, Origin, Outcome, Tree, decode_proposals};

/// What a voter must not forget.
pub(super) struct Storage {
    disk: Arc<dyn Disk>,
    paths: Paths,
    log: Log,
    /// The last entry that the tree has applied.
    applied: LogId,
    /// Who belongs to the quorum as of that entry.
    membership: Membership,
    /// The last entry that the snapshot holds.
    snapshot: LogId,
    /// The size of the snapshot; 0 where there is none.
    snapshot_bytes: u64,
    incoming: Option<Incoming>,
    writing: Option<Writing>,
    _lock: Box<dyn DirLock>,
}

/// What a directory holds.
pub(super) struct Opened {
    pub(super) storage: Storage,
    /// The tree as of the last entry that is known to be committed.
    pub(super) tree: Tree,
    pub(super) remembered: Remembered,
}

impl Opened {
    /// Who belongs to the quorum, as the log has it.
    pub(super) fn latest(&self) -> &Membership {
        let entries = self.remembered.entries.iter().rev();
        let latest = entries.map(|entry| &entry.payload).find_map(|payload| match payload {
            Payload::Membership(membership) => Some(membership),
            Payload::Blank | Payload::Normal(_) => None,
        });
        latest.unwrap_or(&self.storage.membership)
    }

    /// Applies the rest of the log, which is not known to be committed, to the tree.
    pub(super) fn apply_rest(&mut self) -> Result<(), OpenError> {
        let known = self.storage.applied.index;
        for entry in self.remembered.entries.iter().filter(|entry| entry.id.index > known) {
            let applied = self.storage.apply(&mut self.tree, entry, &mut Vec::new());
            applied.map_err(|error| OpenError::corrupt(&self.storage.paths.log, 0, error.what))?;
        }
        Ok(())
    }

    /// Whether it has a tree, and names nobody: it was made of one, or taken out of its quorum.
    fn is_ownerless(&self) -> bool {
        !self.storage.is_new() && self.latest().is_empty()
    }

    /// Begins a quorum with the tree that is there.
    ///
    /// It is put into the snapshot, so that whoever is added gets all of it at once: entries of a
    /// former quorum would name that one.
    fn begin_quorum(&mut self, membership: Membership) -> io::Result<()> {
        info!(quorum = %membership.quorum, "this keeper is the only voter of a new quorum");
        let last = self.storage.applied;
        self.storage.begin_anew(last, &membership, &mut self.tree)?;
        self.remembered.membership = membership;
        Ok(())
    }
}

/// How much of a snapshot is sent at once.
const PART_BYTES: usize = 256 << 10;

/// A snapshot of which parts have come.
struct Incoming {
    last: LogId,
    file: Arc<dyn File>,
    bytes: u64,
}

pub(super) struct Paths {
    dir: PathBuf,
    pub(super) log: PathBuf,
    pub(super) hard_state: PathBuf,
    pub(super) snapshot: PathBuf,
    incoming: PathBuf,
    snapshot_new: PathBuf,
    log_new: PathBuf,
}

impl Storage {
    /// Opens the directory of `own`, making it if missing. A new one belongs to the quorum that
    /// `founding` begins, or to none yet. One that was taken out of its quorum is that of a new one.
    pub(super) fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        own: &Peer,
        founding: Option<&Membership>,
        random: &dyn Random,
    ) -> Result<Opened, OpenError> {
        let voter = own.voter;
        disk.create_dir_all(dir).map_err(OpenError::io(dir))?;
        if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            disk.sync_dir(parent).map_err(OpenError::io(parent))?;
        }
        let mut opened = Self::read(disk, dir)?;
        if opened.is_ownerless() {
            let membership = Membership::of(QuorumId(random.bytes16()), [own.clone()]);
            opened.begin_quorum(membership).map_err(OpenError::io(dir))?;
        }
        if let Some(founding) = founding.filter(|_| opened.storage.is_new()) {
            let entry = opened.storage.found(founding);
            opened.remembered.entries = vec![entry.map_err(OpenError::io(dir))?];
        }
        let latest = opened.latest();
        // A directory that lags may know its voter with the directory that it had before, but not if
        // there is nobody whom it could lag behind.
        let is_alone = latest.peers.len() == 1;
        let is_other = |peer: &Peer| {
            let same = (peer.voter.id == voter.id, peer.voter.directory == voter.directory);
            same == (false, true) || same == (true, false) && is_alone
        };
        if let Some((other, _)) = latest.peers.iter().find(|(peer, _)| is_other(peer)) {
            return Err(OpenError::OtherVoter {
                path: dir.to_owned(),
                own: voter,
                other: other.voter,
            });
        }
        Ok(opened)
    }

    /// Opens a directory, whoever's it is.
    pub(super) fn read(disk: Arc<dyn Disk>, dir: &Path) -> Result<Opened, OpenError> {
        let lock = lock(&*disk, &dir.join(LOCK))?;
        settle(&*disk, dir).map_err(OpenError::io(dir))?;
        recover(disk, Paths::new(dir), lock)
    }

    /// Puts a snapshot in the place of all that the directory holds. After a crash it is one or the
    /// other.
    pub(super) fn begin_anew(
        &mut self,
        last: LogId,
        membership: &Membership,
        tree: &mut Tree,
    ) -> io::Result<()> {
        let path = &self.paths.snapshot;
        self.snapshot_bytes = snapshot::write(&*self.disk, path, last, membership, tree)?;
        self.log.begin_behind(last, Vec::new())?;
        (self.snapshot, self.applied) = (last, last);
        self.membership.clone_from(membership);
        Ok(())
    }

    /// Whether the directory belongs to no quorum yet.
    pub(super) fn is_new(&self) -> bool {
        self.log.last() == LogId::default()
    }

    /// Puts the first entry into the log of a new directory: the beginning of a quorum.
    pub(super) fn found(&mut self, membership: &Membership) -> io::Result<Entry> {
        let id = LogId { term: 0, index: 1 };
        let entry = Entry { id, payload: Payload::Membership(membership.clone()) };
        let founding = Appended { after: LogId::default(), entries: vec![entry.clone()] };
        self.log.append(&founding, 0)?;
        Ok(entry)
    }

    /// The directory.
    pub(super) fn dir(&self) -> &Path {
        &self.paths.dir
    }

    /// The file of the hard state.
    pub(super) fn hard_state_path(&self) -> &Path {
        &self.paths.hard_state
    }

    /// The last entry that the tree has applied.
    pub(super) fn applied(&self) -> LogId {
        self.applied
    }

    /// Makes durable what a voter wants to remember. After an error nothing is known about the
    /// directory: it must not be written again before it was opened again.
    pub(super) fn write(
        &mut self,
        hard_state: Option<HardState>,
        append: Option<&Appended>,
    ) -> io::Result<()> {
        if let Some(state) = hard_state {
            hard_state::write(&*self.disk, &self.paths.hard_state, state)?;
        }
        let Some(append) = append else { return Ok(()) };
        if let Some(writing) = &mut self.writing {
            writing.note_append(append.after);
        }
        self.log.append(append, self.applied.index)
    }

    /// Applies a committed entry to the tree, tells what became of whose proposal, and appends what
    /// changed to `nodes`.
    pub(super) fn apply(
        &mut self,
        tree: &mut Tree,
        entry: &Entry,
        nodes: &mut Vec<NodeChange>,
    ) -> Result<Vec<(Origin, Vec<Outcome>)>, Corrupt> {
        self.applied = entry.id;
        match &entry.payload {
            Payload::Normal(batch) => apply(tree, batch, nodes),
            Payload::Membership(membership) => {
                self.membership.clone_from(membership);
                Ok(Vec::new())
            }
            Payload::Blank => Ok(Vec::new()),
        }
    }

    /// Whether the log is longer than `log_bytes`, and longer than the last snapshot.
    pub(super) fn is_snapshot_due(&self, log_bytes: u64) -> bool {
        self.log.bytes() > log_bytes.max(self.snapshot_bytes)
    }

    /// Begins to put the tree into a snapshot, if that is not under way. [`Storage::work`] goes on.
    pub(super) fn begin_snapshot(&mut self, tree: &mut Tree) -> io::Result<()> {
        if self.writing.is_none() {
            let (path, last) = (&self.paths.snapshot_new, self.applied);
            self.writing = Some(Writing::begin(&*self.disk, path, last, &self.membership, tree)?);
        }
        Ok(())
    }

    /// Whether a snapshot is being written, or the log that follows on it.
    pub(super) fn is_working(&self) -> bool {
        self.writing.is_some()
    }

    /// Goes on with that for a few milliseconds. `part` gives the next bytes of the frozen tree, as long
    /// as there are any; `behind` tells the entries of the log behind one of them. Returns the last entry
    /// that the snapshot holds when all is done.
    pub(super) fn work(
        &mut self,
        part: &mut dyn FnMut(&mut Vec<u8>) -> bool,
        behind: impl FnOnce(LogId) -> Vec<Entry>,
    ) -> io::Result<Option<LogId>> {
        let Some(writing) = &mut self.writing else { return Ok(None) };
        let Paths { dir, log, snapshot, snapshot_new, log_new, .. } = &self.paths;
        match writing.step(&self.disk, (snapshot_new, snapshot, log_new), part, behind)? {
            Step::More => Ok(None),
            Step::Snapshot(bytes) => {
                (self.snapshot, self.snapshot_bytes) = (writing.last, bytes);
                Ok(None)
            }
            Step::Log(new) => {
                self.disk.rename(log_new, log)?;
                self.disk.sync_dir(dir)?;
                self.log = new.at(log);
                self.writing = None;
                Ok(Some(self.snapshot))
            }
        }
    }

    /// The last entry that the snapshot holds.
    pub(super) fn snapshot(&self) -> LogId {
        self.snapshot
    }

    /// Whether so many bytes are the whole snapshot.
    pub(super) fn is_whole(&self, bytes: u64) -> bool {
        bytes >= self.snapshot_bytes
    }

    /// A part of the snapshot's file from `offset` on, and whether it ends there.
    pub(super) fn read_part(&self, offset: u64) -> io::Result<(Vec<u8>, bool)> {
        let file = self.disk.open(&self.paths.snapshot, OpenMode::Read)?;
        let mut bytes = vec![0; PART_BYTES];
        let read = file.read_at(&mut bytes, offset)?;
        bytes.truncate(read);
        Ok((bytes, offset + read as u64 >= self.snapshot_bytes))
    }

    /// Takes a part of another voter's snapshot, which is to be no larger than `bytes_max`, and tells
    /// where the next one belongs. The snapshot in place stays as it is.
    pub(super) fn take_part(
        &mut self,
        last: LogId,
        offset: u64,
        part: &[u8],
        bytes_max: u64,
    ) -> io::Result<u64> {
        if offset == 0 {
            let file = self.disk.open(&self.paths.incoming, OpenMode::Create)?;
            file.set_len(0)?;
            self.incoming = Some(Incoming { last, file, bytes: 0 });
        }
        let Some(incoming) = self.incoming.as_mut().filter(|incoming| incoming.last == last) else {
            return Ok(0);
        };
        if incoming.bytes == offset && offset + part.len() as u64 <= bytes_max {
            incoming.file.write_at(&[IoSlice::new(part)], offset)?;
            incoming.bytes += part.len() as u64;
        }
        Ok(incoming.bytes)
    }

    /// Puts the snapshot whose parts were taken in the place of the one that is there, and begins
    /// the log behind it with those entries that `behind` tells to follow. `None`, and nothing is
    /// changed, if the parts are not what was sent.
    pub(super) fn install(
        &mut self,
        last: LogId,
        behind: impl FnOnce(LogId) -> Vec<Entry>,
    ) -> io::Result<Option<(Tree, Membership)>> {
        let Some(incoming) = self.incoming.take() else { return Ok(None) };
        // It is of a tree and a log that are no more.
        self.writing = None;
        incoming.file.sync_data()?;
        let snapshot = match snapshot::read(&*self.disk, &self.paths.incoming) {
            Ok(Some(snapshot)) if snapshot.last == last => snapshot,
            Ok(_) | Err(OpenError::Corrupt { .. }) => return Ok(None),
            Err(error) => return Err(io::Error::other(error)),
        };
        self.disk.rename(&self.paths.incoming, &self.paths.snapshot)?;
        self.disk.sync_dir(&self.paths.dir)?;
        self.log.begin_behind(last, behind(last))?;
        (self.snapshot, self.applied, self.snapshot_bytes) = (last, last, snapshot.bytes);
        self.membership.clone_from(&snapshot.membership);
        Ok(Some((snapshot.tree, snapshot.membership)))
    }
}

impl Paths {
    pub(super) fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            log: dir.join("log"),
            hard_state: dir.join("hard-state"),
            snapshot: dir.join("snapshot"),
            incoming: dir.join("snapshot.incoming"),
            snapshot_new: dir.join("snapshot.new"),
            log_new: dir.join("log.new"),
        }
    }
}

pub(super) fn lock(disk: &dyn Disk, path: &Path) -> Result<Box<dyn DirLock>, OpenError> {
    disk.lock(path).map_err(|error| match error {
        LockError::Held { pid } => OpenError::Locked { path: path.to_owned(), pid },
        LockError::Io(error) => OpenError::Io { path: path.to_owned(), error },
    })
}

/// The file that whoever works on a directory has locked.
const LOCK: &str = ".lock";

/// Makes durable what a process that was killed left in memory, and has the files read from the disk: what
/// a sync of it did not write, it must not have known.
fn settle(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    // Whoever closes a file gives up his locks on it, whichever handle has them: not that of the lock.
    let is_content = |entry: &DirEntry| !entry.is_dir && entry.name != LOCK;
    for entry in disk.read_dir(dir)?.into_iter().filter(is_content) {
        let file = disk.open(&dir.join(entry.name), OpenMode::Read)?;
        file.sync_data()?;
        file.reread()?;
    }
    disk.sync_dir(dir)
}

/// Reads the directory: the snapshot, and the entries after it as far as they are known to be
/// committed. A directory without a log is new, and must then hold nothing else.
fn recover(disk: Arc<dyn Disk>, paths: Paths, lock: Box<dyn DirLock>) -> Result<Opened, OpenError> {
    let hard_state = hard_state::read(&*disk, &paths.hard_state)?;
    let snapshot = snapshot::read(&*disk, &paths.snapshot)?;
    if !disk.exists(&paths.log) {
        if hard_state.is_some() || snapshot.is_some() {
            return Err(OpenError::corrupt(&paths.log, 0, "the file is missing"));
        }
        Log::create(Arc::clone(&disk), &paths.log, LogId::default(), Vec::new())
            .map_err(OpenError::io(&paths.log))?;
    }
    let mut opened = Log::open(Arc::clone(&disk), &paths.log)?;
    let hard_state = hard_state.unwrap_or_default();
    if opened.log.last().term > hard_state.term {
        return Err(OpenError::corrupt(&paths.hard_state, 0, "the log has a later term"));
    }
    let (snapshot, membership, mut tree, snapshot_bytes) = match snapshot {
        Some(s) => (s.last, s.membership, s.tree, s.bytes),
        None => (LogId::default(), Membership::default(), Tree::new(), 0),
    };
    if opened.base.index > snapshot.index {
        return Err(OpenError::corrupt(
            &paths.snapshot,
            0,
            "it is missing, or too old for the log",
        ));
    }
    let mut entries = opened.entries;
    if opened.base == snapshot || entries.iter().any(|entry| entry.id == snapshot) {
        entries.retain(|entry| entry.id.index > snapshot.index);
    } else {
        // A snapshot that came from a leader, and of whose history the log is no part.
        entries.clear();
        opened.log.begin_behind(snapshot, Vec::new()).map_err(OpenError::io(&paths.log))?;
    }
    let at_snapshot = membership.clone();
    let mut storage = Storage {
        disk,
        log: opened.log,
        applied: snapshot,
        membership,
        snapshot,
        snapshot_bytes,
        incoming: None,
        writing: None,
        paths,
        _lock: lock,
    };
    for entry in entries.iter().take_while(|entry| entry.id.index <= opened.committed) {
        storage
            .apply(&mut tree, entry, &mut Vec::new())
            .map_err(|error| OpenError::corrupt(&storage.paths.log, 0, error.what))?;
    }
    let committed = storage.applied.index;
    let remembered =
        Remembered { hard_state, snapshot, membership: at_snapshot, entries, committed };
    Ok(Opened { storage, tree, remembered })
}

fn apply(
    tree: &mut Tree,
    batch: &Batch,
    nodes: &mut Vec<NodeChange>,
) -> Result<Vec<(Origin, Vec<Outcome>)>, Corrupt> {
    let mut outcomes = Vec::new();
    for proposal in decode_proposals(&batch.proposals)? {
        let commands = proposal.commands.iter();
        let applied = commands.map(|command| tree.apply(batch.time_ms, command, nodes)).collect();
        outcomes.push((proposal.origin, applied));
    }
    Ok(outcomes)
}

#[cfg(test)]
mod tests {
    use ottla_fake::{FakeDisk, FakeRandom};

    use super::*;
    use crate::machine::quorum::{DirectoryId, Voter};
    use crate::machine::{Caller, Command, Password, Request};

    const DIR: &str = "/d/keeper";

    fn open(disk: &Arc<FakeDisk>, id: u64) -> (Storage, Tree) {
        let voter = Voter { id, directory: DirectoryId([id as u8; 16]) };
        let own = Peer { voter, address: String::new() };
        let founding = Membership::of(QuorumId([1; 16]), [own.clone()]);
        let (disk, random) = (disk.clone(), FakeRandom::new(0));
        let opened = Storage::open(disk, Path::new(DIR), &own, Some(&founding), &random).unwrap();
        (opened.storage, opened.tree)
    }

    /// Opens a session, as of an entry.
    fn apply_one(storage: &mut Storage, tree: &mut Tree, index: u64) {
        storage.applied = LogId { term: 1, index };
        let request = Request::OpenSession { timeout_ms: 6_000, password: Password([9; 16]) };
        let outcome = tree.apply(0, &Command::new(Caller::default(), request), &mut Vec::new());
        assert!(outcome.result.is_ok());
    }

    fn write_out(storage: &mut Storage, tree: &mut Tree) {
        let mut part = |out: &mut Vec<u8>| {
            let written = tree.thaw_part(1, out);
            let is_some = written.is_some();
            tree.note_written(written);
            is_some
        };
        while storage.is_working() {
            storage.work(&mut part, |_| Vec::new()).unwrap();
        }
    }

    #[test]
    fn the_leaders_snapshot_is_not_written_over_by_one_that_was_begun_before() {
        let disks = [FakeDisk::with_dir("/d"), FakeDisk::with_dir("/d")];
        let (mut leader, mut tree) = open(&disks[0], 1);
        apply_one(&mut leader, &mut tree, 20);
        leader.begin_snapshot(&mut tree).unwrap();
        write_out(&mut leader, &mut tree);

        let (mut follower, mut own) = open(&disks[1], 2);
        apply_one(&mut follower, &mut own, 10);
        follower.begin_snapshot(&mut own).unwrap();
        let last = leader.snapshot();
        let (bytes, is_end) = leader.read_part(0).unwrap();
        assert!(is_end);
        follower.take_part(last, 0, &bytes, 1 << 20).unwrap();
        let (mut installed, _) = follower.install(last, |_| Vec::new()).unwrap().unwrap();
        write_out(&mut follower, &mut installed);
        let read = snapshot::read(&*disks[1], &Path::new(DIR).join("snapshot")).unwrap().unwrap();
        assert_eq!((read.last, read.tree), (last, tree));
    }
}
