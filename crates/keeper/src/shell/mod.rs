//! A voter at work: its directory, its rounds, its connections with the other voters, its clients.
//!
//! Owns: Raft's log, hard state and snapshot on disk ([`Keeper::open`] reads them, every write goes
//! through the log), and the one handle to the tree. Must not know: what the znodes mean.
//!
//! The directory holds `log`, `hard-state`, `snapshot` and `.lock`; while a snapshot comes from
//! another voter, `snapshot.incoming`; while one is written, `snapshot.new` and `log.new`; without a
//! broker, `directory-id`. Each file begins with a line that names its kind and version; each carries
//! CRC-32C checksums over its content. A file that is missing or damaged is an error that names it:
//! nothing is guessed.

mod backup;
mod contacts;
mod core;
mod frames;
mod hard_state;
mod identity;
mod keeper;
mod log;
mod peers;
mod recover;
mod restore;
mod sealed;
mod served;
mod snapshot;
mod storage;
pub mod tend;
pub mod tool;
mod writing;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::machine::quorum::Voter;

pub use backup::{Backup, BackupError, back_up};
pub use identity::directory_id;
pub use keeper::{Keeper, Limits, Options, ProposeError, Proposed, Role, Status};
pub use recover::{RecoverError, Remains, Survivor};
pub use restore::{RestoreError, is_new_directory, make_directory, read_backup, read_directory};

/// Why a directory could not be opened.
#[derive(Debug)]
pub enum OpenError {
    /// Another process has it open.
    Locked {
        /// The lock file.
        path: PathBuf,
        /// That process, where the system tells.
        pid: Option<u32>,
    },
    /// The disk failed.
    Io {
        /// The file or directory.
        path: PathBuf,
        /// How.
        error: io::Error,
    },
    /// A file is not what was once written. Only a copy or another voter can help.
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where in it, in bytes.
        position: u64,
        /// What is wrong there.
        what: &'static str,
    },
    /// The directory belongs to another voter than the one that opens it.
    OtherVoter {
        /// The directory.
        path: PathBuf,
        /// Who opens it.
        own: Voter,
        /// Whose it is.
        other: Voter,
    },
}

impl OpenError {
    fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Io { path: path.to_owned(), error }
    }

    fn corrupt(path: &Path, position: u64, what: &'static str) -> Self {
        Self::Corrupt { path: path.to_owned(), position, what }
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Locked { path, pid: Some(pid) } => {
                write!(f, "{} is locked by process {pid}", path.display())
            }
            Self::Locked { path, pid: None } => {
                write!(f, "{} is locked by another process", path.display())
            }
            Self::Io { path, error } => write!(f, "{}: {error}", path.display()),
            Self::Corrupt { path, position, what } => {
                write!(f, "{} is damaged at byte {position}: {what}", path.display())
            }
            Self::OtherVoter { path, own, other } => {
                let dir = path.display();
                write!(
                    f,
                    "{dir} was written by voter {} with the directory id {:?}, and is opened by voter \
                     {} with {:?}: a voter needs its own directory",
                    other.id, other.directory, own.id, own.directory
                )
            }
        }
    }
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { error, .. } => Some(error),
            Self::Locked { .. } | Self::Corrupt { .. } | Self::OtherVoter { .. } => None,
        }
    }
}
