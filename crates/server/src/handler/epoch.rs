//! The leader epoch that a request claims to know (KIP-320).

use ottla_protocol::ErrorCode;
use ottla_record::LeaderEpoch;
use ottla_replication::Partition;

/// Compares the epoch that a client knows with the one that this broker leads in.
pub(crate) fn check_leader_epoch(
    partition: &Partition,
    known: LeaderEpoch,
) -> Result<(), ErrorCode> {
    if known == LeaderEpoch::NONE {
        return Ok(());
    }
    match known.cmp(&partition.leader_epoch()) {
        std::cmp::Ordering::Less => Err(ErrorCode::FENCED_LEADER_EPOCH),
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Greater => Err(ErrorCode::UNKNOWN_LEADER_EPOCH),
    }
}
