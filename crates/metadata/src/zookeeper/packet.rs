//! Requests and their answers, as they are on the wire.

use std::sync::Arc;

use ottla_keeper::machine::{AccessList, Acl, Corrupt, EventKind};
use ottla_keeper::wire::jute::{Reader, Write};
use ottla_keeper::wire::number::{code, op, put_multi_end, put_multi_head, read_multi_head, xid};

use super::acl;
use crate::tree::{CreateMode, Failure, Multi, MultiResult, Node, Op, TreeError, Written};

/// What is asked. Paths are those of the callers, below the chroot.
#[derive(Clone, Debug)]
pub(super) enum Ask {
    Get(Vec<String>),
    Children(Vec<String>),
    Acl(String),
    Write(Multi),
    AddWatch { path: String, is_recursive: bool },
    RemoveWatch(String),
    Sync,
    Close,
}

/// What is answered.
#[derive(Debug)]
pub(super) enum Answer {
    Nodes(Vec<Option<Node>>),
    Children(Vec<Option<Vec<String>>>),
    /// `None` where there is no node.
    Acl(Option<Vec<Acl>>),
    Written(MultiResult),
    Done,
}

/// How paths and access lists are translated.
#[derive(Clone, Debug)]
pub(super) struct Dialect {
    /// What stands before every path; empty where all of the tree is ours.
    pub(super) chroot: Arc<str>,
    /// Whether created nodes belong to who creates them.
    pub(super) is_secure: bool,
}

impl Dialect {
    /// A path as the ensemble has it.
    fn outer(&self, path: &str) -> String {
        match (&*self.chroot, path) {
            ("", path) => path.to_owned(),
            (chroot, "/") => chroot.to_owned(),
            (chroot, path) => format!("{chroot}{path}"),
        }
    }

