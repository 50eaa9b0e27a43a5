//! A disk in memory. It keeps apart what a reader sees and what a power cut would leave.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IoSlice};
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ottla_runtime::disk::{DirEntry, DirLock, Disk, File, FileSystem, LockError, OpenMode, Space};
use parking_lot::{Mutex, MutexGuard};

use crate::random::Dice;

/// The size of a disk for which none is set.
const CAPACITY: u64 = 1 << 40;

/// What a crash takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// The process died; the operating system keeps what it was given.
    Process,
    /// The power failed: of what was not synced, the seed decides what is kept, lost or torn.
    Power {
        /// Decides the fate of every write and name.
        seed: u64,
    },
}

/// A disk in memory.
pub struct FakeDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// What readers see.
    names: BTreeMap<PathBuf, Node>,
    /// The names that a power cut leaves for sure.
    durable_names: BTreeMap<PathBuf, Node>,
    /// What became of the names since their directories were synced, in order.
    unsynced: Vec<NameChange>,
    locked: BTreeSet<PathBuf>,
    limits: Arc<Mutex<Limits>>,
}

/// What still succeeds.
struct Limits {
    /// Changes; `None` is "all".
    changes: Option<u64>,
    capacity: u64,
    /// Bytes of all files that have a name.
    used: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { changes: None, capacity: CAPACITY, used: 0 }
    }
}

impl Limits {
    fn spend(&mut self) -> io::Result<()> {
        match &mut self.changes {
            Some(0) => Err(io::Error::other("the disk is gone")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

#[derive(Clone)]
enum Node {
    Dir,
    File(Arc<Mutex<Inode>>),
}

#[derive(Default, Clone)]
struct Inode {
    content: Vec<u8>,
    durable: Vec<u8>,
    /// Changes since the last sync, in order.
    unsynced: Vec<Change>,
}

impl Inode {
    fn sync(&mut self) {
        self.durable.clone_from(&self.content);
        self.unsynced.clear();
    }
}

#[derive(Clone)]
enum Change {
    Write { at: usize, bytes: Vec<u8> },
    SetLen(usize),
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::SetLen(len) => content.resize(*len, 0),
            Self::Write { at, bytes } => {
                let end = at + bytes.len();
                if content.len() < end {
                    content.resize(end, 0);
                }
                content[*at..end].copy_from_slice(bytes);
            }
        }
    }
}

/// One change of names. It happens as a whole or not at all.
enum NameChange {
    Insert(PathBuf, Node),
    /// With all that is below.
    Remove(PathBuf),
    /// With all that is below.
    Rename(PathBuf, PathBuf),
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<PathBuf, Node>) {
        match self {
            Self::Insert(path, node) => {
                names.insert(path.clone(), node.clone());
            }
            Self::Remove(path) => names.retain(|p, _| !p.starts_with(path)),
            Self::Rename(from, to) => {
                let moved: Vec<PathBuf> =
                    names.keys().filter(|p| p.starts_with(from)).cloned().collect();
                for path in moved {
                    if let (Some(node), Ok(rest)) = (names.remove(&path), path.strip_prefix(from)) {
                        let is_itself = rest.as_os_str().is_empty();
                        let target = if is_itself { to.clone() } else { to.join(rest) };
                        names.insert(target, node);
                    }
                }
            }
        }
    }

    fn is_in(&self, dir: &Path) -> bool {
        match self {
            Self::Insert(path, _) | Self::Remove(path) => path.parent() == Some(dir),
            Self::Rename(from, to) => from.parent() == Some(dir) || to.parent() == Some(dir),
        }
    }
}

impl FakeDisk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self { state: Arc::default() })
    }

    /// A disk with one durable directory.
    #[must_use]
    pub fn with_dir(path: impl AsRef<Path>) -> Arc<Self> {
        let disk = Self::new();
        let mut state = disk.state.lock();
        for ancestor in path.as_ref().ancestors() {
            state.names.insert(ancestor.to_owned(), Node::Dir);
        }
        state.durable_names = state.names.clone();
        drop(state);
        disk
    }

    /// Lets `changes` more writes, renames, removals and syncs succeed; all later ones fail, as if
    /// the disk had gone.
    pub fn fail_after(&self, changes: u64) {
        self.state.lock().limits.lock().changes = Some(changes);
    }

    /// Takes back [`FakeDisk::fail_after`].
    pub fn heal(&self) {
        self.state.lock().limits.lock().changes = None;
    }

    /// Sets the size of the disk. A write that does not fit writes what fits, and fails.
    pub fn set_capacity(&self, bytes: u64) {
        self.state.lock().limits.lock().capacity = bytes;
    }

    /// The disk as it is found after a crash. This one goes on unchanged.
    #[must_use]
    pub fn after(&self, crash: Crash) -> Arc<Self> {
        let state = self.state.lock();
        let names: BTreeMap<PathBuf, Node> = match crash {
            Crash::Process => state.names.iter().map(|(p, n)| (p.clone(), n.settled())).collect(),
            Crash::Power { seed } => state.after_power_cut(&mut Dice::new(seed)),
        };
        let used = names.values().map(Node::len).sum();
        let limits = Limits { used, ..Limits::default() };
        let durable_names = names.clone();
        let limits = Arc::new(Mutex::new(limits));
        let state = State { names, durable_names, limits, ..State::default() };
        Arc::new(Self { state: Arc::new(Mutex::new(state)) })
    }

    /// Flips one bit of a file, also of what is durable.
    ///
    /// # Panics
    /// If there is no such byte.
    pub fn flip_bit(&self, path: impl AsRef<Path>, at: usize) {
        let state = self.state.lock();
        let Some(Node::File(inode)) = state.names.get(path.as_ref()) else {
            panic!("no file {}", path.as_ref().display());
        };
        let mut inode = inode.lock();
        inode.content[at] ^= 1;
        if let Some(byte) = inode.durable.get_mut(at) {
            *byte ^= 1;
        }
    }

    fn change(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.state.lock();
        state.limits.lock().spend()?;
        Ok(state)
    }
}

