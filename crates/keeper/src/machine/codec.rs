//! The bytes of commands and of the tree, as the log and the snapshot hold them.
//!
//! All numbers are big-endian. `text` is a u32 length and as many bytes of UTF-8; `data` is a u32
//! length and as many bytes, or the length `ffffffff` for null.
//!
//! ```text
//! commands   u32 count, then per command:
//!              i64 session, i64 attachment, identities, u8 request
//!              request 1 open session   u32 timeout_ms, 16 bytes of password
//!              request 2 close session  nothing
//!              request 4 attach         16 bytes of password
//!              request 5 sync           nothing
//!              request 6 sweep          u32 count, then texts: paths
//!              request 3 write          u32 count, then per operation u8 kind and
//!                kind 1 create   text path, data, acl, u8 mode (0 persistent, 1 ephemeral, 2 and 3
//!                                the same sequential, 4 container, 5 ttl, 6 ttl and sequential),
//!                                with a ttl i64 milliseconds
//!                kind 2 set      text path, data, i32 version
//!                kind 3 delete   text path, i32 version
//!                kind 4 check    text path, i32 version
//!                kind 5 set acl  text path, acl, i32 version
//!                kind 6 invalid  u8 error (0 bad arguments, 1 invalid acl), in the place of the path
//! tree       i64 last zxid, i64 number of the last attachment
//!            u32 count, then per session i64 id, i64 attachment, u32 timeout_ms, 16 bytes of password
//!            u64 count, then per node in the order of paths:
//!              text path, data, acl, i64 czxid, i64 mzxid, i64 pzxid, i64 ctime_ms, i64 mtime_ms,
//!              i32 version, i32 creates, i32 aversion, i64 owner, as ZooKeeper's stat has it
//! identities u32 count, then texts: scheme and id
//! acl        u32 count (0: everyone everything), then per entry i32 permissions, text scheme, text id
//! ```
//!
//! The files that hold them carry the version of this layout and a checksum. Decoding still trusts
//! nothing: it never panics, and it allocates no more than the input is long.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use super::acl::{AccessList, Acl, Identity};
use super::command::{Caller, Command, CreateMode, Error, Op, Request};
use super::node::{Life, Password, Session, SessionId, TTL_MS_MAX, Znode};
use super::path;
use super::tree::Tree;

const NULL_DATA: u32 = u32::MAX;

/// The bytes are not what this layout allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corrupt {
    /// What was being read.
    pub what: &'static str,
}

impl fmt::Display for Corrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unreadable {}", self.what)
    }
}

impl std::error::Error for Corrupt {}

/// Appends the encoding of `commands`.
pub fn encode_commands(commands: &[Command], out: &mut Vec<u8>) {
    put_u32(out, commands.len());
    for command in commands {
        out.extend_from_slice(&command.caller.session.0.to_be_bytes());
        out.extend_from_slice(&command.caller.attachment.to_be_bytes());
        put_u32(out, command.shown.len());
        command.shown.iter().for_each(|identity| put_identity(out, identity));
        match &command.request {
            Request::OpenSession { timeout_ms, password } => {
                out.push(1);
                out.extend_from_slice(&timeout_ms.to_be_bytes());
                out.extend_from_slice(&password.0);
            }
            Request::CloseSession => out.push(2),
            Request::Attach { password } => {
                out.push(4);
                out.extend_from_slice(&password.0);
            }
            Request::Sync => out.push(5),
            Request::Sweep(paths) => {
                out.push(6);
                put_u32(out, paths.len());
                paths.iter().for_each(|path| put_text(out, path));
            }
            Request::Write(ops) => {
                out.push(3);
                put_u32(out, ops.len());
                ops.iter().for_each(|op| encode_op(op, out));
            }
        }
    }
}

