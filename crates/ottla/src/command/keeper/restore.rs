//! `ottla keeper restore`.

use std::path::PathBuf;

use clap::Args;
use ottla_keeper::shell::{RestoreError, make_directory, read_backup};
use ottla_runtime::World;

use super::open_failure;
use crate::exit::{Failure, Outcome};
use crate::terminal::print_all;

/// The keeper or broker that is started on the directory is the only voter of a new quorum, to which
/// others are added ("ottla keeper add"). It has nothing to do with the quorum that the backup is of:
/// stop that one first. Sessions end, and clients are told so.
#[derive(Args, Debug)]
pub(super) struct Restore {
    /// What "ottla keeper snapshot --to" saved, or the file "snapshot" of a keeper's directory
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The directory: new, or empty. That of a broker is __cluster_metadata-1 in its first log.dirs
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
}

impl Restore {
    pub(super) fn run(self) -> Outcome {
        let disk = World::system().disk;
        let tree = read_backup(&*disk, &self.file).map_err(open_failure)?;
        let (nodes, zxid) = (tree.len(), tree.last_zxid());
        make_directory(&disk, &self.data_dir, tree).map_err(failure)?;
        let (dir, file) = (self.data_dir.display(), self.file.display());
        print_all(&format!(
            "{dir} has the {nodes} nodes of {file}, as of zxid {zxid:#x}. Start its keeper, which is \
             the only voter of a new quorum, and add others to it.\n"
        ))
    }
}

/// Why there is no directory.
pub(super) fn failure(error: RestoreError) -> Failure {
    match error {
        RestoreError::Open(error) => open_failure(error),
        error @ (RestoreError::NotAlone { .. } | RestoreError::NotEmpty { .. }) => {
            Failure::usage(error)
        }
    }
}
