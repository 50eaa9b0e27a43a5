//! Ending connections on which nothing happens (`connections.max.idle.ms`).

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use ottla_runtime::net::Stream;
use ottla_runtime::time;

/// The patience with one connection. Its timer is moved only when it fires, so that a busy
/// connection does not pay for it.
pub(crate) struct Idle {
    allowed: Duration,
    last_active: time::Instant,
    timer: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Idle {
    pub(crate) fn new(allowed: Duration) -> Self {
        let last_active = time::now();
        let timer = Box::pin(time::sleep_until(last_active + allowed));
        Self { allowed, last_active, timer }
    }

    /// Something happened.
    pub(crate) fn touch(&mut self) {
        self.last_active = time::now();
    }

    /// Ready when there may be something to read; `TimedOut` when patience ends.
    pub(crate) fn poll_readable(
        &mut self,
        stream: &dyn Stream,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        match stream.poll_readable(cx) {
            Poll::Ready(ready) => Poll::Ready(ready),
            Poll::Pending => self.poll_timer(cx),
        }
    }

    /// Waits until there may be room to write; `TimedOut` when patience ends: a client that takes
    /// nothing of its answers must not hold them in memory for ever.
    pub(crate) async fn writable(&mut self, stream: &dyn Stream) -> io::Result<()> {
        let ready = poll_fn(|cx| match stream.poll_writable(cx) {
            Poll::Ready(ready) => Poll::Ready(ready),
            Poll::Pending => self.poll_timer(cx),
        })
        .await;
        self.touch();
        ready
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.timer.as_mut().poll(cx).is_ready() {
            let deadline = self.last_active + self.allowed;
            if deadline <= time::now() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            self.timer = Box::pin(time::sleep_until(deadline));
        }
        Poll::Pending
    }
}
