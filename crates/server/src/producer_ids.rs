//! Ids for producers, taken from the cluster in blocks.

use std::sync::Arc;

use ottla_metadata::Tree;
use ottla_metadata::admin::{AdminError, allocate_producer_ids};
use ottla_record::{BrokerId, ProducerId};
use parking_lot::Mutex;

/// Hands out producer ids, each once.
pub(crate) struct ProducerIds {
    tree: Arc<dyn Tree>,
    broker: BrokerId,
    /// What is left of the block: first and last id.
    left: Mutex<Option<(i64, i64)>>,
    /// One at a time asks for a block.
    refill: tokio::sync::Mutex<()>,
}

impl ProducerIds {
    pub(crate) fn new(tree: Arc<dyn Tree>, broker: BrokerId) -> Self {
        Self { tree, broker, left: Mutex::default(), refill: tokio::sync::Mutex::default() }
    }

    /// The next id of the block, if there is one left.
    pub(crate) fn take(&self) -> Option<ProducerId> {
        let mut left = self.left.lock();
        let (first, last) = (*left)?;
        *left = (first < last).then_some((first + 1, last));
        Some(ProducerId(first))
    }

    /// Takes a new block if there is still none, and the next id of it.
    pub(crate) async fn refill_and_take(&self) -> Result<ProducerId, AdminError> {
        let _refill = self.refill.lock().await;
        loop {
            if let Some(id) = self.take() {
                return Ok(id);
            }
            let block = allocate_producer_ids(&*self.tree, self.broker).await?;
            *self.left.lock() = Some((block.first.0, block.last.0));
        }
    }
}
