//! What can go wrong, one enum per kind of work.

use std::fmt;
use std::time::Duration;

use ottla_connection::{CallError, ConnectError};
use ottla_protocol::ErrorCode;
use ottla_record::Offset;

use crate::TopicPartition;

/// A broker's "no".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What it answered.
    pub code: ErrorCode,
    /// Its own words, if it had any.
    pub message: Option<String>,
}

impl Refusal {
    /// `Ok` for NONE.
    pub(crate) fn check(code: i16, message: Option<&str>) -> Result<(), Self> {
        match ErrorCode(code) {
            ErrorCode::NONE => Ok(()),
            code => Err(Self { code, message: message.map(str::to_owned) }),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.message {
            Some(message) => write!(f, "{message} ({})", self.code),
            None => self.code.fmt(f),
        }
    }
}

impl std::error::Error for Refusal {}

impl From<ErrorCode> for Refusal {
    fn from(code: ErrorCode) -> Self {
        Self { code, message: None }
    }
}

/// Why one attempt to ask a broker failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestError {
    /// None of the bootstrap addresses answered, and no other broker is known; this is how the
    /// first one failed. It is not retried: more likely than not the address is wrong, or nothing
    /// runs there.
    Bootstrap(ConnectError),
    /// There is no connection to it.
    Connect(ConnectError),
    /// It did not answer, or not as it should.
    Call(CallError),
    /// It refused.
    Refused(Refusal),
}

impl RequestError {
    /// Whether another attempt, perhaps at another broker, may succeed.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Bootstrap(_) => false,
            Self::Connect(error) => !matches!(error, ConnectError::Address { .. }),
            Self::Call(error) => matches!(error, CallError::TimedOut { .. } | CallError::Closed(_)),
            Self::Refused(refusal) => refusal.code.is_retriable(),
        }
    }

    /// Whether there was no broker to ask.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Bootstrap(_) | Self::Connect(_))
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bootstrap(error) | Self::Connect(error) => error.fmt(f),
            Self::Call(error) => error.fmt(f),
            Self::Refused(refusal) => refusal.fmt(f),
        }
    }
}

impl std::error::Error for RequestError {}

impl From<ConnectError> for RequestError {
    fn from(error: ConnectError) -> Self {
        Self::Connect(error)
    }
}

impl From<CallError> for RequestError {
    fn from(error: CallError) -> Self {
        Self::Call(error)
    }
}

impl From<Refusal> for RequestError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<ErrorCode> for RequestError {
    fn from(code: ErrorCode) -> Self {
        Self::Refused(code.into())
    }
}

/// Why a record was not delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SendError {
    /// The record alone is larger than `max.request.size`.
    RecordTooLarge {
        /// The size of the record.
        bytes: usize,
        /// The bound.
        max: usize,
    },
    /// The topic has no partition with this number.
    NoSuchPartition {
        /// What was asked for.
        partition: i32,
        /// How many the topic has, counted from 0.
        count: usize,
    },
    /// `buffer.memory` was full of undelivered records for `max.block.ms`.
    BufferFull {
        /// The bound.
        after: Duration,
    },
    /// The topic could not be looked up, or the batch was refused for good.
    Request(RequestError),
    /// Retrying went on for `delivery.timeout.ms`. With acks other than 0 the records may have been
    /// written even so.
    DeliveryTimeout {
        /// The bound.
        after: Duration,
        /// How the last attempt failed.
        last: RequestError,
    },
    /// The producer was dropped before the record was sent.
    Closed,
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RecordTooLarge { bytes, max } => {
                write!(f, "a record of {bytes} bytes is above the limit of {max}")
            }
            Self::NoSuchPartition { partition, count } => {
                write!(f, "there is no partition {partition}: the topic has {count}, from 0")
            }
            Self::BufferFull { after } => {
                write!(f, "the buffer was full of undelivered records for {after:?}")
            }
            Self::Request(error) => error.fmt(f),
            Self::DeliveryTimeout { after, last } => {
                write!(f, "not delivered within {after:?}; the last attempt: {last}")
            }
            Self::Closed => f.write_str("the producer was closed before the record was sent"),
        }
    }
}

impl std::error::Error for SendError {}

impl From<RequestError> for SendError {
    fn from(error: RequestError) -> Self {
        Self::Request(error)
    }
}

/// Why a consumer cannot go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConsumeError {
    /// The position lies outside of the partition's log, and the consumer was not told to start
    /// elsewhere then.
    OffsetOutOfRange {
        /// The partition.
        partition: TopicPartition,
        /// The position.
        offset: Offset,
    },
    /// A batch's bytes are not what its checksum or its format says.
    Corrupt {
        /// The partition.
        partition: TopicPartition,
        /// The position that was read from.
        offset: Offset,
        /// What is wrong.
        reason: String,
    },
    /// The broker or the group's coordinator could not be asked, or refused.
    Request(RequestError),
    /// The generation in which the offsets were consumed is over: the partitions may belong to
    /// another member, which will get the records again.
    CommitOutdated,
}

impl fmt::Display for ConsumeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OffsetOutOfRange { partition, offset } => {
                write!(f, "offset {offset} of {partition} is not in the log")
            }
            Self::Corrupt { partition, offset, reason } => {
                write!(f, "the batch at offset {offset} of {partition} is corrupt: {reason}")
            }
            Self::Request(error) => error.fmt(f),
            Self::CommitOutdated => {
                f.write_str("the group has rebalanced: these offsets cannot be committed any more")
            }
        }
    }
}

impl std::error::Error for ConsumeError {}

impl From<RequestError> for ConsumeError {
    fn from(error: RequestError) -> Self {
        Self::Request(error)
    }
}
