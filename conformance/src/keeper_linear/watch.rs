//! Looks at the keepers all the time: who leads, in which term, and when nobody did.
//!
//! Owns: what was seen. It asks as a tool does, where voters listen for each other, so that it sees a
//! keeper that clients are cut off from. Must not know: faults.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use ottla_keeper::shell::tool;
use ottla_runtime::{World, task, time};

use super::history::Time;
use super::network;
use crate::Outcome;

/// Between two looks at a keeper.
const INTERVAL: Duration = Duration::from_millis(25);
/// A keeper that does not answer within that time is not seen.
const PATIENCE: Duration = Duration::from_millis(250);
/// What was seen longer ago is not known any more.
const FRESH: Duration = Duration::from_millis(500);

/// What was seen of a keeper last.
#[derive(Clone, Copy, Debug, Default)]
struct Sight {
    at: Time,
    term: u64,
    leader: Option<usize>,
}

pub(super) struct Watch {
    begun: Instant,
    is_over: AtomicBool,
    seen: Mutex<Seen>,
}

struct Seen {
    /// From keeper 1 on.
    sights: Vec<Sight>,
    /// The terms in which somebody led.
    terms: BTreeSet<u64>,
    /// When somebody was seen to lead last, and the longest time in which nobody was.
    led: Option<Time>,
    longest: Duration,
}

impl Watch {
    pub(super) fn new(keepers: usize, begun: Instant) -> Self {
        let sights = vec![Sight::default(); keepers];
        let seen = Seen { sights, terms: BTreeSet::new(), led: None, longest: Duration::ZERO };
        Self { begun, is_over: AtomicBool::new(false), seen: Mutex::new(seen) }
    }

    /// Looks at one keeper until it is told to end.
    pub(super) fn look_at(&self, keeper: usize) -> Outcome<()> {
        let (address, network) = (network::peer(keeper).to_string(), World::system().network);
        task::block_on(async {
            while !self.is_over.load(Ordering::Relaxed) {
                let told = time::timeout(PATIENCE, tool::describe(&*network, &address)).await;
                if let Ok(Ok(told)) = told {
                    let leader = told.leader.and_then(|id| usize::try_from(id).ok());
                    self.note(keeper, Sight { at: self.begun.elapsed(), term: told.term, leader });
                }
                time::sleep(INTERVAL).await;
            }
        })?;
        Ok(())
    }

    pub(super) fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    fn note(&self, keeper: usize, sight: Sight) {
        let mut seen = self.lock();
        if sight.leader == Some(keeper) {
            if let Some(led) = seen.led {
                seen.longest = seen.longest.max(sight.at.saturating_sub(led));
            }
            seen.led = Some(sight.at);
            seen.terms.insert(sight.term);
        }
        seen.sights[keeper - 1] = sight;
    }

    /// Who leads, in the newest term that is known.
    pub(super) fn leader(&self) -> Option<usize> {
        let (now, seen) = (self.begun.elapsed(), self.lock());
        let sights = seen.sights.iter().enumerate().map(|(at, sight)| (at + 1, sight));
        let leads = sights.filter(|(keeper, sight)| {
            sight.leader == Some(*keeper) && now.saturating_sub(sight.at) < FRESH
        });
        leads.max_by_key(|(_, sight)| sight.term).map(|(keeper, _)| keeper)
    }

    /// Whether all keepers were seen to follow one leader since then.
    pub(super) fn agree_since(&self, then: Time) -> bool {
        let seen = self.lock();
        let first = seen.sights[0];
        let agrees = |sight: &Sight| {
            sight.at > then && sight.term == first.term && sight.leader == first.leader
        };
        first.leader.is_some() && seen.sights.iter().all(agrees)
    }

    /// How often somebody else began to lead, and the longest time in which nobody was seen to.
    pub(super) fn elections(&self) -> (usize, Duration) {
        let seen = self.lock();
        (seen.terms.len().saturating_sub(1), seen.longest)
    }

    /// Waits until all follow one leader.
    pub(super) fn await_agreement(&self, patience: Duration) -> Outcome<()> {
        let then = self.begun.elapsed();
        while !self.agree_since(then) {
            if self.begun.elapsed() > then + patience {
                let seen = &self.lock().sights;
                return Err(
                    format!("no agreement on a leader within {patience:?}: {seen:?}").into()
                );
            }
            thread::sleep(INTERVAL);
        }
        Ok(())
    }

    /// Nobody panics with it in the middle of a change.
    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