impl State {
    fn apply(&mut self, change: NameChange) {
        let mut names = std::mem::take(&mut self.names);
        change.apply(&mut names);
        self.names = names;
        self.limits.lock().used = self.names.values().map(Node::len).sum();
        self.unsynced.push(change);
    }

    fn after_power_cut(&self, dice: &mut Dice) -> BTreeMap<PathBuf, Node> {
        let mut names = self.durable_names.clone();
        for change in &self.unsynced {
            if dice.roll(2) == 0 {
                change.apply(&mut names);
            }
        }
        let is_reachable = |path: &Path| path.ancestors().skip(1).all(|a| names.contains_key(a));
        let reachable = names.iter().filter(|(path, _)| is_reachable(path));
        reachable.map(|(path, node)| (path.clone(), node.after_power_cut(dice))).collect()
    }
}

impl Node {
    fn len(&self) -> u64 {
        match self {
            Self::Dir => 0,
            Self::File(inode) => inode.lock().content.len() as u64,
        }
    }

    /// A copy in which all that was written is durable.
    fn settled(&self) -> Self {
        match self {
            Self::Dir => Self::Dir,
            Self::File(inode) => Self::holding(inode.lock().content.clone()),
        }
    }

    fn after_power_cut(&self, dice: &mut Dice) -> Self {
        let Self::File(inode) = self else { return Self::Dir };
        let inode = inode.lock();
        let mut content = inode.durable.clone();
        for change in &inode.unsynced {
            match (dice.roll(3), change) {
                (0, _) => {}
                (1, Change::Write { at, bytes }) => {
                    let torn = bytes[..dice.roll(bytes.len() as u64 + 1) as usize].to_vec();
                    Change::Write { at: *at, bytes: torn }.apply(&mut content);
                }
                (_, change) => change.apply(&mut content),
            }
        }
        Self::holding(content)
    }

