//! The tree as it was after an entry, so that the log up to that entry can go.
//!
//! `snapshot` is a sealed file with the body: u64 term and u64 index of the last entry it holds,
//! who belonged to the quorum there, and the tree as [`crate::machine`] encodes it. If nobody did, the
//! tree came from elsewhere, or out of a quorum that was lost: whoever opens it is the only voter of a
//! new one.

use std::io;
use std::path::Path;

use ottla_runtime::Disk;
use ottla_runtime::disk::{OpenMode, read_file};

use super::OpenError;
use super::sealed::{Seal, unseal};
use crate::machine::quorum::{LogId, Membership, decode_log_id, encode_log_id};
use crate::machine::{Corrupt, Decoder, Tree, decode_tree};

pub(super) const LINE: &str = "ottla-keeper-snapshot 3\n";

/// What a snapshot holds.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) last: LogId,
    pub(super) membership: Membership,
    pub(super) tree: Tree,
    /// The size of the file.
    pub(super) bytes: u64,
}

/// Reads the file; `None` where there is none.
pub(super) fn read(disk: &dyn Disk, path: &Path) -> Result<Option<Snapshot>, OpenError> {
    if !disk.exists(path) {
        return Ok(None);
    }
    let bytes = read_file(disk, path).map_err(OpenError::io(path))?;
    let corrupt = |(position, what)| OpenError::corrupt(path, position, what);
    let (body, rest) = unseal(LINE, &bytes).map_err(corrupt)?;
    if !rest.is_empty() {
        return Err(corrupt((0, "bytes follow its end")));
    }
    let decode = || -> Result<Snapshot, Corrupt> {
        let mut body = Decoder::new(body, "snapshot");
        Ok(Snapshot {
            last: decode_log_id(&mut body)?,
            membership: Membership::decode(&mut body)?,
            tree: decode_tree(body.rest())?,
            bytes: bytes.len() as u64,
        })
    };
    decode().map(Some).map_err(|error| corrupt((0, error.what)))
}

/// Appends what stands before the tree.
pub(super) fn encode_head(last: LogId, membership: &Membership, out: &mut Vec<u8>) {
    encode_log_id(last, out);
    membership.encode(out);
}

/// How much of the tree is encoded at once.
const PART_BYTES: usize = 1 << 20;

/// Puts the file in the place of any other, and tells its size: durable when it returns. It takes its
/// time; a keeper at work writes in steps instead ([`super::writing`]).
pub(super) fn write(
    disk: &dyn Disk,
    path: &Path,
    last: LogId,
    membership: &Membership,
    tree: &mut Tree,
) -> io::Result<u64> {
    let beside = path.with_extension("new");
    let file = disk.open(&beside, OpenMode::Create)?;
    file.set_len(0)?;
    let (mut seal, mut part) = (Seal::new(LINE), Vec::new());
    encode_head(last, membership, &mut part);
    tree.freeze(&mut part);
    while !part.is_empty() {
        seal.append(&*file, &part)?;
        part.clear();
        let written = tree.thaw_part(PART_BYTES, &mut part);
        tree.note_written(written);
    }
    let bytes = seal.finish(&*file)?;
    file.sync_data()?;
    disk.rename(&beside, path)?;
    disk.sync_dir(path.parent().unwrap_or(Path::new("/")))?;
    Ok(bytes)
}
