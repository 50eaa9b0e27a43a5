//! A disk in memory. It keeps apart what a reader sees and what a power cut would leave.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IoSlice};
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ottla_runtime::disk::{DirEntry, DirLock, Disk, File, LockError, OpenMode, Space};
use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::inode::{Change, Inode};
use crate::names::{NameChange, Names, Node, below};
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
struct Shared {
    state: Mutex<State>,
    /// A sync has begun to wait, or need not wait any more.
    syncs: Condvar,
}

#[derive(Default)]
struct State {
    image: Image,
    limits: Limits,
    locked: BTreeSet<PathBuf>,
    /// The disk before each change, once that is asked for.
    recording: Option<Vec<Image>>,
    syncs_are_held: bool,
    syncs_waiting: usize,
}

/// What is on the disk.
#[derive(Clone, Default)]
struct Image {
    /// Shared with the images before, until they change.
    files: BTreeMap<u64, Arc<Inode>>,
    /// What readers see.
    names: Names,
    /// The names that a power cut leaves for sure.
    durable_names: Names,
    /// What became of the names since their directories were synced, in order.
    unsynced: Vec<NameChange>,
}

/// What still succeeds.
struct Limits {
    /// Changes; `None` is "all".
    changes: Option<u64>,
    loses_next_sync: bool,
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
        let names: Names = path.as_ref().ancestors().map(|p| (p.to_owned(), Node::Dir)).collect();
        Self::with(Image { durable_names: names.clone(), names, ..Image::default() })
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
            Crash::Process => image.after_process_crash(),
            Crash::Power { seed } => image.after_power_cut(&mut Dice::new(seed)),
        })
    }

    /// Flips one bit of a file, also of what is durable.
    ///
    /// # Panics
    /// If there is no such byte.
    pub fn flip_bit(&self, path: impl AsRef<Path>, at: usize) {
        let mut state = self.state();
        match state.image.names.get(path.as_ref()) {
            Some(&Node::File(number)) => state.image.file(number).flip_bit(at),
            _ => panic!("no file {}", path.as_ref().display()),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock()
    }

    /// The state for a change that may happen.
    fn change(&self) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.state();
        state.spend()?;
        Ok(state)
    }
}

impl State {
    /// Counts a change that is about to happen.
    fn spend(&mut self) -> io::Result<()> {
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
        let files = self.image.names.values();
        let used = files.map(|&node| self.image.len(node)).sum();
        self.limits.capacity.saturating_sub(used)
    }

    /// Writes to a file as much as fits on the disk.
    fn write(&mut self, number: u64, at: usize, bytes: &[u8]) -> io::Result<()> {
        self.spend()?;
        let room = self.usable_bytes() as usize + self.image.len(Node::File(number)) as usize;
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
        change.apply(&mut self.names);
        self.unsynced.push(change);
    }

    fn file(&mut self, number: u64) -> &mut Inode {
        Arc::make_mut(self.files.entry(number).or_default())
    }

    fn content(&self, number: u64) -> &[u8] {
        self.files.get(&number).map_or(&[], |file| file.content())
    }

    fn len(&self, node: Node) -> u64 {
        match node {
            Node::Dir => 0,
            Node::File(number) => self.content(number).len() as u64,
        }
    }

    fn after_process_crash(&self) -> Self {
        let mut image = self.clone();
        image.files.values_mut().for_each(|file| Arc::make_mut(file).evict());
        image
    }

