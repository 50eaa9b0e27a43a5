//! A disk in memory. It keeps apart what a reader sees and what a power cut would leave.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ottla_runtime::disk::{DirEntry, DirLock, Disk, File, FileSystem, LockError, OpenMode, Space};
use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::file::{FakeFile, FakeFileSystem};
use crate::inode::{Change, Inode};
use crate::names::{Entry, NameChange, Names, Node};
use crate::random::Dice;

/// The size of a disk for which none is set.
const CAPACITY: u64 = 1 << 40;

/// What a crash takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// The process died; the operating system keeps what it was given. It is not durable by that.
    Process,
    /// The power failed: of what was not synced, the seed decides what is kept, lost or torn.
    Power {
        /// Decides the fate of every sector and name.
        seed: u64,
    },
}

/// A disk in memory.
pub struct FakeDisk {
    shared: Arc<Shared>,
}

#[derive(Default)]
pub(crate) struct Shared {
    pub(crate) state: Mutex<State>,
    /// A sync has begun to wait, or need not wait any more.
    pub(crate) syncs: Condvar,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) image: Image,
    pub(crate) limits: Limits,
    locked: BTreeSet<PathBuf>,
    /// Directories that cannot be reached.
    broken: BTreeSet<PathBuf>,
    /// The disk before each change, once that is asked for.
    recording: Option<Vec<Image>>,
    pub(crate) syncs_are_held: bool,
    pub(crate) syncs_waiting: usize,
    pub(crate) syncs: usize,
    /// Syncs that lost what they were to write.
    pub(crate) losses: u64,
}

/// What is on the disk.
#[derive(Clone, Default)]
pub(crate) struct Image {
    /// Shared with the images before, until they change.
    files: BTreeMap<u64, Arc<Inode>>,
    /// What readers see.
    names: Names,
    /// The names that a power cut leaves for sure.
    durable_names: Names,
    /// What became of the names since their directories were synced, in order.
    unsynced: Vec<NameChange>,
    /// The greatest number of a file or directory.
    last_number: u64,
}

/// What still succeeds.
pub(crate) struct Limits {
    /// Changes; `None` is "all".
    changes: Option<u64>,
    pub(crate) loses_next_sync: bool,
    capacity: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { changes: None, loses_next_sync: false, capacity: CAPACITY }
    }
}

impl FakeDisk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Self::with(Image::default())
    }

    /// A disk with one durable directory.
    #[must_use]
    pub fn with_dir(path: impl AsRef<Path>) -> Arc<Self> {
        let mut image = Image::default();
        for path in path.as_ref().ancestors().collect::<Vec<_>>().into_iter().rev() {
            if let Some(entry) = image.names.entry(path) {
                image.make_dir(entry);
            }
        }
        image.unsynced.clear();
        image.durable_names = image.names.clone();
        Self::with(image)
    }

    fn with(image: Image) -> Arc<Self> {
        let state = Mutex::new(State { image, ..State::default() });
        Arc::new(Self { shared: Arc::new(Shared { state, ..Shared::default() }) })
    }

    /// Lets `changes` more writes, renames, removals and syncs succeed; all later ones fail, as if
    /// the disk had gone.
    pub fn fail_after(&self, changes: u64) {
        self.state().limits.changes = Some(changes);
    }

    /// Whether all changes have been made that [`FakeDisk::fail_after`] lets succeed.
    #[must_use]
    pub fn is_spent(&self) -> bool {
        self.state().limits.changes == Some(0)
    }

    /// Takes back [`FakeDisk::fail_after`].
    pub fn heal(&self) {
        self.state().limits.changes = None;
    }

    /// Lets the next sync of a file fail. What it was to write may be lost for good, though readers
    /// see it until the next crash; later syncs succeed.
    pub fn lose_next_sync(&self) {
        self.state().limits.loses_next_sync = true;
    }

    /// Sets the size of the disk. A write that does not fit writes what fits, and fails.
    pub fn set_capacity(&self, bytes: u64) {
        self.state().limits.capacity = bytes;
    }

    /// Makes the disk slow: syncs of files wait for [`FakeDisk::release_syncs`].
    pub fn hold_syncs(&self) {
        self.state().syncs_are_held = true;
    }

    /// Waits until a sync of a file waits.
    pub fn wait_for_sync(&self) {
        self.shared.syncs.wait_while(&mut self.state(), |state| state.syncs_waiting == 0);
    }

    /// Lets the syncs go on that wait, and all later ones.
    pub fn release_syncs(&self) {
        self.state().syncs_are_held = false;
        self.shared.syncs.notify_all();
    }

    /// How many files, directories and file systems were synced so far.
    #[must_use]
    pub fn syncs(&self) -> usize {
        self.state().syncs
    }

    /// Keeps, from here on, the disk as it is before each change, and in the middle of each write.
    pub fn record(&self) {
        self.state().recording = Some(Vec::new());
    }

    /// How many disks were kept since [`FakeDisk::record`].
    #[must_use]
    pub fn recorded(&self) -> usize {
        self.state().recording.as_ref().map_or(0, Vec::len)
    }

    /// The disks that were kept since [`FakeDisk::record`], which ends. What is found on them after
    /// a crash is what a crash at that moment would have left.
    #[must_use]
    pub fn take_recording(&self) -> Vec<Arc<Self>> {
        let recording = self.state().recording.take().unwrap_or_default();
        recording.into_iter().map(Self::with).collect()
    }

    /// The disk as it is found after a crash. This one goes on unchanged.
    #[must_use]
    pub fn after(&self, crash: Crash) -> Arc<Self> {
        let image = &self.state().image;
        Self::with(match crash {
            Crash::Process => image.clone(),
            Crash::Power { seed } => image.after_power_cut(&mut Dice::new(seed)),
        })
    }

    /// Flips one bit of a file, also of what is durable.
    ///
    /// # Panics
    /// If there is no such byte.
    pub fn flip_bit(&self, path: impl AsRef<Path>, at: usize) {
        let mut state = self.state();
        match state.image.names.find(path.as_ref()) {
            Some(Node::File(number)) => state.image.file(number).flip_bit(at),
            _ => panic!("no file {}", path.as_ref().display()),
        }
    }

    /// Lets nothing be opened, listed or changed in the directory at `path` and below, as if another
    /// disk was mounted there and had gone.
    pub fn break_dir(&self, path: impl AsRef<Path>) {
        self.state().broken.insert(path.as_ref().to_owned());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock()
    }

    /// The state for a look at a path.
    fn reach(&self, path: &Path) -> io::Result<MutexGuard<'_, State>> {
        let state = self.state();
        match path.ancestors().any(|ancestor| state.broken.contains(ancestor)) {
            true => Err(io::Error::other("input/output error")),
            false => Ok(state),
        }
    }

    /// The state for a change of a path that may happen.
    fn change(&self, path: &Path) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.reach(path)?;
        state.spend()?;
        Ok(state)
    }

    fn change_names(
        &self,
        from: &Path,
        to: &Path,
        change: impl FnOnce(Entry, Entry) -> NameChange,
    ) -> io::Result<()> {
        drop(self.reach(to)?);
        let mut state = self.change(from)?;
        let names = &state.image.names;
        let old = names.find(from).and_then(|_| names.entry(from)).ok_or_else(|| missing(from))?;
        let new = names.entry(to).ok_or_else(|| missing(to))?;
        state.image.apply(change(old, new));
        Ok(())
    }
}

