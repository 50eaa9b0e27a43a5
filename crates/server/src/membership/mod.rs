//! The broker's place in its cluster: its registration, and who the controller is.
//!
//! Owns: what follows when the session with the tree ends, or when another broker becomes the
//! controller ([`machine`]), and whether the broker's id is free ([`claim`]). Must not know: what a
//! controller does.

mod claim;
mod machine;

use std::fmt;
use std::sync::Arc;

use ottla_metadata::admin::{AdminError, Controller, Election, RegisterError, register_broker};
use ottla_metadata::tree::{Changes, SessionState, Watch};
use ottla_metadata::znodes::{BrokerRegistration, CONTROLLER};
use ottla_metadata::{Broker, Tree, TreeError};
use ottla_record::BrokerId;
use ottla_runtime::{World, time};
use tracing::{error, info, warn};

pub use self::claim::ClaimError;
pub(crate) use self::claim::{Unclaimed, claim};
use self::machine::{Effect, Event, Membership};
use crate::cluster::{ChangeError, Cluster};
use crate::node::StartError;

/// A broker in its cluster.
pub(crate) struct Member {
    world: World,
    tree: Arc<dyn Tree>,
    id: BrokerId,
    registration: BrokerRegistration,
    cluster: Arc<Cluster>,
    membership: Membership,
    /// What is told of `/controller` in the present session.
    changes: Option<Changes>,
    /// What was won in the last election, until it is taken over.
    won: Option<Controller>,
}

impl Member {
    /// Registers the broker and makes it the controller, at its start.
    pub(crate) async fn join(
        world: World,
        tree: Arc<dyn Tree>,
        id: BrokerId,
        registration: BrokerRegistration,
        cluster: Arc<Cluster>,
    ) -> Result<Self, StartError> {
        let membership = Membership::controller(0);
        let (changes, won) = (None, None);
        let mut member = Self { world, tree, id, registration, cluster, membership, changes, won };
        member.register().await.map_err(StartError::Register)?;
        match member.elect().await? {
            Election::Won(controller) => {
                member.membership = Membership::controller(controller.epoch());
                member.cluster.begin(controller).await?;
                Ok(member)
            }
            Election::Lost(other) => Err(StartError::Member { other }),
        }
    }

    /// Sees to the broker's place in the cluster, for ever.
    pub(crate) async fn run(mut self) {
        loop {
            let mut event = Some(self.happened().await);
            while let Some(happened) = event.take() {
                for effect in self.membership.handle(happened) {
                    event = self.perform(effect).await;
                }
            }
        }
    }

    /// Waits for what a broker that has its place must know. Safe to cancel.
    async fn happened(&mut self) -> Event {
        let mut state = self.tree.state();
        let expired = async {
            if state.wait_for(|state| *state == SessionState::Expired).await.is_err() {
                // The tree is gone, and the node is about to go.
                std::future::pending::<()>().await;
            }
        };
        let changed = async {
            match &mut self.changes {
                Some(changes) => changes.next().await.is_some(),
                None => false,
            }
        };
        tokio::pin!(expired);
        tokio::select! {
            biased;
            () = &mut expired => Event::Expired,
            is_news = changed => {
                if !is_news {
                    // The watch has ended with its session.
                    expired.await;
                    return Event::Expired;
                }
                Event::ControllerChanged
            }
            () = self.cluster.doubted() => Event::InDoubt,
        }
    }

    async fn perform(&mut self, effect: Effect) -> Option<Event> {
        let done = match effect {
            Effect::Resign => {
                self.cluster.resign();
                return None;
            }
            Effect::Pause(pause) => {
                time::sleep(pause).await;
                return Some(Event::Rested);
            }
            Effect::Renew => {
                warn!("the session with the tree has expired: the broker is not registered");
                self.changes = None;
                match self.tree.renew().await {
                    Ok(()) => return Some(Event::Renewed),
                    // It is expired still.
                    Err(error) => {
                        warn!(%error, "could not begin another session");
                        return Some(Event::Failed);
                    }
                }
            }
            Effect::Register => {
                let registered = self.register().await;
                registered.map(|()| Event::Registered).map_err(|error| error.to_string())
            }
            Effect::Elect => self.settle().await.map_err(|error| error.to_string()),
            Effect::TakeOver => self.take_over().await.map_err(|error| error.to_string()),
        };
        Some(done.unwrap_or_else(|reason| self.failed(effect, &reason)))
    }

    fn failed(&self, effect: Effect, reason: &dyn fmt::Display) -> Event {
        if *self.tree.state().borrow() == SessionState::Expired {
            return Event::Expired;
        }
        error!(?effect, %reason, "the broker has not found its place in the cluster: it tries again");
        Event::Failed
    }

    async fn register(&mut self) -> Result<(), RegisterError> {
        self.registration.timestamp_ms = self.world.clock.wall_ms();
        let epoch = register_broker(&*self.tree, self.id, &self.registration).await?;
        info!(broker = self.id.0, epoch, "registered");
        let registration = self.registration.clone();
        self.cluster.registered(Broker { id: self.id, epoch, registration });
        Ok(())
    }

    async fn elect(&mut self) -> Result<Election, AdminError> {
        if self.changes.is_none() {
            // Set before the node is read, so that no change falls between the two.
            self.changes = Some(self.tree.watch(vec![Watch::Node(CONTROLLER.to_owned())]).await?);
        }
        Controller::elect(self.tree.clone(), self.id, self.world.clock.wall_ms()).await
    }

    async fn settle(&mut self) -> Result<Event, AdminError> {
        Ok(match self.elect().await? {
            Election::Won(controller) => {
                let epoch = controller.epoch();
                self.won = Some(controller);
                Event::Won(epoch)
            }
            Election::Lost(other) => {
                warn!(controller = other.0, "another broker is the controller of this cluster");
                self.cluster.follow(other);
                Event::Lost
            }
        })
    }

    async fn take_over(&mut self) -> Result<Event, ChangeError> {
        if let Some(controller) = self.won.take() {
            let epoch = controller.epoch();
            self.cluster.take_over(controller).await?;
            info!(epoch, "this broker is the controller");
        }
        Ok(Event::TookOver)
    }
}

/// A tree that cannot be reached.
pub(crate) fn is_cut_off(tree: &dyn Tree) -> Option<TreeError> {
    let reason = match *tree.state().borrow() {
        SessionState::Connected => return None,
        SessionState::Disconnected => "the tree of the cluster's metadata cannot be reached",
        SessionState::Expired => "the session with the tree of the cluster's metadata has expired",
    };
    Some(TreeError::Unavailable { reason: reason.into() })
}