    fn holding(content: Vec<u8>) -> Self {
        let durable = content.clone();
        Self::File(Arc::new(Mutex::new(Inode { content, durable, unsynced: Vec::new() })))
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
        let mut state = self.state.lock();
        let inode = match state.names.get(path) {
            Some(Node::File(inode)) => inode.clone(),
            Some(Node::Dir) => return Err(io::Error::other("is a directory")),
            None if mode == OpenMode::Create => {
                state.limits.lock().spend()?;
                if path.parent().is_none_or(|parent| !state.names.contains_key(parent)) {
                    return Err(missing(path));
                }
                let inode = Arc::new(Mutex::new(Inode::default()));
                state.apply(NameChange::Insert(path.to_owned(), Node::File(inode.clone())));
                inode
            }
            None => return Err(missing(path)),
        };
        let limits = state.limits.clone();
        Ok(Arc::new(FakeFile { inode, limits, is_writable: mode != OpenMode::Read }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = self.change()?;
        for ancestor in path.ancestors().collect::<Vec<_>>().into_iter().rev() {
            if !state.names.contains_key(ancestor) {
                state.apply(NameChange::Insert(ancestor.to_owned(), Node::Dir));
            }
        }
        Ok(())
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let state = self.state.lock();
        if !matches!(state.names.get(path), Some(Node::Dir)) {
            return Err(missing(path));
        }
        let children = state.names.iter().filter(|(p, _)| p.parent() == Some(path));
        let entry = |(path, node): (&PathBuf, &Node)| DirEntry {
            name: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            is_dir: matches!(node, Node::Dir),
            len: node.len(),
        };
        Ok(children.map(entry).collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.change()?;
        if !state.names.contains_key(from) {
            return Err(missing(from));
        }
        state.apply(NameChange::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut state = self.change()?;
        if !state.names.contains_key(path) {
            return Err(missing(path));
        }
        state.apply(NameChange::Remove(path.to_owned()));
        Ok(())
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.change()?.apply(NameChange::Remove(path.to_owned()));
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.change()?;
        let (synced, unsynced) = std::mem::take(&mut state.unsynced)
            .into_iter()
            .partition::<Vec<_>, _>(|change| change.is_in(path));
        state.unsynced = unsynced;
        synced.iter().for_each(|change| change.apply(&mut state.durable_names));
        Ok(())
    }

    fn exists(&self, path: &Path) -> bool {
        self.state.lock().names.contains_key(path)
    }

    fn file_system(&self, _path: &Path) -> io::Result<Box<dyn FileSystem>> {
        Ok(Box::new(FakeFileSystem(self.state.clone())))
    }

    fn space(&self, _path: &Path) -> io::Result<Space> {
        let state = self.state.lock();
        let limits = state.limits.lock();
        let usable_bytes = limits.capacity.saturating_sub(limits.used);
        Ok(Space { total_bytes: limits.capacity, usable_bytes })
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn DirLock>, LockError> {
        if self.state.lock().locked.insert(path.to_owned()) {
            Ok(Box::new(FakeLock))
        } else {
            Err(LockError::Held { pid: None })
        }
    }
}

struct FakeFileSystem(Arc<Mutex<State>>);

impl FileSystem for FakeFileSystem {
    fn sync(&self) -> io::Result<()> {
        let mut state = self.0.lock();
        state.limits.lock().spend()?;
        for node in state.names.values() {
            if let Node::File(inode) = node {
                inode.lock().sync();
            }
        }
        state.unsynced.clear();
        state.durable_names = state.names.clone();
        Ok(())
    }
}

/// Held for as long as the disk lives: a fake process never restarts on the same fake disk.
struct FakeLock;

impl DirLock for FakeLock {}

struct FakeFile {
    inode: Arc<Mutex<Inode>>,
    limits: Arc<Mutex<Limits>>,
    is_writable: bool,
}

impl FakeFile {
    /// Applies the change, or as much of it as fits on the disk.
    fn apply(&self, mut change: Change) -> io::Result<()> {
        if !self.is_writable {
            return Err(io::Error::other("the file was opened for reading"));
        }
        let mut limits = self.limits.lock();
        limits.spend()?;
        let mut inode = self.inode.lock();
        let before = inode.content.len() as u64;
        let room = (limits.capacity.saturating_sub(limits.used) + before) as usize;
        let mut full = false;
        if let Change::Write { at, bytes } = &mut change {
            let fits = room.saturating_sub(*at).min(bytes.len());
            full = fits < bytes.len();
            bytes.truncate(fits);
        }
        change.apply(&mut inode.content);
        inode.unsynced.push(change);
        limits.used = (limits.used + inode.content.len() as u64).saturating_sub(before);
        if full { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

impl File for FakeFile {
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        let inode = self.inode.lock();
        let from = inode.content.get(at as usize..).unwrap_or_default();
        let read = buf.len().min(from.len());
        buf[..read].copy_from_slice(&from[..read]);
        Ok(read)
    }

    fn write_at(&self, parts: &[IoSlice<'_>], at: u64) -> io::Result<()> {
        let bytes = parts.iter().flat_map(|part| part.iter().copied()).collect();
        self.apply(Change::Write { at: at as usize, bytes })
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.inode.lock().content.len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.apply(Change::SetLen(len as usize))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.limits.lock().spend()?;
        self.inode.lock().sync();
        Ok(())
    }

    fn modified_ms(&self) -> io::Result<i64> {
        Ok(0)
    }

    fn start_writeback(&self, _range: Range<u64>) {}

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn is_resident(&self, _at: u64) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ottla_runtime::disk::{read_file, replace_file};

    fn write(disk: &FakeDisk, path: &str, bytes: &[u8]) -> Arc<dyn File> {
        let file = disk.open(Path::new(path), OpenMode::Create).unwrap();
        file.write_at(&[IoSlice::new(bytes)], 0).unwrap();
        file
    }

    #[test]
    fn a_power_cut_spares_what_was_synced_and_only_that_for_sure() {
        let mut lost = 0;
        for seed in 0..50 {
            let disk = FakeDisk::with_dir("/d");
            write(&disk, "/d/synced", b"kept").sync_data().unwrap();
            disk.sync_dir(Path::new("/d")).unwrap();
            write(&disk, "/d/unsynced", b"gone");
            let after = disk.after(Crash::Power { seed });
            assert_eq!(read_file(&*after, Path::new("/d/synced")).unwrap(), b"kept", "seed {seed}");
            let unsynced = read_file(&*after, Path::new("/d/unsynced"));
            lost += usize::from(unsynced.map_or(true, |bytes| bytes != b"gone"));
            let alive = disk.after(Crash::Process);
            assert_eq!(read_file(&*alive, Path::new("/d/unsynced")).unwrap(), b"gone");
        }
        assert!((1..50).contains(&lost), "lost in {lost} of 50");
    }

    #[test]
    fn replacing_a_file_leaves_the_old_or_the_new() {
        let path = Path::new("/d/f");
        for changes in 0..8 {
            for seed in 0..20 {
                let disk = FakeDisk::with_dir("/d");
                replace_file(&*disk, path, b"old").unwrap();
                disk.fail_after(changes);
                let replaced = replace_file(&*disk, path, b"new").is_ok();
                let content = read_file(&*disk.after(Crash::Power { seed }), path).unwrap();
                assert!(content == b"new" || (!replaced && content == b"old"), "seed {seed}");
            }
        }
    }

    #[test]
    fn a_renamed_directory_is_found_whole_under_one_of_its_names() {
        let (old, new) = (Path::new("/d/old"), Path::new("/d/new"));
        let mut moved = 0;
        for seed in 0..50 {
            let disk = FakeDisk::with_dir(old);
            write(&disk, "/d/old/f", b"bytes").sync_data().unwrap();
            disk.sync_dir(old).unwrap();
            disk.rename(old, new).unwrap();
            let after = disk.after(Crash::Power { seed });
            assert_ne!(after.exists(old), after.exists(new), "seed {seed}");
            let dir = if after.exists(new) { new } else { old };
            assert_eq!(read_file(&*after, &dir.join("f")).unwrap(), b"bytes", "seed {seed}");
            moved += usize::from(dir == new);
            disk.sync_dir(Path::new("/d")).unwrap();
            assert!(disk.after(Crash::Power { seed }).exists(&new.join("f")), "seed {seed}");
        }
        assert!((1..50).contains(&moved), "moved in {moved} of 50");
    }

    #[test]
    fn a_full_disk_takes_what_fits_and_removing_makes_room() {
        let disk = FakeDisk::with_dir("/d");
        disk.set_capacity(10);
        write(&disk, "/d/a", b"1234567");
        assert_eq!(disk.space(Path::new("/d")).unwrap().usable_bytes, 3);
        let file = disk.open(Path::new("/d/b"), OpenMode::Create).unwrap();
        let parts = [IoSlice::new(b"12"), IoSlice::new(b"345")];
        assert_eq!(file.write_at(&parts, 0).unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(read_file(&*disk, Path::new("/d/b")).unwrap(), b"123");
        disk.remove_file(Path::new("/d/a")).unwrap();
        file.write_at(&parts, 0).unwrap();
        assert_eq!(disk.space(Path::new("/d")).unwrap().usable_bytes, 5);
    }
}
