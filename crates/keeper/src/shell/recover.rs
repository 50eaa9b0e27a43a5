//! A quorum whose majority is lost, and what one of its voters has left.
//!
//! The directory gets a snapshot of all that its log holds, which names nobody: the voter that opens
//! it first is the only one of a new quorum. Whether entries at the log's end were committed cannot be
//! known here; they are kept, for they may have been. What others acknowledged behind them is lost.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ottla_runtime::Disk;

use super::identity::known_directory_id;
use super::storage::{Opened, Storage};
use super::{OpenError, hard_state};
use crate::machine::quorum::{DirectoryId, HardState, LogId, Membership};
use crate::machine::{Tree, Zxid};

/// Why there is nothing to recover; the directory is as it was.
#[derive(Debug)]
pub enum RecoverError {
    /// The directory cannot be used.
    Open(OpenError),
    /// No keeper has lived there.
    Missing {
        /// The directory.
        dir: PathBuf,
    },
    /// It belongs to no quorum: it waits for one, or was recovered or restored already.
    NoQuorum {
        /// The directory.
        dir: PathBuf,
    },
    /// Its voter is the quorum.
    Alone {
        /// The directory.
        dir: PathBuf,
    },
}

impl fmt::Display for RecoverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(error) => error.fmt(f),
            Self::Missing { dir } => write!(f, "no keeper has lived in {}", dir.display()),
            Self::NoQuorum { dir } => {
                let dir = dir.display();
                write!(
                    f,
                    "{dir} belongs to no quorum, so there is none to recover: start its keeper"
                )
            }
            Self::Alone { dir } => {
                let dir = dir.display();
                write!(f, "the keeper of {dir} is its quorum, of which nothing is lost: start it")
            }
        }
    }
}

impl std::error::Error for RecoverError {}

impl From<OpenError> for RecoverError {
    fn from(error: OpenError) -> Self {
        Self::Open(error)
    }
}

/// What a voter has of its quorum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remains {
    /// The directory's id, where the directory itself tells it.
    pub directory: Option<DirectoryId>,
    /// Who belonged to the quorum.
    pub membership: Membership,
    /// The last entry of its log.
    pub last: LogId,
    /// The last change of the tree up to there.
    pub zxid: Zxid,
    /// The last entry that the log knows to be committed.
    pub committed: LogId,
    /// The last change up to there.
    pub committed_zxid: Zxid,
    /// How many sessions end.
    pub sessions: usize,
    /// How many nodes there are.
    pub nodes: usize,
}

/// A voter that is left, and stopped. Its directory is locked as long as this is held.
pub struct Survivor {
    disk: Arc<dyn Disk>,
    storage: Storage,
    tree: Tree,
    term: u64,
    remains: Remains,
}

impl fmt::Debug for Survivor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Survivor").field("remains", &self.remains).finish_non_exhaustive()
    }
}

impl Survivor {
    /// Reads what a voter has, as a start would: a last record that a crash has torn is cut off.
    pub fn open(disk: &Arc<dyn Disk>, dir: &Path) -> Result<Self, RecoverError> {
        if !disk.exists(&dir.join("log")) {
            return Err(RecoverError::Missing { dir: dir.to_owned() });
        }
        let mut opened = Storage::read(Arc::clone(disk), dir)?;
        let membership = opened.latest().clone();
        match membership.peers.len() {
            0 => return Err(RecoverError::NoQuorum { dir: dir.to_owned() }),
            1 => return Err(RecoverError::Alone { dir: dir.to_owned() }),
            _ => {}
        }
        let (committed, committed_zxid) = (opened.storage.applied(), opened.tree.last_zxid());
        opened.apply_rest()?;
        let Opened { storage, tree, remembered } = opened;
        let remains = Remains {
            directory: known_directory_id(&**disk, dir)?,
            membership,
            last: storage.applied(),
            zxid: tree.last_zxid(),
            committed,
            committed_zxid,
            sessions: tree.sessions().len(),
            nodes: tree.len(),
        };
        let term = remembered.hard_state.term;
        Ok(Self { disk: Arc::clone(disk), storage, tree, term, remains })
    }

    /// What it has.
    #[must_use]
    pub fn remains(&self) -> &Remains {
        &self.remains
    }

    /// Takes it out of its quorum, with all that it has. After a crash it is still in there, or not.
    pub fn leave(mut self) -> Result<(), OpenError> {
        // An id that no entry of the quorum has: it may have gone on in this term, without this voter.
        let term = self.term + 1;
        let last = LogId { term, index: self.remains.last.index + 1 };
        self.tree.begin_epoch();
        let dir = self.storage.dir().to_owned();
        let state = HardState { term, voted_for: None };
        hard_state::write(&*self.disk, self.storage.hard_state_path(), state)
            .and_then(|()| self.storage.begin_anew(last, &Membership::default(), &mut self.tree))
            .map_err(OpenError::io(&dir))
    }
}
