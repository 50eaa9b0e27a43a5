//! Walking from batch to batch of a segment's file without reading payloads.

use std::io;
use std::ops::Range;
use std::path::Path;

use ottla_record::{BatchHeader, HEADER_BYTES};
use ottla_runtime::disk::File;

/// A walk over bytes that hold whole batches: where none is, the walk fails.
pub(crate) struct Scan<'a> {
    file: &'a dyn File,
    path: &'a Path,
    range: Range<u64>,
}

impl<'a> Scan<'a> {
    /// A walk over `range`, which begins where a batch does. `path` is for error messages.
    pub(crate) fn new(file: &'a dyn File, path: &'a Path, range: Range<u64>) -> Self {
        Self { file, path, range }
    }

    /// Calls `visit` with position and header of each batch until it answers.
    pub(crate) fn find<T>(
        &self,
        mut visit: impl FnMut(u64, &BatchHeader<'_>) -> Option<T>,
    ) -> io::Result<Option<T>> {
        let mut bytes = [0; HEADER_BYTES];
        let mut position = self.range.start;
        while position < self.range.end {
            let read = self.file.read_at(&mut bytes, position)?;
            let header = BatchHeader::parse(&bytes[..read])
                .map_err(|error| no_batch(self.path, position, &error))?;
            if let Some(found) = visit(position, &header) {
                return Ok(Some(found));
            }
            position += header.size_in_bytes() as u64;
        }
        Ok(None)
    }

    /// Calls `visit` with the header of each batch.
    pub(crate) fn each(&self, mut visit: impl FnMut(&BatchHeader<'_>)) -> io::Result<()> {
        self.find(|_, header| {
            visit(header);
            None::<()>
        })?;
        Ok(())
    }
}

/// The error of a position at which a batch was expected.
pub(crate) fn no_batch(path: &Path, position: u64, error: &dyn std::fmt::Display) -> io::Error {
    let message = format!("{} at byte {position}: {error}", path.display());
    io::Error::new(io::ErrorKind::InvalidData, message)
}
