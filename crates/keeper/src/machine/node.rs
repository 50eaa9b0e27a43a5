//! One znode and what is told about it.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use super::acl::AccessList;

/// The number of a change: each command takes the next one, from 1.
pub type Zxid = i64;

/// A client's session. It is the zxid of the command that opened it, so no two are ever equal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub i64);

impl SessionId {
    /// No session: the owner of a persistent node.
    pub const NONE: Self = Self(0);
    /// No session either: the owner of a container.
    pub const CONTAINER: Self = Self(i64::MIN);
}

/// The first byte of what stands for the owner of a node with a time to live; that follows.
const TTL: i64 = 0xff << 56;

/// The longest time to live in milliseconds, as in ZooKeeper.
pub const TTL_MS_MAX: i64 = 0xff_ffff_ffff;

/// When a node goes, beside when it is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    Persistent,
    Ephemeral(SessionId),
    /// Some time after its last child.
    Container,
    /// When it has no children and was not written for so long.
    Ttl {
        ms: i64,
    },
}

impl Life {
    /// ZooKeeper keeps the life of a node in the field of the session that owns it.
    pub(super) fn owner(self) -> SessionId {
        match self {
            Self::Persistent => SessionId::NONE,
            Self::Ephemeral(session) => session,
            Self::Container => SessionId::CONTAINER,
            Self::Ttl { ms } => SessionId(TTL | ms),
        }
    }

    pub(super) fn of(owner: SessionId) -> Self {
        match owner {
            SessionId::NONE => Self::Persistent,
            SessionId::CONTAINER => Self::Container,
            SessionId(raw) if raw & TTL == TTL => Self::Ttl { ms: raw & !TTL },
            session => Self::Ephemeral(session),
        }
    }
}

/// What a client shows to go on with its session; whoever knows it is the client.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Password(pub [u8; 16]);

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(_)")
    }
}

/// A session as the tree holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Session {
    pub(super) timeout_ms: u32,
    pub(super) password: Password,
    /// The number of its last attachment; the first is its opening.
    pub(super) attachment: i64,
    /// The paths of its ephemeral nodes.
    pub(super) ephemerals: BTreeSet<Box<str>>,
}

/// What ZooKeeper tells about a node; the fields and their meaning are its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// The change that created the node.
    pub czxid: Zxid,
    /// The change that last wrote its data.
    pub mzxid: Zxid,
    /// The change that last added or removed a child; at first the node's own creation.
    pub pzxid: Zxid,
    /// When it was created, in milliseconds since 1970-01-01 UTC.
    pub ctime_ms: i64,
    /// When its data was last written, in milliseconds since 1970-01-01 UTC.
    pub mtime_ms: i64,
    /// How often its data was written since the creation.
    pub version: i32,
    /// How often a child was created or deleted.
    pub cversion: i32,
    /// How often its access list was written.
    pub aversion: i32,
    /// The session that owns an ephemeral node, else [`SessionId::NONE`].
    pub ephemeral_owner: SessionId,
    /// Bytes of data; 0 for null data too.
    pub data_length: i32,
    /// How many children there are.
    pub num_children: i32,
}

/// A node as it was at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its data; null and empty are two things.
    pub data: Option<Arc<[u8]>>,
    /// What is told about it.
    pub stat: Stat,
}

/// A node as the tree holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Znode {
    /// Null and empty data are two things, as in ZooKeeper.
    pub(super) data: Option<Arc<[u8]>>,
    pub(super) czxid: Zxid,
    pub(super) mzxid: Zxid,
    pub(super) pzxid: Zxid,
    pub(super) ctime_ms: i64,
    pub(super) mtime_ms: i64,
    pub(super) version: i32,
    /// How many children were ever created: the counter of sequential names. Deletions do not
    /// count, and it wraps where ZooKeeper's does.
    pub(super) creates: i32,
    pub(super) aversion: i32,
    pub(super) acl: AccessList,
    pub(super) life: Life,
    /// The last component of each child's path.
    pub(super) children: BTreeSet<Box<str>>,
}

impl Znode {
    pub(super) fn new(
        data: Option<Arc<[u8]>>,
        acl: AccessList,
        life: Life,
        zxid: Zxid,
        time_ms: i64,
    ) -> Self {
        Self {
            data,
            acl,
            aversion: 0,
            czxid: zxid,
            mzxid: zxid,
            pzxid: zxid,
            ctime_ms: time_ms,
            mtime_ms: time_ms,
            version: 0,
            creates: 0,
            life,
            children: BTreeSet::new(),
        }
    }

    pub(super) fn stat(&self) -> Stat {
        let num_children = self.children.len() as i32;
        Stat {
            czxid: self.czxid,
            mzxid: self.mzxid,
            pzxid: self.pzxid,
            ctime_ms: self.ctime_ms,
            mtime_ms: self.mtime_ms,
            version: self.version,
            // Creations plus deletions, where deletions = creations - living children.
            cversion: self.creates.wrapping_mul(2).wrapping_sub(num_children),
            aversion: self.aversion,
            ephemeral_owner: match self.life {
                Life::Ephemeral(session) => session,
                Life::Persistent | Life::Container | Life::Ttl { .. } => SessionId::NONE,
            },
            data_length: self.data.as_ref().map_or(0, |data| data.len() as i32),
            num_children,
        }
    }
}
