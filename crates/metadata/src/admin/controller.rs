//! The election of the controller, and what only the elected one may write.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use ottla_record::BrokerId;

use super::AdminError;
use crate::tree::{CreateMode, Error, Failure, Multi, Node, Op, Tree, TreeError, Written};
use crate::znodes::{
    CONTROLLER, CONTROLLER_EPOCH, ControllerZnode, FEATURE, FeatureStatus, Features,
    decode_controller_epoch, encode_controller_epoch,
};

/// The active controller. Each of its writes checks that no other was elected since.
#[derive(Clone)]
pub struct Controller {
    pub(super) tree: Arc<dyn Tree>,
    broker: BrokerId,
    epoch: i32,
    epoch_zk_version: i32,
}

/// How an election ended.
#[derive(Clone, Debug)]
pub enum Election {
    /// This broker is the active controller.
    Won(Controller),
    /// Another one is.
    Lost(BrokerId),
}

impl fmt::Debug for Controller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Controller")
            .field("broker", &self.broker)
            .field("epoch", &self.epoch)
            .finish_non_exhaustive()
    }
}

impl Controller {
    /// Tries to become the active controller, with the next epoch (the first one is 1).
    ///
    /// A broker whose session holds `/controller` already has won: the answer to its earlier try
    /// was lost.
    pub async fn elect(
        tree: Arc<dyn Tree>,
        broker: BrokerId,
        now_ms: i64,
    ) -> Result<Election, AdminError> {
        loop {
            let mut nodes =
                tree.get_all(vec![CONTROLLER.to_owned(), CONTROLLER_EPOCH.to_owned()]).await?;
            let (epoch, controller) = (nodes.pop().flatten(), nodes.pop().flatten());
            if let Some(node) = controller {
                return finished(tree, &node, epoch);
            }
            let Some(epoch) = epoch else {
                match tree.create(CONTROLLER_EPOCH, Some(encode_controller_epoch(0))).await {
                    Err(error) if !error.is(Error::NodeExists) => return Err(error.into()),
                    Ok(()) | Err(_) => continue,
                }
            };
            let next = epoch_of(&epoch)?.saturating_add(1);
            let znode = ControllerZnode { broker, timestamp_ms: now_ms };
            let ops = vec![
                Op::create_as(CONTROLLER, Some(znode.encode()), CreateMode::Ephemeral),
                Op::set(CONTROLLER_EPOCH, encode_controller_epoch(next), epoch.stat.version),
            ];
            match tree.multi(ops).await {
                Ok(written) => {
                    let Some(Written::Set { stat }) = written.last() else { continue };
                    let epoch_zk_version = stat.version;
                    return Ok(Election::Won(Self { tree, broker, epoch: next, epoch_zk_version }));
                }
                // Another broker was faster, or was and is gone again: look who it is.
                Err(error) if error.is(Error::NodeExists) || error.is(Error::BadVersion) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// This broker.
    #[must_use]
    pub fn broker(&self) -> BrokerId {
        self.broker
    }

    /// The controller epoch.
    #[must_use]
    pub fn epoch(&self) -> i32 {
        self.epoch
    }

    /// Makes `/feature` where it is missing: no feature is finalized yet.
    pub async fn set_up_features(&self) -> Result<(), AdminError> {
        if self.tree.exists(FEATURE).await?.is_some() {
            return Ok(());
        }
        let features =
            Features { status: FeatureStatus::Enabled, max_version_levels: BTreeMap::new() };
        self.multi(vec![Op::create(FEATURE, Some(features.encode()))]).await.map(drop)
    }

    /// Does all operations or none, and none if another controller was elected.
    pub(super) async fn multi(&self, ops: Multi) -> Result<Vec<Written>, AdminError> {
        let result = self.tree.multi(self.fenced(ops)).await;
        result.map_err(|error| self.unfenced(error))
    }

    /// Does several multis, each on its own; the first failure counts.
    pub(super) async fn multi_all(&self, multis: Vec<Multi>) -> Result<(), AdminError> {
        if multis.is_empty() {
            return Ok(());
        }
        let fenced = multis.into_iter().map(|ops| self.fenced(ops)).collect();
        let results = self.tree.multi_all(fenced).await?;
        let failed = results.into_iter().find_map(Result::err);
        failed.map_or(Ok(()), |failure| Err(self.unfenced(failure.into())))
    }

    fn fenced(&self, ops: Multi) -> Multi {
        let check = Op::check(CONTROLLER_EPOCH, self.epoch_zk_version);
        std::iter::once(check).chain(ops).collect()
    }

    /// Tells a failure of the check apart, and counts operations as the caller does.
    fn unfenced(&self, error: TreeError) -> AdminError {
        match error {
            TreeError::Refused(Failure { op, error }) => match op.checked_sub(1) {
                None if error == Error::SessionExpired => {
                    TreeError::Refused(Failure { op, error }).into()
                }
                None => AdminError::ControllerMoved,
                Some(op) => TreeError::Refused(Failure { op, error }).into(),
            },
            error => error.into(),
        }
    }
}

fn epoch_of(node: &Node) -> Result<i32, AdminError> {
    let data = node.data.as_deref().unwrap_or_default();
    decode_controller_epoch(data).map_err(AdminError::malformed(CONTROLLER_EPOCH))
}

/// The election as it stands with `/controller` in place.
fn finished(
    tree: Arc<dyn Tree>,
    controller: &Node,
    epoch: Option<Node>,
) -> Result<Election, AdminError> {
    let data = controller.data.as_deref().unwrap_or_default();
    let znode = ControllerZnode::decode(data).map_err(AdminError::malformed(CONTROLLER))?;
    match epoch {
        Some(node) if controller.stat.ephemeral_owner == tree.session() => {
            Ok(Election::Won(Controller {
                tree,
                broker: znode.broker,
                epoch: epoch_of(&node)?,
                epoch_zk_version: node.stat.version,
            }))
        }
        _ => Ok(Election::Lost(znode.broker)),
    }
}
