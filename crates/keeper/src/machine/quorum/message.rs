//! What voters say to each other. Who says it is known from the connection.
//!
//! A message on the wire: u8 kind and what belongs to it, integers big-endian.

use super::entry::{
    Entry, LogId, decode_count, decode_entries, decode_log_id, encode_entries, encode_log_id,
};
use crate::machine::{Corrupt, Decoder};

/// A message of Raft. Each may be lost, doubled, or come late.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Asks for a vote in `term`; with `is_trial`, whether there would be one.
    AskVote {
        /// The term.
        term: u64,
        /// Where the log of the one who asks ends.
        last: LogId,
        /// Nothing is decided by the answer.
        is_trial: bool,
    },
    /// Answers that. Of a refusal, `term` is the voter's own.
    Vote {
        /// The term.
        term: u64,
        /// Whether it votes so.
        is_granted: bool,
        /// Nothing is decided by this.
        is_trial: bool,
    },
    /// The leader's entries behind `after`, or none to let hear from it.
    Append {
        /// The leader's term.
        term: u64,
        /// The highest index that is committed.
        committed: u64,
        /// The entry that these follow on.
        after: LogId,
        /// The entries.
        entries: Vec<Entry>,
    },
    /// Answers that: where the log of the voter ends.
    Appended {
        /// The voter's term.
        term: u64,
        /// Its last entry.
        last: LogId,
    },
    /// The leader is about to stop, and asks this voter to campaign at once.
    TakeOver {
        /// The leader's term.
        term: u64,
    },
}

impl Message {
    /// Appends the message's bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::AskVote { term, last, is_trial } => {
                out.extend([0, u8::from(*is_trial)]);
                out.extend(term.to_be_bytes());
                encode_log_id(*last, out);
            }
            Self::Vote { term, is_granted, is_trial } => {
                out.extend([1, u8::from(*is_trial), u8::from(*is_granted)]);
                out.extend(term.to_be_bytes());
            }
            Self::Append { term, committed, after, entries } => {
                out.push(2);
                out.extend(term.to_be_bytes());
                out.extend(committed.to_be_bytes());
                encode_log_id(*after, out);
                encode_entries(entries, out);
            }
            Self::Appended { term, last } => {
                out.push(3);
                out.extend(term.to_be_bytes());
                encode_log_id(*last, out);
            }
            Self::TakeOver { term } => {
                out.push(4);
                out.extend(term.to_be_bytes());
            }
        }
    }

    /// Reads what [`Message::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Result<Self, Corrupt> {
        let mut input = Decoder::new(bytes, "message");
        let message = match input.u8()? {
            0 => {
                let is_trial = input.u8()? != 0;
                let (term, last) = (decode_count(&mut input)?, decode_log_id(&mut input)?);
                Self::AskVote { term, last, is_trial }
            }
            1 => {
                let (is_trial, is_granted) = (input.u8()? != 0, input.u8()? != 0);
                Self::Vote { term: decode_count(&mut input)?, is_granted, is_trial }
            }
            2 => {
                let (term, committed) = (decode_count(&mut input)?, decode_count(&mut input)?);
                let after = decode_log_id(&mut input)?;
                let entries = decode_entries(after, Decoder::new(input.rest(), "message"))?;
                return Ok(Self::Append { term, committed, after, entries });
            }
            3 => {
                let (term, last) = (decode_count(&mut input)?, decode_log_id(&mut input)?);
                Self::Appended { term, last }
            }
            4 => Self::TakeOver { term: decode_count(&mut input)? },
            _ => return Err(input.corrupt()),
        };
        input.end().map(|()| message)
    }
}
