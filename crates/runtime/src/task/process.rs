//! Where several processes share one thread: in simulations.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::task::futures::TaskLocalFuture;
use tokio::task::{AbortHandle, LocalKey};

/// A process of a simulation. What its tasks start belongs to it: tasks, workers, and jobs that would
/// have a thread of their own. It says when they go on, and ends them all at once.
pub trait Process: Send + Sync + 'static {
    /// A task of it was started. It is to be aborted when the process ends.
    fn note(&self, task: AbortHandle);

    /// Ready while its tasks may go on; wakes when they may again.
    fn poll_runnable(&self, cx: &mut Context<'_>) -> Poll<()>;

    /// How long a job on a thread takes until it is done, and after that until this is known.
    fn job_takes(&self) -> (Duration, Duration);

    /// A thread with a runtime of its own: a part of the process that ends before it, or with it.
    fn thread(&self) -> Arc<dyn Process>;

    /// Aborts all its tasks.
    fn end(&self);
}

tokio::task_local! {
    static CURRENT: Arc<dyn Process>;
}

/// The process of the task that this is called from; `None` outside of simulations.
pub(super) fn current() -> Option<Arc<dyn Process>> {
    CURRENT.try_with(Arc::clone).ok()
}

/// A task's future, as part of its process.
pub(super) fn within<F: Future>(
    process: Arc<dyn Process>,
    future: F,
) -> TaskLocalFuture<Arc<dyn Process>, Resident<F>> {
    let resident = Resident { process: process.clone(), future: Box::pin(future) };
    LocalKey::scope(&CURRENT, process, resident)
}

pub(super) struct Resident<F> {
    process: Arc<dyn Process>,
    future: Pin<Box<F>>,
}

impl<F: Future> Future for Resident<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        ready!(self.process.poll_runnable(cx));
        self.future.as_mut().poll(cx)
    }
}
