//! What a client can ask, as it is on the wire.

use super::jute::Reader;
use super::number::{code, op, read_multi_head};
use crate::machine::{
    AccessList, Corrupt, CreateMode, Error, Identity, Op, TTL_MS_MAX, WatchKind, is_valid_path,
};

/// What a client asks.
#[derive(Debug)]
pub(super) enum Asked {
    /// A single write.
    Write(Op, Answer),
    /// All of these or none; of each, the type as which it is answered.
    Multi(Vec<(Op, i32)>),
    Read(Read),
    /// Several reads, each on its own.
    MultiRead(Vec<Read>),
    Sync(String),
    Ping,
    Auth {
        scheme: String,
        auth: Vec<u8>,
    },
    /// Authentication that succeeded.
    Shown,
    SetWatches(Box<SetWatches>),
    AddWatch {
        path: String,
        kind: WatchKind,
    },
    /// Whether there are such watches, and whether to take them back.
    Watches {
        path: String,
        kinds: &'static [WatchKind],
        is_removal: bool,
    },
    WhoAmI,
    CloseSession,
    /// Nothing that can be done: the error, and whether the connection ends with it.
    Refused {
        code: i32,
        is_end: bool,
    },
}

/// What a write is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Path,
    PathAndStat,
    Stat,
    Nothing,
}

/// A read.
#[derive(Debug)]
pub(super) enum Read {
    Exists { path: String, watch: bool },
    Data { path: String, watch: bool },
    Children { path: String, watch: bool, with_stat: bool },
    Acl { path: String },
    Ephemerals { prefix: String },
    Descendants { path: String },
}

/// The watches that a client had on its connection before.
#[derive(Debug, Default)]
pub(super) struct SetWatches {
    /// The last change that the client knows of.
    pub(super) known: i64,
    pub(super) data: Vec<String>,
    pub(super) exist: Vec<String>,
    pub(super) children: Vec<String>,
    pub(super) persistent: Vec<String>,
    pub(super) recursive: Vec<String>,
}

const ANY: &[WatchKind] =
    &[WatchKind::Data, WatchKind::Children, WatchKind::Persistent, WatchKind::Recursive];

/// Reads the body of a request of a type, from a client that has shown to be `shown`.
pub(super) fn read(kind: i32, body: &mut Reader<'_>, shown: &[Identity]) -> Asked {
    let refused = |code| Asked::Refused { code, is_end: false };
    match try_read(kind, body, shown) {
        Ok(Ok(asked)) => asked,
        Ok(Err(code)) => refused(code),
        Err(Corrupt { .. }) => refused(code::MARSHALLING),
    }
}

/// What is asked, or with which code it is refused.
type Judged<T> = Result<T, i32>;

fn try_read(
    kind: i32,
    body: &mut Reader<'_>,
    shown: &[Identity],
) -> Result<Judged<Asked>, Corrupt> {
    let write = |op, answer| Ok(Asked::Write(op, answer));
    Ok(match kind {
        op::CREATE => write(read_create(kind, body, shown)?, Answer::Path),
        op::CREATE2 | op::CREATE_CONTAINER | op::CREATE_TTL => {
            write(read_create(kind, body, shown)?, Answer::PathAndStat)
        }
        op::DELETE => write(read_delete(body)?, Answer::Nothing),
        op::SET_DATA => write(read_set(body)?, Answer::Stat),
        op::SET_ACL => {
            let (path, acl, version) = (body.text()?, body.acl()?, body.i32()?);
            let op = match AccessList::resolve(acl, shown) {
                _ if !is_valid_path(&path) => Op::Invalid(Error::BadArguments),
                Some(acl) => Op::SetAcl { path, acl, version },
                None => Op::Invalid(Error::InvalidAcl),
            };
            write(op, Answer::Stat)
        }
        op::MULTI => Ok(Asked::Multi(read_multi(body, shown)?)),
        op::MULTI_READ => read_multi_read(body)?,
        op::SYNC => Ok(Asked::Sync(body.text()?)),
        op::PING => Ok(Asked::Ping),
        op::CHECK_WATCHES | op::REMOVE_WATCHES => {
            let (path, kinds) = (body.text()?, body.i32()?);
            let kinds = match kinds {
                1 => &[WatchKind::Children],
                2 => &[WatchKind::Data],
                3 => ANY,
                4 => &[WatchKind::Persistent],
                5 => &[WatchKind::Recursive],
                _ => return Ok(Err(code::BAD_ARGUMENTS)),
            };
            Ok(Asked::Watches { path, kinds, is_removal: kind == op::REMOVE_WATCHES })
        }
        op::AUTH => {
            let (_, scheme, auth) = (body.i32()?, body.text()?, body.buffer()?);
            Ok(Asked::Auth { scheme, auth: auth.unwrap_or_default().to_vec() })
        }
        op::SET_WATCHES | op::SET_WATCHES2 => {
            let with_persistent = kind == op::SET_WATCHES2;
            Ok(Asked::SetWatches(Box::new(read_watches(with_persistent, body)?)))
        }
        op::ADD_WATCH => {
            let path = body.text()?;
            match body.i32()? {
                0 => Ok(Asked::AddWatch { path, kind: WatchKind::Persistent }),
                1 => Ok(Asked::AddWatch { path, kind: WatchKind::Recursive }),
                _ => Err(code::BAD_ARGUMENTS),
            }
        }
        op::WHO_AM_I => Ok(Asked::WhoAmI),
        op::CLOSE_SESSION => Ok(Asked::CloseSession),
        // A check is part of a multi.
        op::CHECK => Err(code::UNIMPLEMENTED),
        // Who votes is changed by the keeper's own tools.
        op::RECONFIG => Err(code::RECONFIG_DISABLED),
        kind => match read_read(kind, body)? {
            Some(read) => Ok(Asked::Read(read)),
            None => Ok(Asked::Refused { code: code::UNIMPLEMENTED, is_end: true }),
        },
    })
}

