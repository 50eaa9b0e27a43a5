//! Which log directory a new log goes to.

use ottla_runtime::disk::Space;

/// Below so many free bytes, or below this share of the disk, a directory counts as nearly full.
const FREE_BYTES_MIN: u64 = 1 << 30;
const FREE_SHARE_MIN: u64 = 50;

/// A directory that works.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate {
    /// How many logs it holds, copies on their way to it included.
    pub(crate) logs: usize,
    /// Its room, where the system tells.
    pub(crate) space: Option<Space>,
}

impl Candidate {
    fn is_nearly_full(&self) -> bool {
        self.space.is_some_and(|space| {
            space.usable_bytes < FREE_BYTES_MIN.max(space.total_bytes / FREE_SHARE_MIN)
        })
    }
}

/// Chooses a directory by its index: the preferred one if it works (KIP-113), else the one with the
/// fewest logs among those with room, the first of equals. `None` stands for one that is offline.
pub(crate) fn choose(directories: &[Option<Candidate>], preferred: Option<usize>) -> Option<usize> {
    if let Some(index) = preferred
        && directories.get(index).is_some_and(Option::is_some)
    {
        return Some(index);
    }
    let online = directories.iter().enumerate();
    let online = online.filter_map(|(index, candidate)| Some((index, candidate.as_ref()?)));
    let (index, _) = online.min_by_key(|(_, at)| (at.is_nearly_full(), at.logs))?;
    Some(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn with(logs: usize, usable_gib: u64) -> Option<Candidate> {
        let space = Space { total_bytes: 100 * GIB, usable_bytes: usable_gib * GIB };
        Some(Candidate { logs, space: Some(space) })
    }

    #[test]
    fn the_fewest_logs_win_among_those_that_work_and_have_room() {
        let unknown = Some(Candidate { logs: 1, space: None });
        for (directories, preferred, chosen) in [
            (vec![with(3, 50), with(2, 50), with(2, 50)], None, Some(1)),
            (vec![with(3, 50), None, with(4, 50)], None, Some(0)),
            (vec![with(9, 50), with(0, 1), with(7, 2)], None, Some(2)),
            (vec![with(9, 1), with(8, 1)], None, Some(1)),
            (vec![with(9, 50), unknown], None, Some(1)),
            (vec![with(0, 50), with(5, 1)], Some(1), Some(1)),
            (vec![with(1, 50), None], Some(1), Some(0)),
            (vec![with(1, 50)], Some(7), Some(0)),
            (vec![None, None], Some(1), None),
        ] {
            assert_eq!(choose(&directories, preferred), chosen, "{directories:?} {preferred:?}");
        }
    }

    #[test]
    fn a_small_disk_keeps_a_gib_free() {
        let space = |usable_bytes| Space { total_bytes: 10 * GIB, usable_bytes };
        let at = |usable| Candidate { logs: 0, space: Some(space(usable)) };
        assert!(at(GIB - 1).is_nearly_full() && !at(GIB).is_nearly_full());
    }
}
