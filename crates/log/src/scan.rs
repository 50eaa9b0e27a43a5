//! Walking from batch to batch of a segment's file without reading payloads.

use std::fmt::Display;
use std::io;
use std::ops::Range;

use ottla_record::{BatchHeader, HEADER_BYTES};
use ottla_runtime::disk::File;

/// The most that is read ahead.
pub(crate) const READ_AHEAD_BYTES: usize = 64 * 1024;

/// Up to so many bytes between two headers, it is cheaper to read these as well.
const NEAR_BYTES: usize = 4096;

/// A file, read forward. Where what is wanted lies near to what was wanted before, more and more is
/// read at a time; else no more than is wanted.
pub(crate) struct Window<'a> {
    file: &'a dyn File,
    start: u64,
    bytes: Vec<u8>,
    read_ahead: usize,
}

impl<'a> Window<'a> {
    pub(crate) fn new(file: &'a dyn File) -> Self {
        Self { file, start: 0, bytes: Vec::new(), read_ahead: 0 }
    }

    /// The `len` bytes at `position`; fewer only at the end of the file.
    pub(crate) fn at(&mut self, position: u64, len: usize) -> io::Result<&[u8]> {
        let end = self.start + self.bytes.len() as u64;
        if position < self.start || position + len as u64 > end {
            let is_near = !self.bytes.is_empty()
                && (self.start..=end + NEAR_BYTES as u64).contains(&position);
            self.read_ahead = match is_near {
                true => (2 * self.read_ahead).clamp(NEAR_BYTES, READ_AHEAD_BYTES),
                false => 0,
            };
            self.bytes.resize(len.max(self.read_ahead), 0);
            let read = self.file.read_at(&mut self.bytes, position)?;
            self.bytes.truncate(read);
            self.start = position;
        }
        let from = (position - self.start) as usize;
        Ok(&self.bytes[from..self.bytes.len().min(from + len)])
    }
}

/// A walk over bytes that hold whole batches: where none is, the walk fails.
pub(crate) struct Scan<'a> {
    file: &'a dyn File,
    path: &'a dyn Display,
    range: Range<u64>,
}

impl<'a> Scan<'a> {
    /// A walk over `range`, which begins where a batch does. `path` is for error messages.
    pub(crate) fn new(file: &'a dyn File, path: &'a dyn Display, range: Range<u64>) -> Self {
        Self { file, path, range }
    }

    /// Calls `visit` with position and header of each batch until it answers.
    pub(crate) fn find<T>(
        &self,
        mut visit: impl FnMut(u64, &BatchHeader<'_>) -> Option<T>,
    ) -> io::Result<Option<T>> {
        let mut window = Window::new(self.file);
        let mut position = self.range.start;
        while position < self.range.end {
            let header = BatchHeader::parse(window.at(position, HEADER_BYTES)?)
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
pub(crate) fn no_batch(path: &dyn Display, position: u64, error: &dyn Display) -> io::Error {
    let message = format!("{path} at byte {position}: {error}");
    io::Error::new(io::ErrorKind::InvalidData, message)
}
