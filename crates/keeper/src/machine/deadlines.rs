//! Which sessions have been silent for too long. The leader alone asks that.

use std::collections::BTreeMap;
use std::time::Duration;

use super::command::Caller;
use super::node::SessionId;
use super::tree::Tree;

/// When sessions were last heard of, in elapsed time. A session that this has not heard of before is
/// taken as heard of now: so every session has its whole timeout with a new leader.
#[derive(Clone, Debug, Default)]
pub struct Deadlines(BTreeMap<SessionId, (i64, Duration)>);

impl Deadlines {
    /// Notes that a session was heard of.
    pub fn hear(&mut self, session: SessionId, now: Duration) {
        if let Some((_, heard)) = self.0.get_mut(&session) {
            *heard = now;
        }
    }

    /// The sessions of `tree` whose time is over; each is given its whole timeout again, for what
    /// ends it may be lost.
    pub fn overdue(&mut self, now: Duration, tree: &Tree) -> Vec<Caller> {
        let former = std::mem::take(&mut self.0);
        let mut overdue = Vec::new();
        for caller in tree.sessions() {
            let timeout =
                Duration::from_millis(tree.timeout_ms(caller.session).unwrap_or(0).into());
            // A session that was attached anew was heard of then.
            let known = former.get(&caller.session).filter(|(at, _)| *at == caller.attachment);
            let mut heard = known.map_or(now, |&(_, heard)| heard);
            if now >= heard + timeout && known.is_some() {
                overdue.push(caller);
                heard = now;
            }
            self.0.insert(caller.session, (caller.attachment, heard));
        }
        overdue
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::{Command, Password, Reply, Request};

    fn apply(tree: &mut Tree, caller: Caller, request: Request) -> Reply {
        tree.apply(0, &Command::new(caller, request), &mut Vec::new()).result.unwrap()
    }

    #[test]
    fn a_session_has_its_timeout_after_it_was_heard_of_or_attached() {
        let (mut tree, mut deadlines) = (Tree::new(), Deadlines::default());
        let password = Password([1; 16]);
        let open = || Request::OpenSession { timeout_ms: 1_000, password };
        let ms = Duration::from_millis;
        let [a, b] = [(); 2].map(|()| match apply(&mut tree, Caller::default(), open()) {
            Reply::SessionOpened(caller) => caller,
            other => panic!("{other:?}"),
        });
        assert_eq!(deadlines.overdue(ms(500), &tree), []);
        deadlines.hear(b.session, ms(900));
        assert_eq!(deadlines.overdue(ms(1_499), &tree), []);
        assert_eq!(deadlines.overdue(ms(1_500), &tree), [a]);
        // What ended it may have been lost.
        assert_eq!(deadlines.overdue(ms(1_800), &tree), []);
        let attached = apply(&mut tree, b, Request::Attach { password });
        assert_eq!(attached, Reply::Attached { timeout_ms: 1_000, attachment: 3 });
        assert_eq!(deadlines.overdue(ms(2_000), &tree), []);
        assert_eq!(deadlines.overdue(ms(2_500), &tree), [a]);
        apply(&mut tree, a, Request::CloseSession);
        assert_eq!(deadlines.overdue(ms(3_000), &tree), [Caller { attachment: 3, ..b }]);
        assert_eq!(Deadlines::default().overdue(ms(9_000), &tree), []);
    }
}
