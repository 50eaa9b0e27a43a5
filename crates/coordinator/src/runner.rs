//! The runner of one machine: keeps it and its log in step, and answers when it may.
//!
//! For every output the order is: append, replay, wait until committed, answer. If an append
//! fails, machine and log no longer agree: the machine is dropped, everyone who waits is told that
//! this is not the coordinator, and the runner asks to be loaded again.

use std::collections::{BTreeMap, VecDeque};
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ottla_record::{
    BatchBuilder, BatchOptions, Codec, MalformedRecords, Offset, Timestamp, batches,
};
use ottla_runtime::Clock;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use crate::log::{AppendError, ReadError, StateLog};
use crate::machine::{Failure, Machine, Now, Output};

/// How a runner treats its log.
#[derive(Clone, Copy, Debug)]
pub struct RunnerConfig {
    /// `offsets.commit.timeout.ms`: how long an answer waits for its records to be committed.
    pub commit_timeout_ms: u64,
    /// `offsets.topic.compression.codec`
    pub codec: Codec,
    /// `offsets.load.buffer.size`: how many bytes are read at once while loading.
    pub load_bytes: usize,
    /// The most bytes that one batch may unpack to while loading.
    pub unpacked_bytes_max: usize,
}

/// Wakes whoever drives runners, when one has work earlier than it was going to look.
#[derive(Debug)]
pub struct Wake {
    notify: Notify,
    scheduled_ms: AtomicU64,
}

impl Default for Wake {
    fn default() -> Self {
        Self { notify: Notify::new(), scheduled_ms: AtomicU64::new(u64::MAX) }
    }
}

impl Wake {
    /// Waits until a runner has work before the deadline of the last round.
    pub async fn woken(&self) {
        self.notify.notified().await;
    }

    /// There is something to do at once.
    pub(crate) fn wake(&self) {
        self.notify.notify_one();
    }

    /// A round begins: whatever comes up from here on is news.
    pub(crate) fn begin_round(&self) {
        self.scheduled_ms.store(u64::MAX, Ordering::SeqCst);
    }

    /// The round ends, and the driver will sleep until `next_ms`.
    pub(crate) fn end_round(&self, next_ms: Option<u64>) {
        self.scheduled_ms.fetch_min(next_ms.unwrap_or(u64::MAX), Ordering::SeqCst);
    }

    fn wake_for(&self, next_ms: Option<u64>) {
        if let Some(next_ms) = next_ms
            && next_ms < self.scheduled_ms.load(Ordering::SeqCst)
        {
            self.scheduled_ms.fetch_min(next_ms, Ordering::SeqCst);
            self.wake();
        }
    }
}

/// The answer to a request.
#[derive(Debug)]
pub enum Answer<R> {
    /// It is here.
    Ready(R),
    /// It will come; the runner answers everything that it accepted.
    Pending(oneshot::Receiver<R>),
}

/// Why a request was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unavailable {
    /// The machine is being loaded.
    Loading,
    /// The log could not be loaded.
    LoadFailed,
    /// This broker does not coordinate the partition any more.
    Resigned,
}

/// Runs the machine of one partition.
pub struct Runner<M: Machine> {
    name: String,
    config: RunnerConfig,
    log: Arc<dyn StateLog>,
    clock: Arc<dyn Clock>,
    wake: Arc<Wake>,
    new_machine: Box<dyn Fn() -> M + Send + Sync>,
    phase: Mutex<Phase<M>>,
}

enum Phase<M: Machine> {
    Loading,
    LoadFailed,
    Active(Active<M>),
    Resigned,
}

struct Active<M: Machine> {
    machine: M,
    /// The token of the last request.
    token: u64,
    waiting: Waiting<M::Response>,
    /// Answers that wait for everything below an offset to be committed, in the order of offsets.
    uncommitted: VecDeque<Uncommitted<M::Response>>,
    /// The LEO behind the last append.
    appended: Offset,
}

/// Who waits for the answer to which token.
type Waiting<R> = BTreeMap<u64, oneshot::Sender<R>>;

struct Uncommitted<R> {
    end: Offset,
    deadline_ms: u64,
    answers: Vec<(u64, R)>,
}

