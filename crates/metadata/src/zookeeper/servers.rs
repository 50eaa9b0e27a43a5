//! The servers of the ensemble, and which of them is tried next.

use std::io;
use std::time::Duration;

use ottla_runtime::{World, time};
use ottla_tls::{Client, Refusal};
use parking_lot::Mutex;

use super::link::{Granted, Link, LinkError, Shown};
use super::login::log_in;
use super::sasl::SaslLogin;
use super::tls::{PLAIN_PORT, told};

/// A server that has not let us in by then is left alone for a while: one that is just starting takes
/// connections that it never answers.
const ATTEMPT_MAX: Duration = Duration::from_secs(3);

/// The servers in an order of our own: so not all clients go to the first one.
pub(super) struct Servers {
    servers: Vec<(String, u16)>,
    auths: Vec<(String, Vec<u8>)>,
    sasl: Option<SaslLogin>,
    tls: Option<Client>,
    next: Mutex<usize>,
}

impl Servers {
    pub(super) fn new(
        world: &World,
        mut servers: Vec<(String, u16)>,
        auths: Vec<(String, Vec<u8>)>,
        sasl: Option<SaslLogin>,
        tls: Option<Client>,
    ) -> Self {
        for at in (1..servers.len()).rev() {
            let other = world.random.next_u64() % (at as u64 + 1);
            servers.swap(at, other as usize);
        }
        Self { servers, auths, sasl, tls, next: Mutex::new(0) }
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
        let mut refusals = 0;
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
                    let reason = match Refusal::of(&error) {
                        Some(refusal) => {
                            // One that is just stopping hangs up, too.
                            refusals += usize::from(*refusal != Refusal::HungUp);
                            told(refusal, self.tls.as_ref().is_some_and(Client::has_identity))
                        }
                        None => error.to_string(),
                    };
                    io::Error::new(error.kind(), format!("{host}:{port}: {reason}")).into()
                }
                // What one server says of the session or of us, all do.
                Ok(Err(error)) => return Err(error),
                Err(_) => {
                    let (host, port) = server;
                    let mut silent = format!("{host}:{port} did not answer");
                    if self.tls.is_some() {
                        silent += "; ";
                        silent += PLAIN_PORT;
                    }
                    io::Error::new(io::ErrorKind::TimedOut, silent).into()
                }
            };
        }
        match failure {
            LinkError::Io(error) if refusals > 0 && refusals == self.servers.len() => {
                Err(LinkError::Tls(error.to_string()))
            }
            failure => Err(failure),
        }
    }

    /// Takes a session to a server, and shows who we are before anything is asked there.
    async fn open(
        &self,
        world: &World,
        server: &(String, u16),
        shown: Shown,
    ) -> Result<(Link, Granted), LinkError> {
        let opening = Link::open(&*world.network, self.tls.as_ref(), server, shown, &self.auths);
        let (mut link, granted) = opening.await?;
        if let Some(login) = &self.sasl {
            log_in(&mut link, login, &*world.random).await?;
        }
        Ok((link, granted))
    }
}
