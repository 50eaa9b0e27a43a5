//! A drive in this process, seen by the machine as a file: loop devices stand on it.
//!
//! Owns: the FUSE protocol of one file without a cache of its own, and the moment at which the power
//! fails. Every block that the file system above writes arrives here, and every flush. Must not
//! know: what the bytes mean, brokers.
//!
//! Only what the kernel sends for such a file is answered; see fuse(4) and `linux/fuse.h`.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::ops::Sub;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::medium::{Cut, Medium, SECTOR};
use crate::noise::Noise;

/// The kernel's door to such file systems.
pub(crate) const DEVICE: &str = "/dev/fuse";
/// The largest write that the kernel may send, in bytes: 256 pages.
const WRITE_MAX: u32 = 1 << 20;
const PAGES_MAX: u16 = 256;
const HEADER_IN: usize = 40;
const HEADER_OUT: u32 = 16;
/// The header of a write's own.
const WRITE_IN: usize = 40;

/// The numbers of `enum fuse_opcode`.
mod opcode {
    pub(super) const FORGET: u32 = 2;
    pub(super) const GETATTR: u32 = 3;
    pub(super) const OPEN: u32 = 14;
    pub(super) const READ: u32 = 15;
    pub(super) const WRITE: u32 = 16;
    pub(super) const RELEASE: u32 = 18;
    pub(super) const FSYNC: u32 = 20;
    pub(super) const FLUSH: u32 = 25;
    pub(super) const INIT: u32 = 26;
    pub(super) const INTERRUPT: u32 = 36;
    pub(super) const BATCH_FORGET: u32 = 42;
}

/// A drive with a write cache and a plug to pull. Dropping it takes its file away.
pub(crate) struct Drive {
    path: PathBuf,
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    medium: Medium,
    power: Power,
    writes: u64,
    flushes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Power {
    On,
    /// It fails in the middle of the write or flush after so many others.
    Failing(u64),
    /// Nothing is answered: for the machine above, time stands still.
    Failed,
    /// The machine above is dead, and what is left of it gets errors.
    Off,
}

/// What a drive was asked since it was made.
#[derive(Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) writes: u64,
    pub(crate) flushes: u64,
}

impl Sub for Asked {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self { writes: self.writes - before.writes, flushes: self.flushes - before.flushes }
    }
}

impl Drive {
    /// A drive of `bytes` zeros at `path`, which is a new file's.
    pub(crate) fn new(path: &Path, bytes: usize) -> io::Result<Self> {
        File::create_new(path)?;
        let device = OpenOptions::new().read(true).write(true).open(DEVICE)?;
        let options = format!("fd={},rootmode=100600,user_id=0,group_id=0\0", device.as_raw_fd());
        let options = std::ffi::CStr::from_bytes_with_nul(options.as_bytes());
        let options = options.map_err(io::Error::other)?;
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        mount("ottla-drive", path, "fuse", flags, options)?;
        let state = State { medium: Medium::new(bytes), power: Power::On, writes: 0, flushes: 0 };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let drive = Self { path: path.to_owned(), shared: shared.clone() };
        thread::Builder::new().name("drive".to_owned()).spawn(move || shared.serve(device))?;
        Ok(drive)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Lets the power fail in the middle of the write or flush that comes after `requests` others,
    /// or after `patience` if they do not come. Returns when it has: since then nothing is answered.
    pub(crate) fn fail(&self, requests: u64, patience: Duration) {
        let mut state = self.shared.lock();
        state.power = Power::Failing(requests);
        let failing = |state: &mut State| matches!(state.power, Power::Failing(_));
        let waited = self.shared.changed.wait_timeout_while(state, patience, failing);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.power = Power::Failed;
    }

    /// Once nobody lives who could take an answer for an acknowledgement: errors for all that still
    /// wait, and for all that come.
    pub(crate) fn turn_off(&self) {
        self.shared.lock().power = Power::Off;
        self.shared.changed.notify_all();
    }

    /// The power returns, to what it left.
    pub(crate) fn turn_on(&self, dice: &mut Noise) -> Cut {
        let mut state = self.shared.lock();
        state.power = Power::On;
        state.medium.cut(dice)
    }

    pub(crate) fn asked(&self) -> Asked {
        let state = self.shared.lock();
        Asked { writes: state.writes, flushes: state.flushes }
    }
}

impl Drop for Drive {
    fn drop(&mut self) {
        self.turn_off();
        // It fails if the machine above still holds the file; it ends with the mount namespace then.
        let _ = unmount(&self.path, UnmountFlags::DETACH);
    }
}

/// What the kernel asks for.
struct Call<'a> {
    opcode: u32,
    unique: u64,
    body: &'a [u8],
}

impl<'a> Call<'a> {
    fn parse(frame: &'a [u8]) -> Option<Self> {
        let body = frame.get(HEADER_IN..)?;
        Some(Self { opcode: u32_at(frame, 4)?, unique: u64_at(frame, 8)?, body })
    }
}

impl Shared {
    /// Nobody panics with the lock in the middle of a change.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers until the file is unmounted.
    fn serve(&self, mut device: File) {
        let mut buffer = vec![0; WRITE_MAX as usize + HEADER_IN + WRITE_IN];
        let mut reply = Vec::new();
        loop {
            let length = match device.read(&mut buffer) {
                Ok(length) => length,
                // The caller was interrupted before we saw what it wanted.
                Err(error) if error.raw_os_error() == Some(Errno::NOENT.raw_os_error()) => continue,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return,
            };
            let Some(call) = Call::parse(&buffer[..length]) else { return };
            if [opcode::FORGET, opcode::BATCH_FORGET, opcode::INTERRUPT].contains(&call.opcode) {
                // They want no answer.
                continue;
            }
            reply.clear();
            let answered = self.answer(&call, &mut reply);
            let error = answered.map_or_else(|errno| -errno.raw_os_error(), |()| 0);
            if error != 0 {
                reply.clear();
            }
            let mut header = (HEADER_OUT + reply.len() as u32).to_ne_bytes().to_vec();
            header.extend(error.to_ne_bytes());
            header.extend(call.unique.to_ne_bytes());
            // A whole answer or none: the device takes no parts. It refuses an answer that nobody
            // waits for any more.
            let _ = device.write_vectored(&[io::IoSlice::new(&header), io::IoSlice::new(&reply)]);
        }
    }

