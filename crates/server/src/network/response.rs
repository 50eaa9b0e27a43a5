//! What goes back to a client.

use std::future::Future;
use std::io;
use std::pin::Pin;

use ottla_log::Slice;
use ottla_protocol::Encoder;
use ottla_runtime::net::Stream;
use ottla_runtime::task;

use crate::call::Close;
use crate::network::idle::Idle;

/// Below this many bytes of records, copying them behind the header costs less than `sendfile`.
const COPIED_BYTES_MAX: usize = 16 * 1024;

/// How much of a file is sent before it is asked again whether the rest is in memory.
const PIECE_BYTES: usize = 1024 * 1024;

/// A response that comes when something has happened.
pub(crate) type Answer = Pin<Box<dyn Future<Output = Result<Response, Close>> + Send>>;

/// What a handler answers.
pub(crate) enum Reply {
    /// The answer.
    Now(Response),
    /// The answer comes when something has happened.
    Later(Answer),
    /// The client expects no answer (Produce with acks=0).
    Nothing,
}

/// A response frame: bytes, and slices of log files for the places that the bytes leave open.
pub(crate) struct Response {
    encoded: Encoder,
    /// One for each splice of `encoded`, in order.
    slices: Vec<Slice>,
}

impl Response {
    pub(crate) fn new(encoded: Encoder, slices: Vec<Slice>) -> Self {
        debug_assert_eq!(encoded.splices.len(), slices.len(), "each splice has its slice");
        Self { encoded, slices }
    }

    /// Writes the frame and gives the buffer back for the next one.
    pub(crate) async fn write(
        mut self,
        stream: &dyn Stream,
        idle: &mut Idle,
    ) -> io::Result<Vec<u8>> {
        let file_bytes: usize = self.slices.iter().map(|slice| slice.len).sum();
        if file_bytes > 0 && file_bytes < COPIED_BYTES_MAX {
            self.fill_in()?;
        }
        let Self { encoded: Encoder { buf, splices }, slices } = self;
        let mut written = 0;
        for (splice, slice) in splices.iter().zip(&slices) {
            write_all(stream, idle, &buf[written..splice.at], true).await?;
            written = splice.at;
            send_slice(stream, idle, slice).await?;
        }
        write_all(stream, idle, &buf[written..], false).await?;
        Ok(buf)
    }

    /// Puts the slices' bytes into the frame.
    fn fill_in(&mut self) -> io::Result<()> {
        let mut whole = Vec::with_capacity(self.encoded.total_len());
        let mut copied = 0;
        for (splice, slice) in self.encoded.splices.iter().zip(&self.slices) {
            whole.extend_from_slice(&self.encoded.buf[copied..splice.at]);
            copied = splice.at;
            let start = whole.len();
            whole.resize(start + slice.len, 0);
            let read = slice.file.read_at(&mut whole[start..], slice.position)?;
            if read < slice.len {
                return Err(cut_short());
            }
        }
        whole.extend_from_slice(&self.encoded.buf[copied..]);
        self.encoded.buf = whole;
        self.encoded.splices.clear();
        self.slices.clear();
        Ok(())
    }
}

/// A log file became shorter than what the frame announced: the stream cannot be saved.
fn cut_short() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "a log file ends before its published size")
}

async fn write_all(
    stream: &dyn Stream,
    idle: &mut Idle,
    mut bytes: &[u8],
    more: bool,
) -> io::Result<()> {
    while !bytes.is_empty() {
        match stream.try_write(bytes, more) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                idle.writable(stream).await?
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Sends a slice piece by piece. What is not in the page cache is brought there by a thread of its
/// own first: a worker that waited for the disk would hold up all its connections.
async fn send_slice(stream: &dyn Stream, idle: &mut Idle, slice: &Slice) -> io::Result<()> {
    let mut sent = 0;
    while sent < slice.len {
        let at = slice.position + sent as u64;
        let piece = (slice.len - sent).min(PIECE_BYTES);
        if !slice.file.is_resident(at) {
            let file = slice.file.clone();
            task::blocking("cold-read", move || file.load(at..at + piece as u64)).await??;
        }
        match stream.try_send_file(&*slice.file, at, piece) {
            Ok(0) => return Err(cut_short()),
            Ok(n) => sent += n,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                idle.writable(stream).await?
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
