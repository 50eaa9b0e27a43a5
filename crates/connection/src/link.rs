//! One stream of frames: what goes out, what is waited for, what comes in.
//!
//! Owns: the length prefix, the order of answers, the bound of requests in flight. Must not know:
//! what a request or a response says beyond its correlation id.
//!
//! A broker answers a connection's requests in the order in which they came, so the answers are
//! matched with a queue, and a correlation id that is not the first one's is the end of the link.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, OnceLock};

use ottla_runtime::net::{Stream, readable, writable};
use ottla_runtime::{Spawner, Task};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

/// Why a link ended. Every later use of it says the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Closed {
    /// The other side closed it: brokers do so on shutdown, when idle for
    /// `connections.max.idle.ms`, and on a request that they cannot read.
    ByPeer,
    /// The other side closed it in the middle of a response.
    Truncated,
    /// A call's deadline passed, and with it the order of the answers was given up.
    Deadline,
    /// The socket failed.
    Io(io::ErrorKind, String),
    /// A frame's length was negative or above the bound.
    FrameLength {
        /// As the length prefix said, in bytes.
        length: i32,
        /// The highest that is accepted, in bytes.
        max: usize,
    },
    /// An answer to another question, or to none.
    Correlation {
        /// What the oldest waiting call expects; `None` if no call waits.
        expected: Option<i32>,
        /// What came.
        got: i32,
    },
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ByPeer => f.write_str("the broker closed the connection"),
            Self::Truncated => {
                f.write_str("the broker closed the connection in the middle of a response")
            }
            Self::Deadline => f.write_str("closed after a call had timed out"),
            Self::Io(_, message) => f.write_str(message),
            Self::FrameLength { length, max } => {
                write!(f, "a response of {length} bytes came, more than {max} are not accepted")
            }
            Self::Correlation { expected: Some(expected), got } => {
                write!(f, "a response with correlation id {got} came instead of {expected}")
            }
            Self::Correlation { expected: None, got } => {
                write!(f, "a response with correlation id {got} came that nobody asked for")
            }
        }
    }
}

impl From<io::Error> for Closed {
    fn from(error: io::Error) -> Self {
        Self::Io(error.kind(), error.to_string())
    }
}

/// A stream of frames with one task that drives it. Dropping it closes the stream.
#[derive(Debug)]
pub(crate) struct Link {
    outgoing: mpsc::Sender<Outgoing>,
    in_flight: Arc<Semaphore>,
    next_correlation: AtomicI32,
    end: Arc<End>,
    _driver: Task<()>,
}

/// How a link's two sides tell each other that it is over.
#[derive(Debug, Default)]
struct End {
    reason: OnceLock<Closed>,
    asked: Notify,
}

#[derive(Debug)]
struct Outgoing {
    frame: Vec<u8>,
    waiting: Option<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    correlation: i32,
    answer: oneshot::Sender<Vec<u8>>,
    /// Given back when the answer comes, even if its caller left before.
    _permit: OwnedSemaphorePermit,
}

impl Link {
    /// Drives `stream` on the present runtime. At most `in_flight_max` requests wait for their
    /// answers at a time, and no answer may exceed `response_bytes_max`.
    pub(crate) fn new(
        stream: Box<dyn Stream>,
        in_flight_max: usize,
        response_bytes_max: usize,
    ) -> Self {
        let in_flight_max = in_flight_max.max(1);
        let (outgoing, queue) = mpsc::channel(in_flight_max);
        let end = Arc::new(End::default());
        let driver = Driver {
            stream,
            unwritten: Vec::new(),
            waiting: VecDeque::new(),
            inbound: Inbound::new(response_bytes_max),
        };
        let driver = Spawner::current().spawn(driver.run(queue, Arc::clone(&end)));
        Self {
            outgoing,
            in_flight: Arc::new(Semaphore::new(in_flight_max)),
            next_correlation: AtomicI32::new(0),
            end,
            _driver: driver,
        }
    }

    /// A correlation id that no request of this link had for the last 2³¹.
    pub(crate) fn next_correlation(&self) -> i32 {
        self.next_correlation.fetch_add(1, Ordering::Relaxed) & i32::MAX
    }

