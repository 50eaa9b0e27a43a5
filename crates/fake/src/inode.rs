//! A file of the disk in memory: what readers see of it, and what a power cut may leave.
//!
//! A disk writes sectors, in any order. Of what was written since the last sync, a power cut leaves
//! in each sector the bytes of some moment since, and of all lengths that the file had since, one.
//! A sector within that length of which nothing reached the disk reads as zeros.

use std::sync::Arc;

use crate::random::Dice;

/// What a disk writes whole or not at all, in bytes.
const SECTOR: usize = 512;

/// The content of a file.
#[derive(Clone, Default)]
pub(crate) struct Inode {
    /// What readers see.
    content: Vec<u8>,
    /// What is on the disk for sure.
    durable: Vec<u8>,
    /// Changes since the last sync, in order.
    unsynced: Vec<Change>,
}

/// A change of a file.
#[derive(Clone)]
pub(crate) enum Change {
    /// Bytes at a position.
    Write { at: usize, bytes: Arc<[u8]> },
    /// Another length, with zeros where the file grows.
    SetLen(usize),
}

impl Change {
    pub(crate) fn write(at: usize, bytes: &[u8]) -> Self {
        Self::Write { at, bytes: bytes.into() }
    }

    fn apply(&self, content: &mut Vec<u8>) {
        content.resize(self.len_after(content.len()), 0);
        if let Self::Write { at, bytes } = self {
            content[*at..at + bytes.len()].copy_from_slice(bytes);
        }
    }

    /// The length of the file that was `len` bytes long before.
    fn len_after(&self, len: usize) -> usize {
        match self {
            Self::SetLen(len) => *len,
            Self::Write { at, bytes } => len.max(at + bytes.len()),
        }
    }

    /// What the change does to the sector that begins at `start`.
    fn apply_to_sector(&self, start: usize, sector: &mut [u8; SECTOR]) {
        match self {
            Self::SetLen(len) => sector[len.saturating_sub(start).min(SECTOR)..].fill(0),
            Self::Write { at, bytes } => {
                let from = start.max(*at);
                let to = (start + SECTOR).min(at + bytes.len());
                if from < to {
                    sector[from - start..to - start].copy_from_slice(&bytes[from - at..to - at]);
                }
            }
        }
    }
}

impl Inode {
    /// A file of which all is durable.
    pub(crate) fn durable(content: Vec<u8>) -> Self {
        Self { durable: content.clone(), content, unsynced: Vec::new() }
    }

    pub(crate) fn content(&self) -> &[u8] {
        &self.content
    }

    pub(crate) fn change(&mut self, change: Change) {
        change.apply(&mut self.content);
        self.unsynced.push(change);
    }

    /// Flips one bit, also of what is durable.
    pub(crate) fn flip_bit(&mut self, at: usize) {
        self.content[at] ^= 1;
        if let Some(byte) = self.durable.get_mut(at) {
            *byte ^= 1;
        }
        if !self.unsynced.is_empty() {
            // What is still to be written is written with it.
            self.unsynced.push(Change::write(at, &[self.content[at]]));
        }
    }

    /// How many changes a sync that begins now covers.
    pub(crate) fn unsynced(&self) -> usize {
        self.unsynced.len()
    }

    /// Makes the first `covered` of the changes durable.
    pub(crate) fn sync(&mut self, covered: usize) {
        for change in self.unsynced.drain(..covered.min(self.unsynced.len())) {
            change.apply(&mut self.durable);
        }
    }

    /// A sync failed. As in Linux, what it was to write counts as written from here on: readers see
    /// it, and no later sync writes it.
    pub(crate) fn fail_sync(&mut self, dice: &mut Dice) {
        self.durable = self.after_power_cut(dice);
        self.unsynced.clear();
    }

    /// The kernel forgets what a failed sync did not write, as it may do at any time.
    pub(crate) fn evict(&mut self) {
        let mut content = self.durable.clone();
        self.unsynced.iter().for_each(|change| change.apply(&mut content));
        self.content = content;
    }

    /// What a power cut leaves.
    pub(crate) fn after_power_cut(&self, dice: &mut Dice) -> Vec<u8> {
        let count = self.unsynced.len();
        let known = dice.up_to(count);
        // Independent dice would seldom show the plain cases.
        let version: &mut dyn FnMut() -> usize = match dice.roll(4) {
            0 => return self.durable.clone(),
            1 => return self.content_after(count),
            2 => &mut || known.saturating_sub(dice.up_to(1)),
            _ => &mut || dice.up_to(count),
        };
        let mut content = vec![0; self.len_after(known)];
        for (n, sector) in content.chunks_mut(SECTOR).enumerate() {
            let left = self.sector_after(n * SECTOR, version(), known);
            sector.copy_from_slice(&left[..sector.len()]);
        }
        content
    }

