//! The tree as it was after an entry, so that the log up to that entry can go.
//!
//! `snapshot` is a sealed file with the body: u64 term and u64 index of the last entry it holds,
//! who belonged to the quorum there, and the tree as [`crate::machine`] encodes it.

use std::path::Path;

use ottla_runtime::Disk;
use ottla_runtime::disk::read_file;

use super::OpenError;
use super::sealed::unseal;
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