fn read_read(kind: i32, body: &mut Reader<'_>) -> Result<Option<Read>, Corrupt> {
    Ok(Some(match kind {
        op::EXISTS => Read::Exists { path: body.text()?, watch: body.bool()? },
        op::GET_DATA => Read::Data { path: body.text()?, watch: body.bool()? },
        op::GET_ACL => Read::Acl { path: body.text()? },
        op::GET_CHILDREN | op::GET_CHILDREN2 => {
            let (path, watch) = (body.text()?, body.bool()?);
            Read::Children { path, watch, with_stat: kind == op::GET_CHILDREN2 }
        }
        op::GET_EPHEMERALS => Read::Ephemerals { prefix: body.text()? },
        op::GET_ALL_CHILDREN_NUMBER => Read::Descendants { path: body.text()? },
        _ => return Ok(None),
    }))
}

fn read_create(kind: i32, body: &mut Reader<'_>, shown: &[Identity]) -> Result<Op, Corrupt> {
    let (path, data, acl, flags) = (body.text()?, body.data()?, body.acl()?, body.i32()?);
    let ttl = if kind == op::CREATE_TTL { Some(body.i64()?) } else { None };
    let mode = match (flags, ttl) {
        (0, None) => CreateMode::Persistent,
        (1, None) => CreateMode::Ephemeral,
        (2, None) => CreateMode::PersistentSequential,
        (3, None) => CreateMode::EphemeralSequential,
        (4, None) => CreateMode::Container,
        (5, Some(ttl)) if (1..=TTL_MS_MAX).contains(&ttl) => CreateMode::Ttl(ttl),
        (6, Some(ttl)) if (1..=TTL_MS_MAX).contains(&ttl) => CreateMode::TtlSequential(ttl),
        _ => return Ok(Op::Invalid(Error::BadArguments)),
    };
    Ok(match AccessList::resolve(acl, shown) {
        // Which of two faults is told is ZooKeeper's choice.
        _ if !path.contains('/') => Op::Invalid(Error::BadArguments),
        Some(acl) => Op::Create { path, data, mode, acl },
        None => Op::Invalid(Error::InvalidAcl),
    })
}

fn read_delete(body: &mut Reader<'_>) -> Result<Op, Corrupt> {
    Ok(Op::Delete { path: body.text()?, version: body.i32()? })
}

fn read_set(body: &mut Reader<'_>) -> Result<Op, Corrupt> {
    Ok(Op::Set { path: body.text()?, data: body.data()?, version: body.i32()? })
}

fn read_multi(body: &mut Reader<'_>, shown: &[Identity]) -> Result<Vec<(Op, i32)>, Corrupt> {
    let mut ops = Vec::new();
    while let Some(kind) = read_multi_head(body)? {
        let op = match kind {
            op::CREATE | op::CREATE2 | op::CREATE_CONTAINER | op::CREATE_TTL => {
                read_create(kind, body, shown)?
            }
            op::DELETE => read_delete(body)?,
            op::SET_DATA => read_set(body)?,
            op::CHECK => Op::Check { path: body.text()?, version: body.i32()? },
            _ => return Err(body.corrupt()),
        };
        ops.push((op, kind));
    }
    Ok(ops)
}

fn read_multi_read(body: &mut Reader<'_>) -> Result<Judged<Asked>, Corrupt> {
    let mut reads = Vec::new();
    while let Some(kind) = read_multi_head(body)? {
        match read_read(kind, body)? {
            Some(read @ (Read::Data { .. } | Read::Children { .. })) => reads.push(read),
            _ => return Ok(Err(code::BAD_ARGUMENTS)),
        }
    }
    Ok(Ok(Asked::MultiRead(reads)))
}

fn read_watches(with_persistent: bool, body: &mut Reader<'_>) -> Result<SetWatches, Corrupt> {
    let paths = |body: &mut Reader<'_>| body.vector(Reader::text);
    let mut watches = SetWatches {
        known: body.i64()?,
        data: paths(body)?,
        exist: paths(body)?,
        children: paths(body)?,
        ..SetWatches::default()
    };
    if with_persistent {
        watches.persistent = paths(body)?;
        watches.recursive = paths(body)?;
    }
    Ok(watches)
}
