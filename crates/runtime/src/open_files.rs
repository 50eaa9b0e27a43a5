//! A disk whose files share a bounded number of descriptors.
//!
//! A file that was opened stays open as long as there is room. Beyond that, the one that nobody used
//! for longest is closed, and opened again when somebody does. A file is never closed while it has
//! writes that were not synced: the kernel tells of their loss only to those who had it open.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::disk::{DirEntry, DirLock, Disk, File, FileSystem, LockError, OpenMode, Space};

/// A disk that keeps at most so many files open.
pub struct OpenFiles {
    inner: Arc<dyn Disk>,
    ring: Arc<Ring>,
    /// The file systems that are synced as a whole, by a path on each.
    file_systems: Mutex<Vec<(PathBuf, Arc<Epochs>)>>,
}

/// The open files, in the order in which they are looked at for one to close.
struct Ring {
    max: usize,
    files: Mutex<VecDeque<Weak<CachedFile>>>,
}

/// Tells whether a write came before the last sync of the whole file system.
struct Epochs {
    now: AtomicU64,
    /// All that was written in this epoch and before is synced.
    synced: AtomicU64,
}

impl Default for Epochs {
    fn default() -> Self {
        Self { now: AtomicU64::new(1), synced: AtomicU64::new(0) }
    }
}

struct CachedFile {
    this: Weak<Self>,
    inner: Arc<dyn Disk>,
    ring: Arc<Ring>,
    epochs: Arc<Epochs>,
    path: PathBuf,
    mode: OpenMode,
    open: Mutex<Option<Arc<dyn File>>>,
    was_used: AtomicBool,
    /// What the file was when it was opened first.
    identity: u128,
    /// There may be writes since the file itself was last synced.
    is_written: AtomicBool,
    /// The epoch of the last write.
    written: AtomicU64,
}

impl OpenFiles {
    /// A disk that keeps about `max` of the files of `inner` open, more only while all of them have
    /// writes that were not synced.
    #[must_use]
    pub fn new(inner: Arc<dyn Disk>, max: usize) -> Self {
        let ring = Arc::new(Ring { max, files: Mutex::default() });
        Self { inner, ring, file_systems: Mutex::default() }
    }

    fn epochs_of(&self, path: &Path) -> Arc<Epochs> {
        let file_systems = self.file_systems.lock();
        let known = file_systems.iter().filter(|(root, _)| path.starts_with(root));
        let nearest = known.max_by_key(|(root, _)| root.as_os_str().len());
        nearest.map_or_else(Arc::default, |(_, epochs)| epochs.clone())
    }
}

impl Ring {
    /// Takes in a file that was just opened, and closes others for it.
    fn insert(&self, file: Weak<CachedFile>) {
        let mut files = self.files.lock();
        files.push_back(file);
        // Each is looked at twice at most: the first look takes back that it was used.
        for _ in 0..2 * files.len() {
            if files.len() <= self.max {
                return;
            }
            let Some(oldest) = files.pop_front() else { return };
            if let Some(file) = oldest.upgrade()
                && !file.close_if_idle()
            {
                files.push_back(oldest);
            }
        }
    }
}

impl CachedFile {
    /// The open file.
    fn get(&self) -> io::Result<Arc<dyn File>> {
        let opened = {
            let mut open = self.open.lock();
            if let Some(file) = &*open {
                self.was_used.store(true, Ordering::Relaxed);
                return Ok(file.clone());
            }
            let file = self.inner.open(&self.path, self.mode)?;
            if file.identity()? != self.identity {
                // Another file took the path.
                return Err(io::ErrorKind::NotFound.into());
            }
            *open = Some(file.clone());
            file
        };
        self.ring.insert(self.this.clone());
        Ok(opened)
    }

    /// The open file, to be written to.
    fn get_for_writing(&self) -> io::Result<Arc<dyn File>> {
        // Before the write: it must not be closed from here on.
        self.written.store(self.epochs.now.load(Ordering::SeqCst), Ordering::SeqCst);
        self.is_written.store(true, Ordering::SeqCst);
        self.get()
    }

