//! Files and directories.

use std::io::{self, IoSlice};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use rustix::fs::{CWD, RenameFlags};

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// For reading; it must exist.
    Read,
    /// For reading and writing; it must exist.
    ReadWrite,
    /// For reading and writing; made if missing, its content kept if not.
    Create,
    /// As [`OpenMode::Create`], but what is made is for its owner's eyes alone.
    CreatePrivate,
}

impl OpenMode {
    /// Whether a missing file is made.
    #[must_use]
    pub fn creates(self) -> bool {
        matches!(self, Self::Create | Self::CreatePrivate)
    }
}

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// The file name. A name that is not UTF-8 reads with replacement characters.
    pub name: String,
    /// Whether it is a directory.
    pub is_dir: bool,
}

/// The room on a file system, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// All of it.
    pub total_bytes: u64,
    /// What this process may still write.
    pub usable_bytes: u64,
}

/// The exclusive lock of a directory's `.lock` file; dropping it releases it.
pub trait DirLock: Send + Sync {}

/// Why a lock was not taken.
#[derive(Debug)]
pub enum LockError {
    /// Another process holds it.
    Held {
        /// That process, where the system tells.
        pid: Option<u32>,
    },
    /// The file could not be opened or locked.
    Io(io::Error),
}

/// A file system. All paths are absolute, or relative to the working directory.
pub trait Disk: Send + Sync + 'static {
    /// Opens a file.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>>;
    /// Makes a directory and its parents.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Lists a directory, in the order of names.
    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>>;
    /// Renames atomically. Durable once [`Disk::sync_dir`] of the parent returned.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Exchanges the names of two files atomically. A file system that cannot do so renames `from`, if
    /// need be over `to`. Durable as a rename is.
    fn exchange(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes a directory with all that is in it.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Whether the path exists.
    fn exists(&self, path: &Path) -> bool;
    /// The file system that holds the path.
    fn file_system(&self, path: &Path) -> io::Result<Box<dyn FileSystem>>;
    /// The room on the file system that holds the path.
    fn space(&self, path: &Path) -> io::Result<Space>;
    /// Takes the exclusive lock on the file at `path`, making it if missing.
    fn lock(&self, path: &Path) -> Result<Box<dyn DirLock>, LockError>;
}

/// A whole file system.
pub trait FileSystem: Send + Sync {
    /// Makes durable all that was written to it, names included. An error tells that something was
    /// lost, of any file, since this was opened or since it last failed.
    fn sync(&self) -> io::Result<()>;
}

