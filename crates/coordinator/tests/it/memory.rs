//! A log in memory, a clock that is moved by hand, and random bytes that count.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ottla_coordinator::{AppendError, ReadError, StateLog};
use ottla_record::{BatchHeader, LeaderEpoch, Offset, PatchedHeader, batches};
use ottla_runtime::{Clock, Random};
use parking_lot::Mutex;

#[derive(Default)]
pub(crate) struct MemoryLog {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    bytes: Vec<u8>,
    end: Offset,
    /// How far commits are held back; `None` commits what is appended at once.
    committed: Option<Offset>,
    watched: Vec<Offset>,
    failure: Option<fn() -> AppendError>,
    reads: usize,
    batch_bytes_max: Option<usize>,
}

impl MemoryLog {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// From now on nothing is committed by itself.
    pub(crate) fn hold_commits(&self) {
        let mut state = self.state.lock();
        state.committed = Some(state.end);
    }

    pub(crate) fn commit_all(&self) {
        let mut state = self.state.lock();
        state.committed = Some(state.end);
    }

    pub(crate) fn watched(&self) -> Vec<Offset> {
        self.state.lock().watched.clone()
    }

    /// Appends fail, or work again.
    pub(crate) fn fail(&self, failure: Option<fn() -> AppendError>) {
        self.state.lock().failure = failure;
    }

    pub(crate) fn limit_batches(&self, bytes: usize) {
        self.state.lock().batch_bytes_max = Some(bytes);
    }

    pub(crate) fn reads(&self) -> usize {
        self.state.lock().reads
    }

    /// Damages the last byte of the log.
    pub(crate) fn truncate_by_one(&self) {
        self.state.lock().bytes.pop();
    }
}

impl StateLog for MemoryLog {
    fn append(&self, mut batch: Vec<u8>) -> Result<Offset, AppendError> {
        let mut state = self.state.lock();
        if let Some(failure) = state.failure {
            return Err(failure());
        }
        assert!(batch.len() <= state.batch_bytes_max.unwrap_or(usize::MAX), "the machine knows");
        let header = BatchHeader::parse(&batch).expect("a batch");
        let patched = PatchedHeader::new(&header, state.end, LeaderEpoch(3));
        let count = i64::from(header.count());
        batch[..patched.as_bytes().len()].copy_from_slice(patched.as_bytes());
        state.bytes.extend_from_slice(&batch);
        state.end = state.end + count;
        Ok(state.end)
    }

    fn batch_bytes_max(&self) -> usize {
        self.state.lock().batch_bytes_max.unwrap_or(1_048_588)
    }

    fn committed(&self) -> Offset {
        let state = self.state.lock();
        state.committed.unwrap_or(state.end)
    }

    fn watch_committed(&self, end: Offset) {
        self.state.lock().watched.push(end);
    }

    fn start_offset(&self) -> Offset {
        Offset::ZERO
    }

    fn end_offset(&self) -> Offset {
        self.state.lock().end
    }

    fn read(&self, from: Offset, bytes_max: usize) -> Result<Vec<u8>, ReadError> {
        let mut state = self.state.lock();
        state.reads += 1;
        let mut found = Vec::new();
        for batch in batches(&state.bytes) {
            let batch = batch.map_err(|error| ReadError(error.to_string().into()))?;
            if batch.header().next_offset() <= from {
                continue;
            }
            if !found.is_empty() && found.len() + batch.as_bytes().len() > bytes_max {
                break;
            }
            found.extend_from_slice(batch.as_bytes());
        }
        Ok(found)
    }
}

#[derive(Default)]
pub(crate) struct ManualClock(AtomicU64);

impl ManualClock {
    pub(crate) fn advance(&self, ms: u64) {
        self.0.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn wall_ms(&self) -> i64 {
        1_000_000 + self.0.load(Ordering::SeqCst) as i64
    }

    fn elapsed(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::SeqCst))
    }
}

#[derive(Default)]
pub(crate) struct CountingRandom(AtomicU64);

impl Random for CountingRandom {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(self.0.fetch_add(1, Ordering::SeqCst) as u8);
    }
}