    fn content_after(&self, changes: usize) -> Vec<u8> {
        let mut content = self.durable.clone();
        self.unsynced[..changes].iter().for_each(|change| change.apply(&mut content));
        content
    }

    fn len_after(&self, changes: usize) -> usize {
        let changes = self.unsynced[..changes].iter();
        changes.fold(self.durable.len(), |len, change| change.len_after(len))
    }

    /// The sector that begins at `start` as it was after `version` changes, where the disk knows the
    /// length after `known` changes: bytes that were cut off before do not come back.
    fn sector_after(&self, start: usize, version: usize, known: usize) -> [u8; SECTOR] {
        let mut sector = [0; SECTOR];
        let durable = self.durable.get(start..).unwrap_or_default();
        let durable = &durable[..durable.len().min(SECTOR)];
        sector[..durable.len()].copy_from_slice(durable);
        for (n, change) in self.unsynced[..version.max(known)].iter().enumerate() {
            if n < version || matches!(change, Change::SetLen(_)) {
                change.apply_to_sector(start, &mut sector);
            }
        }
        sector
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn write(inode: &mut Inode, at: usize, byte: u8, len: usize) {
        inode.change(Change::write(at, &vec![byte; len]));
    }

    /// The first byte of each sector, for many power cuts.
    fn found(inode: &Inode) -> BTreeSet<Vec<u8>> {
        let cut = |seed| {
            let content = inode.after_power_cut(&mut Dice::new(seed));
            content.chunks(SECTOR).map(|sector| sector[0]).collect()
        };
        (0..500).map(cut).collect()
    }

    #[test]
    fn any_subset_of_the_sectors_written_since_the_last_sync_may_be_on_the_disk() {
        let mut inode = Inode::durable(vec![1; 2 * SECTOR]);
        write(&mut inode, 0, 2, 2 * SECTOR);
        let all = [[1, 1], [1, 2], [2, 1], [2, 2]].map(|sectors| sectors.to_vec());
        assert_eq!(found(&inode), all.into());
        inode.sync(1);
        assert_eq!(found(&inode), [vec![2, 2]].into());
    }

    #[test]
    fn a_lost_sector_within_the_length_reads_as_zeros() {
        let mut inode = Inode::default();
        write(&mut inode, 0, 1, SECTOR);
        write(&mut inode, SECTOR, 2, SECTOR);
        let all: [&[u8]; 7] = [&[], &[0], &[1], &[0, 0], &[0, 2], &[1, 0], &[1, 2]];
        assert_eq!(found(&inode), all.map(<[u8]>::to_vec).into());
    }

    #[test]
    fn what_was_cut_off_does_not_come_back_behind_what_was_written_there() {
        let mut inode = Inode::durable(vec![1; SECTOR]);
        inode.change(Change::SetLen(10));
        write(&mut inode, 10, 2, SECTOR - 10);
        for seed in 0..500 {
            let content = inode.after_power_cut(&mut Dice::new(seed));
            let tail = &content[10.min(content.len())..];
            let is_of_one_time = tail.iter().all(|byte| *byte == tail[0]);
            assert!(is_of_one_time && content[..10] == [1; 10], "seed {seed}: {content:?}");
        }
    }

    #[test]
    fn a_sync_covers_what_was_written_before_it_began() {
        let mut inode = Inode::default();
        write(&mut inode, 0, 1, 1);
        let covered = inode.unsynced();
        write(&mut inode, 0, 2, 1);
        inode.sync(covered);
        assert_eq!(found(&inode), [vec![1], vec![2]].into());
    }

    #[test]
    fn what_a_failed_sync_lost_no_later_one_writes() {
        let mut lost = 0;
        for seed in 0..50 {
            let mut inode = Inode::default();
            write(&mut inode, 0, 1, 1);
            inode.fail_sync(&mut Dice::new(seed));
            write(&mut inode, 1, 2, 1);
            inode.sync(1);
            assert_eq!(inode.content(), [1, 2]);
            inode.evict();
            lost += usize::from(inode.content() == [0, 2]);
        }
        assert!((1..50).contains(&lost), "lost in {lost} of 50");
    }
}
