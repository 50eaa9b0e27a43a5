//! What clients asked and were answered, with times of one clock, as the judge wants it.
//!
//! Owns: when a session can have ended. Must not know: connections, faults.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ottla_fake::{Answered, Asked, Judge};

/// Since the run began.
pub(super) type Time = Duration;

/// One request of a client about a znode.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) client: usize,
    pub(super) znode: usize,
    pub(super) asked: Asked,
    pub(super) called: Time,
    /// `None` if nobody knows what became of it.
    pub(super) answer: Option<(Time, Answered)>,
}

/// What is known of a session's life.
#[derive(Clone, Debug, Default)]
pub(super) struct Life {
    /// A request that was sent then was done: at that time it lived.
    pub(super) alive: Time,
    /// The server has said then that it is over.
    pub(super) ended: Option<Time>,
}

/// All calls of a run.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    pub(super) calls: Vec<Call>,
    pub(super) lives: BTreeMap<i64, Life>,
}

impl Call {
    pub(super) fn is_unknown(&self) -> bool {
        self.answer.is_none()
    }

    /// When it was answered, if the quorum had to agree for that.
    pub(super) fn answered(&self) -> Option<Time> {
        let (time, answered) = self.answer.as_ref()?;
        (*answered != Answered::Nothing).then_some(*time)
    }
}

impl History {
    pub(super) fn append(&mut self, mut other: Self) {
        self.calls.append(&mut other.calls);
        self.lives.append(&mut other.lives);
    }

    /// A judge for each znode.
    pub(super) fn judges(&self) -> BTreeMap<usize, Judge> {
        let mut calls: BTreeMap<usize, Vec<Call>> = BTreeMap::new();
        for call in &self.calls {
            calls.entry(call.znode).or_default().push(call.clone());
        }
        calls.into_iter().map(|(znode, calls)| (znode, self.judge(calls))).collect()
    }

    fn judge(&self, mut calls: Vec<Call>) -> Judge {
        calls.extend(self.ends(&calls));
        // What happened at the same time may have happened in any order.
        let asked = calls.iter().enumerate().map(|(at, call)| (call.called, false, at));
        let answered = calls.iter().enumerate();
        let answered = answered.filter_map(|(at, call)| Some((call.answer.as_ref()?.0, true, at)));
        let mut events: Vec<_> = asked.chain(answered).collect();
        events.sort_unstable();
        let (mut judge, mut numbers) = (Judge::default(), vec![0; calls.len()]);
        for (_, is_answer, at) in events {
            match &calls[at].answer {
                Some((_, answered)) if is_answer => judge.answer(numbers[at], answered.clone()),
                _ => numbers[at] = judge.call(calls[at].asked.clone()),
            }
        }
        judge
    }

    /// The ends of those sessions that may have locked the znode. A session ends when it is closed, or
    /// the server no longer hears of it: after it was last seen alive, before the server says so, or
    /// never. If the lock was the last that it was seen to do, the end may come before, which is weak but
    /// accuses nobody: what stays of such a lock is found in the tree.
    fn ends(&self, calls: &[Call]) -> Vec<Call> {
        let holder = |call: &Call| match (&call.asked, &call.answer) {
            (&Asked::Lock(session), None | Some((_, Answered::Done))) => Some(session),
            _ => None,
        };
        let holders: BTreeSet<i64> = calls.iter().filter_map(holder).collect();
        let lives = holders.into_iter().filter_map(|id| Some((id, self.lives.get(&id)?)));
        let end = |(id, life): (i64, &Life)| Call {
            client: usize::MAX,
            znode: usize::MAX,
            asked: Asked::End(id),
            called: life.alive,
            answer: life.ended.map(|time| (time, Answered::Done)),
        };
        lives.map(end).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(ms: u64) -> Time {
        Time::from_millis(ms)
    }

    fn call(called: u64, answered: u64, asked: Asked) -> Call {
        let answer = Some((at(answered), Answered::Done));
        Call { client: 0, znode: 0, asked, called: at(called), answer }
    }

    /// Two sessions hold the lock one after the other; what the first is known of its life decides.
    fn is_right(alive: u64, ended: Option<u64>) -> bool {
        let calls = vec![
            call(0, 1, Asked::Create(1)),
            call(2, 3, Asked::Lock(7)),
            call(10, 12, Asked::Lock(8)),
        ];
        let first = Life { alive: at(alive), ended: ended.map(at) };
        let second = Life { alive: at(10), ended: None };
        let lives = BTreeMap::from([(7, first), (8, second)]);
        History { calls, lives }.judges()[&0].is_linearizable()
    }

    #[test]
    fn a_lock_passes_on_only_when_its_holder_can_be_dead() {
        assert!(is_right(2, None), "its session expired at some time");
        assert!(is_right(11, None), "it lived until the lock was taken");
        assert!(!is_right(13, None), "it lived after that");
        assert!(is_right(2, Some(5)));
        assert!(!is_right(13, Some(20)));
    }

    #[test]
    fn a_lock_does_not_outlive_what_the_server_said_of_its_session() {
        let mut calls = vec![call(0, 1, Asked::Create(1)), call(2, 3, Asked::Lock(7))];
        let mut refused = call(10, 12, Asked::Lock(8));
        refused.answer = Some((at(12), Answered::NodeExists));
        calls.push(refused);
        let judged = |ended: u64| {
            let life = Life { alive: at(4), ended: Some(at(ended)) };
            let lives = BTreeMap::from([(7, life)]);
            let history = History { calls: calls.clone(), lives };
            history.judges()[&0].is_linearizable()
        };
        assert!(judged(11));
        assert!(!judged(9));
    }

    #[test]
    fn calls_at_the_same_time_have_no_order() {
        let mut read = call(1, 5, Asked::Read);
        read.answer = Some((at(5), Answered::Found(None)));
        let calls = vec![call(0, 1, Asked::Create(1)), read];
        assert!(History { calls, ..History::default() }.judges()[&0].is_linearizable());
    }
}