    /// Sends a frame (with its length prefix) and waits for the answer: the frame that came,
    /// without its length prefix, its first four bytes being the correlation id.
    pub(crate) async fn exchange(
        &self,
        correlation: i32,
        frame: Vec<u8>,
    ) -> Result<Vec<u8>, Closed> {
        let permit =
            Arc::clone(&self.in_flight).acquire_owned().await.map_err(|_| self.reason())?;
        let (answer, answered) = oneshot::channel();
        let waiting = Some(Waiting { correlation, answer, _permit: permit });
        self.outgoing.send(Outgoing { frame, waiting }).await.map_err(|_| self.reason())?;
        answered.await.map_err(|_| self.reason())
    }

    /// Sends a frame that nobody answers (Produce with `acks=0`).
    pub(crate) async fn send(&self, frame: Vec<u8>) -> Result<(), Closed> {
        let outgoing = Outgoing { frame, waiting: None };
        self.outgoing.send(outgoing).await.map_err(|_| self.reason())
    }

    /// Why the link ended; `None` while it lives.
    pub(crate) fn closed(&self) -> Option<&Closed> {
        self.end.reason.get()
    }

    /// Ends the link; whoever waits on it is told `reason`.
    pub(crate) fn close(&self, reason: Closed) {
        // The first reason stands: the others follow from it.
        let _ = self.end.reason.set(reason);
        self.end.asked.notify_one();
    }

    fn reason(&self) -> Closed {
        self.closed().cloned().unwrap_or(Closed::ByPeer)
    }
}

struct Driver {
    stream: Box<dyn Stream>,
    unwritten: Vec<u8>,
    waiting: VecDeque<Waiting>,
    inbound: Inbound,
}

impl Driver {
    async fn run(mut self, mut queue: mpsc::Receiver<Outgoing>, end: Arc<End>) {
        if let Err(reason) = self.drive(&mut queue, &end).await {
            // Set before the waiting calls are dropped with `self`, so that they find it.
            let _ = end.reason.set(reason);
        }
    }

    /// Ends with `Ok` only when nobody holds the link any more, or was asked to.
    async fn drive(
        &mut self,
        queue: &mut mpsc::Receiver<Outgoing>,
        end: &End,
    ) -> Result<(), Closed> {
        loop {
            tokio::select! {
                // Answers first: they make room for what is to be sent.
                biased;
                () = end.asked.notified() => return Ok(()),
                ready = readable(&*self.stream) => { ready?; self.read()?; }
                ready = writable(&*self.stream), if !self.unwritten.is_empty() => {
                    ready?;
                    self.write()?;
                }
                next = queue.recv(), if self.unwritten.is_empty() => {
                    let Some(next) = next else { return Ok(()) };
                    self.queue(next);
                    while let Ok(next) = queue.try_recv() {
                        self.queue(next);
                    }
                    self.write()?;
                }
            }
        }
    }

    fn queue(&mut self, outgoing: Outgoing) {
        if self.unwritten.is_empty() {
            self.unwritten = outgoing.frame;
        } else {
            self.unwritten.extend_from_slice(&outgoing.frame);
        }
        self.waiting.extend(outgoing.waiting);
    }

