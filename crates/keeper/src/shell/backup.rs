//! A copy of a keeper's snapshot, for [`super::read_backup`].

use std::fmt;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ottla_runtime::disk::OpenMode;
use ottla_runtime::{Disk, Network};

use super::restore::parent;
use super::tend::{self, TendError};
use super::tool::{self, Ask, Told};
use super::{OpenError, snapshot};
use crate::machine::Zxid;

/// So often another snapshot may take the place of the one that is being copied.
const ATTEMPTS: usize = 5;

/// Why there is no backup.
#[derive(Debug)]
pub enum BackupError {
    /// The quorum cannot be asked, or refuses.
    Tend(TendError),
    /// There is something of that name already.
    Exists {
        /// The name.
        file: PathBuf,
    },
    /// It cannot be written, or what came is no snapshot.
    Open(OpenError),
}

impl fmt::Display for BackupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tend(error) => error.fmt(f),
            Self::Exists { file } => write!(f, "{} exists: name a new file", file.display()),
            Self::Open(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for BackupError {}

/// What a backup holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backup {
    /// The size of the file.
    pub bytes: u64,
    /// How many nodes there are.
    pub nodes: usize,
    /// The last change.
    pub zxid: Zxid,
}

/// Has the leader write a snapshot of what is committed, and copies it to `file`: it has that name when
/// it is whole and durable. Only its owner may read it, for it has the passwords of sessions.
pub async fn back_up(
    network: &dyn Network,
    disk: &Arc<dyn Disk>,
    known: &[String],
    file: &Path,
) -> Result<Backup, BackupError> {
    if disk.exists(file) {
        return Err(BackupError::Exists { file: file.to_owned() });
    }
    let leader = tend::leader(network, known).await.map_err(BackupError::Tend)?;
    let at = tend::leader_address(&leader);
    let refused = |reason: String| BackupError::Tend(TendError::refused(&at, &reason));
    let unreached = |error| BackupError::Tend(TendError::unreached(&at)(error));
    let written = tool::ask(network, &at, &Ask::Snapshot).await.map_err(unreached)?;
    written.map_err(refused)?;
    let mut beside = file.as_os_str().to_owned();
    beside.push(".incoming");
    let beside = PathBuf::from(beside);
    let io = |error| BackupError::Open(OpenError::io(&beside)(error));
    let mut last = Err(String::new());
    for _ in 0..ATTEMPTS {
        last = copy(network, &at, &**disk, &beside).await.map_err(io)?;
        if last.is_ok() {
            break;
        }
    }
    last.map_err(refused)?;
    let missing = || OpenError::io(&beside)(io::ErrorKind::NotFound.into());
    let read = snapshot::read(&**disk, &beside).map_err(BackupError::Open)?;
    let read = read.ok_or_else(missing).map_err(BackupError::Open)?;
    disk.rename(&beside, file).and_then(|()| disk.sync_dir(parent(file))).map_err(io)?;
    Ok(Backup { bytes: read.bytes, nodes: read.tree.len(), zxid: read.tree.last_zxid() })
}

/// Copies the snapshot that the keeper has; the inner error is its refusal.
async fn copy(
    network: &dyn Network,
    from: &str,
    disk: &dyn Disk,
    to: &Path,
) -> io::Result<Result<(), String>> {
    // One that was left behind may be open to others.
    if disk.exists(to) {
        disk.remove_file(to)?;
    }
    let file = disk.open(to, OpenMode::CreatePrivate)?;
    let (mut last, mut offset) = (None, 0);
    loop {
        let part = match tool::ask(network, from, &Ask::Part { last, offset }).await? {
            Ok(Told::Part(part)) => part,
            Ok(Told::Done | Told::Description(_)) => {
                return Err(io::Error::other("the keeper tells something else"));
            }
            Err(reason) => return Ok(Err(reason)),
        };
        file.write_at(&[IoSlice::new(&part.bytes)], offset)?;
        (last, offset) = (Some(part.last), offset + part.bytes.len() as u64);
        if part.is_end || part.bytes.is_empty() {
            return file.sync_data().map(Ok);
        }
    }
}
