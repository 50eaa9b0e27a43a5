//! A stream with TLS upon another stream.

use std::future::poll_fn;
use std::io::{self, IoSlice, Read, Write};
use std::net::SocketAddr;
use std::task::{Context, Poll, ready};

use ottla_runtime::File;
use ottla_runtime::net::Stream;
use parking_lot::Mutex;
use rustls::Connection;

use crate::refusal::Refusal;

/// How much may be encrypted and not yet taken by the stream below, beside the peer's handshake, which
/// rustls bounds. Nothing more is encrypted before all of it has gone.
const UNSENT_BYTES_MAX: usize = 64 << 10;

/// TLS upon another stream, once both sides have come to terms.
///
/// **Who may wait.** One task at a time, for reading, for writing, or for both: each waits for the
/// stream below in both directions, which remembers one task for each.
///
/// **What goes out when.** What [`Stream::try_write`] took is encrypted at once and goes out as far as
/// the stream below has room. The rest goes out with any later call, and while this is waited for, also
/// for reading: who has asked and waits for the answer need not see to the question. Who writes and
/// then waits for something else, or drops the stream, waits for [`Stream::poll_writable`] first: it
/// is ready when everything has gone.
///
/// **How it ends.** Dropping says good-bye (`close_notify`), if there is room for it. A peer that hangs
/// up without it may have been cut off by somebody in between: reading gives an error then, not the end.
pub struct TlsStream {
    below: Box<dyn Stream>,
    tls: Mutex<Box<Connection>>,
}

impl TlsStream {
    /// Comes to terms with the peer, as a client or as a server. What is not the network's fault is a
    /// [`Refusal`] in the error.
    pub async fn establish(below: Box<dyn Stream>, mut tls: Box<Connection>) -> io::Result<Self> {
        tls.set_buffer_limit(Some(UNSENT_BYTES_MAX));
        let stream = Self { below, tls: Mutex::new(tls) };
        poll_fn(|cx| stream.poll_handshake(cx)).await.map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe => io::Error::new(error.kind(), Refusal::HungUp),
            _ => error,
        })?;
        Ok(stream)
    }

    fn poll_handshake(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let tls = &mut *self.tls.lock();
        loop {
            let sent = self.poll_send(tls, cx);
            if !tls.is_handshaking() {
                return sent;
            }
            // Even if it cannot be written to, what the peer said last may say why.
            match self.receive(tls) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                Ok(_) => self.process(tls)?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.below.poll_readable(cx))?;
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Sends what is encrypted, and waits for room.
    fn poll_send(&self, tls: &mut Connection, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            match self.send(tls) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.below.poll_writable(cx))?;
                }
                sent => return Poll::Ready(sent),
            }
        }
    }

    /// Sends all that is encrypted; `WouldBlock` if some of it is left.
    fn send(&self, tls: &mut Connection) -> io::Result<()> {
        while tls.wants_write() {
            if tls.write_tls(&mut Below(&*self.below))? == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        Ok(())
    }

    /// Takes in what has come.
    fn receive(&self, tls: &mut Connection) -> io::Result<usize> {
        tls.read_tls(&mut Below(&*self.below))
    }

    /// Decrypts what was taken in. Once this has failed it always does.
    fn process(&self, tls: &mut Connection) -> io::Result<()> {
        if let Err(error) = tls.process_new_packets() {
            // So that the peer can say why, too. There may be no room, or no peer.
            let _ = self.send(tls);
            return Err(Refusal::from(error).into());
        }
        Ok(())
    }

    /// Encrypts what `write` writes, once nothing else is left to be sent, and sends what there is
    /// room for.
    fn write(&self, write: impl FnOnce(&mut dyn Write) -> io::Result<usize>) -> io::Result<usize> {
        let tls = &mut *self.tls.lock();
        self.send(tls)?;
        let taken = write(&mut tls.writer())?;
        match self.send(tls) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(taken),
        }
    }
}

impl Stream for TlsStream {
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let tls = &mut *self.tls.lock();
        let has_come = match tls.reader().into_first_chunk() {
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
            Ok(_) => true,
        };
        if has_come || tls.process_new_packets().is_err() {
            return Poll::Ready(Ok(()));
        }
        // Nobody answers what did not go out. That it cannot is for reading to find out: what the peer
        // said before it went can still be read.
        let _ = self.poll_send(tls, cx);
        self.below.poll_readable(cx)
    }

    fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        let tls = &mut *self.tls.lock();
        loop {
            let processed = self.process(tls);
            // Among it what TLS itself has to answer. An error is the reader's to find, as above.
            let _ = self.send(tls);
            match tls.reader().read(buf) {
                // What came before a fault is given out before the fault.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => processed?,
                read => return read,
            }
            self.receive(tls)?;
        }
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_send(&mut self.tls.lock(), cx)
    }

    /// `more` changes nothing: each call makes records of its own.
    fn try_write(&self, bytes: &[u8], _more: bool) -> io::Result<usize> {
        self.write(|writer| writer.write(bytes))
    }

    fn try_write_vectored(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        self.write(|writer| writer.write_vectored(parts))
    }

    /// Reads the file and writes what was read, for the system has nothing to encrypt with.
    fn try_send_file(&self, file: &dyn File, at: u64, len: usize) -> io::Result<usize> {
        // Nothing is read for which there is no room.
        self.send(&mut self.tls.lock())?;
        let mut bytes = vec![0; len.min(UNSENT_BYTES_MAX)];
        let read = file.read_at(&mut bytes, at)?;
        if read == 0 { Ok(0) } else { self.try_write(&bytes[..read], false) }
    }

    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.below.peer_addr()
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.below.local_addr()
    }
}

impl Drop for TlsStream {
    fn drop(&mut self) {
        let tls = self.tls.get_mut();
        tls.send_close_notify();
        // Nobody waits any more.
        let mut below = Below(&*self.below);
        while tls.wants_write() && tls.write_tls(&mut below).is_ok_and(|written| written > 0) {}
    }
}

/// The stream below, as rustls wants to have it.
struct Below<'a>(&'a dyn Stream);

impl Read for Below<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buf)
    }
}

impl Write for Below<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes, false)
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(parts)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
