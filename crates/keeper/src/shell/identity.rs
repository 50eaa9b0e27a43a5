//! The identity of a directory: 16 random bytes that it was given when it was made.

use std::path::{Path, PathBuf};

use ottla_runtime::disk::{read_file, replace_file};
use ottla_runtime::{Disk, World};

use super::OpenError;
use super::sealed::{seal, unseal};
use crate::machine::quorum::DirectoryId;

const LINE: &str = "ottla-keeper-directory-id 1\n";

/// The id of a keeper's directory that is of no log directory, which would have one; a new directory
/// is given one. It is durable when this returns.
pub fn directory_id(world: &World, dir: &Path) -> Result<DirectoryId, OpenError> {
    let disk = &*world.disk;
    if let Some(known) = known_directory_id(disk, dir)? {
        return Ok(known);
    }
    let path = path(dir);
    let id = world.random.bytes16();
    disk.create_dir_all(dir).map_err(OpenError::io(dir))?;
    replace_file(disk, &path, &seal(LINE, &id)).map_err(OpenError::io(&path))?;
    Ok(DirectoryId(id))
}

/// The id that the directory itself tells; that of a log directory it does not.
pub(super) fn known_directory_id(
    disk: &dyn Disk,
    dir: &Path,
) -> Result<Option<DirectoryId>, OpenError> {
    let path = path(dir);
    if !disk.exists(&path) {
        return Ok(None);
    }
    let bytes = read_file(disk, &path).map_err(OpenError::io(&path))?;
    let (id, _) = unseal(LINE, &bytes).map_err(|(at, what)| OpenError::corrupt(&path, at, what))?;
    let id = id.try_into().map_err(|_| OpenError::corrupt(&path, 0, "it is no id"))?;
    Ok(Some(DirectoryId(id)))
}

fn path(dir: &Path) -> PathBuf {
    dir.join("directory-id")
}
