//! Waiting for partitions to move.
//!
//! A [`Watch`] belongs to one that waits: a parked fetch, or a fetch session for as long as it
//! lives. It is left at each partition once, with a number that the waiter chose; the partition
//! that moves drops it and leaves the number here. So a wake-up costs what changed, and an idle
//! partition holds an empty queue.

use std::future::poll_fn;
use std::mem;
use std::sync::Arc;
use std::task::{Poll, Waker};

use parking_lot::Mutex;

/// What moved since it was last asked.
#[derive(Debug, Default)]
pub struct Watch {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    moved: Vec<u32>,
    waker: Option<Waker>,
}

impl Watch {
    /// A watch that has seen nothing move.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Notes that the partition with the waiter's number `index` moved.
    pub fn notify(&self, index: u32) {
        let waker = {
            let mut state = self.state.lock();
            state.moved.push(index);
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The numbers of the partitions that moved since the last call, in the order of moving.
    #[must_use]
    pub fn take_moved(&self) -> Vec<u32> {
        mem::take(&mut self.state.lock().moved)
    }

    /// Waits until a partition has moved. Only the latest waiter is woken.
    pub async fn moved(&self) {
        poll_fn(|cx| {
            let mut state = self.state.lock();
            if !state.moved.is_empty() {
                return Poll::Ready(());
            }
            match &mut state.waker {
                Some(waker) => waker.clone_from(cx.waker()),
                none => *none = Some(cx.waker().clone()),
            }
            Poll::Pending
        })
        .await;
    }
}