    fn close_if_idle(&self) -> bool {
        let mut open = self.open.lock();
        let is_synced = !self.is_written.load(Ordering::SeqCst)
            || self.written.load(Ordering::SeqCst) <= self.epochs.synced.load(Ordering::SeqCst);
        let is_idle = !self.was_used.swap(false, Ordering::Relaxed) && is_synced;
        if is_idle {
            *open = None;
        }
        is_idle
    }
}

impl File for CachedFile {
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        self.get()?.read_at(buf, at)
    }

    fn write_at(&self, parts: &[IoSlice<'_>], at: u64) -> io::Result<()> {
        self.get_for_writing()?.write_at(parts, at)
    }

    fn len(&self) -> io::Result<u64> {
        self.get()?.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.get_for_writing()?.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        let file = self.get()?;
        // Before the sync: what is written meanwhile leaves its own mark.
        self.is_written.store(false, Ordering::SeqCst);
        file.sync_data().inspect_err(|_| self.is_written.store(true, Ordering::SeqCst))
    }

    fn modified_ms(&self) -> io::Result<i64> {
        self.get()?.modified_ms()
    }

    fn set_modified_ms(&self, ms: i64) -> io::Result<()> {
        self.get()?.set_modified_ms(ms)
    }

    fn start_writeback(&self, range: Range<u64>) {
        if let Ok(file) = self.get() {
            file.start_writeback(range);
        }
    }

    fn reread(&self) -> io::Result<()> {
        self.get()?.reread()
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        // It might be closed while it is borrowed: see `File::pin`.
        None
    }

    fn is_resident(&self, at: u64) -> bool {
        self.get().is_ok_and(|file| file.is_resident(at))
    }

    fn load(&self, range: Range<u64>) -> io::Result<()> {
        self.get()?.load(range)
    }

    fn identity(&self) -> io::Result<u128> {
        Ok(self.identity)
    }

    fn pin(&self) -> Option<io::Result<Arc<dyn File>>> {
        Some(self.get())
    }
}

struct CachedFileSystem {
    inner: Box<dyn FileSystem>,
    epochs: Arc<Epochs>,
}

impl FileSystem for CachedFileSystem {
    fn sync(&self) -> io::Result<()> {
        let epoch = self.epochs.now.fetch_add(1, Ordering::SeqCst);
        self.inner.sync()?;
        self.epochs.synced.fetch_max(epoch, Ordering::SeqCst);
        Ok(())
    }
}

