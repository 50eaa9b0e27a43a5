//! Ids for producers, taken from the cluster in blocks.

use std::collections::BTreeSet;
use std::sync::Arc;

use ottla_log::LogManager;
use ottla_metadata::Tree;
use ottla_metadata::admin::{AdminError, allocate_producer_ids};
use ottla_record::{BrokerId, ProducerId};
use parking_lot::Mutex;

use crate::membership::is_cut_off;

/// Hands out producer ids, each once, and none that a log remembers: a partition that was brought
/// from another cluster has ids of that one, and would take a stranger's batches for known ones.
pub(crate) struct ProducerIds {
    tree: Arc<dyn Tree>,
    broker: BrokerId,
    logs: Arc<LogManager>,
    left: Mutex<Left>,
    /// One at a time asks for a block.
    refill: tokio::sync::Mutex<()>,
}

/// What is left of the block.
#[derive(Default)]
struct Left {
    /// First and last id.
    ids: Option<(i64, i64)>,
    /// Those in between that a log remembers.
    remembered: BTreeSet<ProducerId>,
}

impl Left {
    fn take(&mut self) -> Option<ProducerId> {
        loop {
            let (first, last) = self.ids?;
            self.ids = (first < last).then_some((first + 1, last));
            if !self.remembered.contains(&ProducerId(first)) {
                return Some(ProducerId(first));
            }
        }
    }
}

impl ProducerIds {
    pub(crate) fn new(tree: Arc<dyn Tree>, broker: BrokerId, logs: Arc<LogManager>) -> Self {
        let (left, refill) = (Mutex::default(), tokio::sync::Mutex::default());
        Self { tree, broker, logs, left, refill }
    }

    /// The next id of the block, if there is one left.
    pub(crate) fn take(&self) -> Option<ProducerId> {
        self.left.lock().take()
    }

    /// Takes a new block if there is still none, and the next id of it.
    pub(crate) async fn refill_and_take(&self) -> Result<ProducerId, AdminError> {
        let _refill = self.refill.lock().await;
        loop {
            if let Some(id) = self.take() {
                return Ok(id);
            }
            // Those who wait for this one would wait for each other's deadlines.
            if let Some(error) = is_cut_off(&*self.tree) {
                return Err(error.into());
            }
            let block = allocate_producer_ids(&*self.tree, self.broker).await?;
            let remembered = self.logs.producer_ids_within(block.first..=block.last);
            let ids = Some((block.first.0, block.last.0));
            *self.left.lock() = Left { ids, remembered };
        }
    }
}
