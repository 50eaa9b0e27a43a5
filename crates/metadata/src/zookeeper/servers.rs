//! The servers of the ensemble, and which of them is tried next.

use std::io;
use std::time::Duration;

use ottla_runtime::{World, time};
use parking_lot::Mutex;

use super::link::{Granted, Link, LinkError, Shown};
use super::login::log_in;
use super::sasl::SaslLogin;

/// A server that has not let us in by then is left alone for a while: one that is just starting takes
/// connections that it never answers.
const ATTEMPT_MAX: Duration = Duration::from_secs(3);

/// The servers in an order of our own: so not all clients go to the first one.
pub(super) struct Servers {
    servers: Vec<(String, u16)>,
    auths: Vec<(String, Vec<u8>)>,
    sasl: Option<SaslLogin>,
    next: Mutex<usize>,
}

impl Servers {
    pub(super) fn new(
        world: &World,
        mut servers: Vec<(String, u16)>,
        auths: Vec<(String, Vec<u8>)>,
        sasl: Option<SaslLogin>,
    ) -> Self {
        for at in (1..servers.len()).rev() {
            let other = world.random.next_u64() % (at as u64 + 1);
            servers.swap(at, other as usize);
        }
        Self { servers, auths, sasl, next: Mutex::new(0) }
    }

    /// Tries each server once within `timeout`, beginning with the one after the last that was tried.
    pub(super) async fn round(
        &self,
        world: &World,
        shown: Shown,
        timeout: Duration,
    ) -> Result<(Link, Granted), LinkError> {
        let mut failure =
            LinkError::from(io::Error::new(io::ErrorKind::NotFound, "it names no server"));
        let share = timeout / u32::try_from(self.servers.len().max(1)).unwrap_or(u32::MAX);
        let share = share.min(ATTEMPT_MAX);
        for _ in &self.servers {
            let server = {
                let mut next = self.next.lock();
                *next = (*next + 1) % self.servers.len();
                &self.servers[*next]
            };
            failure = match time::timeout(share, self.open(world, server, shown)).await {
                Ok(Ok(opened)) => return Ok(opened),
                Ok(Err(LinkError::Io(error))) => {
                    let (host, port) = server;
                    io::Error::new(error.kind(), format!("{host}:{port}: {error}")).into()
                }
                // What one server says of the session or of us, all do.
                Ok(Err(error)) => return Err(error),
                Err(_) => {
                    let (host, port) = server;
                    let silent = format!("{host}:{port} did not answer");
                    io::Error::new(io::ErrorKind::TimedOut, silent).into()
                }
            };
        }
        Err(failure)
    }

    /// Takes a session to a server, and shows who we are before anything is asked there.
    async fn open(
        &self,
        world: &World,
        server: &(String, u16),
        shown: Shown,
    ) -> Result<(Link, Granted), LinkError> {
        let (mut link, granted) = Link::open(&*world.network, server, shown, &self.auths).await?;
        if let Some(login) = &self.sasl {
            log_in(&mut link, login, &*world.random).await?;
        }
        Ok((link, granted))
    }
}