impl Disk for OpenFiles {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let file = self.inner.open(path, mode)?;
        let identity = file.identity()?;
        // Once made, a file that is gone must not come back.
        let mode = if mode.creates() { OpenMode::ReadWrite } else { mode };
        let cached = Arc::new_cyclic(|this: &Weak<CachedFile>| CachedFile {
            this: this.clone(),
            inner: self.inner.clone(),
            ring: self.ring.clone(),
            epochs: self.epochs_of(path),
            path: path.to_owned(),
            mode,
            open: Mutex::new(Some(file)),
            was_used: AtomicBool::new(true),
            identity,
            is_written: AtomicBool::new(false),
            written: AtomicU64::new(0),
        });
        self.ring.insert(cached.this.clone());
        Ok(cached)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.inner.create_dir_all(path)
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.inner.read_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn exchange(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.exchange(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.inner.remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.inner.remove_dir_all(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.inner.sync_dir(path)
    }

    fn exists(&self, path: &Path) -> bool {
        self.inner.exists(path)
    }

    fn file_system(&self, path: &Path) -> io::Result<Box<dyn FileSystem>> {
        let inner = self.inner.file_system(path)?;
        let epochs = Arc::<Epochs>::default();
        self.file_systems.lock().push((path.to_owned(), epochs.clone()));
        Ok(Box::new(CachedFileSystem { inner, epochs }))
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        self.inner.space(path)
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn DirLock>, LockError> {
        self.inner.lock(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{SystemDisk, pin};

    /// A directory of a test, and a disk that keeps three of its files open.
    struct Scratch {
        dir: PathBuf,
        disk: OpenFiles,
    }

    impl Scratch {
        fn new(name: &str) -> Self {
            let name = format!("ottla-runtime-{}-{name}", std::process::id());
            let dir = std::env::temp_dir().join(name);
            std::fs::create_dir_all(&dir).unwrap();
            Self { dir, disk: OpenFiles::new(Arc::new(SystemDisk), 3) }
        }

        fn files(&self, count: usize) -> Vec<Arc<dyn File>> {
            let open = |n| self.disk.open(&self.dir.join(format!("{n}")), OpenMode::Create);
            (0..count).map(|n| open(n).unwrap()).collect()
        }

        /// How many files of the directory this process has open.
        fn open_count(&self) -> usize {
            let descriptors = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
            let targets = descriptors.filter_map(|entry| std::fs::read_link(entry.path()).ok());
            targets.filter(|target| target.starts_with(&self.dir) && *target != self.dir).count()
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }

    fn write(file: &Arc<dyn File>, text: &str) {
        file.write_at(&[IoSlice::new(text.as_bytes())], 0).unwrap();
    }

    fn read(file: &Arc<dyn File>) -> String {
        let mut bytes = [0; 16];
        let read = file.read_at(&mut bytes, 0).unwrap();
        String::from_utf8_lossy(&bytes[..read]).into_owned()
    }

    #[test]
    fn files_beyond_the_limit_are_closed_and_opened_again() {
        let scratch = Scratch::new("limit");
        let files = scratch.files(10);
        for (n, file) in files.iter().enumerate() {
            write(file, &n.to_string());
            file.sync_data().unwrap();
        }
        for _ in 0..3 {
            for (n, file) in files.iter().enumerate() {
                assert_eq!(read(file), n.to_string());
                assert!(scratch.open_count() <= 3, "{}", scratch.open_count());
            }
        }
    }

    #[test]
    fn what_was_not_synced_stays_open() {
        let scratch = Scratch::new("unsynced");
        let file_system = scratch.disk.file_system(&scratch.dir).unwrap();
        let files = scratch.files(8);
        files.iter().for_each(|file| write(file, "text"));
        let more =
            |scratch: &Scratch| scratch.disk.open(&scratch.dir.join("more"), OpenMode::Create);
        more(&scratch).unwrap();
        assert_eq!(scratch.open_count(), 8);
        file_system.sync().unwrap();
        write(&files[0], "next");
        drop(more(&scratch).unwrap());
        drop(more(&scratch).unwrap());
        assert!(scratch.open_count() <= 3, "{}", scratch.open_count());
        let first = scratch.dir.join("0");
        let is_open = |path: &Path| {
            let descriptors = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
            descriptors.into_iter().any(|e| std::fs::read_link(e.path()).is_ok_and(|t| t == path))
        };
        assert!(is_open(&first), "it was written to after the sync");
    }

    #[test]
    fn a_file_that_is_gone_does_not_come_back_and_a_pinned_one_stays() {
        let scratch = Scratch::new("gone");
        let files = scratch.files(2);
        for file in &files {
            write(file, "old");
            file.sync_data().unwrap();
        }
        let pinned = pin(&files[1]).unwrap();
        // Others take the room.
        for n in 10..20 {
            scratch.disk.open(&scratch.dir.join(n.to_string()), OpenMode::Create).unwrap();
        }
        for name in ["0", "1"] {
            let path = scratch.dir.join(name);
            scratch.disk.remove_file(&path).unwrap();
            write(&scratch.disk.open(&path, OpenMode::Create).unwrap(), "new");
        }
        let error = files[0].read_at(&mut [0; 4], 0).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert_eq!(read(&pinned), "old");
    }
}