impl<M: Machine> Phase<M> {
    fn next_deadline_ms(&self) -> Option<u64> {
        let Self::Active(active) = self else { return None };
        let timeout_ms = active.uncommitted.front().map(|first| first.deadline_ms);
        active.machine.next_deadline_ms().into_iter().chain(timeout_ms).min()
    }
}

/// The answers that one entry into the runner brings about.
struct Round<R> {
    /// The request that is being handled; 0 if none is.
    asked: u64,
    answer: Option<R>,
    others: Vec<(oneshot::Sender<R>, R)>,
}

impl<R> Round<R> {
    fn new() -> Self {
        Self { asked: 0, answer: None, others: Vec::new() }
    }

    fn give(&mut self, waiting: &mut Waiting<R>, token: u64, response: R) {
        if token == self.asked {
            self.answer = Some(response);
        } else if let Some(sender) = waiting.remove(&token) {
            self.others.push((sender, response));
        }
    }

    /// Wakes those who waited. To be called without the lock.
    fn send(self) -> Option<R> {
        for (sender, response) in self.others {
            // Whoever does not wait any more has closed its connection.
            let _ = sender.send(response);
        }
        self.answer
    }
}

/// Machine and log do not agree any more. Holds the answers that the failed records would have had.
struct Broken<R> {
    reason: Box<dyn Error>,
    is_leader: bool,
    answers: Vec<(u64, R)>,
}

impl<M: Machine> Runner<M> {
    /// A runner of the partition `name`, such as `__consumer_offsets-7`. It accepts nothing until
    /// [`Runner::load`].
    pub fn new(
        name: String,
        config: RunnerConfig,
        log: Arc<dyn StateLog>,
        clock: Arc<dyn Clock>,
        wake: Arc<Wake>,
        new_machine: impl Fn() -> M + Send + Sync + 'static,
    ) -> Self {
        let new_machine = Box::new(new_machine);
        Self { name, config, log, clock, wake, new_machine, phase: Mutex::new(Phase::Loading) }
    }

    /// Replays the log from its start to its end into a new machine, which then accepts requests.
    /// It blocks on the disk. Nothing happens if the runner is not waiting to be loaded.
    ///
    /// # Errors
    /// The log cannot be read or understood. It may be tried again.
    pub fn load(&self) -> Result<(), LoadError> {
        if !self.needs_load() {
            return Ok(());
        }
        let loaded = replay_log(&*self.log, &self.config, (self.new_machine)());
        let mut phase = self.phase.lock();
        if !matches!(*phase, Phase::Loading | Phase::LoadFailed) {
            return Ok(());
        }
        let (mut machine, records) = loaded.inspect_err(|_| *phase = Phase::LoadFailed)?;
        tracing::info!(partition = self.name, records, "loaded");
        let now = self.now();
        let output = machine.handle_loaded(now);
        *phase = Phase::Active(Active {
            machine,
            token: 0,
            waiting: BTreeMap::new(),
            uncommitted: VecDeque::new(),
            appended: self.log.end_offset(),
        });
        let mut round = Round::new();
        self.turn(&mut phase, now, Some(output), &mut round);
        self.wake.wake_for(phase.next_deadline_ms());
        drop(phase);
        round.send();
        Ok(())
    }

    /// Whether [`Runner::load`] has something to do.
    pub fn needs_load(&self) -> bool {
        matches!(*self.phase.lock(), Phase::Loading | Phase::LoadFailed)
    }

    /// Hands a request to the machine.
    ///
    /// # Errors
    /// There is no machine at present; the request was not looked at.
    pub fn handle(&self, request: M::Request<'_>) -> Result<Answer<M::Response>, Unavailable> {
        let mut phase = self.phase.lock();
        let active = match &mut *phase {
            Phase::Active(active) => active,
            Phase::Loading => return Err(Unavailable::Loading),
            Phase::LoadFailed => return Err(Unavailable::LoadFailed),
            Phase::Resigned => return Err(Unavailable::Resigned),
        };
        active.token += 1;
        let token = active.token;
        let mut round = Round { asked: token, ..Round::new() };
        let now = self.now();
        let output = active.machine.handle(now, token, request);
        self.turn(&mut phase, now, Some(output), &mut round);
        self.wake.wake_for(phase.next_deadline_ms());

        let pending = round.answer.is_none().then(oneshot::channel);
        let pending = pending.map(|(sender, receiver)| {
            if let Phase::Active(active) = &mut *phase {
                active.waiting.insert(token, sender);
            }
            receiver
        });
        drop(phase);
        let answer = round.send();
        Ok(match pending {
            Some(receiver) => Answer::Pending(receiver),
            None => answer.map_or_else(|| Answer::Pending(oneshot::channel().1), Answer::Ready),
        })
    }

