//! Incremental fetch sessions (KIP-227): the broker remembers what a client fetches, so that
//! requests and responses name only what changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::fetch::plan::Plan;

/// A session's plan. One request at a time has it.
pub(crate) struct Session {
    pub(crate) plan: Plan,
    /// The epoch that the next request must bear.
    next_epoch: i32,
}

impl Session {
    /// A plan for one request, which no later one can resume.
    pub(crate) fn unnamed(plan: Plan) -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Self { plan, next_epoch: 0 }))
    }
}

/// Why a request is not part of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SessionError {
    /// The session was evicted, or belongs to an earlier life of this broker.
    NotFound,
    /// The request is not the one that follows.
    InvalidEpoch,
}

/// The sessions of a node, at most `max.incremental.fetch.session.cache.slots`.
pub(crate) struct SessionCache {
    slots: usize,
    sessions: Mutex<Sessions>,
}

#[derive(Default)]
struct Sessions {
    by_id: BTreeMap<i32, Slot>,
    /// Counts uses, to know which session was used longest ago.
    clock: u64,
}

struct Slot {
    session: Arc<Mutex<Session>>,
    used: u64,
}

/// A session whose client was silent for so many uses of others may be evicted for a new one.
const EVICTABLE_AFTER_USES: u64 = 1000;

impl SessionCache {
    pub(crate) fn new(slots: usize) -> Self {
        Self { slots, sessions: Mutex::default() }
    }

    /// Opens a session over `plan` and returns its id; 0, and the plan back, if there is no room.
    pub(crate) fn open(&self, plan: Plan, random: u64) -> (i32, Arc<Mutex<Session>>) {
        let session = Arc::new(Mutex::new(Session { plan, next_epoch: 1 }));
        let mut sessions = self.sessions.lock();
        if !sessions.make_room(self.slots) {
            return (0, session);
        }
        // Random, so that a client of an earlier life does not meet another's session.
        let mut id = (random as i32 & i32::MAX).max(1);
        while sessions.by_id.contains_key(&id) {
            id = id.checked_add(1).unwrap_or(1);
        }
        let used = sessions.tick();
        sessions.by_id.insert(id, Slot { session: session.clone(), used });
        (id, session)
    }

    /// The session that an incremental request belongs to.
    pub(crate) fn resume(&self, id: i32, epoch: i32) -> Result<Arc<Mutex<Session>>, SessionError> {
        let mut sessions = self.sessions.lock();
        let used = sessions.tick();
        let slot = sessions.by_id.get_mut(&id).ok_or(SessionError::NotFound)?;
        slot.used = used;
        let session = slot.session.clone();
        drop(sessions);
        let mut locked = session.lock();
        if locked.next_epoch != epoch {
            return Err(SessionError::InvalidEpoch);
        }
        locked.next_epoch = locked.next_epoch.checked_add(1).unwrap_or(1);
        drop(locked);
        Ok(session)
    }

    /// Ends a session, if there is one.
    pub(crate) fn close(&self, id: i32) {
        self.sessions.lock().by_id.remove(&id);
    }
}

impl Sessions {
    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    /// Makes room for one more; `false` if all sessions are in use.
    fn make_room(&mut self, slots: usize) -> bool {
        if self.by_id.len() < slots {
            return true;
        }
        let oldest = self.by_id.iter().min_by_key(|(_, slot)| slot.used);
        match oldest.map(|(&id, slot)| (id, self.clock - slot.used)) {
            Some((id, unused)) if unused >= EVICTABLE_AFTER_USES => {
                self.by_id.remove(&id);
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_follow_each_other_and_a_closed_session_is_not_found() {
        let cache = SessionCache::new(10);
        let (id, _) = cache.open(Plan::new(), 7);
        assert!(id > 0);
        assert!(cache.resume(id, 1).is_ok());
        assert_eq!(cache.resume(id, 1).err(), Some(SessionError::InvalidEpoch));
        assert!(cache.resume(id, 2).is_ok());
        cache.close(id);
        assert_eq!(cache.resume(id, 3).err(), Some(SessionError::NotFound));
    }

    #[test]
    fn a_full_cache_keeps_who_is_active_and_lets_go_who_is_not() {
        let cache = SessionCache::new(2);
        let (first, _) = cache.open(Plan::new(), 1);
        let (second, _) = cache.open(Plan::new(), 1);
        assert_ne!(first, second);
        assert_eq!(cache.open(Plan::new(), 5).0, 0);
        for epoch in 1..=EVICTABLE_AFTER_USES as i32 {
            cache.resume(second, epoch).unwrap();
        }
        assert_ne!(cache.open(Plan::new(), 5).0, 0);
        assert_eq!(cache.resume(first, 1).err(), Some(SessionError::NotFound));
    }
}
