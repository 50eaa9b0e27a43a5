//! Waiting until what was appended may be acknowledged.
//!
//! Owns: the wait for the disk. Must not know: what is answered, how often the disk is synced.

use std::sync::Arc;
use std::time::Duration;

use ottla_protocol::ErrorCode;
use ottla_record::Offset;
use ottla_replication::{Partition, Watch};
use ottla_runtime::time;

use crate::handler::error::ApiError;

/// An append that waits to be on the disk.
pub(crate) struct Unflushed {
    partition: Arc<Partition>,
    /// The end of what was appended.
    end: Offset,
    /// The caller's name for it.
    pub(crate) index: usize,
}

impl Unflushed {
    pub(crate) fn new(partition: &Arc<Partition>, end: Offset, index: usize) -> Self {
        Self { partition: partition.clone(), end, index }
    }

    fn is_flushed(&self) -> bool {
        self.partition.log().flushed().offset >= self.end
    }

    fn failure(&self) -> Option<ApiError> {
        if let Some(reason) = self.partition.log().failure() {
            let message = format!("the broker's disk: {reason}");
            return Some(ApiError::new(ErrorCode::KAFKA_STORAGE_ERROR, message));
        }
        let name = self.partition.name();
        let gone = || {
            let message = format!("{name} was deleted before the batch was on the disk");
            ApiError::new(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, message)
        };
        self.partition.is_gone().then(gone)
    }
}

/// Waits until all are on the disk, but no longer than `timeout`. Returns those that are not, with
/// the reason: whether a crash takes them is not known.
pub(crate) async fn flushed(
    mut waiting: Vec<Unflushed>,
    timeout: Duration,
) -> Vec<(Unflushed, ApiError)> {
    let deadline = time::now() + timeout;
    let mut failed = Vec::new();
    loop {
        waiting.retain(|unflushed| !unflushed.is_flushed());
        for at in (0..waiting.len()).rev() {
            if let Some(error) = waiting[at].failure() {
                failed.push((waiting.swap_remove(at), error));
            }
        }
        if waiting.is_empty() {
            return failed;
        }
        // One round of the flusher mostly moves all: the first of them speaks for the others.
        let (first, watch) = (&waiting[0], Watch::new());
        first.partition.watch_flushed(first.end, &watch, 0);
        let left = deadline.saturating_duration_since(time::now());
        if time::timeout(left, watch.moved()).await.is_err() {
            let message =
                "the batch was not on the disk in time: the broker's disk is slow or stuck";
            let late = || ApiError::new(ErrorCode::REQUEST_TIMED_OUT, message);
            failed.extend(waiting.into_iter().map(|unflushed| (unflushed, late())));
            return failed;
        }
    }
}
