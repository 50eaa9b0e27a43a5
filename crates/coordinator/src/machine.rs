//! What a replicated machine is.

use std::error::Error;
use std::sync::Arc;

/// A state machine whose persistent state is what the records of one partition say.
///
/// It decides and never acts: it has no clock, no log and no tasks. Requests are named by tokens;
/// a request whose token is not among the answers is parked, and a later output answers it.
pub trait Machine: Send + Sized + 'static {
    /// What it is asked.
    type Request<'a>;
    /// What it answers.
    type Response: Send + 'static;

    /// Handles a request named `token`, which is never used again.
    fn handle(
        &mut self,
        now: Now,
        token: u64,
        request: Self::Request<'_>,
    ) -> Output<Self::Response>;

    /// When a timer is due next, in milliseconds of elapsed time.
    fn next_deadline_ms(&self) -> Option<u64>;

    /// Handles one timer that is due; `None` if none is.
    fn handle_timer(&mut self, now: Now) -> Option<Output<Self::Response>>;

    /// Applies a record: the only way in which persistent state changes, on loading as well as
    /// when the record was just appended.
    ///
    /// # Errors
    /// The record is not what it claims to be; nothing changed.
    fn replay(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), Box<dyn Error>>;

    /// Everything in the log has been replayed; the machine begins its work.
    fn handle_loaded(&mut self, now: Now) -> Output<Self::Response>;

    /// Ends the machine and answers what is parked: this broker does not coordinate any more.
    fn unload(self) -> Vec<(u64, Self::Response)>;

    /// Turns an answer that cannot be given into the error that says so.
    fn fail(response: &mut Self::Response, failure: Failure);
}

/// The moment of an event.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Milliseconds of a clock that never goes back.
    pub elapsed_ms: u64,
    /// Milliseconds since 1970-01-01 UTC.
    pub wall_ms: i64,
    /// The largest batch that the log takes.
    pub batch_bytes_max: usize,
}

/// What an event leads to.
#[derive(Debug)]
pub struct Output<R> {
    /// Keys and values; a value of `None` is a tombstone. They are appended as one batch and
    /// replayed before anything else is handled.
    pub records: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// Answers, by token, to be given once the records are committed.
    pub answers: Vec<(u64, R)>,
    /// The answers tell of records that were appended earlier: they wait for those to be
    /// committed.
    pub reads: bool,
    /// What happened to what, for the server's log.
    pub notes: Vec<(Arc<str>, String)>,
}

/// Why an answer that waited for its records cannot be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The records were not committed in time. They still may be.
    TimedOut,
    /// The records were not appended, or this broker does not coordinate any more.
    NotCoordinator,
}
