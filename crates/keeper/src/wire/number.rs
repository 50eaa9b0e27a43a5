//! The numbers of ZooKeeper's protocol, and the heads between the operations of a multi.

use super::jute::{Reader, Write};
use crate::machine::Corrupt;

/// Types of requests, which are those of the operations in a multi too.
#[allow(missing_docs, reason = "the names are ZooKeeper's")]
pub mod op {
    pub const CREATE: i32 = 1;
    pub const DELETE: i32 = 2;
    pub const EXISTS: i32 = 3;
    pub const GET_DATA: i32 = 4;
    pub const SET_DATA: i32 = 5;
    pub const GET_ACL: i32 = 6;
    pub const SET_ACL: i32 = 7;
    pub const GET_CHILDREN: i32 = 8;
    pub const SYNC: i32 = 9;
    pub const PING: i32 = 11;
    pub const GET_CHILDREN2: i32 = 12;
    pub const CHECK: i32 = 13;
    pub const MULTI: i32 = 14;
    pub const CREATE2: i32 = 15;
    pub const RECONFIG: i32 = 16;
    pub const CHECK_WATCHES: i32 = 17;
    pub const REMOVE_WATCHES: i32 = 18;
    pub const CREATE_CONTAINER: i32 = 19;
    pub const CREATE_TTL: i32 = 21;
    pub const MULTI_READ: i32 = 22;
    pub const AUTH: i32 = 100;
    pub const SET_WATCHES: i32 = 101;
    pub const SASL: i32 = 102;
    pub const GET_EPHEMERALS: i32 = 103;
    pub const GET_ALL_CHILDREN_NUMBER: i32 = 104;
    pub const SET_WATCHES2: i32 = 105;
    pub const ADD_WATCH: i32 = 106;
    pub const WHO_AM_I: i32 = 107;
    pub const CLOSE_SESSION: i32 = -11;
    /// In answers alone, in the place of an operation that was not done.
    pub const ERROR: i32 = -1;
}

/// Numbers that stand for a kind of answer in the place of the one that a request was given.
#[allow(missing_docs, reason = "the names are ZooKeeper's")]
pub mod xid {
    pub const EVENT: i32 = -1;
    pub const PING: i32 = -2;
    pub const AUTH: i32 = -4;
}

/// Error codes.
#[allow(missing_docs, reason = "the names are ZooKeeper's")]
pub mod code {
    use crate::machine::Error;

    pub const OK: i32 = 0;
    pub const SYSTEM_ERROR: i32 = -1;
    pub const RUNTIME_INCONSISTENCY: i32 = -2;
    pub const MARSHALLING: i32 = -5;
    pub const UNIMPLEMENTED: i32 = -6;
    pub const BAD_ARGUMENTS: i32 = -8;
    pub const NO_NODE: i32 = -101;
    pub const NO_AUTH: i32 = -102;
    pub const BAD_VERSION: i32 = -103;
    pub const NO_CHILDREN_FOR_EPHEMERALS: i32 = -108;
    pub const NODE_EXISTS: i32 = -110;
    pub const NOT_EMPTY: i32 = -111;
    pub const SESSION_EXPIRED: i32 = -112;
    pub const INVALID_ACL: i32 = -114;
    pub const AUTH_FAILED: i32 = -115;
    pub const SESSION_MOVED: i32 = -118;
    pub const NO_WATCHER: i32 = -121;
    pub const RECONFIG_DISABLED: i32 = -123;
    pub const SESSION_CLOSED_REQUIRE_SASL_AUTH: i32 = -124;
    pub const QUOTA_EXCEEDED: i32 = -125;

    /// What can be wrong with an operation.
    const ERRORS: [Error; 10] = [
        Error::NoNode,
        Error::NodeExists,
        Error::BadVersion,
        Error::NotEmpty,
        Error::NoChildrenForEphemerals,
        Error::NoAuth,
        Error::InvalidAcl,
        Error::BadArguments,
        Error::SessionExpired,
        Error::SessionMoved,
    ];

    /// The error of an operation that `code` stands for; `None` if it tells of something else.
    #[must_use]
    pub fn error(code: i32) -> Option<Error> {
        ERRORS.into_iter().find(|error| of(*error) == code)
    }

    /// The code of an operation's error.
    #[must_use]
    pub const fn of(error: Error) -> i32 {
        match error {
            Error::NoNode => NO_NODE,
            Error::NodeExists => NODE_EXISTS,
            Error::BadVersion => BAD_VERSION,
            Error::NotEmpty => NOT_EMPTY,
            Error::NoChildrenForEphemerals => NO_CHILDREN_FOR_EPHEMERALS,
            Error::NoAuth => NO_AUTH,
            Error::InvalidAcl => INVALID_ACL,
            Error::BadArguments => BAD_ARGUMENTS,
            Error::SessionExpired => SESSION_EXPIRED,
            Error::SessionMoved => SESSION_MOVED,
        }
    }
}

/// Appends the head of an operation in a multi: its type, and in an answer its code (in a request
/// -1).
pub fn put_multi_head(out: &mut Vec<u8>, op: i32, code: i32) {
    out.i32(op);
    out.bool(false);
    out.i32(code);
}

/// Appends the end of a multi.
pub fn put_multi_end(out: &mut Vec<u8>) {
    out.i32(-1);
    out.bool(true);
    out.i32(-1);
}

/// The type of the next operation of a multi; `None` at its end.
pub fn read_multi_head(body: &mut Reader<'_>) -> Result<Option<i32>, Corrupt> {
    let (op, is_end, _) = (body.i32()?, body.bool()?, body.i32()?);
    Ok((!is_end).then_some(op))
}
