//! One connection: its task, from the first byte to the last.
//!
//! A frame is read into a buffer that is leased when the socket turns readable and given back when
//! the request is done: an idle connection holds none. Requests are handled one at a time and
//! answered in order, as in Kafka; only a Produce may begin while earlier ones wait for the disk.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use ottla_protocol::ApiKey;
use ottla_runtime::net::Stream;
use ottla_runtime::{Buffer, BufferPool};
use tracing::{debug, info, warn};

use crate::call::{Client, Close};
use crate::dispatch::Services;
use crate::network::budget::{FrameBudget, FrameLease};
use crate::network::idle::Idle;
use crate::network::response::{Answer, Reply, Response};

/// Bytes of the length that precedes each frame.
const PREFIX: usize = 4;

/// Up to this size a frame gets its buffer at once; beyond it, as its bytes arrive.
const TRUSTED_FRAME_BYTES: usize = 1024 * 1024;

/// How many Produce requests of a connection may wait for their acknowledgement at once.
const UNANSWERED_MAX: usize = 16;

/// What all connections of a node share.
#[derive(Clone)]
pub(crate) struct ConnectionSettings {
    /// `socket.request.max.bytes`
    pub(crate) frame_bytes_max: usize,
    /// `connections.max.idle.ms`
    pub(crate) idle: Duration,
    pub(crate) budget: FrameBudget,
}

/// A client's connection.
pub(crate) struct Connection {
    stream: Box<dyn Stream>,
    client: Client,
    services: Arc<Services>,
    settings: Arc<ConnectionSettings>,
    pool: BufferPool,
    /// The buffer of the last response, for the next one.
    scratch: Vec<u8>,
    /// The answers that are to be written next, in the order of their requests.
    unanswered: VecDeque<Answer>,
}

