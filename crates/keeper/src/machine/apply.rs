//! How a command changes the tree.

use super::command::{Command, Error, Failure, Op, Outcome, Reply, Request, Written};
use super::node::SessionId;
use super::tree::{Change, Tree, Undo};

impl Tree {
    /// Applies the next committed command. A refused command changes nothing but the last zxid.
    pub fn apply(&mut self, command: &Command) -> Outcome {
        self.last_zxid += 1;
        let change = Change { zxid: self.last_zxid, time_ms: command.time_ms };
        let whole = |error| Failure { op: 0, error };
        let result = match &command.request {
            Request::OpenSession => {
                let id = SessionId(change.zxid);
                self.sessions.insert(id, Default::default());
                Ok(Reply::SessionOpened(id))
            }
            Request::CloseSession => self
                .close_session(command.session, change)
                .map(|()| Reply::SessionClosed)
                .map_err(whole),
            Request::Write(_) if !self.sessions.contains_key(&command.session) => {
                Err(whole(Error::SessionExpired))
            }
            Request::Write(ops) => self.write(ops, command.session, change).map(Reply::Written),
        };
        Outcome { zxid: change.zxid, result }
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
