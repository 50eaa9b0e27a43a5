//! Requests and their answers, as they are on the wire.

use std::sync::Arc;

use ottla_keeper::machine::{AccessList, Acl, EventKind};

use super::acl;
use super::jute::{Malformed, Reader, Write};
use crate::tree::{CreateMode, Error, Failure, Multi, MultiResult, Node, Op, TreeError, Written};

/// Types of requests.
mod kind {
    pub(super) const DELETE: i32 = 2;
    pub(super) const GET_DATA: i32 = 4;
    pub(super) const SET_DATA: i32 = 5;
    pub(super) const GET_ACL: i32 = 6;
    pub(super) const SET_ACL: i32 = 7;
    pub(super) const GET_CHILDREN: i32 = 8;
    pub(super) const SYNC: i32 = 9;
    pub(super) const PING: i32 = 11;
    pub(super) const CHECK: i32 = 13;
    pub(super) const MULTI: i32 = 14;
    pub(super) const CREATE2: i32 = 15;
    pub(super) const REMOVE_WATCHES: i32 = 18;
    pub(super) const CREATE_CONTAINER: i32 = 19;
    pub(super) const CREATE_TTL: i32 = 21;
    pub(super) const MULTI_READ: i32 = 22;
    pub(super) const AUTH: i32 = 100;
    pub(super) const ADD_WATCH: i32 = 106;
    pub(super) const CLOSE_SESSION: i32 = -11;
    pub(super) const ERROR: i32 = -1;
}

/// Numbers that stand for a kind of answer in the place of the one that a request was given.
pub(super) mod xid {
    pub(in crate::zookeeper) const EVENT: i32 = -1;
    pub(in crate::zookeeper) const PING: i32 = -2;
    pub(in crate::zookeeper) const AUTH: i32 = -4;
}

/// Codes that are not about an operation.
pub(super) mod code {
    pub(in crate::zookeeper) const OK: i32 = 0;
    pub(super) const RUNTIME_INCONSISTENCY: i32 = -2;
    pub(super) const UNIMPLEMENTED: i32 = -6;
    pub(super) const NO_NODE: i32 = -101;
    pub(in crate::zookeeper) const SESSION_EXPIRED: i32 = -112;
    pub(in crate::zookeeper) const SESSION_MOVED: i32 = -118;
    pub(super) const NO_WATCHER: i32 = -121;
}

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
            Ask::Get(paths) => self.reads(out, kind::GET_DATA, paths),
            Ask::Children(paths) => self.reads(out, kind::GET_CHILDREN, paths),
            // A multi has no place for it.
            Ask::Acl(path) => {
                out.i32(kind::GET_ACL);
                out.text(&self.outer(path));
            }
            Ask::Write(ops) => match &ops[..] {
                // It has no place in a multi.
                [Op::SetAcl { path, acl, version }] => {
                    out.i32(kind::SET_ACL);
                    out.text(&self.outer(path));
                    out.acl(&acl.list());
                    out.i32(*version);
                }
                ops => {
                    out.i32(kind::MULTI);
                    ops.iter().for_each(|op| self.op(out, op));
                    end(out);
                }
            },
            Ask::AddWatch { path, is_recursive } => {
                out.i32(kind::ADD_WATCH);
                out.text(&self.outer(path));
                out.i32(i32::from(*is_recursive));
            }
            Ask::RemoveWatch(path) => {
                const ANY: i32 = 3;
                out.i32(kind::REMOVE_WATCHES);
                out.text(&self.outer(path));
                out.i32(ANY);
            }
            Ask::Sync => {
                out.i32(kind::SYNC);
                out.text(&self.outer("/"));
            }
            Ask::Close => out.i32(kind::CLOSE_SESSION),
        }
    }

    fn reads(&self, out: &mut Vec<u8>, kind: i32, paths: &[String]) {
        out.i32(kind::MULTI_READ);
        for path in paths {
            header(out, kind);
            out.text(&self.outer(path));
            out.bool(false);
        }
        end(out);
    }

    fn op(&self, out: &mut Vec<u8>, op: &Op) {
        match op {
            Op::Create { path, data, mode, acl } => {
                let (kind, flags, ttl) = match mode {
                    CreateMode::Persistent => (kind::CREATE2, 0, None),
                    CreateMode::Ephemeral => (kind::CREATE2, 1, None),
                    CreateMode::PersistentSequential => (kind::CREATE2, 2, None),
                    CreateMode::EphemeralSequential => (kind::CREATE2, 3, None),
                    CreateMode::Container => (kind::CREATE_CONTAINER, 4, None),
                    CreateMode::Ttl(ms) => (kind::CREATE_TTL, 5, Some(*ms)),
                    CreateMode::TtlSequential(ms) => (kind::CREATE_TTL, 6, Some(*ms)),
                };
                header(out, kind);
                out.text(&self.outer(path));
                out.buffer(data.as_deref());
                out.acl(&self.acl(path, acl));
                out.i32(flags);
                ttl.into_iter().for_each(|ms| out.i64(ms));
            }
            Op::Set { path, data, version } => {
                header(out, kind::SET_DATA);
                out.text(&self.outer(path));
                out.buffer(data.as_deref());
                out.i32(*version);
            }
            Op::Delete { path, version } => {
                header(out, kind::DELETE);
                out.text(&self.outer(path));
                out.i32(*version);
            }
            Op::Check { path, version } => {
                header(out, kind::CHECK);
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
    ) -> Result<Result<Answer, TreeError>, Malformed> {
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
            Ask::Get(_) => read_all(body, |body| {
                let data = body.buffer()?.map(Arc::from);
                Ok(Node { data, stat: body.stat()? })
            })
            .map(|nodes| nodes.map(Answer::Nodes)),
            Ask::Children(_) => {
                read_all(body, |body| body.texts()).map(|children| children.map(Answer::Children))
            }
            _ => Ok(Ok(Answer::Done)),
        }
    }

    fn written(&self, body: &mut Reader<'_>) -> Result<Result<Answer, TreeError>, Malformed> {
        let (mut all, mut failed) = (Vec::new(), None);
        for op in 0.. {
            let (kind, is_end, _) = (body.i32()?, body.bool()?, body.i32()?);
            if is_end {
                break;
            }
            let path =
                |body: &mut Reader<'_>| Ok(self.inner(body.text()?).ok_or(Malformed)?.to_owned());
            all.push(match kind {
                kind::CREATE2 | kind::CREATE_CONTAINER | kind::CREATE_TTL => {
                    Written::Created { path: path(body)?, stat: body.stat()? }
                }
                kind::SET_DATA => Written::Set { stat: body.stat()? },
                kind::DELETE => Written::Deleted,
                kind::CHECK => Written::Checked,
                kind::ERROR => {
                    // Those before the one that failed have 0, those after it another code.
                    match body.i32()? {
                        code::OK | code::RUNTIME_INCONSISTENCY => {}
                        code if failed.is_none() => failed = Some((op, code)),
                        _ => {}
                    }
                    continue;
                }
                _ => return Err(Malformed),
            });
        }
        Ok(match failed {
            None => Ok(Answer::Written(Ok(all))),
            Some((op, code)) => match error(code) {
                Some(error) => Ok(Answer::Written(Err(Failure { op, error }))),
                None => Err(unknown(code)),
            },
        })
    }
}

