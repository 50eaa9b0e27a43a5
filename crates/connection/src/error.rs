//! What can go wrong with a connection, in words that say what to do.

use std::fmt;
use std::io;
use std::time::Duration;

use ottla_protocol::{ApiKey, DecodeError, EncodeError, ErrorCode, VersionRange};

use crate::Closed;

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectError {
    /// The address is not `host:port`.
    Address {
        /// What was given.
        address: String,
    },
    /// Nothing listens there.
    Refused {
        /// What was dialled.
        address: String,
    },
    /// The name is unknown, or the network does not reach it.
    Unreachable {
        /// What was dialled.
        address: String,
        /// The operating system's words.
        reason: String,
    },
    /// Neither a connection nor a refusal came in time.
    TimedOut {
        /// What was dialled.
        address: String,
        /// The bound.
        after: Duration,
    },
    /// Something listens there that did not answer ApiVersions as a broker does.
    Handshake {
        /// What was dialled.
        address: String,
        /// How the first call failed.
        reason: CallError,
    },
    /// The broker refused ApiVersions.
    Refusal {
        /// What was dialled.
        address: String,
        /// The broker's answer.
        code: ErrorCode,
    },
}

impl ConnectError {
    pub(crate) fn from_io(address: &str, error: &io::Error) -> Self {
        let address = address.to_owned();
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused { address },
            _ => Self::Unreachable { address, reason: error.to_string() },
        }
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address { address } => {
                write!(f, "{address:?} is not HOST:PORT, for example localhost:9092")
            }
            Self::Refused { address } => write!(
                f,
                "connection refused at {address}: is the broker running? start it with \"ottla start\""
            ),
            Self::Unreachable { address, reason } => {
                write!(f, "cannot connect to {address}: {reason}")
            }
            Self::TimedOut { address, after } => {
                write!(f, "cannot connect to {address}: no answer within {after:?}")
            }
            Self::Handshake { address, reason } => write!(
                f,
                "{address} does not answer as a Kafka broker: {reason}; \
                 is it the right port, and a PLAINTEXT listener?"
            ),
            Self::Refusal { address, code } => {
                write!(f, "the broker at {address} refuses the connection: {code}")
            }
        }
    }
}

impl std::error::Error for ConnectError {}

/// Why a call has no response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallError {
    /// The broker has no version of the api that we have.
    NoCommonVersion {
        /// The api.
        api: ApiKey,
        /// The versions that were acceptable here.
        ours: VersionRange,
        /// The broker's; `None` if it does not serve the api at all.
        theirs: Option<VersionRange>,
    },
    /// The request has no form in the version that both have: a mistake of the caller.
    Encode {
        /// The api.
        api: ApiKey,
        /// The version.
        version: i16,
        /// The field that does not fit.
        reason: EncodeError,
    },
    /// No response came in time. The connection was closed.
    TimedOut {
        /// The api.
        api: ApiKey,
        /// The bound.
        after: Duration,
    },
    /// The connection ended before the response came. The request may have been carried out.
    Closed(Closed),
    /// The response is not what its api and version promise.
    Malformed {
        /// The api.
        api: ApiKey,
        /// The version.
        version: i16,
        /// The field that is wrong.
        reason: DecodeError,
    },
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCommonVersion { api, ours, theirs: Some(theirs) } => write!(
                f,
                "the broker has versions {} to {} of {api:?}, and {} to {} are needed",
                theirs.min, theirs.max, ours.min, ours.max
            ),
            Self::NoCommonVersion { api, theirs: None, .. } => {
                write!(f, "the broker does not serve {api:?}")
            }
            Self::Encode { api, version, reason } => {
                write!(f, "cannot write {api:?} v{version}: {reason}")
            }
            Self::TimedOut { api, after } => {
                write!(f, "the broker did not answer {api:?} within {after:?}")
            }
            Self::Closed(reason) => reason.fmt(f),
            Self::Malformed { api, version, reason } => {
                write!(f, "the response to {api:?} v{version} is malformed: {reason}")
            }
        }
    }
}

impl std::error::Error for CallError {}

impl From<Closed> for CallError {
    fn from(reason: Closed) -> Self {
        Self::Closed(reason)
    }
}
