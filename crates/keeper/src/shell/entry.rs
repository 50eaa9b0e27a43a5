//! What Raft's log consists of.

use std::fmt;

use crate::machine::{Command, Corrupt, Decoder, decode_commands, encode_commands, put_u32};

/// The number of a voter, unique in its quorum.
pub type VoterId = u64;

/// The id of the directory that a voter keeps its log in: a voter whose disk was replaced is
/// another one, and must not vote twice in a term.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DirectoryId(pub [u8; 16]);

impl fmt::Debug for DirectoryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// One who votes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Voter {
    /// Who.
    pub id: VoterId,
    /// With which log.
    pub directory: DirectoryId,
}

/// The place of an entry: the index counts from 1, and `(0, 0)` is before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LogId {
    pub(super) term: u64,
    pub(super) index: u64,
}

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) id: LogId,
    pub(super) payload: Payload,
}

/// What an entry is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Payload {
    /// Nothing: a new leader commits it, and with it all that is before it (Raft §5.4.2).
    Blank,
    /// Who votes from here on.
    Membership(Vec<Voter>),
    /// Commands for the tree, in order; they share one flush and nothing else.
    Normal(Vec<Command>),
}

/// Appends a LogId: u64 term, u64 index.
pub(super) fn encode_log_id(id: LogId, out: &mut Vec<u8>) {
    out.extend_from_slice(&id.term.to_be_bytes());
    out.extend_from_slice(&id.index.to_be_bytes());
}

/// Reads what [`encode_log_id`] wrote.
pub(super) fn decode_log_id(input: &mut Decoder<'_>) -> Result<LogId, Corrupt> {
    Ok(LogId { term: decode_count(input)?, index: decode_count(input)? })
}

/// Reads a term or an index. Half of the range is left, so that counting on never overflows.
pub(super) fn decode_count(input: &mut Decoder<'_>) -> Result<u64, Corrupt> {
    let count = input.u64()?;
    if count < u64::MAX / 2 { Ok(count) } else { Err(input.corrupt()) }
}

/// Appends voters: u32 count, then per voter u64 id and 16 bytes of directory id.
pub(super) fn encode_voters(voters: &[Voter], out: &mut Vec<u8>) {
    put_u32(out, voters.len());
    for voter in voters {
        out.extend_from_slice(&voter.id.to_be_bytes());
        out.extend_from_slice(&voter.directory.0);
    }
}

/// Reads what [`encode_voters`] wrote.
pub(super) fn decode_voters(input: &mut Decoder<'_>) -> Result<Vec<Voter>, Corrupt> {
    let mut voters = Vec::new();
    for _ in 0..input.u32()? {
        voters.push(Voter { id: input.u64()?, directory: DirectoryId(input.array()?) });
    }
    Ok(voters)
}

/// Appends a payload: u8 kind (0 blank, 1 membership, 2 normal) and what belongs to it.
pub(super) fn encode_payload(payload: &Payload, out: &mut Vec<u8>) {
    match payload {
        Payload::Blank => out.push(0),
        Payload::Membership(voters) => {
            out.push(1);
            encode_voters(voters, out);
        }
        Payload::Normal(commands) => {
            out.push(2);
            encode_commands(commands, out);
        }
    }
}

/// Reads what [`encode_payload`] wrote, to the end of `input`.
pub(super) fn decode_payload(mut input: Decoder<'_>) -> Result<Payload, Corrupt> {
    match input.u8()? {
        0 => input.end().map(|()| Payload::Blank),
        1 => {
            let voters = decode_voters(&mut input)?;
            input.end().map(|()| Payload::Membership(voters))
        }
        2 => decode_commands(input.rest()).map(Payload::Normal),
        _ => Err(input.corrupt()),
    }
}