    /// A path of the ensemble as callers have it; `None` if it is not below the chroot.
    pub(super) fn inner<'a>(&self, path: &'a str) -> Option<&'a str> {
        match path.strip_prefix(&*self.chroot)? {
            "" => Some("/"),
            path if path.starts_with('/') => Some(path),
            _ => None,
        }
    }

    fn acl(&self, path: &str, given: &AccessList) -> Vec<Acl> {
        if self.is_secure && *given == AccessList::default() {
            return acl::secure(path);
        }
        given.list()
    }

    /// Appends a request behind its number.
    pub(super) fn request(&self, out: &mut Vec<u8>, xid: i32, ask: &Ask) {
        out.i32(xid);
        match ask {
            Ask::Get(paths) => self.reads(out, op::GET_DATA, paths),
            Ask::Children(paths) => self.reads(out, op::GET_CHILDREN, paths),
            // A multi has no place for it.
            Ask::Acl(path) => {
                out.i32(op::GET_ACL);
                out.text(&self.outer(path));
            }
            Ask::Write(ops) => match &ops[..] {
                // It has no place in a multi.
                [Op::SetAcl { path, acl, version }] => {
                    out.i32(op::SET_ACL);
                    out.text(&self.outer(path));
                    out.acl(&acl.list());
                    out.i32(*version);
                }
                ops => {
                    out.i32(op::MULTI);
                    ops.iter().for_each(|op| self.op(out, op));
                    put_multi_end(out);
                }
            },
            Ask::AddWatch { path, is_recursive } => {
                out.i32(op::ADD_WATCH);
                out.text(&self.outer(path));
                out.i32(i32::from(*is_recursive));
            }
            Ask::RemoveWatch(path) => {
                const ANY: i32 = 3;
                out.i32(op::REMOVE_WATCHES);
                out.text(&self.outer(path));
                out.i32(ANY);
            }
            Ask::Sync => {
                out.i32(op::SYNC);
                out.text(&self.outer("/"));
            }
            Ask::Close => out.i32(op::CLOSE_SESSION),
        }
    }

    fn reads(&self, out: &mut Vec<u8>, kind: i32, paths: &[String]) {
        out.i32(op::MULTI_READ);
        for path in paths {
            put_multi_head(out, kind, -1);
            out.text(&self.outer(path));
            out.bool(false);
        }
        put_multi_end(out);
    }

    fn op(&self, out: &mut Vec<u8>, op: &Op) {
        match op {
            Op::Create { path, data, mode, acl } => {
                let (kind, flags, ttl) = match mode {
                    CreateMode::Persistent => (op::CREATE2, 0, None),
                    CreateMode::Ephemeral => (op::CREATE2, 1, None),
                    CreateMode::PersistentSequential => (op::CREATE2, 2, None),
                    CreateMode::EphemeralSequential => (op::CREATE2, 3, None),
                    CreateMode::Container => (op::CREATE_CONTAINER, 4, None),
                    CreateMode::Ttl(ms) => (op::CREATE_TTL, 5, Some(*ms)),
                    CreateMode::TtlSequential(ms) => (op::CREATE_TTL, 6, Some(*ms)),
                };
                put_multi_head(out, kind, -1);
                out.text(&self.outer(path));
                out.buffer(data.as_deref());
                out.acl(&self.acl(path, acl));
                out.i32(flags);
                ttl.into_iter().for_each(|ms| out.i64(ms));
            }
            Op::Set { path, data, version } => {
                put_multi_head(out, op::SET_DATA, -1);
                out.text(&self.outer(path));
                out.buffer(data.as_deref());
                out.i32(*version);
            }
            Op::Delete { path, version } => {
                put_multi_head(out, op::DELETE, -1);
                out.text(&self.outer(path));
                out.i32(*version);
            }
            Op::Check { path, version } => {
                put_multi_head(out, op::CHECK, -1);
                out.text(&self.outer(path));
                out.i32(*version);
            }
            // Refused before it comes here.
            Op::SetAcl { .. } | Op::Invalid(_) => {}
        }
    }

    /// Reads the answer to `ask` behind its head. The outer error is the peer's fault.
    pub(super) fn answer(
        &self,
        ask: &Ask,
        code: i32,
        body: &mut Reader<'_>,
    ) -> Result<Result<Answer, TreeError>, Corrupt> {
        match ask {
            Ask::Write(ops) if ops.len() == 1 && matches!(ops[0], Op::SetAcl { .. }) => {
                Ok(match code {
                    code::OK => {
                        Ok(Answer::Written(Ok(vec![Written::AclSet { stat: body.stat()? }])))
                    }
                    code => Err(refusal(code)),
                })
            }
            // Why a multi failed is told by its body; some versions tell it in the head too.
            Ask::Write(_) if code == code::OK || !body.is_empty() => self.written(body),
            Ask::AddWatch { .. } if code == code::UNIMPLEMENTED => Ok(Err(unavailable(
                "the ensemble of zookeeper.connect has no persistent watches: it must be ZooKeeper \
                 3.6 or later",
            ))),
            Ask::RemoveWatch(_) if code == code::NO_WATCHER => Ok(Ok(Answer::Done)),
            Ask::Acl(_) if code == code::NO_NODE => Ok(Ok(Answer::Acl(None))),
            _ if code != code::OK => Ok(Err(refusal(code))),
            Ask::Acl(_) => Ok(Ok(Answer::Acl(Some(body.acl()?)))),
            Ask::Get(_) => {
                read_all(body, |body| Ok(Node { data: body.data()?, stat: body.stat()? }))
                    .map(|nodes| nodes.map(Answer::Nodes))
            }
            Ask::Children(_) => read_all(body, |body| body.vector(Reader::text))
                .map(|children| children.map(Answer::Children)),
            _ => Ok(Ok(Answer::Done)),
        }
    }

    fn written(&self, body: &mut Reader<'_>) -> Result<Result<Answer, TreeError>, Corrupt> {
        let (mut all, mut failed) = (Vec::new(), None);
        for op in 0.. {
            let Some(kind) = read_multi_head(body)? else { break };
            let path = |body: &mut Reader<'_>| {
                let inner = self.inner(body.str()?).ok_or(body.corrupt())?;
                Ok(inner.to_owned())
            };
            all.push(match kind {
                op::CREATE2 | op::CREATE_CONTAINER | op::CREATE_TTL => {
                    Written::Created { path: path(body)?, stat: body.stat()? }
                }
                op::SET_DATA => Written::Set { stat: body.stat()? },
                op::DELETE => Written::Deleted,
                op::CHECK => Written::Checked,
                op::ERROR => {
                    // Those before the one that failed have 0, those after it another code.
                    match body.i32()? {
                        code::OK | code::RUNTIME_INCONSISTENCY => {}
                        code if failed.is_none() => failed = Some((op, code)),
                        _ => {}
                    }
                    continue;
                }
                _ => return Err(body.corrupt()),
            });
        }
        Ok(match failed {
            None => Ok(Answer::Written(Ok(all))),
            Some((_, code::INVALID_ACL)) if self.is_secure => Err(unavailable(
                "the ensemble of zookeeper.connect gives nodes to nobody (zookeeper.set.acl): it does \
                 not count the login of this connection; for one by SASL its servers need \
                 authProvider.1=org.apache.zookeeper.server.auth.SASLAuthenticationProvider",
            )),
            Some((op, code)) => match code::error(code) {
                Some(error) => Ok(Answer::Written(Err(Failure { op, error }))),
                None => Err(unknown(code)),
            },
        })
    }
}