fn header(out: &mut Vec<u8>, kind: i32) {
    out.i32(kind);
    out.bool(false);
    out.i32(-1);
}

fn end(out: &mut Vec<u8>) {
    out.i32(-1);
    out.bool(true);
    out.i32(-1);
}

/// What is told of a node, and of which; `None` is about the session.
pub(super) fn event<'a>(body: &mut Reader<'a>) -> Result<Option<(EventKind, &'a str)>, Malformed> {
    let (kind, _state, path) = (body.i32()?, body.i32()?, body.text()?);
    let kind = match kind {
        -1 => return Ok(None),
        1 => EventKind::Created,
        2 => EventKind::Deleted,
        3 => EventKind::DataChanged,
        4 => EventKind::ChildrenChanged,
        _ => return Err(Malformed),
    };
    Ok(Some((kind, path)))
}

/// What keeps an idle connection alive.
pub(super) fn ping(out: &mut Vec<u8>) {
    out.i32(xid::PING);
    out.i32(kind::PING);
}

/// Whom the client claims to be.
pub(super) fn auth(out: &mut Vec<u8>, scheme: &str, auth: &[u8]) {
    out.i32(xid::AUTH);
    out.i32(kind::AUTH);
    out.i32(0);
    out.text(scheme);
    out.buffer(Some(auth));
}

/// What is read of each path, `None` where there is no node; the first other error counts for all.
fn read_all<T>(
    body: &mut Reader<'_>,
    read: impl Fn(&mut Reader<'_>) -> Result<T, Malformed>,
) -> Result<Result<Vec<Option<T>>, TreeError>, Malformed> {
    let (mut all, mut refused) = (Vec::new(), None);
    for op in 0.. {
        let (kind, is_end, _) = (body.i32()?, body.bool()?, body.i32()?);
        if is_end {
            break;
        }
        if kind != kind::ERROR {
            all.push(Some(read(body)?));
            continue;
        }
        all.push(None);
        let code = body.i32()?;
        if code != code::NO_NODE && refused.is_none() {
            let failure = error(code).map(|error| Failure { op, error }.into());
            refused = Some(failure.unwrap_or_else(|| unknown(code)));
        }
    }
    Ok(refused.map_or(Ok(all), Err))
}

/// ZooKeeper's codes of what can be wrong with an operation.
fn error(code: i32) -> Option<Error> {
    Some(match code {
        -8 => Error::BadArguments,
        code::NO_NODE => Error::NoNode,
        -102 => Error::NoAuth,
        -103 => Error::BadVersion,
        -108 => Error::NoChildrenForEphemerals,
        -110 => Error::NodeExists,
        -111 => Error::NotEmpty,
        code::SESSION_EXPIRED => Error::SessionExpired,
        -114 => Error::InvalidAcl,
        code::SESSION_MOVED => Error::SessionMoved,
        _ => return None,
    })
}

fn refusal(code: i32) -> TreeError {
    error(code).map_or_else(|| unknown(code), |error| Failure { op: 0, error }.into())
}

fn unknown(code: i32) -> TreeError {
    unavailable(&format!("ZooKeeper answered with its error {code}"))
}

pub(super) fn unavailable(reason: &str) -> TreeError {
    TreeError::Unavailable { reason: reason.into() }
}
