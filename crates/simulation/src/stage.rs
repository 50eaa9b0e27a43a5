//! What clients of a run share: the network, the judges, and whether the storm is over.

use std::sync::Arc;
use std::time::Duration;

use ottla_connection::{Connection, ConnectionOptions};
use ottla_fake::{Dice, HostId};
use ottla_protocol::Request;
use ottla_runtime::net::Stream;
use ottla_runtime::{Network, time};
use parking_lot::Mutex;

use crate::event::Event;
use crate::invariant::{self, Invariant};
use crate::plan::CLIENTS;
use crate::server::{BROKER_PORT, address};
use crate::trace::Trace;

/// How long a client waits for an answer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(3);

/// The broker. There is one so far.
const BROKER: HostId = 1;

/// What was found to be wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// What should hold.
    pub invariant: &'static str,
    /// What does not.
    pub what: String,
}

/// What clients share.
pub(crate) struct Stage {
    network: Arc<dyn Network>,
    trace: Trace,
    dice: Mutex<Dice>,
    judges: Mutex<Judges>,
}

struct Judges {
    invariants: Vec<(&'static str, Box<dyn Invariant>)>,
    violations: Vec<Violation>,
    is_calm: bool,
    events: u64,
}

impl Stage {
    pub(crate) fn new(network: Arc<dyn Network>, trace: Trace, dice: Dice) -> Arc<Self> {
        let invariants = invariant::all();
        let judges = Judges { invariants, violations: Vec::new(), is_calm: false, events: 0 };
        let (dice, judges) = (Mutex::new(dice), Mutex::new(judges));
        Arc::new(Self { network, trace, dice, judges })
    }

    /// Tells the judges what happened.
    pub(crate) fn tell(&self, event: Event) {
        match &event {
            Event::ReadWhole { place, start, records } => {
                self.note(format_args!("{place} from {start} on: {} records", records.len()));
            }
            Event::HighWatermark { .. } => {}
            event => self.note(format_args!("{event:?}")),
        }
        let mut judges = self.judges.lock();
        judges.events += 1;
        let Judges { invariants, violations, .. } = &mut *judges;
        for (invariant, judge) in invariants {
            if let Err(what) = judge.see(&event) {
                self.note(format_args!("VIOLATION of \"{invariant}\": {what}"));
                violations.push(Violation { invariant, what });
            }
        }
    }

    /// Something that should hold does not.
    pub(crate) fn complain(&self, invariant: &'static str, what: String) {
        self.note(format_args!("VIOLATION of \"{invariant}\": {what}"));
        self.judges.lock().violations.push(Violation { invariant, what });
    }

    pub(crate) fn note(&self, what: std::fmt::Arguments<'_>) {
        self.trace.note(what);
    }

    /// What was found, and how much was looked at.
    pub(crate) fn findings(&self) -> (Vec<Violation>, u64) {
        let judges = self.judges.lock();
        (judges.violations.clone(), judges.events)
    }

    /// Nothing goes wrong any more: clients finish what they have begun.
    pub(crate) fn calm_down(&self) {
        self.judges.lock().is_calm = true;
    }

    pub(crate) fn is_calm(&self) -> bool {
        self.judges.lock().is_calm
    }

    /// Dice of a client's own.
    pub(crate) fn dice(&self) -> Dice {
        Dice::new(self.dice.lock().roll(u64::MAX))
    }

    /// A stream to the broker.
    pub(crate) async fn dial(&self) -> Option<Box<dyn Stream>> {
        let address = address(BROKER, BROKER_PORT);
        let (host, port) = address.rsplit_once(':')?;
        self.network.connect(host, port.parse().ok()?).await.ok()
    }

    /// Calls the broker. An error has been waited for.
    pub(crate) async fn connect(&self) -> Option<Connection> {
        let options = ConnectionOptions { setup_timeout: PATIENCE, ..ConnectionOptions::default() };
        let address = address(BROKER, BROKER_PORT);
        match Connection::connect(&*self.network, &address, &options).await {
            Ok(connection) => Some(connection),
            Err(_) => {
                time::sleep(Duration::from_millis(100)).await;
                None
            }
        }
    }
}

/// The network as clients have it.
pub(crate) fn client_network(network: &ottla_fake::FakeNetwork) -> Arc<dyn Network> {
    network.host(CLIENTS)
}

/// A connection that is made when it is needed, and again when it has ended.
pub(crate) struct Caller {
    stage: Arc<Stage>,
    connection: Option<Arc<Connection>>,
}

impl Caller {
    pub(crate) fn new(stage: &Arc<Stage>) -> Self {
        Self { stage: Arc::clone(stage), connection: None }
    }

    /// The connection, if there is one or one can be made.
    pub(crate) async fn connection(&mut self) -> Option<Arc<Connection>> {
        if self.connection.as_ref().is_none_or(|connection| connection.closed().is_some()) {
            self.connection = self.stage.connect().await.map(Arc::new);
        }
        self.connection.clone()
    }

    /// Ends it.
    pub(crate) fn hang_up(&mut self) {
        self.connection = None;
    }

    /// What `take` makes of the answer to a request in a version up to `newest`; `None` if there is no
    /// answer. The request may have been worked off nevertheless.
    pub(crate) async fn ask<'a, R: Request<'a>, T>(
        &mut self,
        newest: i16,
        request: &R,
        take: impl FnOnce(R::Response<'_>) -> T,
    ) -> Option<T> {
        let connection = self.connection().await?;
        let reply = connection.call_up_to(newest, request, PATIENCE).await.ok();
        let taken = reply.and_then(|reply| reply.decode().ok().map(take));
        if taken.is_none() {
            self.hang_up();
        }
        taken
    }
}
