//! A process of a simulation: it can be stopped, slowed down and killed.

use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use ottla_runtime::task::{AbortHandle, Process};
use parking_lot::Mutex;

use crate::Dice;

/// One of this many jobs takes a while.
const LONG_JOBS: u64 = 4;

/// A process whose threads are one with those of all others. It is told apart from them by its tasks:
/// whatever [`ottla_runtime::Spawner::of`] it starts, and whatever that starts.
pub struct FakeProcess {
    scheduling: Arc<Mutex<Scheduling>>,
    own: Mutex<Own>,
}

/// How the process and all its threads go on.
struct Scheduling {
    dice: Dice,
    is_stopped: bool,
    waiting: Vec<Waker>,
    job_max: Duration,
}

/// What ends with a process, or with a thread of it.
#[derive(Default)]
struct Own {
    has_ended: bool,
    tasks: Vec<AbortHandle>,
    threads: Vec<Weak<FakeProcess>>,
    /// So many tasks there may be before those that have ended are forgotten.
    room: usize,
}

impl FakeProcess {
    /// A process whose jobs on threads take up to `job_max`, as `seed` decides.
    #[must_use]
    pub fn new(seed: u64, job_max: Duration) -> Arc<Self> {
        let (dice, waiting) = (Dice::new(seed), Vec::new());
        let scheduling = Scheduling { dice, is_stopped: false, waiting, job_max };
        Arc::new(Self { scheduling: Arc::new(Mutex::new(scheduling)), own: Mutex::default() })
    }

    /// Lets none of its tasks go on (SIGSTOP).
    pub fn stop(&self) {
        self.scheduling.lock().is_stopped = true;
    }

    /// Lets all go on (SIGCONT).
    pub fn go_on(&self) {
        let mut scheduling = self.scheduling.lock();
        scheduling.is_stopped = false;
        let waiting = std::mem::take(&mut scheduling.waiting);
        drop(scheduling);
        waiting.into_iter().for_each(Waker::wake);
    }

    /// From here on a job on a thread takes up to `job_max`: the disk is slow, or the machine is.
    pub fn set_job_max(&self, job_max: Duration) {
        self.scheduling.lock().job_max = job_max;
    }
}

impl Process for FakeProcess {
    fn note(&self, task: AbortHandle) {
        let mut own = self.own.lock();
        if own.has_ended {
            task.abort();
            return;
        }
        own.tasks.push(task);
        if own.tasks.len() > own.room {
            own.tasks.retain(|task| !task.is_finished());
            own.threads.retain(|thread| thread.strong_count() > 0);
            own.room = 2 * own.tasks.len().max(32);
        }
    }

    fn poll_runnable(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut scheduling = self.scheduling.lock();
        if !scheduling.is_stopped {
            return Poll::Ready(());
        }
        scheduling.waiting.push(cx.waker().clone());
        Poll::Pending
    }

    fn job_takes(&self) -> (Duration, Duration) {
        let Scheduling { dice, job_max, .. } = &mut *self.scheduling.lock();
        let most_us = job_max.as_micros() as u64 + 1;
        let mut draw = || match dice.roll(LONG_JOBS) {
            0 => Duration::from_micros(dice.roll(most_us)),
            _ => Duration::ZERO,
        };
        (draw(), draw())
    }

    fn thread(&self) -> Arc<dyn Process> {
        let scheduling = Arc::clone(&self.scheduling);
        let thread = Arc::new(Self { scheduling, own: Mutex::default() });
        self.own.lock().threads.push(Arc::downgrade(&thread));
        thread
    }

    fn end(&self) {
        let mut own = self.own.lock();
        own.has_ended = true;
        let (tasks, threads) = (std::mem::take(&mut own.tasks), std::mem::take(&mut own.threads));
        drop(own);
        tasks.iter().for_each(AbortHandle::abort);
        threads.iter().filter_map(Weak::upgrade).for_each(|thread| thread.end());
    }
}
