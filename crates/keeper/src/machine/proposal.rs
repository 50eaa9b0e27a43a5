//! What one voter asks to be put into the log, and how its answer finds back to it.

use super::codec::{Corrupt, Decoder, decode_commands, put_u32};
use super::command::Command;
use super::quorum::VoterId;

/// Who waits for the outcomes of a proposal. Every voter applies it; this one tells its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    /// The voter whose client it is.
    pub voter: VoterId,
    /// Its own number for it, which it uses for no other, not even after a restart.
    pub number: u64,
}

/// Commands that are applied one right after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// Who waits for the outcomes.
    pub origin: Origin,
    /// The commands, each done or refused on its own.
    pub commands: Vec<Command>,
}

/// Appends a proposal: u64 voter, u64 number, u32 length and the commands, as
/// [`super::encode_commands`] wrote them.
pub fn encode_proposal(origin: Origin, commands: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&origin.voter.to_be_bytes());
    out.extend_from_slice(&origin.number.to_be_bytes());
    put_u32(out, commands.len());
    out.extend_from_slice(commands);
}

/// Reads all that [`encode_proposal`] wrote, to the end of `input`.
pub fn decode_proposals(input: &[u8]) -> Result<Vec<Proposal>, Corrupt> {
    let mut input = Decoder::new(input, "proposal");
    let mut proposals = Vec::new();
    while !input.rest().is_empty() {
        let origin = Origin { voter: input.u64()?, number: input.u64()? };
        let length = input.u32()? as usize;
        proposals.push(Proposal { origin, commands: decode_commands(input.bytes(length)?)? });
    }
    Ok(proposals)
}
