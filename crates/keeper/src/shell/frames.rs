//! Frames on a connection of voters and tools: each behind its length in u32.

use std::io;

use ottla_runtime::net::{Stream, read_exact, readable};

/// How much is made room for before it came.
const READ_BYTES: usize = 64 << 10;

/// What a connection that is idle keeps.
const KEPT_BYTES: usize = 4 * READ_BYTES;

/// The frames of a stream, of which many may come at once.
pub(super) struct Frames<'a> {
    stream: &'a dyn Stream,
    bytes: Vec<u8>,
    /// What was handed out already.
    taken: usize,
    bytes_max: usize,
}

impl<'a> Frames<'a> {
    /// No frame may be longer than `bytes_max`.
    pub(super) fn new(stream: &'a dyn Stream, bytes_max: usize) -> Self {
        Self { stream, bytes: Vec::new(), taken: 0, bytes_max }
    }

    /// The next frame, if it has come whole.
    pub(super) fn next(&mut self) -> io::Result<Option<&[u8]>> {
        let rest = &self.bytes[self.taken..];
        let Some((length, rest)) = rest.split_first_chunk() else { return Ok(None) };
        let length = u32::from_be_bytes(*length) as usize;
        if length > self.bytes_max {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let frame = rest.get(..length);
        self.taken += frame.map_or(0, |_| 4 + length);
        Ok(frame)
    }

    /// Waits for more than has come.
    pub(super) async fn more(&mut self) -> io::Result<()> {
        self.bytes.drain(..std::mem::take(&mut self.taken));
        if self.bytes.is_empty() && self.bytes.capacity() > KEPT_BYTES {
            self.bytes = Vec::new();
        }
        let came = self.bytes.len();
        self.bytes.resize(came + READ_BYTES, 0);
        let read = loop {
            match self.stream.try_read(&mut self.bytes[came..]) {
                Ok(0) => break Err(io::ErrorKind::UnexpectedEof.into()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    readable(self.stream).await?;
                }
                read => break read,
            }
        };
        self.bytes.truncate(came + read.as_ref().copied().unwrap_or(0));
        read.map(drop)
    }
}

/// Reads one frame, and nothing behind it.
pub(super) async fn read_frame(stream: &dyn Stream, bytes_max: usize) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    read_exact(stream, &mut length).await?;
    let length = u32::from_be_bytes(length) as usize;
    if length > bytes_max {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = Vec::new();
    while bytes.len() < length {
        let read = bytes.len();
        bytes.resize(length.min(read + READ_BYTES), 0);
        read_exact(stream, &mut bytes[read..]).await?;
    }
    Ok(bytes)
}

/// Appends what `put` appends, behind its length.
pub(super) fn put_frame(out: &mut Vec<u8>, put: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    put(out);
    let length = (out.len() - at - 4) as u32;
    out[at..at + 4].copy_from_slice(&length.to_be_bytes());
}