/// What is told of a node, and of which; `None` is about the session.
pub(super) fn event<'a>(body: &mut Reader<'a>) -> Result<Option<(EventKind, &'a str)>, Corrupt> {
    let (kind, _state, path) = (body.i32()?, body.i32()?, body.str()?);
    let kind = match kind {
        -1 => return Ok(None),
        1 => EventKind::Created,
        2 => EventKind::Deleted,
        3 => EventKind::DataChanged,
        4 => EventKind::ChildrenChanged,
        _ => return Err(body.corrupt()),
    };
    Ok(Some((kind, path)))
}

/// What keeps an idle connection alive.
pub(super) fn ping(out: &mut Vec<u8>) {
    out.i32(xid::PING);
    out.i32(op::PING);
}

/// Whom the client claims to be.
pub(super) fn auth(out: &mut Vec<u8>, scheme: &str, auth: &[u8]) {
    out.i32(xid::AUTH);
    out.i32(op::AUTH);
    out.i32(0);
    out.text(scheme);
    out.buffer(Some(auth));
}

/// A token of SASL.
pub(super) fn sasl(out: &mut Vec<u8>, xid: i32, token: &[u8]) {
    out.i32(xid);
    out.i32(op::SASL);
    out.buffer(Some(token));
}

/// What is read of each path, `None` where there is no node; the first other error counts for all.
fn read_all<T>(
    body: &mut Reader<'_>,
    read: impl Fn(&mut Reader<'_>) -> Result<T, Corrupt>,
) -> Result<Result<Vec<Option<T>>, TreeError>, Corrupt> {
    let (mut all, mut refused) = (Vec::new(), None);
    for op in 0.. {
        let Some(kind) = read_multi_head(body)? else { break };
        if kind != op::ERROR {
            all.push(Some(read(body)?));
            continue;
        }
        all.push(None);
        let code = body.i32()?;
        if code != code::NO_NODE && refused.is_none() {
            let failure = code::error(code).map(|error| Failure { op, error }.into());
            refused = Some(failure.unwrap_or_else(|| unknown(code)));
        }
    }
    Ok(refused.map_or(Ok(all), Err))
}

fn refusal(code: i32) -> TreeError {
    code::error(code).map_or_else(|| unknown(code), |error| Failure { op: 0, error }.into())
}

fn unknown(code: i32) -> TreeError {
    if code == code::SESSION_CLOSED_REQUIRE_SASL_AUTH {
        return unavailable(
            "the ensemble of zookeeper.connect serves only who logs in: set \
             zookeeper.sasl.jaas.config, or zookeeper.digest.login, as it requires",
        );
    }
    unavailable(&format!("ZooKeeper answered with its error {code}"))
}

pub(super) fn unavailable(reason: &str) -> TreeError {
    TreeError::Unavailable { reason: reason.into() }
}