/// An open file. All positions are explicit; there is no cursor.
pub trait File: Send + Sync {
    /// Reads into `buf` from `at`; fewer bytes only at the end of the file.
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize>;
    /// Writes all of `parts`, one after the other, at `at`.
    fn write_at(&self, parts: &[IoSlice<'_>], at: u64) -> io::Result<()>;
    /// The length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether the file is empty.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Cuts the file or extends it with zeros.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Makes content and length durable.
    fn sync_data(&self) -> io::Result<()>;
    /// When the content last changed, in milliseconds since 1970-01-01 UTC.
    fn modified_ms(&self) -> io::Result<i64>;
    /// Sets when the content last changed, in milliseconds since 1970-01-01 UTC.
    fn set_modified_ms(&self, ms: i64) -> io::Result<()>;
    /// Starts writing `range` back to the disk without waiting for it.
    fn start_writeback(&self, range: Range<u64>);
    /// Has what is read from here on come from the disk, where nothing waits to be written. When a sync
    /// has failed, the system takes what it did not write for written, and shows it until it forgets
    /// it: so whoever relies on what another process left syncs first, and then forgets on purpose.
    fn reread(&self) -> io::Result<()>;
    /// Tells the file from another one that takes its path when it is gone.
    fn identity(&self) -> io::Result<u128>;
    /// The file to hold for as long as it must stay open, if that is not this one.
    fn pin(&self) -> Option<io::Result<Arc<dyn File>>> {
        None
    }
    /// The descriptor, where the file has one that stays open: for `sendfile`.
    fn descriptor(&self) -> Option<BorrowedFd<'_>>;
    /// Whether the byte at `at` can be read without waiting for the disk.
    fn is_resident(&self, at: u64) -> bool;
    /// Reads `range` into the page cache.
    fn load(&self, range: Range<u64>) -> io::Result<()> {
        let mut piece = vec![0; 128 * 1024];
        let mut at = range.start;
        while at < range.end {
            let wanted = piece.len().min((range.end - at) as usize);
            match self.read_at(&mut piece[..wanted], at)? {
                0 => break,
                read => at += read as u64,
            }
        }
        Ok(())
    }
}

/// The same file, open for as long as this is held, also if its name goes.
pub fn pin(file: &Arc<dyn File>) -> io::Result<Arc<dyn File>> {
    file.pin().unwrap_or_else(|| Ok(file.clone()))
}

/// Reads a whole file that is known to be small.
pub fn read_file(disk: &dyn Disk, path: &Path) -> io::Result<Vec<u8>> {
    let file = disk.open(path, OpenMode::Read)?;
    let mut bytes = vec![0; file.len()? as usize];
    let read = file.read_at(&mut bytes, 0)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// Replaces a file's content so that a crash leaves the old or the new, never a mixture: write
/// `<path>.tmp`, sync, rename, sync the directory.
pub fn replace_file(disk: &dyn Disk, path: &Path, content: &[u8]) -> io::Result<()> {
    write_replacement(disk, path, content)?.sync_data()?;
    put_replacement(disk, path)?;
    match path.parent() {
        Some(parent) => disk.sync_dir(parent),
        None => Ok(()),
    }
}

/// As [`replace_file`], for what only its owner may read.
pub fn replace_private_file(disk: &dyn Disk, path: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = temporary(path);
    // One that was left behind may be open to others.
    if disk.exists(&temporary) {
        disk.remove_file(&temporary)?;
    }
    disk.open(&temporary, OpenMode::CreatePrivate)?;
    replace_file(disk, path, content)
}

/// The first half of [`replace_file`], for those who replace many files and sync once: what is to
/// be at `path` is written beside it. Once it is on the disk, [`put_replacement`] may follow.
pub fn write_replacement(
    disk: &dyn Disk,
    path: &Path,
    content: &[u8],
) -> io::Result<Arc<dyn File>> {
    let file = disk.open(&temporary(path), OpenMode::Create)?;
    file.set_len(0)?;
    file.write_at(&[IoSlice::new(content)], 0)?;
    Ok(file)
}

/// The second half of [`replace_file`]: puts in place what [`write_replacement`] wrote. Durable once
/// the directory, or the file system, is synced.
pub fn put_replacement(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    disk.rename(&temporary(path), path)
}

fn temporary(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".tmp");
    path.with_file_name(name)
}

/// The operating system's file system.
#[derive(Debug)]
pub struct SystemDisk;

impl Disk for SystemDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let file = std::fs::OpenOptions::new()
            .read(true)
            .write(mode != OpenMode::Read)
            .create(mode.creates())
            .mode(if mode == OpenMode::CreatePrivate { 0o600 } else { 0o666 })
            .truncate(false)
            .open(path)?;
        Ok(Arc::new(SystemFile(file)))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        std::fs::create_dir_all(path)
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(path)? {
            let entry = entry?;
            // Most file systems tell it with the name, which spares a system call for each.
            let is_dir = match entry.file_type() {
                Ok(kind) => kind.is_dir(),
                // Removed since the listing began.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let name = entry.file_name().to_string_lossy().into_owned();
            entries.push(DirEntry { name, is_dir });
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn exchange(&self, from: &Path, to: &Path) -> io::Result<()> {
        let exchanged = rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::EXCHANGE);
        exchanged.or_else(|_| self.rename(from, to))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_dir_all(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        std::fs::File::open(path)?.sync_all()
    }

    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }

    fn file_system(&self, path: &Path) -> io::Result<Box<dyn FileSystem>> {
        Ok(Box::new(SystemFileSystem(std::fs::File::open(path)?)))
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        let found = rustix::fs::statvfs(path)?;
        let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
        Ok(Space { total_bytes: bytes(found.f_blocks), usable_bytes: bytes(found.f_bavail) })
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn DirLock>, LockError> {
        let file = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(LockError::Io)?;
        match posix_lock(&file) {
            Ok(()) => Ok(Box::new(SystemLock(file))),
            Err(error)
                if matches!(error.raw_os_error(), Some(libc::EAGAIN) | Some(libc::EACCES)) =>
            {
                Err(LockError::Held { pid: posix_lock_holder(&file) })
            }
            Err(error) => Err(LockError::Io(error)),
        }
    }
}

/// The process that holds the lock on the file at `path`, if there is such a process.
#[must_use]
pub fn lock_holder(path: &Path) -> Option<u32> {
    posix_lock_holder(&std::fs::File::open(path).ok()?)
}

/// A descriptor of something on it.
struct SystemFileSystem(std::fs::File);

impl FileSystem for SystemFileSystem {
    fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::syncfs(&self.0)?)
    }
}

struct SystemFile(std::fs::File);

impl File for SystemFile {
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        let mut read = 0;
        while read < buf.len() {
            match self.0.read_at(&mut buf[read..], at + read as u64) {
                Ok(0) => break,
                Ok(n) => read += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(read)
    }

    fn write_at(&self, parts: &[IoSlice<'_>], at: u64) -> io::Result<()> {
        let total: usize = parts.iter().map(|part| part.len()).sum();
        let written = loop {
            match rustix::io::pwritev(&self.0, parts, at) {
                Ok(written) => break written,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        };
        if written == total {
            return Ok(());
        }
        // A short write is rare (no space, a signal): finish part by part, which reports why.
        let mut position = 0;
        for part in parts {
            let skip = written.saturating_sub(position).min(part.len());
            self.0.write_all_at(&part[skip..], at + (position + skip) as u64)?;
            position += part.len();
        }
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn modified_ms(&self) -> io::Result<i64> {
        let since_epoch = self.0.metadata()?.modified()?.duration_since(std::time::UNIX_EPOCH);
        Ok(since_epoch.map_or(0, |d| d.as_millis() as i64))
    }

    fn set_modified_ms(&self, ms: i64) -> io::Result<()> {
        let since_epoch = std::time::Duration::from_millis(ms.try_into().unwrap_or(0));
        self.0.set_modified(std::time::UNIX_EPOCH + since_epoch)
    }

    #[allow(unsafe_code, reason = "sync_file_range has no safe wrapper")]
    fn start_writeback(&self, range: Range<u64>) {
        use std::os::fd::AsRawFd;
        // SAFETY: the descriptor is open for as long as `self`; the call touches no memory of ours.
        // Its result does not matter: it is a hint, and durability never rests on it.
        unsafe {
            libc::sync_file_range(
                self.0.as_raw_fd(),
                range.start as i64,
                range.end.saturating_sub(range.start) as i64,
                libc::SYNC_FILE_RANGE_WRITE,
            );
        }
    }

    fn reread(&self) -> io::Result<()> {
        Ok(rustix::fs::fadvise(&self.0, 0, None, rustix::fs::Advice::DontNeed)?)
    }

    fn identity(&self) -> io::Result<u128> {
        // A file system may give the same number to the next file, but not the same time.
        let metadata = self.0.metadata()?;
        let since_epoch = metadata.created().ok().and_then(|t| t.duration_since(UNIX_EPOCH).ok());
        let created_ns = since_epoch.map_or(0, |created| created.as_nanos() as u64);
        Ok((u128::from(metadata.ino()) << 64) | u128::from(created_ns))
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.0.as_fd())
    }

    fn is_resident(&self, at: u64) -> bool {
        let mut byte = [0];
        let parts = &mut [io::IoSliceMut::new(&mut byte)];
        let read = rustix::io::preadv2(&self.0, parts, at, rustix::io::ReadWriteFlags::NOWAIT);
        // A file system that cannot tell does not say so by `AGAIN`.
        !matches!(read, Err(rustix::io::Errno::AGAIN))
    }
}

/// Holds a POSIX record lock, the kind that Java's `FileChannel.lock` takes, so that a Kafka and an
/// Ottla never share a directory. The kernel frees it with the process.
struct SystemLock(#[expect(dead_code, reason = "held, not read")] std::fs::File);

impl DirLock for SystemLock {}

fn whole_file_lock() -> libc::flock {
    libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

#[allow(unsafe_code, reason = "fcntl record locks have no safe wrapper that names the holder")]
fn posix_lock(file: &std::fs::File) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let lock = whole_file_lock();
    // SAFETY: the descriptor is open and `lock` outlives the call, which only reads it.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLK, &raw const lock) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[allow(unsafe_code, reason = "fcntl record locks have no safe wrapper that names the holder")]
fn posix_lock_holder(file: &std::fs::File) -> Option<u32> {
    use std::os::fd::AsRawFd;
    let mut lock = whole_file_lock();
    // SAFETY: the descriptor is open and `lock` outlives the call, which writes within it.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETLK, &raw mut lock) };
    if result == -1 || lock.l_type == libc::F_UNLCK as libc::c_short {
        return None;
    }
    u32::try_from(lock.l_pid).ok().filter(|&pid| pid > 0)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_private_file_is_for_its_owner_alone() {
        let dir = std::env::temp_dir().join(format!("ottla-private-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("secret");
        // What stands there already was open to all.
        for stale in [&path, &temporary(&path)] {
            std::fs::write(stale, "a longer text than the secret").unwrap();
        }
        replace_private_file(&SystemDisk, &path, b"secret").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"secret");
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{mode:o}");
        std::fs::remove_dir_all(dir).unwrap();
    }
}
