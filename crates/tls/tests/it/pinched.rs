//! A stream that takes and gives little at once, and may be shut for writing.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use ottla_runtime::File;
use ottla_runtime::net::Stream;
use parking_lot::Mutex;

/// Whether writing is possible, for whoever holds it.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<State>);

#[derive(Default)]
struct State {
    is_shut: AtomicBool,
    is_mute: AtomicBool,
    is_tampering: AtomicBool,
    waiting: Mutex<Option<Waker>>,
}

impl Gate {
    /// Takes no byte any more.
    pub(crate) fn shut(&self) {
        self.0.is_shut.store(true, Ordering::Relaxed);
    }

    pub(crate) fn open(&self) {
        self.0.is_shut.store(false, Ordering::Relaxed);
        self.0.waiting.lock().take().into_iter().for_each(Waker::wake);
    }

    /// Fails from here on, as if somebody had cut the line.
    pub(crate) fn mute(&self) {
        self.0.is_mute.store(true, Ordering::Relaxed);
    }

    /// Changes a bit of all that is written from here on.
    pub(crate) fn tamper(&self) {
        self.0.is_tampering.store(true, Ordering::Relaxed);
    }
}

/// Reads and writes up to `bytes_max` at once, and every other call of each kind would block.
pub(crate) struct Pinched {
    pub(crate) below: Box<dyn Stream>,
    pub(crate) bytes_max: usize,
    pub(crate) gate: Gate,
    pub(crate) calls: [AtomicUsize; 2],
}

impl Pinched {
    pub(crate) fn boxed(below: Box<dyn Stream>, bytes_max: usize, gate: &Gate) -> Box<dyn Stream> {
        Box::new(Self { below, bytes_max, gate: gate.clone(), calls: Default::default() })
    }

    fn call(&self, kind: usize) -> io::Result<()> {
        match self.calls[kind].fetch_add(1, Ordering::Relaxed) % 2 {
            0 => Ok(()),
            _ => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl Stream for Pinched {
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.below.poll_readable(cx)
    }

    fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.call(0)?;
        let length = buf.len().min(self.bytes_max);
        self.below.try_read(&mut buf[..length])
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.gate.0.is_shut.load(Ordering::Relaxed) {
            *self.gate.0.waiting.lock() = Some(cx.waker().clone());
            return Poll::Pending;
        }
        self.below.poll_writable(cx)
    }

    fn try_write(&self, bytes: &[u8], more: bool) -> io::Result<usize> {
        if self.gate.0.is_mute.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        if self.gate.0.is_shut.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.call(1)?;
        let mut bytes = bytes[..bytes.len().min(self.bytes_max)].to_vec();
        if self.gate.0.is_tampering.load(Ordering::Relaxed)
            && let Some(last) = bytes.last_mut()
        {
            *last ^= 1;
        }
        self.below.try_write(&bytes, more)
    }

    fn try_write_vectored(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let first = parts.iter().find(|part| !part.is_empty());
        first.map_or(Ok(0), |part| self.try_write(part, false))
    }

    fn try_send_file(&self, _: &dyn File, _: u64, _: usize) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.below.peer_addr()
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.below.local_addr()
    }
}
