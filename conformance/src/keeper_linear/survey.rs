//! All that a keeper has, as a client reads it.
//!
//! Owns: the reading, and what two keepers differ in. Must not know: what was written.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use ottla_fake::{Answered, Asked, Seen};

use super::client::path;
use super::history::{Call, Time};
use super::network::server;
use super::wire::{Answer, Code, Connection, Request, Session, Stat};
use crate::Outcome;

/// So many requests are sent before the first is answered.
const WINDOW: usize = 200;

/// A znode: what it holds, and its numbers.
type Found = (Vec<u8>, Stat);

pub(super) struct Survey {
    begun: Time,
    ended: Time,
    znodes: BTreeMap<String, Found>,
}

impl Survey {
    /// Reads a keeper's tree, as it is now or a moment later.
    pub(super) fn of(keeper: usize, now: impl Fn() -> Time) -> Outcome<Self> {
        let begun = now();
        let connection = Connection::open(server(keeper), Session::default())?;
        let mut connection = connection.ok_or("a new session is over")?;
        succeed(&mut connection, &[Request::Sync])?;
        let mut znodes = BTreeMap::new();
        let mut parents = vec!["/".to_owned()];
        // Tops, and what is below them.
        for _ in 0..2 {
            let paths = children(&mut connection, &parents)?;
            let gets: Vec<_> = paths.iter().map(|path| Request::Get { path }).collect();
            for (path, body) in paths.iter().zip(succeed(&mut connection, &gets)?) {
                // Its session may have expired in between.
                let Some(body) = body else { continue };
                let mut body = Answer(&body);
                znodes.insert(path.clone(), (body.buffer()?.to_vec(), body.stat()?));
            }
            parents = paths;
        }
        succeed(&mut connection, &[Request::Close])?;
        Ok(Self { begun, ended: now(), znodes })
    }

    /// The znodes that end with a session.
    pub(super) fn locks(&self) -> Vec<&String> {
        let locks = self.znodes.iter().filter(|(_, (_, stat))| stat.owner != 0);
        locks.map(|(path, _)| path).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.znodes.len()
    }

    /// Between the last changes of znodes, as the leader's clock had them.
    pub(super) fn times_apart(&self) -> Duration {
        let times = || self.znodes.values().map(|(_, stat)| stat.mtime_ms);
        let apart = times().max().unwrap_or_default() - times().min().unwrap_or_default();
        Duration::from_millis(apart.unsigned_abs())
    }

    /// Where two differ.
    pub(super) fn differences(&self, other: &Self) -> Vec<String> {
        let mut paths: Vec<&String> = self.znodes.keys().chain(other.znodes.keys()).collect();
        paths.sort_unstable();
        paths.dedup();
        let differ =
            paths.into_iter().filter(|path| self.znodes.get(*path) != other.znodes.get(*path));
        let tell = |path: &String| {
            format!("{path}: {:?} and {:?}", self.znodes.get(path), other.znodes.get(path))
        };
        differ.map(tell).collect()
    }

    /// The last read of each znode, for the judge.
    pub(super) fn reads(&self, znodes: usize) -> Vec<Call> {
        let read = |znode: usize| {
            let found = self.znodes.get(&path(znode)).map(|(data, stat)| Seen {
                number: data[..].try_into().map_or(0, u32::from_be_bytes),
                version: stat.version,
                children: stat.children as u32,
            });
            let answer = Some((self.ended, Answered::Found(found)));
            Call { client: usize::MAX, znode, asked: Asked::Read, called: self.begun, answer }
        };
        (0..znodes).map(read).collect()
    }
}

/// The paths of all that is below these.
fn children(connection: &mut Connection, parents: &[String]) -> Outcome<Vec<String>> {
    let requests: Vec<_> = parents.iter().map(|path| Request::Children { path }).collect();
    let mut paths = Vec::new();
    for (parent, body) in parents.iter().zip(succeed(connection, &requests)?) {
        let Some(body) = body else { continue };
        let mut body = Answer(&body);
        for _ in 0..body.int()? {
            let name = body.text()?;
            // The keeper's own.
            if parent != "/" || name != "zookeeper" {
                paths.push(format!("{}/{name}", parent.trim_end_matches('/')));
            }
        }
    }
    Ok(paths)
}

/// The bodies of the answers; `None` if there is no such node.
fn succeed(
    connection: &mut Connection,
    requests: &[Request<'_>],
) -> io::Result<Vec<Option<Vec<u8>>>> {
    let mut bodies = Vec::new();
    for window in requests.chunks(WINDOW) {
        for answer in connection.ask(window)? {
            bodies.push(match answer {
                Ok(body) => Some(body),
                Err(Code::NO_NODE) => None,
                Err(code) => return Err(io::Error::other(format!("{code:?}"))),
            });
        }
    }
    Ok(bodies)
}