fn encode_op(op: &Op, out: &mut Vec<u8>) {
    match op {
        Op::Create { path, data, mode, acl } => {
            out.push(1);
            put_text(out, path);
            put_data(out, data.as_deref());
            put_acl(out, acl);
            let (mode, ttl_ms) = match mode {
                CreateMode::Persistent => (0, None),
                CreateMode::Ephemeral => (1, None),
                CreateMode::PersistentSequential => (2, None),
                CreateMode::EphemeralSequential => (3, None),
                CreateMode::Container => (4, None),
                CreateMode::Ttl(ms) => (5, Some(ms)),
                CreateMode::TtlSequential(ms) => (6, Some(ms)),
            };
            out.push(mode);
            ttl_ms.iter().for_each(|ms| out.extend_from_slice(&ms.to_be_bytes()));
        }
        Op::Set { path, data, version } => {
            out.push(2);
            put_text(out, path);
            put_data(out, data.as_deref());
            out.extend_from_slice(&version.to_be_bytes());
        }
        Op::Delete { path, version } => {
            out.push(3);
            put_text(out, path);
            out.extend_from_slice(&version.to_be_bytes());
        }
        Op::Check { path, version } => {
            out.push(4);
            put_text(out, path);
            out.extend_from_slice(&version.to_be_bytes());
        }
        Op::Invalid(error) => out.extend([6, u8::from(*error == Error::InvalidAcl)]),
        Op::SetAcl { path, acl, version } => {
            out.push(5);
            put_text(out, path);
            put_acl(out, acl);
            out.extend_from_slice(&version.to_be_bytes());
        }
    }
}

/// Reads what [`encode_commands`] wrote, to the end of `input`.
pub fn decode_commands(input: &[u8]) -> Result<Vec<Command>, Corrupt> {
    let mut input = Decoder::new(input, "command");
    let mut commands = Vec::new();
    for _ in 0..input.u32()? {
        let caller = Caller { session: SessionId(input.i64()?), attachment: input.i64()? };
        let mut shown = Vec::new();
        for _ in 0..input.u32()? {
            shown.push(input.identity()?);
        }
        let request = match input.u8()? {
            1 => Request::OpenSession {
                timeout_ms: input.u32()?,
                password: Password(input.array()?),
            },
            2 => Request::CloseSession,
            4 => Request::Attach { password: Password(input.array()?) },
            5 => Request::Sync,
            6 => {
                let mut paths = Vec::new();
                for _ in 0..input.u32()? {
                    paths.push(input.text()?.to_owned());
                }
                Request::Sweep(paths)
            }
            3 => {
                let mut ops = Vec::new();
                for _ in 0..input.u32()? {
                    ops.push(decode_op(&mut input)?);
                }
                Request::Write(ops)
            }
            _ => return Err(input.corrupt()),
        };
        commands.push(Command { caller, shown, request });
    }
    input.end()?;
    Ok(commands)
}

fn decode_op(input: &mut Decoder<'_>) -> Result<Op, Corrupt> {
    let kind = input.u8()?;
    if kind == 6 {
        let is_acl = input.u8()? == 1;
        return Ok(Op::Invalid(if is_acl { Error::InvalidAcl } else { Error::BadArguments }));
    }
    let path = input.text()?.to_owned();
    Ok(match kind {
        1 => Op::Create {
            path,
            data: input.data()?,
            acl: input.acl()?,
            mode: match input.u8()? {
                0 => CreateMode::Persistent,
                1 => CreateMode::Ephemeral,
                2 => CreateMode::PersistentSequential,
                3 => CreateMode::EphemeralSequential,
                4 => CreateMode::Container,
                5 => CreateMode::Ttl(input.ttl_ms()?),
                6 => CreateMode::TtlSequential(input.ttl_ms()?),
                _ => return Err(input.corrupt()),
            },
        },
        2 => Op::Set { path, data: input.data()?, version: input.i32()? },
        3 => Op::Delete { path, version: input.i32()? },
        4 => Op::Check { path, version: input.i32()? },
        5 => Op::SetAcl { path, acl: input.acl()?, version: input.i32()? },
        _ => return Err(input.corrupt()),
    })
}

