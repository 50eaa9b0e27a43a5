//! Runtimes, their threads, and tasks.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::thread::JoinHandle;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;

/// Starts tasks on one runtime.
#[derive(Clone, Debug)]
pub struct Spawner(Handle);

impl Spawner {
    /// The runtime that this is called on.
    ///
    /// # Panics
    /// When called outside of a runtime.
    #[must_use]
    pub fn current() -> Self {
        Self(Handle::current())
    }

    /// Starts `future`. Dropping the [`Task`] ends it.
    pub fn spawn<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Task<T> {
        Task(self.0.spawn(future))
    }

    /// Starts `future` and lets it go on to its own end.
    pub fn detach(&self, future: impl Future<Output = ()> + Send + 'static) {
        drop(self.0.spawn(future));
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
        let runtime = single_threaded()?;
        let spawner = Spawner(runtime.handle().clone());
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
/// for work that blocks, such as fsync, cold reads and directory scans.
pub async fn blocking<T: Send + 'static>(
    name: &str,
    job: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let (done, result) = oneshot::channel();
    std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        let _ = done.send(job());
    })?;
    result.await.map_err(|_| io::Error::other("the thread ended without a result"))
}

/// Runs each of `jobs` on a thread of its own called `name` and waits for all of them: for a caller
/// that may block.
pub fn run_all(name: &str, jobs: Vec<impl FnOnce() + Send>) -> io::Result<()> {
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
