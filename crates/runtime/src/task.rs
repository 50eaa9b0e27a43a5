//! Runtimes, their threads, and tasks.
//!
//! In a simulation all threads of all processes are one: there, a [`Process`] stands around the
//! tasks of each, whatever they start belongs to it too, and jobs that block run in their turn.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;

use crate::time;

mod process;

pub use process::Process;
use process::{current, within};
pub use tokio::task::AbortHandle;

/// Starts tasks on one runtime.
#[derive(Clone)]
pub struct Spawner {
    runtime: Handle,
    process: Option<Arc<dyn Process>>,
}

impl Spawner {
    /// The runtime that this is called on, and in a simulation the process.
    ///
    /// # Panics
    /// When called outside of a runtime.
    #[must_use]
    pub fn current() -> Self {
        Self { runtime: Handle::current(), process: current() }
    }

    /// The runtime that this is called on, for the tasks of `process`.
    ///
    /// # Panics
    /// When called outside of a runtime.
    #[must_use]
    pub fn of(process: Arc<dyn Process>) -> Self {
        Self { runtime: Handle::current(), process: Some(process) }
    }

    /// Starts `future`. Dropping the [`Task`] ends it.
    pub fn spawn<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Task<T> {
        Task(self.start(future))
    }

    /// Starts `future` and lets it go on to its own end.
    pub fn detach(&self, future: impl Future<Output = ()> + Send + 'static) {
        drop(self.start(future));
    }

    fn start<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        let Some(process) = &self.process else { return self.runtime.spawn(future) };
        let task = self.runtime.spawn(within(process.clone(), future));
        process.note(task.abort_handle());
        task
    }
}

impl std::fmt::Debug for Spawner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Spawner").field(&self.runtime.id()).finish()
    }
}

/// A running task. Dropping it ends the task at its next await.
#[derive(Debug)]
pub struct Task<T>(tokio::task::JoinHandle<T>);

impl<T> Task<T> {
    /// Whether it has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.0.is_finished()
    }
}

impl<T> Future for Task<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        Pin::new(&mut self.0).poll(cx).map(|result| match result {
            Ok(output) => output,
            // Only dropping the handle aborts a task: what is left is its panic, or its runtime's end.
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => panic!("the runtime of an awaited task was stopped"),
            },
        })
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A thread with a runtime of its own. Dropping it stops the runtime and waits for the thread.
#[derive(Debug)]
pub struct Worker {
    spawner: Spawner,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts a thread called `name`.
    pub fn start(name: &str) -> io::Result<Self> {
        if let Some(process) = current() {
            let spawner = Spawner::of(process.thread());
            return Ok(Self { spawner, stop: None, thread: None });
        }
        let runtime = single_threaded()?;
        let spawner = Spawner { runtime: runtime.handle().clone(), process: None };
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .stack_size(1024 * 1024)
            .spawn(move || {
                let _ = runtime.block_on(stopped);
            })?;
        Ok(Self { spawner, stop: Some(stop), thread: Some(thread) })
    }

    /// Starts tasks on this worker.
    #[must_use]
    pub fn spawner(&self) -> &Spawner {
        &self.spawner
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Some(process) = &self.spawner.process {
            process.end();
        }
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the worker was reported where it happened.
            let _ = thread.join();
        }
    }
}

/// Runs `future` on a runtime of the calling thread.
pub fn block_on<F: Future>(future: F) -> io::Result<F::Output> {
    Ok(single_threaded()?.block_on(future))
}

/// Runs `job` on a thread of its own called `name` and waits for it without blocking the runtime:
/// for work that blocks, such as fsync, cold reads and directory scans. Whoever does not wait any
/// more does not end the job.
pub async fn blocking<T: Send + 'static>(
    name: &str,
    job: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let (done, result) = oneshot::channel();
    match current() {
        Some(process) => Spawner::of(process).detach(async move {
            let _ = done.send(occupy(job).await);
        }),
        None => {
            std::thread::Builder::new().name(name.to_owned()).spawn(move || {
                let _ = done.send(job());
            })?;
        }
    }
    result.await.map_err(|_| io::Error::other("the thread ended without a result"))
}

/// Runs `job`, which blocks, on the present worker: for one that does nothing else meanwhile.
pub async fn occupy<T>(job: impl FnOnce() -> T) -> T {
    let Some(process) = current() else { return job() };
    let (until_done, until_known) = process.job_takes();
    // Even a sleep of no time waits for the runtime's next turn.
    if !until_done.is_zero() {
        time::sleep(until_done).await;
    }
    let done = job();
    if !until_known.is_zero() {
        time::sleep(until_known).await;
    }
    done
}

/// Blocks the present thread for `duration`, within a job. In a simulation the job goes on at once.
#[expect(clippy::disallowed_methods, reason = "this is the door")]
pub fn pause(duration: Duration) {
    if current().is_none() {
        std::thread::sleep(duration);
    }
}

/// Runs each of `jobs` on a thread of its own called `name` and waits for all of them: for a caller
/// that may block.
pub fn run_all(name: &str, jobs: Vec<impl FnOnce() + Send>) -> io::Result<()> {
    if current().is_some() {
        jobs.into_iter().for_each(|job| job());
        return Ok(());
    }
    std::thread::scope(|scope| {
        jobs.into_iter().try_for_each(|job| {
            std::thread::Builder::new().name(name.to_owned()).spawn_scoped(scope, job).map(drop)
        })
    })
}

/// Lets other tasks of the runtime run first.
pub async fn yield_now() {
    tokio::task::yield_now().await;
}

/// How many threads can run at once.
#[must_use]
pub fn available_parallelism() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn single_threaded() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}
