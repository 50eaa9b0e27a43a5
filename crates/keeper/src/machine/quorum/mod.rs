//! One voter of the quorum that orders the commands: Raft, as a machine.
//!
//! Owns: what the library `noraft` leaves to its user: what the entries hold, when to campaign and
//! whom to ask before (pre-vote, Raft's dissertation §9.6), and when a leader that hears of no
//! majority falls silent. Must not know: clocks, files, sockets. Time and the numbers that are drawn
//! come in; what is to be written and sent goes out as [`Effects`].

mod entry;
mod letter;
mod member;
mod membership;
mod message;
mod payloads;
mod timing;

pub use entry::{Batch, DirectoryId, Entry, LogId, Payload, Voter, VoterId};
pub(crate) use entry::{
    decode_count, decode_entries, decode_log_id, encode_entries, encode_log_id,
};
pub use letter::Letter;
pub use member::{Appended, Contradiction, Effects, HardState, Member, Remembered};
pub use membership::{Change, ChangeRefused, Membership, Peer, QuorumId, Standing};
pub use message::Message;
pub use timing::Timing;