    /// Does what is due, and returns when something will be next, in milliseconds of elapsed time.
    pub fn fire(&self) -> Option<u64> {
        let mut round = Round::new();
        let mut phase = self.phase.lock();
        let now = self.now();
        if let Phase::Active(active) = &mut *phase {
            while let Some(late) =
                active.uncommitted.pop_front_if(|first| first.deadline_ms <= now.elapsed_ms)
            {
                tracing::warn!(partition = self.name, end = %late.end, "not committed in time");
                for (token, mut response) in late.answers {
                    M::fail(&mut response, Failure::TimedOut);
                    round.give(&mut active.waiting, token, response);
                }
            }
        }
        self.turn(&mut phase, now, None, &mut round);
        let next_ms = phase.next_deadline_ms();
        drop(phase);
        round.send();
        next_ms
    }

    /// Gives the answers whose records are committed by now.
    pub fn advance(&self) {
        let mut round = Round::new();
        let mut phase = self.phase.lock();
        if let Phase::Active(active) = &mut *phase {
            let committed = self.log.committed();
            while let Some(first) = active.uncommitted.pop_front_if(|first| first.end <= committed)
            {
                for (token, response) in first.answers {
                    round.give(&mut active.waiting, token, response);
                }
            }
            if let Some(first) = active.uncommitted.front() {
                self.log.watch_committed(first.end);
            }
        }
        drop(phase);
        round.send();
    }

    /// Ends the coordination of the partition: whoever waits is told so.
    pub fn resign(&self) {
        let mut round = Round::new();
        let mut phase = self.phase.lock();
        end(&mut phase, Phase::Resigned, Vec::new(), &mut round);
        drop(phase);
        round.send();
    }

    fn now(&self) -> Now {
        Now {
            elapsed_ms: self.clock.elapsed_ms(),
            wall_ms: self.clock.wall_ms(),
            batch_bytes_max: self.log.batch_bytes_max(),
        }
    }

    /// Performs the output of an event, then everything that timers have due.
    fn turn(
        &self,
        phase: &mut Phase<M>,
        now: Now,
        output: Option<Output<M::Response>>,
        round: &mut Round<M::Response>,
    ) {
        let Phase::Active(active) = phase else { return };
        let mut next = output.or_else(|| active.machine.handle_timer(now));
        while let Some(output) = next {
            if let Err(broken) = self.perform(active, now, output, round) {
                let Broken { reason, is_leader, answers } = broken;
                tracing::error!(partition = self.name, %reason, "the machine is dropped");
                let then = if is_leader { Phase::Loading } else { Phase::Resigned };
                end(phase, then, answers, round);
                self.wake.wake();
                return;
            }
            next = active.machine.handle_timer(now);
        }
    }

    /// Appends, replays, and gives the answers now or once they may be given.
    fn perform(
        &self,
        active: &mut Active<M>,
        now: Now,
        output: Output<M::Response>,
        round: &mut Round<M::Response>,
    ) -> Result<(), Broken<M::Response>> {
        let Output { records, answers, reads, notes } = output;
        for (subject, note) in notes {
            tracing::info!(partition = self.name, %subject, note);
        }
        if !records.is_empty() {
            match self.log.append(self.batch(now, &records)) {
                Ok(end) => active.appended = end,
                Err(error) => {
                    let is_leader = !matches!(error, AppendError::NotLeader);
                    return Err(Broken { reason: error.into(), is_leader, answers });
                }
            }
            for (key, value) in &records {
                if let Err(reason) = active.machine.replay(key, value.as_deref()) {
                    return Err(Broken { reason, is_leader: true, answers });
                }
            }
        }
        let is_committed = active.uncommitted.is_empty() && self.log.committed() >= active.appended;
        if is_committed || (records.is_empty() && !reads) {
            for (token, response) in answers {
                round.give(&mut active.waiting, token, response);
            }
        } else if !answers.is_empty() {
            let deadline_ms = now.elapsed_ms.saturating_add(self.config.commit_timeout_ms);
            let end = active.appended;
            if active.uncommitted.is_empty() {
                self.log.watch_committed(end);
            }
            active.uncommitted.push_back(Uncommitted { end, deadline_ms, answers });
        }
        Ok(())
    }