/// Why a connection ended.
enum End {
    /// The client closed it between two requests.
    Hangup,
    /// It was silent for too long.
    Idle,
    /// The client sent what cannot be answered.
    Violation(Close),
    Io(io::Error),
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl End {
    /// The end that a wait for the socket came to.
    fn of_wait(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::TimedOut { Self::Idle } else { Self::Io(error) }
    }
}

impl From<Close> for End {
    fn from(close: Close) -> Self {
        Self::Violation(close)
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hangup => f.write_str("closed by the client"),
            Self::Idle => f.write_str("idle for connections.max.idle.ms"),
            Self::Violation(close) => close.fmt(f),
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl Connection {
    pub(crate) fn new(
        stream: Box<dyn Stream>,
        client: Client,
        services: Arc<Services>,
        settings: Arc<ConnectionSettings>,
        pool: BufferPool,
    ) -> Self {
        let (scratch, unanswered) = (Vec::new(), VecDeque::new());
        Self { stream, client, services, settings, pool, scratch, unanswered }
    }

    /// Serves the connection until it ends.
    pub(crate) async fn run(mut self) {
        let end = match self.serve().await {
            Ok(never) => match never {},
            Err(end) => end,
        };
        let peer = self.client.peer;
        match end {
            End::Violation(close) if close.is_quiet() => {
                debug!(%peer, reason = %close, "closed connection")
            }
            End::Violation(close) => warn!(%peer, reason = %close, "closed connection"),
            End::Idle => info!(%peer, reason = %End::Idle, "closed connection"),
            end => debug!(%peer, reason = %end, "connection ended"),
        }
    }

    async fn serve(&mut self) -> Result<std::convert::Infallible, End> {
        let mut idle = Idle::new(self.settings.idle);
        loop {
            self.readable(&mut idle).await?;
            let mut buffer = self.pool.lease();
            // A client that sends one request behind the other finds them handled without waiting.
            while let Some(lease) = self.read_frame(&mut buffer, &mut idle).await? {
                let len = frame_len(&buffer).map_or(0, |len| len as usize);
                let is_produce = is_produce(&buffer[PREFIX..PREFIX + len]);
                // Whatever else follows on a Produce may look at what that one did.
                let unanswered_max = if is_produce { UNANSWERED_MAX - 1 } else { 0 };
                self.answer_down_to(unanswered_max, &mut idle).await?;
                let reply = self.services.dispatch(
                    &self.client,
                    &buffer[PREFIX..PREFIX + len],
                    &mut self.scratch,
                )?;
                buffer.consume(PREFIX + len);
                // The bytes are in the log or decoded: who waits must not hold up who sends.
                drop(lease);
                match reply {
                    Reply::Now(response) if self.unanswered.is_empty() => {
                        self.write(response, &mut idle).await?;
                    }
                    Reply::Now(response) => {
                        self.unanswered.push_back(Box::pin(std::future::ready(Ok(response))));
                    }
                    Reply::Later(answer) => {
                        self.unanswered.push_back(answer);
                        if !is_produce {
                            self.answer_down_to(0, &mut idle).await?;
                        }
                    }
                    Reply::Nothing => {}
                }
                idle.touch();
                if buffer.is_empty() {
                    break;
                }
            }
        }
    }

    /// Waits until there may be something to read. Answers that come meanwhile are written.
    async fn readable(&mut self, idle: &mut Idle) -> Result<(), End> {
        loop {
            let answer = poll_fn(|cx| {
                if let Some(first) = self.unanswered.front_mut()
                    && let Poll::Ready(answer) = first.as_mut().poll(cx)
                {
                    return Poll::Ready(Ok(Some(answer)));
                }
                idle.poll_readable(&*self.stream, cx).map_ok(|()| None)
            });
            match answer.await.map_err(End::of_wait)? {
                None => return Ok(()),
                Some(answer) => {
                    self.unanswered.pop_front();
                    self.write(answer?, idle).await?;
                }
            }
        }
    }

    /// Waits for answers and writes them, until no more than `count` are missing.
    async fn answer_down_to(&mut self, count: usize, idle: &mut Idle) -> Result<(), End> {
        while self.unanswered.len() > count {
            if let Some(answer) = self.unanswered.pop_front() {
                let response = answer.await?;
                self.write(response, idle).await?;
            }
        }
        Ok(())
    }

    /// Reads until the buffer holds a whole frame; `None` if there is nothing to read at all.
    async fn read_frame(
        &mut self,
        buffer: &mut Buffer,
        idle: &mut Idle,
    ) -> Result<Option<FrameLease>, End> {
        let mut lease = FrameLease::default();
        loop {
            let wanted = match frame_len(buffer) {
                None => PREFIX,
                Some(len) => {
                    let wanted = PREFIX + self.check_frame_len(len)?;
                    if buffer.len() >= wanted {
                        return Ok(Some(lease));
                    }
                    if lease.is_empty() && wanted > BufferPool::INITIAL_BYTES {
                        lease = self.settings.budget.lease(wanted).await;
                    }
                    wanted
                }
            };
            let room = wanted.min(TRUSTED_FRAME_BYTES.max(2 * buffer.len()));
            buffer.reserve_total(room.max(BufferPool::INITIAL_BYTES));
            match self.stream.try_read(buffer.spare()) {
                Ok(0) if buffer.is_empty() => return Err(End::Hangup),
                Ok(0) => return Err(End::Violation(Close::truncated_frame(buffer.len()))),
                Ok(read) => buffer.advance(read),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if buffer.is_empty() {
                        return Ok(None);
                    }
                    self.readable(idle).await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn check_frame_len(&self, len: i32) -> Result<usize, End> {
        let max = self.settings.frame_bytes_max;
        match usize::try_from(len) {
            Ok(bytes) if bytes <= max => Ok(bytes),
            _ => Err(End::Violation(Close::frame_size(len, max))),
        }
    }

    async fn write(&mut self, response: Response, idle: &mut Idle) -> Result<(), End> {
        idle.touch();
        self.scratch = response.write(&*self.stream, idle).await.map_err(End::of_wait)?;
        Ok(())
    }
}

/// The length of the frame at the front, once its four bytes are there.
fn frame_len(buffer: &[u8]) -> Option<i32> {
    buffer.first_chunk().map(|prefix| i32::from_be_bytes(*prefix))
}

/// Whether a request is a Produce: its key comes first.
fn is_produce(frame: &[u8]) -> bool {
    frame.first_chunk().is_some_and(|&key| i16::from_be_bytes(key) == ApiKey::Produce as i16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes_of_future<F: Future>(_: impl FnOnce(Connection) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_connection_costs_little() {
        let bytes = bytes_of_future(Connection::run);
        assert!(bytes <= 2048, "the task of a connection takes {bytes} bytes");
    }
}
