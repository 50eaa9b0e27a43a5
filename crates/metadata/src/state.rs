//! The state of the session that there is, for all who look at it.

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::tree::{SessionId, SessionState};

/// What is known about the present session. What is told of a former one is not heard any more.
#[derive(Debug)]
pub(crate) struct State {
    session: Mutex<SessionId>,
    state: watch::Sender<SessionState>,
}

impl State {
    /// A session that is connected.
    pub(crate) fn of(session: SessionId) -> Self {
        let (state, _) = watch::channel(SessionState::Connected);
        Self { session: Mutex::new(session), state }
    }

    pub(crate) fn session(&self) -> SessionId {
        *self.session.lock()
    }

    pub(crate) fn get(&self) -> SessionState {
        *self.state.borrow()
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<SessionState> {
        self.state.subscribe()
    }

    /// Another session begins.
    pub(crate) fn renew(&self, session: SessionId) {
        let mut present = self.session.lock();
        *present = session;
        self.state.send_replace(SessionState::Connected);
    }

    /// Notes what is known of `session`, unless another one has begun or its end is known already.
    pub(crate) fn note(&self, session: SessionId, state: SessionState) {
        let present = self.session.lock();
        if *present == session {
            self.state.send_if_modified(|known| {
                let is_news = *known != state && *known != SessionState::Expired;
                if is_news {
                    *known = state;
                }
                is_news
            });
        }
    }
}
