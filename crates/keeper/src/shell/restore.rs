//! A directory that is made of a tree: that of a backup, or one that another server told of.
//!
//! A backup is a snapshot of a keeper, as its directory has it. The directory that is made names
//! nobody: the voter that opens it first is the only one of a new quorum, and others are added to it.
//! So no voter of the quorum that the tree came from ever speaks with it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ottla_runtime::Disk;

use super::OpenError;
use super::log::Log;
use super::storage::{Paths, Storage, lock};
use super::{hard_state, snapshot};
use crate::machine::Tree;
use crate::machine::quorum::{HardState, LogId, Membership};

/// Before the first entry of the quorum that will be; of another term than that of a new directory,
/// so that no log without this tree seems to agree.
const BEGINNING: LogId = LogId { term: 1, index: 1 };

/// Why a directory was not made; what was there is there still.
#[derive(Debug)]
pub enum RestoreError {
    /// The directory, or the backup, cannot be used.
    Open(OpenError),
    /// The directory is that of one of several voters.
    NotAlone {
        /// The directory.
        dir: PathBuf,
    },
    /// There is something in the directory.
    NotEmpty {
        /// The directory.
        dir: PathBuf,
    },
}

impl fmt::Display for RestoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(error) => error.fmt(f),
            Self::NotAlone { dir } => {
                let dir = dir.display();
                write!(
                    f,
                    "{dir} is that of one of several voters, and others may have more: ask one that runs"
                )
            }
            Self::NotEmpty { dir } => {
                write!(f, "{} is not empty: name a new directory, or move it away", dir.display())
            }
        }
    }
}

impl std::error::Error for RestoreError {}

impl From<OpenError> for RestoreError {
    fn from(error: OpenError) -> Self {
        Self::Open(error)
    }
}

/// Reads the tree of a backup.
pub fn read_backup(disk: &dyn Disk, file: &Path) -> Result<Tree, OpenError> {
    let missing = || OpenError::io(file)(io::ErrorKind::NotFound.into());
    Ok(snapshot::read(disk, file)?.ok_or_else(missing)?.tree)
}

/// Makes the directory of a keeper that goes on from `tree`, without its sessions and far above its
/// last zxid ([`Tree::begin_epoch`]).
///
/// It is made beside, as `<dir>.making`, and renamed: after a crash there is all of it or nothing, and
/// what was left beside is written over by the next attempt.
pub fn make_directory(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    mut tree: Tree,
) -> Result<(), RestoreError> {
    is_new_directory(&**disk, dir)?;
    let making = beside(dir);
    make_parents(&**disk, dir).map_err(OpenError::io(dir))?;
    disk.create_dir_all(&making).map_err(OpenError::io(&making))?;
    let _lock = lock(&**disk, &making.join(".lock"))?;
    tree.begin_epoch();
    let made = put_files(disk, &Paths::new(&making), &mut tree)
        .and_then(|()| disk.rename(&making, dir))
        .and_then(|()| disk.sync_dir(parent(dir)));
    made.map_err(OpenError::io(dir)).map_err(RestoreError::Open)
}

/// Demands that a directory is missing or empty.
pub fn is_new_directory(disk: &dyn Disk, dir: &Path) -> Result<(), RestoreError> {
    if disk.exists(dir) && !disk.read_dir(dir).map_err(OpenError::io(dir))?.is_empty() {
        return Err(RestoreError::NotEmpty { dir: dir.to_owned() });
    }
    Ok(())
}

/// Reads the tree of a keeper that is stopped, and that is its quorum alone: of several voters, the
/// others may have more.
pub fn read_directory(disk: &Arc<dyn Disk>, dir: &Path) -> Result<Tree, RestoreError> {
    if !disk.exists(&dir.join("log")) {
        return Err(OpenError::io(dir)(io::ErrorKind::NotFound.into()).into());
    }
    let mut opened = Storage::read(Arc::clone(disk), dir)?;
    if opened.latest().peers.len() > 1 {
        return Err(RestoreError::NotAlone { dir: dir.to_owned() });
    }
    opened.apply_rest()?;
    Ok(opened.tree)
}

fn put_files(disk: &Arc<dyn Disk>, paths: &Paths, tree: &mut Tree) -> io::Result<()> {
    let state = HardState { term: BEGINNING.term, voted_for: None };
    hard_state::write(&**disk, &paths.hard_state, state)?;
    snapshot::write(&**disk, &paths.snapshot, BEGINNING, &Membership::default(), tree)?;
    Log::create(Arc::clone(disk), &paths.log, BEGINNING, Vec::new()).map(drop)
}

/// Makes the directories that `dir` is to lie in; durable when it returns, also those that an attempt
/// has made that was cut off.
fn make_parents(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    disk.create_dir_all(parent(dir))?;
    for name in dir.ancestors().take_while(|name| name.file_name().is_some()) {
        match disk.sync_dir(parent(name)) {
            // Nothing was made there by one who may not look at it.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => break,
            synced => synced?,
        }
    }
    Ok(())
}

/// The directory that a path is in.
pub(super) fn parent(path: &Path) -> &Path {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}

fn beside(dir: &Path) -> PathBuf {
    let mut name = dir.file_name().unwrap_or_default().to_os_string();
    name.push(".making");
    dir.with_file_name(name)
}