    fn after_power_cut(&self, dice: &mut Dice) -> Self {
        let mut names = self.durable_names.clone();
        // A journal keeps the order of changes; POSIX promises none.
        let (is_journal, kept) = (dice.roll(2) == 0, dice.up_to(self.unsynced.len()));
        for (n, change) in self.unsynced.iter().enumerate() {
            if if is_journal { n < kept } else { dice.roll(2) == 0 } {
                change.apply(&mut names);
            }
        }
        let known = names.clone();
        names.retain(|path, _| path.ancestors().skip(1).all(|a| known.contains_key(a)));
        let numbers = names.values().filter_map(|node| match node {
            Node::Dir => None,
            Node::File(number) => Some(*number),
        });
        let left = |number| {
            let file = self.files.get(&number).map(|file| file.after_power_cut(dice));
            (number, Arc::new(Inode::durable(file.unwrap_or_default())))
        };
        let files = numbers.map(left).collect();
        Self { files, durable_names: names.clone(), names, unsynced: Vec::new() }
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
        let mut state = self.state();
        let number = match state.image.names.get(path) {
            Some(Node::File(number)) => *number,
            Some(Node::Dir) => return Err(io::Error::other("is a directory")),
            None if mode == OpenMode::Create => {
                state.spend()?;
                if path.parent().is_none_or(|parent| !state.image.names.contains_key(parent)) {
                    return Err(missing(path));
                }
                let number = state.image.files.keys().next_back().map_or(0, |last| last + 1);
                state.image.files.insert(number, Arc::default());
                state.image.apply(NameChange::Insert(path.to_owned(), Node::File(number)));
                number
            }
            None => return Err(missing(path)),
        };
        let shared = self.shared.clone();
        Ok(Arc::new(FakeFile { shared, number, is_writable: mode != OpenMode::Read }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        for ancestor in path.ancestors().collect::<Vec<_>>().into_iter().rev() {
            if !state.image.names.contains_key(ancestor) {
                state.spend()?;
                state.image.apply(NameChange::Insert(ancestor.to_owned(), Node::Dir));
            }
        }
        Ok(())
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let image = &self.state().image;
        if image.names.get(path) != Some(&Node::Dir) {
            return Err(missing(path));
        }
        let children = image.names.iter().filter(|(p, _)| p.parent() == Some(path));
        let entry = |(path, &node): (&PathBuf, &Node)| DirEntry {
            name: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            is_dir: node == Node::Dir,
            len: image.len(node),
        };
        Ok(children.map(entry).collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.change()?;
        if !state.image.names.contains_key(from) {
            return Err(missing(from));
        }
        state.image.apply(NameChange::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut state = self.change()?;
        if !matches!(state.image.names.get(path), Some(Node::File(_))) {
            return Err(missing(path));
        }
        state.image.apply(NameChange::Remove(path.to_owned()));
        Ok(())
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        for path in below(&state.image.names, path).into_iter().rev() {
            state.spend()?;
            state.image.apply(NameChange::Remove(path));
        }
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.change()?;
        let image = &mut state.image;
        if !image.names.contains_key(path) {
            return Err(missing(path));
        }
        let (synced, unsynced) =
            std::mem::take(&mut image.unsynced).into_iter().partition(|c| c.is_in(path));
        image.unsynced = unsynced;
        let synced: Vec<NameChange> = synced;
        synced.iter().for_each(|change| change.apply(&mut image.durable_names));
        Ok(())
    }

    fn exists(&self, path: &Path) -> bool {
        self.state().image.names.contains_key(path)
    }

    fn space(&self, _path: &Path) -> io::Result<Space> {
        let state = self.state();
        let (total_bytes, usable_bytes) = (state.limits.capacity, state.usable_bytes());
        Ok(Space { total_bytes, usable_bytes })
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn DirLock>, LockError> {
        if self.state().locked.insert(path.to_owned()) {
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

struct FakeFile {
    shared: Arc<Shared>,
    number: u64,
    is_writable: bool,
}

impl FakeFile {
    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock()
    }

    fn check_writable(&self) -> io::Result<()> {
        match self.is_writable {
            true => Ok(()),
            false => Err(io::Error::other("the file was opened for reading")),
        }
    }
}

impl File for FakeFile {
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        let state = self.state();
        let from = state.image.content(self.number).get(at as usize..).unwrap_or_default();
        let read = buf.len().min(from.len());
        buf[..read].copy_from_slice(&from[..read]);
        Ok(read)
    }

    fn write_at(&self, parts: &[IoSlice<'_>], at: u64) -> io::Result<()> {
        self.check_writable()?;
        let bytes: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        self.state().write(self.number, at as usize, &bytes)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.state().image.len(Node::File(self.number)))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.check_writable()?;
        let mut state = self.state();
        state.spend()?;
        state.image.file(self.number).change(Change::SetLen(len as usize));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state();
        let covered = state.image.file(self.number).unsynced();
        state.syncs_waiting += 1;
        self.shared.syncs.notify_all();
        self.shared.syncs.wait_while(&mut state, |state| state.syncs_are_held);
        state.syncs_waiting -= 1;
        state.spend()?;
        if std::mem::take(&mut state.limits.loses_next_sync) {
            state.image.file(self.number).fail_sync(&mut Dice::new(covered as u64));
            return Err(io::Error::other("the disk could not write"));
        }
        state.image.file(self.number).sync(covered);
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

    #[test]
    fn what_a_crash_of_the_process_leaves_is_not_durable_by_that() {
        let disk = FakeDisk::with_dir("/d");
        write(&disk, "/d/f", b"bytes");
        let lost = |seed| {
            let after = disk.after(Crash::Process).after(Crash::Power { seed });
            read_file(&*after, Path::new("/d/f")).map_or(true, |bytes| bytes != b"bytes")
        };
        let lost = (0..50).filter(|&seed| lost(seed)).count();
        assert!((1..50).contains(&lost), "lost in {lost} of 50");
    }

    #[test]
    fn a_recording_has_the_disk_before_each_change_and_within_each_write() {
        let disk = FakeDisk::with_dir("/d");
        disk.record();
        write(&disk, "/d/f", b"1234").sync_data().unwrap();
        disk.remove_file(Path::new("/d/f")).unwrap();
        assert_eq!(disk.recorded(), 5);
        let content = |disk: Arc<FakeDisk>| read_file(&*disk, Path::new("/d/f")).ok();
        let found: Vec<_> = disk.take_recording().into_iter().map(content).collect();
        let expected: [Option<&[u8]>; 5] =
            [None, Some(b""), Some(b"12"), Some(b"1234"), Some(b"1234")];
        assert_eq!(found, expected.map(|bytes| bytes.map(<[u8]>::to_vec)));
    }

    #[test]
    fn a_lock_is_free_again_when_it_is_dropped() {
        let disk = FakeDisk::with_dir("/d");
        let held = disk.lock(Path::new("/d/.lock")).ok();
        assert!(disk.lock(Path::new("/d/.lock")).is_err());
        drop(held);
        assert!(disk.lock(Path::new("/d/.lock")).is_ok());
    }
}
