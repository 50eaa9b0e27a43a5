//! All that one voter sends to another.
//!
//! On the wire: u8 kind and what belongs to it, integers big-endian.

use std::sync::Arc;

use super::entry::{LogId, decode_count, decode_log_id, encode_log_id};
use super::message::Message;
use crate::machine::{Corrupt, Decoder, SessionId};

/// What one voter sends to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Letter {
    /// For Raft.
    Raft(Message),
    /// Proposals for the leader of a term, as [`crate::machine::encode_proposal`] wrote them.
    Propose {
        /// The term.
        term: u64,
        /// The proposals.
        proposals: Arc<[u8]>,
    },
    /// The answer of one who does not lead in that term: the proposals from the first to the last of
    /// these numbers went nowhere.
    Refused {
        /// The first number.
        first: u64,
        /// The last number.
        last: u64,
    },
    /// Clients of these sessions were heard of.
    Heard {
        /// The sessions.
        sessions: Vec<SessionId>,
    },
    /// Bytes of the leader's snapshot, for a voter whose log ends before the leader's begins.
    Part {
        /// The leader's term.
        term: u64,
        /// The last entry that the snapshot holds: its name.
        last: LogId,
        /// Where in it the bytes are.
        offset: u64,
        /// Nothing follows them.
        is_end: bool,
        /// The bytes.
        bytes: Arc<[u8]>,
    },
    /// Answers that: so many bytes of that snapshot are there.
    Got {
        /// The term.
        term: u64,
        /// The last entry that the snapshot holds.
        last: LogId,
        /// Where the next bytes belong.
        offset: u64,
    },
}

impl Letter {
    /// Appends the letter's bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Raft(message) => {
                out.push(0);
                message.encode(out);
            }
            Self::Propose { term, proposals } => {
                out.push(1);
                out.extend_from_slice(&term.to_be_bytes());
                out.extend_from_slice(proposals);
            }
            Self::Refused { first, last } => {
                out.push(2);
                out.extend_from_slice(&first.to_be_bytes());
                out.extend_from_slice(&last.to_be_bytes());
            }
            Self::Heard { sessions } => {
                out.push(5);
                sessions.iter().for_each(|id| out.extend_from_slice(&id.0.to_be_bytes()));
            }
            Self::Part { term, last, offset, is_end, bytes } => {
                out.push(3);
                out.extend_from_slice(&term.to_be_bytes());
                encode_log_id(*last, out);
                out.extend_from_slice(&offset.to_be_bytes());
                out.push(u8::from(*is_end));
                out.extend_from_slice(bytes);
            }
            Self::Got { term, last, offset } => {
                out.push(4);
                out.extend_from_slice(&term.to_be_bytes());
                encode_log_id(*last, out);
                out.extend_from_slice(&offset.to_be_bytes());
            }
        }
    }

    /// Reads what [`Letter::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Result<Self, Corrupt> {
        let mut input = Decoder::new(bytes, "letter");
        match input.u8()? {
            0 => Message::decode(input.rest()).map(Self::Raft),
            1 => {
                let term = decode_count(&mut input)?;
                Ok(Self::Propose { term, proposals: input.rest().into() })
            }
            2 => {
                let (first, last) = (input.u64()?, input.u64()?);
                input.end().map(|()| Self::Refused { first, last })
            }
            3 => {
                let (term, last) = (decode_count(&mut input)?, decode_log_id(&mut input)?);
                let (offset, is_end) = (decode_count(&mut input)?, input.u8()? != 0);
                Ok(Self::Part { term, last, offset, is_end, bytes: input.rest().into() })
            }
            4 => {
                let (term, last) = (decode_count(&mut input)?, decode_log_id(&mut input)?);
                let offset = decode_count(&mut input)?;
                input.end().map(|()| Self::Got { term, last, offset })
            }
            5 => {
                let mut sessions = Vec::new();
                while !input.rest().is_empty() {
                    sessions.push(SessionId(input.i64()?));
                }
                Ok(Self::Heard { sessions })
            }
            _ => Err(input.corrupt()),
        }
    }
}
