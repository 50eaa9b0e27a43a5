//! How a command changes the tree.

use std::collections::BTreeSet;

use super::acl;
use super::command::{Caller, Command, Error, Failure, Op, Outcome, Reply, Request, Written};
use super::node::{Password, Session, SessionId, Zxid};
use super::tree::{Change, Tree, Undo};
use super::watches::NodeChange;

impl Tree {
    /// Applies the next committed command, which was put into the log at `time_ms` (milliseconds
    /// since 1970-01-01 UTC), and appends what changed by it to `nodes`. A refused command changes
    /// nothing but the last zxid.
    pub fn apply(
        &mut self,
        time_ms: i64,
        command: &Command,
        nodes: &mut Vec<NodeChange>,
    ) -> Outcome {
        let is_change = !matches!(command.request, Request::Sync | Request::Attach { .. });
        self.last_zxid += i64::from(is_change);
        let whole = |error| Failure { op: 0, error };
        let caller = command.caller;
        let zxid = self.last_zxid;
        let (session, shown) = (caller.session, &*command.shown);
        let change = &mut Change { zxid, time_ms, session, shown, nodes };
        let result = match &command.request {
            Request::OpenSession { timeout_ms, password } => {
                Ok(self.open_session(*timeout_ms, *password, zxid))
            }
            Request::Attach { password } => self.attach(caller, *password).map_err(whole),
            Request::CloseSession => {
                self.close_session(caller, change).map(|()| Reply::SessionClosed).map_err(whole)
            }
            Request::Write(ops) => self
                .check_session(caller)
                .map_err(whole)
                .and_then(|()| self.write(ops, change))
                .map(Reply::Written),
            Request::Sweep(paths) => Ok(Reply::Swept(self.sweep(paths, change))),
            Request::Sync => Ok(Reply::Synced),
        };
        Outcome { zxid, result }
    }

    fn open_session(&mut self, timeout_ms: u32, password: Password, zxid: Zxid) -> Reply {
        self.attachments += 1;
        let (id, attachment) = (SessionId(zxid), self.attachments);
        let session = Session { timeout_ms, password, attachment, ephemerals: BTreeSet::new() };
        self.sessions.insert(id, session);
        Reply::SessionOpened(Caller { session: id, attachment })
    }

    fn attach(&mut self, caller: Caller, password: Password) -> Result<Reply, Error> {
        let session = self.sessions.get_mut(&caller.session);
        let session = session.filter(|session| session.password == password);
        let session = session.ok_or(Error::SessionExpired)?;
        self.attachments += 1;
        session.attachment = self.attachments;
        Ok(Reply::Attached { timeout_ms: session.timeout_ms, attachment: session.attachment })
    }

    /// By how many bytes the tree grows at most when `request` is applied.
    #[must_use]
    pub fn growth(request: &Request) -> usize {
        let Request::Write(ops) = request else { return 0 };
        ops.iter()
            .map(|op| match op {
                Op::Create { path, data, acl, .. } => Self::node_bytes(path, data.as_deref(), acl),
                Op::Set { data, .. } => data.as_ref().map_or(0, |data| data.len()),
                Op::SetAcl { acl, .. } => acl.bytes(),
                Op::Delete { .. } | Op::Check { .. } | Op::Invalid(_) => 0,
            })
            .sum()
    }

    fn write(&mut self, ops: &[Op], change: &mut Change<'_>) -> Result<Vec<Written>, Failure> {
        let before = change.nodes.len();
        let mut written = Vec::with_capacity(ops.len());
        let mut undos = Vec::new();
        for (index, op) in ops.iter().enumerate() {
            match self.write_one(op, change, &mut undos) {
                Ok(done) => written.push(done),
                Err(error) => {
                    for undo in undos.into_iter().rev() {
                        self.undo(undo);
                    }
                    change.nodes.truncate(before);
                    return Err(Failure { op: index, error });
                }
            }
        }
        Ok(written)
    }

    fn write_one(
        &mut self,
        op: &Op,
        change: &mut Change<'_>,
        undos: &mut Vec<Undo>,
    ) -> Result<Written, Error> {
        match op {
            Op::Create { path, data, mode, acl } => {
                let (path, stat, undo) =
                    self.create(path, data.clone(), *mode, acl.clone(), change)?;
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
            Op::SetAcl { path, acl, version } => {
                let (stat, undo) = self.set_acl(path, acl.clone(), *version, change)?;
                undos.push(undo);
                Ok(Written::AclSet { stat })
            }
            Op::Invalid(error) => Err(*error),
            Op::Check { path, version } => {
                self.check(path, *version, acl::READ, change.shown)?;
                Ok(Written::Checked)
            }
        }
    }
}
