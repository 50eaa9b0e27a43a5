//! Answers that are here, or will be.

use std::pin::Pin;

/// An answer that has to wait.
pub type Later<R> = Pin<Box<dyn Future<Output = R> + Send>>;

/// What a handler gets for a request.
pub enum Reply<R> {
    /// The answer.
    Done(R),
    /// The answer will come. Dropping the future does not undo the request.
    Later(Later<R>),
}

impl<R: Send + 'static> Reply<R> {
    /// The answer with `f` applied to it, now or when it is there.
    pub fn map<T: Send + 'static>(self, f: impl FnOnce(R) -> T + Send + 'static) -> Reply<T> {
        match self {
            Self::Done(answer) => Reply::Done(f(answer)),
            Self::Later(later) => Reply::Later(Box::pin(async move { f(later.await) })),
        }
    }

    /// All answers in order, once all are there.
    pub(crate) fn all(replies: Vec<Self>) -> Reply<Vec<R>> {
        let mut done = Vec::with_capacity(replies.len());
        let mut replies = replies.into_iter();
        for reply in replies.by_ref() {
            match reply {
                Self::Done(answer) => done.push(answer),
                Self::Later(later) => {
                    return Reply::Later(Box::pin(async move {
                        done.push(later.await);
                        for reply in replies {
                            done.push(reply.ready().await);
                        }
                        done
                    }));
                }
            }
        }
        Reply::Done(done)
    }

    /// The answer, waited for if need be.
    pub async fn ready(self) -> R {
        match self {
            Self::Done(answer) => answer,
            Self::Later(later) => later.await,
        }
    }
}

impl<R> std::fmt::Debug for Reply<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Done(_) => "Done(..)",
            Self::Later(_) => "Later(..)",
        })
    }
}
