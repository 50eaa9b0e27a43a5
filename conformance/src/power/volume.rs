//! A file system on a drive whose power can fail.
//!
//! It is ext4 on a loop device on the drive's file: the kernel's page cache, journal and flushes are
//! the real ones.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use super::drive::{self, Asked, Drive};
use super::medium::Cut;
use crate::Outcome;
use crate::namespace::run;
use crate::noise::Noise;

/// How long a drive waits for the request that the power is to fail in.
const IDLE: Duration = Duration::from_millis(300);
/// The devices that are needed, besides programs of [`PROGRAMS`].
pub(crate) const DEVICES: [&str; 2] = [drive::DEVICE, "/dev/loop-control"];
/// What is run, what makes it tell its version, and its Debian package.
pub(crate) const PROGRAMS: [(&str, &str, &str); 4] = [
    ("unshare", "-V", "util-linux"),
    ("mount", "-V", "mount"),
    ("umount", "-V", "mount"),
    ("mkfs.ext4", "-V", "e2fsprogs"),
];

/// A file system that is mounted or not.
pub(crate) struct Volume {
    mount: PathBuf,
    drive: Drive,
    is_mounted: bool,
}

impl Volume {
    /// An empty file system of `bytes`, not mounted, whose mount point is in `home`. Only what is
    /// written takes memory.
    pub(crate) fn new(home: &Path, bytes: usize) -> Outcome<Self> {
        let mount = home.join("mnt");
        fs::create_dir_all(&mount)?;
        let drive = Drive::new(&home.join("drive"), bytes)?;
        // All of it now, rather than by a thread of the kernel when it is mounted.
        let whole = "lazy_itable_init=0,lazy_journal_init=0,nodiscard";
        run(Command::new("mkfs.ext4")
            .args(["-q", "-F", "-m", "0", "-E", whole])
            .arg(drive.path()))?;
        Ok(Self { mount, drive, is_mounted: false })
    }

    /// Where it is mounted, or is to be.
    pub(crate) fn path(&self) -> &Path {
        &self.mount
    }

    pub(crate) fn mount(&mut self) -> Outcome<()> {
        if !self.is_mounted {
            let options = ["-t", "ext4", "-o", "loop"];
            run(Command::new("mount").args(options).arg(self.drive.path()).arg(&self.mount))?;
            self.is_mounted = true;
        }
        Ok(())
    }

    /// The power fails in the middle of the drive's write or flush after `requests` others, and with
    /// it `process` ends, which wrote there.
    pub(crate) fn fail(&mut self, requests: u64, process: Option<Child>) -> Outcome<()> {
        self.drive.fail(requests, IDLE);
        if let Some(mut process) = process {
            // From here on it does nothing any more: it takes no answer of the drive's for a success.
            process.kill()?;
            self.drive.turn_off();
            process.wait()?;
        }
        // With the last mount the loop device goes, and the pages that the kernel kept of it.
        run(Command::new("umount").arg(&self.mount))?;
        self.is_mounted = false;
        Ok(())
    }

    /// The power returns; of what the drive had not flushed, the dice decide what is left.
    pub(crate) fn repower(&mut self, dice: &mut Noise) -> Cut {
        self.drive.turn_on(dice)
    }

    pub(crate) fn asked(&self) -> Asked {
        self.drive.asked()
    }

    /// Ends what is written to it at once, and with an error for `process`, which is waited for.
    pub(crate) fn turn_off(&mut self, process: Option<&mut Child>) {
        if let Some(process) = process {
            // It may have ended by itself; so may the mount.
            let _ = process.kill();
            self.drive.turn_off();
            let _ = process.wait();
        }
        self.drive.turn_off();
        if self.is_mounted {
            let _ = run(Command::new("umount").arg(&self.mount));
            self.is_mounted = false;
        }
    }
}