    fn write(&mut self) -> Result<(), Closed> {
        let mut written = 0;
        while written < self.unwritten.len() {
            match self.stream.try_write(&self.unwritten[written..], false) {
                Ok(n) => written += n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        self.unwritten.drain(..written);
        Ok(())
    }

    fn read(&mut self) -> Result<(), Closed> {
        loop {
            match self.stream.try_read(self.inbound.room()) {
                Ok(0) if self.inbound.is_between_frames() => return Err(Closed::ByPeer),
                Ok(0) => return Err(Closed::Truncated),
                Ok(read) => {
                    if let Some(frame) = self.inbound.filled(read)? {
                        self.answer(frame)?;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn answer(&mut self, frame: Vec<u8>) -> Result<(), Closed> {
        let Some(correlation) = frame.first_chunk() else {
            return Err(Closed::FrameLength {
                length: frame.len() as i32,
                max: self.inbound.frame_bytes_max,
            });
        };
        let got = i32::from_be_bytes(*correlation);
        match self.waiting.pop_front() {
            Some(waiting) if waiting.correlation == got => {
                // Its caller may have left; the answer had to be taken off the stream even so.
                let _ = waiting.answer.send(frame);
                Ok(())
            }
            other => {
                Err(Closed::Correlation { expected: other.map(|waiting| waiting.correlation), got })
            }
        }
    }
}

/// The frame that is being read. Memory grows with what came, not with what was announced.
struct Inbound {
    frame_bytes_max: usize,
    /// Of the present frame; `None` while its length prefix is being read.
    frame_bytes: Option<usize>,
    bytes: Vec<u8>,
    filled: usize,
}

impl Inbound {
    const PREFIX_BYTES: usize = 4;
    const FIRST_STEP_BYTES: usize = 64 * 1024;

    fn new(frame_bytes_max: usize) -> Self {
        let bytes = vec![0; Self::PREFIX_BYTES];
        Self { frame_bytes_max, frame_bytes: None, bytes, filled: 0 }
    }

    fn is_between_frames(&self) -> bool {
        self.frame_bytes.is_none() && self.filled == 0
    }

    /// Where the next bytes go; never empty.
    fn room(&mut self) -> &mut [u8] {
        if self.filled == self.bytes.len() {
            let wanted = self.frame_bytes.unwrap_or(Self::PREFIX_BYTES);
            let step = self.filled.max(Self::FIRST_STEP_BYTES);
            self.bytes.resize(wanted.min(self.filled + step), 0);
        }
        &mut self.bytes[self.filled..]
    }

    /// Takes note of `read` more bytes; returns the frame if they complete it.
    fn filled(&mut self, read: usize) -> Result<Option<Vec<u8>>, Closed> {
        self.filled += read;
        match self.frame_bytes {
            None if self.filled == Self::PREFIX_BYTES => {
                let prefix = [self.bytes[0], self.bytes[1], self.bytes[2], self.bytes[3]];
                let length = i32::from_be_bytes(prefix);
                let bytes = usize::try_from(length).ok();
                let bytes = bytes.filter(|&n| n >= 4 && n <= self.frame_bytes_max);
                let refused = Closed::FrameLength { length, max: self.frame_bytes_max };
                self.frame_bytes = Some(bytes.ok_or(refused)?);
                self.bytes.clear();
                self.filled = 0;
                Ok(None)
            }
            Some(wanted) if self.filled == wanted => {
                self.frame_bytes = None;
                self.filled = 0;
                let next = vec![0; Self::PREFIX_BYTES];
                Ok(Some(std::mem::replace(&mut self.bytes, next)))
            }
            _ => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `stream` in pieces of `step` bytes and returns the frames.
    fn frames(stream: &[u8], step: usize, max: usize) -> Result<Vec<Vec<u8>>, Closed> {
        let mut inbound = Inbound::new(max);
        let mut frames = Vec::new();
        let mut rest = stream;
        while !rest.is_empty() {
            let room = inbound.room();
            let n = room.len().min(step).min(rest.len());
            room[..n].copy_from_slice(&rest[..n]);
            rest = &rest[n..];
            frames.extend(inbound.filled(n)?);
        }
        Ok(frames)
    }

    #[test]
    fn frames_are_cut_wherever_the_bytes_come_apart() {
        let first = vec![7; 5];
        let second = vec![9; 200_000];
        let mut stream = Vec::new();
        for frame in [&first, &second] {
            stream.extend_from_slice(&(frame.len() as i32).to_be_bytes());
            stream.extend_from_slice(frame);
        }
        for step in [1, 3, 4096, usize::MAX] {
            let expected = vec![first.clone(), second.clone()];
            assert_eq!(frames(&stream, step, 200_000), Ok(expected), "step {step}");
        }
        assert_eq!(
            frames(&stream, 4096, 199_999),
            Err(Closed::FrameLength { length: 200_000, max: 199_999 })
        );
    }

    #[test]
    fn a_length_that_cannot_be_is_refused() {
        for length in [-1, 0, 3, i32::MAX] {
            let refused = Closed::FrameLength { length, max: 100 };
            assert_eq!(frames(&length.to_be_bytes(), 4, 100), Err(refused));
        }
    }

    #[test]
    fn memory_follows_the_bytes_that_came() {
        let mut inbound = Inbound::new(1 << 30);
        inbound.room().copy_from_slice(&(1_i32 << 30).to_be_bytes());
        assert_eq!(inbound.filled(4), Ok(None));
        assert_eq!(inbound.room().len(), Inbound::FIRST_STEP_BYTES);
    }
}
