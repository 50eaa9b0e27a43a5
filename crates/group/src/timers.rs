//! Timers as data: what is due when, for all groups of one machine.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What a timer of a group is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// The join phase ends, whoever has rejoined by then.
    Join,
    /// Members that have not sent SyncGroup by then are removed.
    Sync,
    /// The member with this id was not heard of for its session timeout.
    Session(Arc<str>),
    /// The member id was handed out (KIP-394), and nobody joined with it.
    Pending(Arc<str>),
}

type Key = (Arc<str>, Timer);

/// At most one deadline for each timer of each group, in milliseconds of elapsed time.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    deadlines: BTreeMap<Key, u64>,
    /// The same deadlines in the order in which they pass.
    queue: BTreeSet<(u64, Key)>,
}

impl Timers {
    /// Sets the timer, replacing an earlier deadline of it.
    pub(crate) fn arm(&mut self, group: &Arc<str>, timer: Timer, deadline_ms: u64) {
        let key = (Arc::clone(group), timer);
        self.disarm(&key);
        self.queue.insert((deadline_ms, key.clone()));
        self.deadlines.insert(key, deadline_ms);
    }

    pub(crate) fn cancel(&mut self, group: &Arc<str>, timer: Timer) {
        self.disarm(&(Arc::clone(group), timer));
    }

    /// Takes the timer whose deadline passed first, if it is not after `now_ms`.
    pub(crate) fn take_due(&mut self, now_ms: u64) -> Option<(Arc<str>, Timer)> {
        if self.next_deadline_ms()? > now_ms {
            return None;
        }
        let (_, key) = self.queue.pop_first()?;
        self.deadlines.remove(&key);
        Some(key)
    }

    pub(crate) fn next_deadline_ms(&self) -> Option<u64> {
        self.queue.first().map(|(deadline_ms, _)| *deadline_ms)
    }

    fn disarm(&mut self, key: &Key) {
        if let Some(deadline_ms) = self.deadlines.remove(key) {
            self.queue.remove(&(deadline_ms, key.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_has_one_deadline_and_fires_once_in_order() {
        let group: Arc<str> = "g".into();
        let mut timers = Timers::default();
        timers.arm(&group, Timer::Sync, 5);
        timers.arm(&group, Timer::Join, 10);
        timers.arm(&group, Timer::Join, 3);
        timers.arm(&group, Timer::Session("m".into()), 4);
        timers.cancel(&group, Timer::Session("m".into()));
        assert_eq!(timers.next_deadline_ms(), Some(3));
        assert_eq!(timers.take_due(2), None);
        assert_eq!(timers.take_due(20), Some((Arc::clone(&group), Timer::Join)));
        assert_eq!(timers.take_due(20), Some((group, Timer::Sync)));
        assert_eq!(timers.take_due(20), None);
        assert_eq!(timers.next_deadline_ms(), None);
    }
}