/// Appends the encoding of `tree`.
pub fn encode_tree(tree: &Tree, out: &mut Vec<u8>) {
    encode_head(tree, out);
    tree.nodes.iter().for_each(|(path, node)| encode_node(path, node, out));
}

/// Appends what comes before the first node: i64 last zxid, i64 attachments, u32 count of sessions and
/// these, u64 count of nodes.
pub(super) fn encode_head(tree: &Tree, out: &mut Vec<u8>) {
    out.extend_from_slice(&tree.last_zxid.to_be_bytes());
    out.extend_from_slice(&tree.attachments.to_be_bytes());
    put_u32(out, tree.sessions.len());
    for (id, session) in &tree.sessions {
        out.extend_from_slice(&id.0.to_be_bytes());
        out.extend_from_slice(&session.attachment.to_be_bytes());
        out.extend_from_slice(&session.timeout_ms.to_be_bytes());
        out.extend_from_slice(&session.password.0);
    }
    out.extend_from_slice(&(tree.nodes.len() as u64).to_be_bytes());
}

/// Appends one node.
pub(super) fn encode_node(path: &str, node: &Znode, out: &mut Vec<u8>) {
    put_text(out, path);
    put_data(out, node.data.as_deref());
    put_acl(out, &node.acl);
    for number in [node.czxid, node.mzxid, node.pzxid, node.ctime_ms, node.mtime_ms] {
        out.extend_from_slice(&number.to_be_bytes());
    }
    out.extend_from_slice(&node.version.to_be_bytes());
    out.extend_from_slice(&node.creates.to_be_bytes());
    out.extend_from_slice(&node.aversion.to_be_bytes());
    out.extend_from_slice(&node.life.owner().0.to_be_bytes());
}

/// Reads what [`encode_tree`] wrote, to the end of `input`, and checks that it is a tree.
pub fn decode_tree(input: &[u8]) -> Result<Tree, Corrupt> {
    let mut input = Decoder::new(input, "tree");
    let (last_zxid, attachments) = (input.i64()?, input.i64()?);
    // Half of the range is left, so that counting on never overflows.
    let counts = 0..i64::MAX / 2;
    if !counts.contains(&last_zxid) || !counts.contains(&attachments) {
        return Err(input.corrupt());
    }
    let mut tree = Tree::bare(last_zxid, attachments);
    for _ in 0..input.u32()? {
        let (id, attachment) = (input.i64()?, input.i64()?);
        if !(1..=last_zxid).contains(&id) || !(1..=attachments).contains(&attachment) {
            return Err(input.corrupt());
        }
        let (timeout_ms, password) = (input.u32()?, Password(input.array()?));
        let session = Session { timeout_ms, password, attachment, ephemerals: BTreeSet::new() };
        tree.sessions.insert(SessionId(id), session);
    }
    for _ in 0..input.u64()? {
        let path = input.text()?;
        let node = Znode {
            data: input.data()?,
            acl: input.acl()?,
            czxid: input.i64()?,
            mzxid: input.i64()?,
            pzxid: input.i64()?,
            ctime_ms: input.i64()?,
            mtime_ms: input.i64()?,
            version: input.i32()?,
            creates: input.i32()?,
            aversion: input.i32()?,
            life: Life::of(SessionId(input.i64()?)),
            children: BTreeSet::new(),
        };
        if !path::is_valid(path) || !tree.insert(path, node) {
            return Err(input.corrupt());
        }
    }
    input.end()?;
    let is_tree = path::BUILT_IN.iter().all(|path| tree.nodes.contains_key(*path))
        && tree
            .nodes
            .values()
            .all(|node| !matches!(node.life, Life::Ephemeral(_)) || node.children.is_empty());
    if is_tree { Ok(tree) } else { Err(input.corrupt()) }
}

