//! What Raft's log consists of.

use std::fmt;
use std::sync::Arc;

use super::membership::Membership;
use crate::machine::{Corrupt, Decoder, put_u32};

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
pub struct LogId {
    /// The term of the leader that made it.
    pub term: u64,
    /// Its number.
    pub index: u64,
}

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its place.
    pub id: LogId,
    /// What it holds.
    pub payload: Payload,
}

impl Entry {
    /// About how many bytes it takes in a log.
    #[must_use]
    pub fn bytes(&self) -> usize {
        const HEAD: usize = 32;
        match &self.payload {
            Payload::Normal(batch) => HEAD + batch.proposals.len(),
            Payload::Blank | Payload::Membership(_) => HEAD,
        }
    }
}

/// What an entry is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// Nothing: a new leader commits it, and with it all that is before it (Raft §5.4.2).
    Blank,
    /// Who belongs to the quorum from here on.
    Membership(Membership),
    /// Proposals for the tree.
    Normal(Batch),
}

/// Proposals that share an entry, and with it a flush.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The leader's wall time in milliseconds since 1970-01-01 UTC: the tree has no clock.
    pub time_ms: i64,
    /// The proposals in order, as [`crate::machine::encode_proposal`] wrote them.
    pub proposals: Arc<[u8]>,
}

/// Appends a LogId: u64 term, u64 index.
pub(crate) fn encode_log_id(id: LogId, out: &mut Vec<u8>) {
    out.extend_from_slice(&id.term.to_be_bytes());
    out.extend_from_slice(&id.index.to_be_bytes());
}

/// Reads what [`encode_log_id`] wrote.
pub(crate) fn decode_log_id(input: &mut Decoder<'_>) -> Result<LogId, Corrupt> {
    Ok(LogId { term: decode_count(input)?, index: decode_count(input)? })
}

/// Reads a term or an index. Half of the range is left, so that counting on never overflows.
pub(crate) fn decode_count(input: &mut Decoder<'_>) -> Result<u64, Corrupt> {
    let count = input.u64()?;
    if count < u64::MAX / 2 { Ok(count) } else { Err(input.corrupt()) }
}

/// Appends entries that follow on each other: u32 count, then per entry u64 term, u32 length and the
/// payload: u8 kind (0 blank, 1 membership, 2 normal) and what belongs to it: the membership, or i64
/// time_ms and the proposals.
pub(crate) fn encode_entries(entries: &[Entry], out: &mut Vec<u8>) {
    put_u32(out, entries.len());
    for entry in entries {
        out.extend_from_slice(&entry.id.term.to_be_bytes());
        let length_at = out.len();
        put_u32(out, 0);
        encode_payload(&entry.payload, out);
        let length = (out.len() - length_at - 4) as u32;
        out[length_at..length_at + 4].copy_from_slice(&length.to_be_bytes());
    }
}

/// Reads what [`encode_entries`] wrote, to the end of `input`. The first entry follows on `after`.
pub(crate) fn decode_entries(after: LogId, mut input: Decoder<'_>) -> Result<Vec<Entry>, Corrupt> {
    let (mut entries, mut last) = (Vec::new(), after);
    for _ in 0..input.u32()? {
        let id = LogId { term: decode_count(&mut input)?, index: last.index + 1 };
        if id.term < last.term {
            return Err(input.corrupt());
        }
        let length = input.u32()? as usize;
        let payload = decode_payload(Decoder::new(input.bytes(length)?, "entry"))?;
        entries.push(Entry { id, payload });
        last = id;
    }
    input.end()?;
    Ok(entries)
}

fn encode_payload(payload: &Payload, out: &mut Vec<u8>) {
    match payload {
        Payload::Blank => out.push(0),
        Payload::Membership(membership) => {
            out.push(1);
            membership.encode(out);
        }
        Payload::Normal(batch) => {
            out.push(2);
            out.extend_from_slice(&batch.time_ms.to_be_bytes());
            out.extend_from_slice(&batch.proposals);
        }
    }
}

fn decode_payload(mut input: Decoder<'_>) -> Result<Payload, Corrupt> {
    match input.u8()? {
        0 => input.end().map(|()| Payload::Blank),
        1 => {
            let membership = Membership::decode(&mut input)?;
            input.end().map(|()| Payload::Membership(membership))
        }
        2 => {
            let time_ms = input.i64()?;
            Ok(Payload::Normal(Batch { time_ms, proposals: input.rest().into() }))
        }
        _ => Err(input.corrupt()),
    }
}
