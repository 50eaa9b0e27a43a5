//! The bound on the bytes of requests in work (`queued.max.request.bytes`).

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes that one permit stands for.
const UNIT_BYTES: usize = 1024;

/// Shared by all connections of a node.
#[derive(Clone)]
pub(crate) struct FrameBudget {
    units: Option<(Arc<Semaphore>, u32)>,
}

/// Bytes that are in work until this is dropped. A small frame has none.
#[derive(Default)]
pub(crate) struct FrameLease {
    permit: Option<OwnedSemaphorePermit>,
}

impl FrameLease {
    pub(crate) fn is_empty(&self) -> bool {
        self.permit.is_none()
    }
}

impl FrameBudget {
    /// A budget of so many bytes; 0 or less is no bound.
    pub(crate) fn new(bytes: i64) -> Self {
        let units = usize::try_from(bytes).ok().filter(|&bytes| bytes > 0).map(|bytes| {
            let units =
                (bytes / UNIT_BYTES).clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
            (Arc::new(Semaphore::new(units)), units as u32)
        });
        Self { units }
    }

    /// Waits until a frame of so many bytes may be read. One that is larger than the whole budget
    /// takes all of it: it passes alone.
    pub(crate) async fn lease(&self, bytes: usize) -> FrameLease {
        let Some((semaphore, all)) = &self.units else { return FrameLease::default() };
        let units = bytes.div_ceil(UNIT_BYTES).min(*all as usize) as u32;
        // The semaphore is never closed.
        FrameLease { permit: semaphore.clone().acquire_many_owned(units).await.ok() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    fn leased(budget: &FrameBudget, bytes: usize) -> Option<FrameLease> {
        match pin!(budget.lease(bytes)).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(lease) => Some(lease),
            Poll::Pending => None,
        }
    }

    #[test]
    fn what_is_over_the_budget_waits_and_an_oversized_frame_passes_alone() {
        let budget = FrameBudget::new(10 * 1024);
        let first = leased(&budget, 6 * 1024).expect("fits");
        assert!(leased(&budget, 5 * 1024).is_none());
        assert!(leased(&budget, 1_000_000).is_none());
        drop(first);
        let all = leased(&budget, 1_000_000).expect("passes alone");
        assert!(leased(&budget, 1).is_none());
        drop(all);
        assert!(leased(&budget, 1).is_some());
        assert!(leased(&FrameBudget::new(-1), usize::MAX).is_some());
    }
}