    fn batch(&self, now: Now, records: &[(Vec<u8>, Option<Vec<u8>>)]) -> Vec<u8> {
        let options = BatchOptions { codec: self.config.codec, ..BatchOptions::default() };
        let mut batch = BatchBuilder::new(options);
        for (key, value) in records {
            batch.append(Timestamp(now.wall_ms), Some(key), value.as_deref(), &[]);
        }
        batch.build()
    }
}

/// Ends the machine, if there is one. `answers` are answers that cannot be given any more.
fn end<M: Machine>(
    phase: &mut Phase<M>,
    then: Phase<M>,
    answers: Vec<(u64, M::Response)>,
    round: &mut Round<M::Response>,
) {
    let Phase::Active(active) = std::mem::replace(phase, then) else { return };
    let Active { machine, mut waiting, uncommitted, .. } = active;
    let lost = answers.into_iter().chain(uncommitted.into_iter().flat_map(|u| u.answers));
    for (token, mut response) in lost {
        M::fail(&mut response, Failure::NotCoordinator);
        round.give(&mut waiting, token, response);
    }
    for (token, response) in machine.unload() {
        round.give(&mut waiting, token, response);
    }
}

/// Replays the whole log into `machine`. Returns it with the number of records.
fn replay_log<M: Machine>(
    log: &dyn StateLog,
    config: &RunnerConfig,
    mut machine: M,
) -> Result<(M, u64), LoadError> {
    let (start, end) = (log.start_offset(), log.end_offset());
    let (mut next, mut count) = (start, 0);
    let mut unpacked = Vec::new();
    while next < end {
        let bytes = log.read(next, config.load_bytes)?;
        if bytes.is_empty() {
            // Compaction took the last records below the end.
            break;
        }
        let from = next;
        for batch in batches(&bytes) {
            let batch = batch.map_err(|error| LoadError::batch(next, error))?;
            let header = batch.header();
            next = header.next_offset();
            if header.attributes().is_control() {
                continue;
            }
            if header.attributes().is_transactional() {
                return Err(LoadError::Transactional(header.base_offset()));
            }
            let malformed = |error: MalformedRecords| LoadError::batch(header.base_offset(), error);
            let records = batch.records(&mut unpacked, config.unpacked_bytes_max);
            for record in records.map_err(malformed)? {
                let record = record.map_err(malformed)?;
                if let Some(key) = record.key
                    && record.offset >= start
                {
                    let replayed = machine.replay(key, record.value);
                    replayed
                        .map_err(|error| LoadError::Record(record.offset, error.to_string()))?;
                    count += 1;
                }
            }
        }
        if next <= from {
            return Err(LoadError::batch(from, "the log does not get beyond this offset"));
        }
    }
    Ok((machine, count))
}

/// Why a machine could not be loaded.
#[derive(Debug)]
pub enum LoadError {
    /// The log could not be read.
    Read(ReadError),
    /// The batch at this offset is damaged.
    Batch(Offset, String),
    /// The record at this offset is not what its key says.
    Record(Offset, String),
    /// The batch at this offset is part of a transaction, which this version does not serve.
    Transactional(Offset),
}

impl LoadError {
    fn batch(offset: Offset, reason: impl ToString) -> Self {
        Self::Batch(offset, reason.to_string())
    }
}

impl From<ReadError> for LoadError {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(error) => write!(f, "{error}"),
            Self::Batch(offset, reason) => write!(f, "the batch at offset {offset}: {reason}"),
            Self::Record(offset, reason) => write!(f, "the record at offset {offset}: {reason}"),
            Self::Transactional(offset) => {
                write!(f, "the batch at offset {offset} commits offsets in a transaction")
            }
        }
    }
}

impl Error for LoadError {}