    fn answer(&self, call: &Call<'_>, reply: &mut Vec<u8>) -> Result<(), Errno> {
        let body = call.body;
        match call.opcode {
            opcode::INIT => init(body, reply).ok_or(Errno::PROTO),
            opcode::GETATTR => {
                attributes(self.lock().medium.len() as u64, reply);
                Ok(())
            }
            opcode::OPEN => {
                // struct fuse_open_out: no handle; FOPEN_DIRECT_IO, so that nothing is cached above.
                reply.extend([0; 8]);
                reply.extend(1_u32.to_ne_bytes());
                reply.extend([0; 4]);
                Ok(())
            }
            opcode::READ => self.read(body, reply),
            opcode::WRITE => self.write(body, reply),
            opcode::FSYNC => self.flush(),
            opcode::FLUSH | opcode::RELEASE => Ok(()),
            _ => Err(Errno::NOSYS),
        }
    }

    fn read(&self, body: &[u8], reply: &mut Vec<u8>) -> Result<(), Errno> {
        let (at, length) = place(body).ok_or(Errno::PROTO)?;
        let state = self.powered(self.lock())?;
        reply.extend(state.medium.read(at, length));
        Ok(())
    }

    fn write(&self, body: &[u8], reply: &mut Vec<u8>) -> Result<(), Errno> {
        let (at, length) = place(body).ok_or(Errno::PROTO)?;
        let data = body.get(WRITE_IN..).and_then(|data| data.get(..length)).ok_or(Errno::PROTO)?;
        let mut state = self.powered(self.lock())?;
        state.writes += 1;
        // A write that the power fails in may have come as far as any other.
        state.medium.write(at, data).ok_or(Errno::FBIG)?;
        drop(self.powered(self.count_down(state))?);
        reply.extend((length as u32).to_ne_bytes());
        reply.extend([0; 4]);
        Ok(())
    }

    fn flush(&self) -> Result<(), Errno> {
        let state = self.powered(self.lock())?;
        let mut state = self.powered(self.count_down(state))?;
        state.flushes += 1;
        state.medium.flush();
        Ok(())
    }

    fn count_down<'a>(&self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        match state.power {
            Power::Failing(0) => {
                state.power = Power::Failed;
                self.changed.notify_all();
            }
            Power::Failing(left) => state.power = Power::Failing(left - 1),
            Power::On | Power::Failed | Power::Off => {}
        }
        state
    }

    /// Without power nothing comes back, until the machine above is dead.
    fn powered<'a>(&self, state: MutexGuard<'a, State>) -> Result<MutexGuard<'a, State>, Errno> {
        let failed = |state: &mut State| state.power == Power::Failed;
        let state = self.changed.wait_while(state, failed).unwrap_or_else(PoisonError::into_inner);
        if state.power == Power::Off { Err(Errno::IO) } else { Ok(state) }
    }
}

/// struct fuse_init_out, in answer to struct fuse_init_in.
fn init(body: &[u8], reply: &mut Vec<u8>) -> Option<()> {
    const MAJOR: u32 = 7;
    /// The oldest minor version with all that is said here (Linux 4.20).
    const MINOR: u32 = 28;
    const BIG_WRITES: u32 = 1 << 5;
    const MAX_PAGES: u32 = 1 << 22;
    let read_ahead = u32_at(body, 8)?;
    for number in [MAJOR, MINOR, read_ahead, BIG_WRITES | MAX_PAGES] {
        reply.extend(number.to_ne_bytes());
    }
    // max_background and congestion_threshold: the kernel's own.
    reply.extend([0; 4]);
    reply.extend(WRITE_MAX.to_ne_bytes());
    // Timestamps in nanoseconds.
    reply.extend(1_u32.to_ne_bytes());
    reply.extend(PAGES_MAX.to_ne_bytes());
    // What later versions know more of.
    reply.resize(64, 0);
    Some(())
}

/// struct fuse_attr_out.
fn attributes(bytes: u64, reply: &mut Vec<u8>) {
    const REGULAR_OF_ITS_OWNER: u32 = 0o100_600;
    // Valid for no time.
    reply.extend([0; 16]);
    for number in [1, bytes, bytes / SECTOR as u64] {
        reply.extend(number.to_ne_bytes());
    }
    // Times.
    reply.extend([0; 3 * 8 + 3 * 4]);
    reply.extend(REGULAR_OF_ITS_OWNER.to_ne_bytes());
    // One name; user, group and device 0.
    reply.extend(1_u32.to_ne_bytes());
    reply.extend([0; 3 * 4]);
    reply.extend((SECTOR as u32).to_ne_bytes());
    reply.extend([0; 4]);
}

/// Offset and size of a struct fuse_read_in or fuse_write_in.
fn place(body: &[u8]) -> Option<(usize, usize)> {
    let at = usize::try_from(u64_at(body, 8)?).ok()?;
    Some((at, u32_at(body, 16)? as usize))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..)?.first_chunk().copied()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(at..)?.first_chunk().copied()?))
}