impl State {
    /// Counts a change that is about to happen.
    pub(crate) fn spend(&mut self) -> io::Result<()> {
        if let Some(recording) = &mut self.recording {
            recording.push(self.image.clone());
        }
        match &mut self.limits.changes {
            Some(0) => Err(io::Error::other("the disk is gone")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn usable_bytes(&self) -> u64 {
        let used = self.image.names.files().map(|n| self.image.content(n).len() as u64).sum();
        self.limits.capacity.saturating_sub(used)
    }

    /// Writes to a file as much as fits on the disk.
    pub(crate) fn write(&mut self, number: u64, at: usize, bytes: &[u8]) -> io::Result<()> {
        self.spend()?;
        let room = self.usable_bytes() as usize + self.image.content(number).len();
        let fits = room.saturating_sub(at).min(bytes.len());
        if let Some(recording) = &mut self.recording {
            let mut torn = self.image.clone();
            torn.file(number).change(Change::write(at, &bytes[..fits / 2]));
            recording.push(torn);
        }
        self.image.file(number).change(Change::write(at, &bytes[..fits]));
        if fits == bytes.len() { Ok(()) } else { Err(io::ErrorKind::StorageFull.into()) }
    }
}

impl Image {
    fn apply(&mut self, change: NameChange) {
        self.names.apply(&change);
        self.unsynced.push(change);
    }

    fn make_dir(&mut self, entry: Entry) {
        self.last_number += 1;
        self.apply(NameChange::Insert(entry, Node::Dir(self.last_number)));
    }

    fn make_file(&mut self, entry: Entry) -> u64 {
        self.last_number += 1;
        self.files.insert(self.last_number, Arc::default());
        self.apply(NameChange::Insert(entry, Node::File(self.last_number)));
        self.last_number
    }

    pub(crate) fn file(&mut self, number: u64) -> &mut Inode {
        Arc::make_mut(self.files.entry(number).or_default())
    }

    /// How many changes of each file a sync that begins now covers.
    pub(crate) fn unsynced(&self) -> Vec<(u64, usize)> {
        self.files.iter().map(|(number, file)| (*number, file.unsynced())).collect()
    }

    /// All names are on the disk.
    pub(crate) fn sync_names(&mut self) {
        self.unsynced.clear();
        self.durable_names = self.names.clone();
    }

    pub(crate) fn content(&self, number: u64) -> &[u8] {
        self.files.get(&number).map_or(&[], |file| file.content())
    }

    fn after_power_cut(&self, dice: &mut Dice) -> Self {
        let mut names = self.durable_names.clone();
        // A journal keeps the order of changes; POSIX promises none.
        let (is_journal, kept) = (dice.roll(2) == 0, dice.up_to(self.unsynced.len()));
        for (n, change) in self.unsynced.iter().enumerate() {
            if if is_journal { n < kept } else { dice.roll(2) == 0 } {
                names.apply(change);
            }
        }
        names.forget_unreachable();
        let left = |number| {
            let file = self.files.get(&number).map(|file| file.after_power_cut(dice));
            (number, Arc::new(Inode::durable(file.unwrap_or_default())))
        };
        let files = names.files().map(left).collect();
        let (durable_names, unsynced) = (names.clone(), Vec::new());
        Self { files, names, durable_names, unsynced, last_number: self.last_number }
    }
}

fn missing(path: &Path) -> io::Error {
    io::Error::new(
        io::ErrorKind::NotFound,
        format!("{}: no such file or directory", path.display()),
    )
}

impl Disk for FakeDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let mut state = self.reach(path)?;
        let number = match state.image.names.find(path) {
            Some(Node::File(number)) => number,
            Some(Node::Dir(_)) => return Err(io::Error::other("is a directory")),
            None if mode.creates() => {
                let entry = state.image.names.entry(path).ok_or_else(|| missing(path))?;
                state.spend()?;
                state.image.make_file(entry)
            }
            None => return Err(missing(path)),
        };
        let shared = self.shared.clone();
        Ok(Arc::new(FakeFile { shared, number, is_writable: mode != OpenMode::Read }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = self.reach(path)?;
        for path in path.ancestors().collect::<Vec<_>>().into_iter().rev() {
            if state.image.names.find(path).is_none()
                && let Some(entry) = state.image.names.entry(path)
            {
                state.spend()?;
                state.image.make_dir(entry);
            }
        }
        Ok(())
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let image = &self.reach(path)?.image;
        let dir = image.names.find_dir(path).ok_or_else(|| missing(path))?;
        let entry = |(name, node): (&str, Node)| DirEntry {
            name: name.to_owned(),
            is_dir: matches!(node, Node::Dir(_)),
        };
        Ok(image.names.list(dir).map(entry).collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change_names(from, to, NameChange::Rename)
    }

    fn exchange(&self, from: &Path, to: &Path) -> io::Result<()> {
        let change = if self.exists(to) { NameChange::Exchange } else { NameChange::Rename };
        self.change_names(from, to, change)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut state = self.change(path)?;
        let names = &state.image.names;
        match (names.find(path), names.entry(path)) {
            (Some(Node::File(_)), Some(entry)) => state.image.apply(NameChange::Remove(entry)),
            _ => return Err(missing(path)),
        }
        Ok(())
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        for entry in self.read_dir(path)? {
            match entry.is_dir {
                true => self.remove_dir_all(&path.join(entry.name))?,
                false => self.remove_file(&path.join(entry.name))?,
            }
        }
        let mut state = self.change(path)?;
        let entry = state.image.names.entry(path).ok_or_else(|| missing(path))?;
        state.image.apply(NameChange::Remove(entry));
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.change(path)?;
        state.syncs += 1;
        let image = &mut state.image;
        let dir = image.names.find_dir(path).ok_or_else(|| missing(path))?;
        let (synced, unsynced) =
            std::mem::take(&mut image.unsynced).into_iter().partition(|c| c.is_in(dir));
        image.unsynced = unsynced;
        let synced: Vec<NameChange> = synced;
        synced.iter().for_each(|change| image.durable_names.apply(change));
        Ok(())
    }

    fn exists(&self, path: &Path) -> bool {
        self.state().image.names.find(path).is_some()
    }

    fn file_system(&self, _path: &Path) -> io::Result<Box<dyn FileSystem>> {
        let told = self.state().losses.into();
        Ok(Box::new(FakeFileSystem { shared: self.shared.clone(), told }))
    }

    fn space(&self, _path: &Path) -> io::Result<Space> {
        let state = self.state();
        let (total_bytes, usable_bytes) = (state.limits.capacity, state.usable_bytes());
        Ok(Space { total_bytes, usable_bytes })
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn DirLock>, LockError> {
        if self.reach(path).map_err(LockError::Io)?.locked.insert(path.to_owned()) {
            Ok(Box::new(FakeLock { shared: self.shared.clone(), path: path.to_owned() }))
        } else {
            Err(LockError::Held { pid: None })
        }
    }
}

struct FakeLock {
    shared: Arc<Shared>,
    path: PathBuf,
}

impl DirLock for FakeLock {}

impl Drop for FakeLock {
    fn drop(&mut self) {
        self.shared.state.lock().locked.remove(&self.path);
    }
}

#[cfg(test)]
mod tests;
