//! An open file of the disk in memory.

use std::io::{self, IoSlice};
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ottla_runtime::disk::{File, FileSystem};
use parking_lot::MutexGuard;

use crate::disk::{Shared, State};
use crate::inode::Change;
use crate::random::Dice;

pub(crate) struct FakeFile {
    pub(crate) shared: Arc<Shared>,
    pub(crate) number: u64,
    pub(crate) is_writable: bool,
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

impl Shared {
    /// Makes durable, of each file, the first so many changes.
    fn sync(&self, covered: &[(u64, usize)]) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.state.lock();
        state.syncs_waiting += 1;
        self.syncs.notify_all();
        self.syncs.wait_while(&mut state, |state| state.syncs_are_held);
        state.syncs_waiting -= 1;
        state.spend()?;
        state.syncs += 1;
        let is_lost = std::mem::take(&mut state.limits.loses_next_sync);
        for &(number, changes) in covered {
            let file = state.image.file(number);
            match is_lost {
                true => file.fail_sync(&mut Dice::new(number)),
                false => file.sync(changes),
            }
        }
        state.losses += u64::from(is_lost);
        if is_lost { Err(io::Error::other("the disk could not write")) } else { Ok(state) }
    }
}

pub(crate) struct FakeFileSystem {
    pub(crate) shared: Arc<Shared>,
    /// The losses that this was told of, or that were before it.
    pub(crate) told: AtomicU64,
}

impl FileSystem for FakeFileSystem {
    fn sync(&self) -> io::Result<()> {
        let covered = self.shared.state.lock().image.unsynced();
        let synced = self.shared.sync(&covered).map(|mut state| state.image.sync_names());
        // Whoever else had the sync that failed.
        let losses = self.shared.state.lock().losses;
        match self.told.swap(losses, Ordering::SeqCst) < losses {
            true => Err(io::Error::other("the disk could not write")),
            false => synced,
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
        Ok(self.state().image.content(self.number).len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.check_writable()?;
        let mut state = self.state();
        state.spend()?;
        state.image.file(self.number).change(Change::SetLen(len as usize));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let covered = self.state().image.file(self.number).unsynced();
        self.shared.sync(&[(self.number, covered)]).map(drop)
    }

    fn modified_ms(&self) -> io::Result<i64> {
        Ok(0)
    }

    /// On this disk nothing ages.
    fn set_modified_ms(&self, _ms: i64) -> io::Result<()> {
        Ok(())
    }

    fn start_writeback(&self, _range: Range<u64>) {}

    fn reread(&self) -> io::Result<()> {
        self.state().image.file(self.number).evict();
        Ok(())
    }

    fn identity(&self) -> io::Result<u128> {
        Ok(self.number as u128)
    }

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
    use std::path::Path;

    use ottla_runtime::disk::{Disk, OpenMode};

    use crate::FakeDisk;

    #[test]
    fn every_holder_of_the_file_system_is_told_once_of_a_lost_write() {
        let disk = FakeDisk::with_dir("/d");
        let hold = || disk.file_system(Path::new("/d")).unwrap();
        let (first, second) = (hold(), hold());
        let file = disk.open(Path::new("/d/f"), OpenMode::Create).unwrap();
        file.write_at(&[IoSlice::new(b"lost")], 0).unwrap();
        disk.lose_next_sync();
        assert!(first.sync().is_err() && second.sync().is_err());
        assert!(first.sync().is_ok() && second.sync().is_ok());
        assert!(hold().sync().is_ok(), "it was lost before");
    }
}
