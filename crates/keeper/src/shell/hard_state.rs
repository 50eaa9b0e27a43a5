//! What a voter must not forget: its term, and for whom it voted in it.
//!
//! `hard-state` is a sealed file with the body: u64 term, u8 whether it voted, u64 for whom.

use std::path::Path;

use ottla_runtime::Disk;
use ottla_runtime::disk::{read_file, replace_file};

use super::OpenError;
use super::sealed::{seal, unseal};
use crate::machine::Decoder;
use crate::machine::quorum::{HardState, decode_count};

const LINE: &str = "ottla-keeper-hard-state 1\n";

/// Reads the file; `None` where there is none.
pub(super) fn read(disk: &dyn Disk, path: &Path) -> Result<Option<HardState>, OpenError> {
    if !disk.exists(path) {
        return Ok(None);
    }
    let bytes = read_file(disk, path).map_err(OpenError::io(path))?;
    let corrupt = |(position, what)| OpenError::corrupt(path, position, what);
    let (body, rest) = unseal(LINE, &bytes).map_err(corrupt)?;
    let mut body = Decoder::new(body, "hard state");
    let mut decode = || {
        let term = decode_count(&mut body)?;
        let voted = body.u8()?;
        let voter = body.u64()?;
        body.end()?;
        Ok(HardState { term, voted_for: (voted == 1).then_some(voter) })
    };
    let state = decode().map_err(|error: crate::machine::Corrupt| corrupt((0, error.what)))?;
    if rest.is_empty() { Ok(Some(state)) } else { Err(corrupt((0, "bytes follow its end"))) }
}

/// Replaces the file; durable when it returns.
pub(super) fn write(disk: &dyn Disk, path: &Path, state: HardState) -> std::io::Result<()> {
    let mut body = state.term.to_be_bytes().to_vec();
    body.push(u8::from(state.voted_for.is_some()));
    body.extend_from_slice(&state.voted_for.unwrap_or(0).to_be_bytes());
    replace_file(disk, path, &seal(LINE, &body))
}
