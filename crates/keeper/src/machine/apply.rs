//! How a command changes the tree.

use std::collections::BTreeSet;

use super::command::{Caller, Command, Error, Failure, Op, Outcome, Reply, Request, Written};
use super::node::{Password, Session, SessionId};
use super::tree::{Change, Tree, Undo};

impl Tree {
    /// Applies the next committed command, which was put into the log at `time_ms` (milliseconds
    /// since 1970-01-01 UTC). A refused command changes nothing but the last zxid.
    pub fn apply(&mut self, time_ms: i64, command: &Command) -> Outcome {
        self.last_zxid += i64::from(command.request != Request::Sync);
        let change = Change { zxid: self.last_zxid, time_ms };
        let whole = |error| Failure { op: 0, error };
        let caller = command.caller;
        let result = match &command.request {
            Request::OpenSession { timeout_ms, password } => {
                Ok(self.open_session(*timeout_ms, *password, change))
            }
            Request::Attach { password } => self.attach(caller, *password, change).map_err(whole),
            Request::CloseSession => {
                self.close_session(caller, change).map(|()| Reply::SessionClosed).map_err(whole)
            }
            Request::Write(ops) => self
                .check_session(caller)
                .map_err(whole)
                .and_then(|()| self.write(ops, caller.session, change))
                .map(Reply::Written),
            Request::Sync => Ok(Reply::Synced),
        };
        Outcome { zxid: change.zxid, result }
    }

    fn open_session(&mut self, timeout_ms: u32, password: Password, change: Change) -> Reply {
        let id = SessionId(change.zxid);
        let attachment = change.zxid;
        let session = Session { timeout_ms, password, attachment, ephemerals: BTreeSet::new() };
        self.sessions.insert(id, session);
        Reply::SessionOpened(id)
    }

    fn attach(
        &mut self,
        caller: Caller,
        password: Password,
        change: Change,
    ) -> Result<Reply, Error> {
        let session = self.sessions.get_mut(&caller.session);
        let session = session.filter(|session| session.password == password);
        let session = session.ok_or(Error::SessionExpired)?;
        session.attachment = change.zxid;
        Ok(Reply::Attached { timeout_ms: session.timeout_ms })
    }

    /// By how many bytes the tree grows at most when `request` is applied.
    #[must_use]
    pub fn growth(request: &Request) -> usize {
        let Request::Write(ops) = request else { return 0 };
        ops.iter()
            .map(|op| match op {
                Op::Create { path, data, .. } => Self::node_bytes(path, data.as_deref()),
                Op::Set { data, .. } => data.as_ref().map_or(0, |data| data.len()),
                Op::Delete { .. } | Op::Check { .. } => 0,
            })
            .sum()
    }

    fn write(
        &mut self,
        ops: &[Op],
        session: SessionId,
        change: Change,
    ) -> Result<Vec<Written>, Failure> {
        let mut written = Vec::with_capacity(ops.len());
        let mut undos = Vec::new();
        for (index, op) in ops.iter().enumerate() {
            match self.write_one(op, session, change, &mut undos) {
                Ok(done) => written.push(done),
                Err(error) => {
                    for undo in undos.into_iter().rev() {
                        self.undo(undo);
                    }
                    return Err(Failure { op: index, error });
                }
            }
        }
        Ok(written)
    }

    fn write_one(
        &mut self,
        op: &Op,
        session: SessionId,
        change: Change,
        undos: &mut Vec<Undo>,
    ) -> Result<Written, Error> {
        match op {
            Op::Create { path, data, mode } => {
                let (path, stat, undo) = self.create(path, data.clone(), *mode, session, change)?;
                undos.push(undo);
                Ok(Written::Created { path, stat })
            }
            Op::Set { path, data, version } => {
                let (stat, undo) = self.set(path, data.clone(), *version, change)?;
                undos.push(undo);
                Ok(Written::Set { stat })
            }
            Op::Delete { path, version } => {
                undos.push(self.delete(path, *version, change)?);
                Ok(Written::Deleted)
            }
            Op::Check { path, version } => {
                self.check(path, *version)?;
                Ok(Written::Checked)
            }
        }
    }
}
