//! Accepting connections and handing them to the workers.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ottla_runtime::net::{self, Incoming, Listener, Stream};
use ottla_runtime::{BufferPool, Spawner, time};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::{info, warn};

use crate::call::Client;
use crate::dispatch::Services;
use crate::network::connection::{Connection, ConnectionSettings};

/// How long accepting rests after the system refused, for example for want of descriptors.
const REFUSED_PAUSE: Duration = Duration::from_millis(100);

/// Who may connect: `max.connections`, `max.connections.per.ip` and its overrides.
pub(crate) struct Admission {
    all: Arc<Semaphore>,
    per_address_max: usize,
    overrides: BTreeMap<IpAddr, u32>,
    addresses: Mutex<BTreeMap<IpAddr, usize>>,
}

/// A place among the connections, given back when dropped.
struct Place {
    admission: Arc<Admission>,
    address: IpAddr,
    _permit: OwnedSemaphorePermit,
}

impl Admission {
    pub(crate) fn new(max: i32, per_address_max: i32, overrides: BTreeMap<IpAddr, u32>) -> Self {
        let max = usize::try_from(max).unwrap_or(0).min(Semaphore::MAX_PERMITS);
        Self {
            all: Arc::new(Semaphore::new(max)),
            per_address_max: usize::try_from(per_address_max).unwrap_or(0),
            overrides,
            addresses: Mutex::default(),
        }
    }

    /// Takes a place for `address`, unless it holds all that it may.
    fn admit(self: &Arc<Self>, address: IpAddr, permit: OwnedSemaphorePermit) -> Option<Place> {
        let max = self.overrides.get(&address).map_or(self.per_address_max, |&max| max as usize);
        let mut addresses = self.addresses.lock();
        let held = addresses.entry(address).or_insert(0);
        if *held >= max {
            return None;
        }
        *held += 1;
        Some(Place { admission: self.clone(), address, _permit: permit })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut addresses = self.admission.addresses.lock();
        if let Some(held) = addresses.get_mut(&self.address) {
            *held -= 1;
            if *held == 0 {
                addresses.remove(&self.address);
            }
        }
    }
}

/// Accepts the connections of one listener.
pub(crate) struct Acceptor {
    pub(crate) name: Arc<str>,
    pub(crate) listener: Box<dyn Listener>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) workers: Arc<Vec<(Spawner, BufferPool)>>,
    /// Shared by all listeners, so that the workers get equal numbers of connections.
    pub(crate) next_worker: Arc<AtomicUsize>,
    pub(crate) services: Arc<Services>,
    pub(crate) settings: Arc<ConnectionSettings>,
}

impl Acceptor {
    /// Accepts until the task ends.
    pub(crate) async fn run(mut self) {
        loop {
            // At the limit nothing is accepted: who dials waits in the backlog.
            let Ok(permit) = self.admission.all.clone().acquire_owned().await else { return };
            match net::accept(&mut *self.listener).await {
                Ok(incoming) => self.hand_over(incoming, permit),
                Err(error) => {
                    warn!(listener = %self.name, %error, "could not accept a connection");
                    time::sleep(REFUSED_PAUSE).await;
                }
            }
        }
    }

    fn hand_over(&self, incoming: Box<dyn Incoming>, permit: OwnedSemaphorePermit) {
        let at = self.next_worker.fetch_add(1, Ordering::Relaxed) % self.workers.len();
        let (spawner, pool) = &self.workers[at];
        let (name, admission) = (self.name.clone(), self.admission.clone());
        let (services, settings) = (self.services.clone(), self.settings.clone());
        let pool = pool.clone();
        spawner.detach(async move {
            let (stream, client) = match introduce(incoming, name) {
                Ok(introduced) => introduced,
                // The client was gone before it was looked at.
                Err(_) => return,
            };
            let address = client.peer.ip();
            let Some(_place) = admission.admit(address, permit) else {
                info!(peer = %client.peer, "refused connection: max.connections.per.ip is reached");
                return;
            };
            Connection::new(stream, client, services, settings, pool).run().await;
        });
    }
}

fn introduce(
    incoming: Box<dyn Incoming>,
    listener: Arc<str>,
) -> io::Result<(Box<dyn Stream>, Client)> {
    let stream = incoming.into_stream()?;
    let client = Client::new(listener, stream.peer_addr()?, stream.local_addr()?);
    Ok((stream, client))
}
