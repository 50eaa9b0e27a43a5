//! `ottla keeper recover`.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use ottla_keeper::shell::{RecoverError, Remains, Survivor};
use ottla_runtime::World;

use super::open_failure;
use crate::exit::{Failure, Outcome};
use crate::terminal::{confirm, print_all};

/// For a quorum of which most voters are gone for good: with a majority it needs no recovery. What the
/// lost voters had acknowledged and this one has not got is lost. Stop what is left of the quorum
/// first; of several directories, recover the one whose last term, and then last entry, is the
/// greatest, and take the others in with new ones ("ottla keeper add").
#[derive(Args, Debug)]
pub(super) struct Recover {
    /// The directory of a voter that is left, and stopped. That of a broker is __cluster_metadata-1 in
    /// its first log.dirs
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// Tell what there is and what would be lost, and do nothing
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
    /// Do it without asking
    #[arg(long)]
    yes: bool,
}

impl Recover {
    pub(super) fn run(self) -> Outcome {
        let disk = World::system().disk;
        let survivor = Survivor::open(&disk, &self.data_dir).map_err(failure)?;
        print_all(&to_text(survivor.remains()))?;
        if self.dry_run {
            return Ok(());
        }
        if !self.yes {
            confirm("Let it begin a quorum of its own with what it has?")?;
        }
        survivor.leave().map_err(open_failure)?;
        print_all(
            "It has left its quorum. Start its keeper, which is the only voter of a new one, and add \
             others to it, with new directories.\n",
        )
    }
}

fn failure(error: RecoverError) -> Failure {
    match error {
        RecoverError::Open(error) => open_failure(error),
        error => Failure::usage(error),
    }
}

/// What there is, what is left behind, and what that may cost.
fn to_text(it: &Remains) -> String {
    let Remains { membership, last, committed, .. } = it;
    let mut out = format!("quorum     {}\n", membership.quorum);
    for (peer, _) in &membership.peers {
        let (id, directory) = (peer.voter.id, peer.voter.directory);
        let whose = if it.directory == Some(directory) { ": this one" } else { "" };
        // Writing to a string does not fail.
        let _ =
            writeln!(out, "member     {id} at {}, directory {directory:?}{whose}", peer.address);
    }
    let _ = writeln!(
        out,
        "last       entry {} of term {}, zxid {:#x}, {} nodes",
        last.index, last.term, it.zxid, it.nodes
    );
    if committed.index < last.index {
        let _ = writeln!(
            out,
            "kept       entries {} to {} (zxid above {:#x}), of which it is not known here whether they \
             were committed",
            committed.index + 1,
            last.index,
            it.committed_zxid
        );
    }
    let _ = writeln!(
        out,
        "lost       what the other members have acknowledged behind entry {}, zxid {:#x}, if anything\n\
         ended      {} sessions, with their ephemeral nodes",
        last.index, it.zxid, it.sessions
    );
    out
}

#[cfg(test)]
mod tests {
    use ottla_keeper::machine::quorum::LogId;
    use ottla_keeper::{DirectoryId, Membership, Peer, QuorumId, Voter};

    use super::*;

    #[test]
    fn what_it_costs_is_told() {
        let peer = |id: u8| Peer {
            voter: Voter { id: id.into(), directory: DirectoryId([id; 16]) },
            address: format!("h{id}:2888"),
        };
        let remains = Remains {
            directory: Some(DirectoryId([2; 16])),
            membership: Membership::of(QuorumId([9; 16]), [peer(1), peer(2)]),
            last: LogId { term: 7, index: 20 },
            zxid: 0x1f,
            committed: LogId { term: 7, index: 18 },
            committed_zxid: 0x1d,
            sessions: 3,
            nodes: 40,
        };
        let ids = ["01", "02"].map(|byte| byte.repeat(16));
        assert_eq!(
            to_text(&remains),
            format!(
                "quorum     {}\n\
                 member     1 at h1:2888, directory {}\n\
                 member     2 at h2:2888, directory {}: this one\n\
                 last       entry 20 of term 7, zxid 0x1f, 40 nodes\n\
                 kept       entries 19 to 20 (zxid above 0x1d), of which it is not known here whether \
                 they were committed\n\
                 lost       what the other members have acknowledged behind entry 20, zxid 0x1f, if \
                 anything\n\
                 ended      3 sessions, with their ephemeral nodes\n",
                "09".repeat(16),
                ids[0],
                ids[1]
            )
        );
        let settled = Remains { committed: remains.last, ..remains };
        assert!(!to_text(&settled).contains("kept"));
    }
}