/// Appends a length or count.
///
/// # Panics
/// When it does not fit: what is encoded was bounded far below 4 GiB before.
pub fn put_u32(out: &mut Vec<u8>, number: usize) {
    let number = u32::try_from(number).expect("lengths are bounded before they are encoded");
    out.extend_from_slice(&number.to_be_bytes());
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_u32(out, text.len());
    out.extend_from_slice(text.as_bytes());
}

fn put_data(out: &mut Vec<u8>, data: Option<&[u8]>) {
    match data {
        None => out.extend_from_slice(&NULL_DATA.to_be_bytes()),
        Some(data) => {
            put_u32(out, data.len());
            out.extend_from_slice(data);
        }
    }
}

fn put_identity(out: &mut Vec<u8>, identity: &Identity) {
    put_text(out, &identity.scheme);
    put_text(out, &identity.id);
}

fn put_acl(out: &mut Vec<u8>, acl: &AccessList) {
    let list = if *acl == AccessList::default() { Vec::new() } else { acl.list() };
    put_u32(out, list.len());
    for Acl { permissions, identity } in &list {
        out.extend_from_slice(&permissions.to_be_bytes());
        put_identity(out, identity);
    }
}

/// Takes numbers and texts off the front of some bytes.
#[derive(Debug)]
pub struct Decoder<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Decoder<'a> {
    /// Reads `input`; `what` names it in errors.
    #[must_use]
    pub fn new(input: &'a [u8], what: &'static str) -> Self {
        Self { rest: input, what }
    }

    /// What is left.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The error of this input.
    #[must_use]
    pub fn corrupt(&self) -> Corrupt {
        Corrupt { what: self.what }
    }

    /// Demands that nothing is left.
    pub fn end(&self) -> Result<(), Corrupt> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.corrupt()) }
    }

    /// The next `len` bytes.
    pub fn bytes(&mut self, len: usize) -> Result<&'a [u8], Corrupt> {
        let (bytes, rest) = self.rest.split_at_checked(len).ok_or(self.corrupt())?;
        self.rest = rest;
        Ok(bytes)
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Corrupt> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(self.corrupt())?;
        self.rest = rest;
        Ok(*bytes)
    }

    /// The next byte.
    pub fn u8(&mut self) -> Result<u8, Corrupt> {
        self.array().map(u8::from_be_bytes)
    }

    /// The next four bytes.
    pub fn u32(&mut self) -> Result<u32, Corrupt> {
        self.array().map(u32::from_be_bytes)
    }

    /// The next eight bytes.
    pub fn u64(&mut self) -> Result<u64, Corrupt> {
        self.array().map(u64::from_be_bytes)
    }

    /// The next four bytes, signed.
    pub fn i32(&mut self) -> Result<i32, Corrupt> {
        self.array().map(i32::from_be_bytes)
    }

    /// The next eight bytes, signed.
    pub fn i64(&mut self) -> Result<i64, Corrupt> {
        self.array().map(i64::from_be_bytes)
    }

    fn text(&mut self) -> Result<&'a str, Corrupt> {
        let len = self.u32()? as usize;
        std::str::from_utf8(self.bytes(len)?).map_err(|_| self.corrupt())
    }

    fn identity(&mut self) -> Result<Identity, Corrupt> {
        Ok(Identity::new(self.text()?, self.text()?))
    }

    fn acl(&mut self) -> Result<AccessList, Corrupt> {
        let mut list = Vec::new();
        for _ in 0..self.u32()? {
            list.push(Acl { permissions: self.i32()?, identity: self.identity()? });
        }
        Ok(if list.is_empty() { AccessList::default() } else { AccessList::new(list) })
    }

    fn ttl_ms(&mut self) -> Result<i64, Corrupt> {
        let ms = self.i64()?;
        if (1..=TTL_MS_MAX).contains(&ms) { Ok(ms) } else { Err(self.corrupt()) }
    }

    fn data(&mut self) -> Result<Option<Arc<[u8]>>, Corrupt> {
        match self.u32()? {
            NULL_DATA => Ok(None),
            len => self.bytes(len as usize).map(|data| Some(Arc::from(data))),
        }
    }
}
