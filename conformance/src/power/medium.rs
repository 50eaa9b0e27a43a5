//! What a drive holds: the bytes that a read finds, and those that a power cut leaves.
//!
//! Owns: the rules of a drive with a write cache. A write is volatile until a flush that came after
//! it; a cut takes of the volatile writes what the dice say, sector by sector. Must not know: who
//! reads and writes, file systems.

use crate::noise::Noise;

/// What a drive writes as a whole or not at all, in bytes.
pub(crate) const SECTOR: usize = 512;

/// The bytes of a drive.
pub(crate) struct Medium {
    /// What reads find.
    content: Vec<u8>,
    /// What no cut takes.
    durable: Vec<u8>,
    /// The writes since the last flush, in order: where, and how long.
    volatile: Vec<(usize, Vec<u8>)>,
}

/// What a cut did to the writes that no flush had followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cut {
    /// Nothing of them is left.
    pub(crate) lost: usize,
    /// Some of their sectors are.
    pub(crate) torn: usize,
    /// They are there, perhaps without some that came before them.
    pub(crate) kept: usize,
}

impl Medium {
    /// A drive of `bytes` zeros.
    pub(crate) fn new(bytes: usize) -> Self {
        Self { content: vec![0; bytes], durable: vec![0; bytes], volatile: Vec::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.content.len()
    }

    /// The bytes at `at`, fewer at the end of the drive.
    pub(crate) fn read(&self, at: usize, length: usize) -> &[u8] {
        let start = at.min(self.len());
        &self.content[start..at.saturating_add(length).min(self.len())]
    }

    /// `None` if that is not on the drive.
    pub(crate) fn write(&mut self, at: usize, bytes: &[u8]) -> Option<()> {
        self.content.get_mut(at..at.checked_add(bytes.len())?)?.copy_from_slice(bytes);
        self.volatile.push((at, bytes.to_vec()));
        Some(())
    }

    /// Makes all that was written durable.
    pub(crate) fn flush(&mut self) {
        for (at, bytes) in self.volatile.drain(..) {
            self.durable[at..at + bytes.len()].copy_from_slice(&bytes);
        }
    }

    /// The power fails, and returns. Every volatile write is lost, kept or torn at its sectors,
    /// whatever became of the others. How many are lost is a draw of each cut: sometimes all.
    pub(crate) fn cut(&mut self, dice: &mut Noise) -> Cut {
        let mut cut = Cut::default();
        let lost_of_8 = 1 + dice.below(8);
        for (at, bytes) in std::mem::take(&mut self.volatile) {
            let sectors = sectors(at, bytes.len());
            let kept: Vec<bool> = if dice.below(8) < lost_of_8 {
                vec![false; sectors.len()]
            } else if dice.below(2) == 0 {
                vec![true; sectors.len()]
            } else {
                sectors.iter().map(|_| dice.below(2) == 0).collect()
            };
            match (kept.contains(&true), kept.contains(&false)) {
                (false, _) => cut.lost += 1,
                (true, true) => cut.torn += 1,
                (true, false) => cut.kept += 1,
            }
            for (sector, _) in sectors.iter().zip(kept).filter(|(_, kept)| *kept) {
                self.durable[sector.clone()]
                    .copy_from_slice(&bytes[sector.start - at..sector.end - at]);
            }
            self.content[at..at + bytes.len()].copy_from_slice(&self.durable[at..at + bytes.len()]);
        }
        cut
    }
}

/// The parts of a write that fall into one sector each.
fn sectors(at: usize, length: usize) -> Vec<std::ops::Range<usize>> {
    let end = at + length;
    let mut parts = Vec::new();
    let mut start = at;
    while start < end {
        let next = (start / SECTOR + 1) * SECTOR;
        parts.push(start..next.min(end));
        start = next;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEN: usize = 8 * SECTOR;

    /// `count` sectors of `byte` at `sector`.
    fn write(medium: &mut Medium, sector: usize, count: usize, byte: u8) {
        medium.write(sector * SECTOR, &vec![byte; count * SECTOR]).expect("on the drive");
    }

    /// The first byte of each sector.
    fn marks(medium: &Medium) -> Vec<u8> {
        (0..LEN / SECTOR).map(|sector| medium.read(sector * SECTOR, 1)[0]).collect()
    }

    #[test]
    fn what_was_flushed_survives_every_cut() {
        for seed in 0..200 {
            let mut medium = Medium::new(LEN);
            write(&mut medium, 0, 4, 1);
            medium.flush();
            write(&mut medium, 2, 4, 2);
            assert_eq!(marks(&medium), [1, 1, 2, 2, 2, 2, 0, 0], "reads find what was written");
            medium.cut(&mut Noise(seed));
            let left = marks(&medium);
            assert_eq!(left[..2], [1, 1], "seed {seed}");
            assert!(left[2..4].iter().all(|byte| [1, 2].contains(byte)), "seed {seed}: {left:?}");
            assert!(left[4..6].iter().all(|byte| [0, 2].contains(byte)), "seed {seed}: {left:?}");
        }
    }

    #[test]
    fn volatile_writes_are_lost_kept_torn_and_reordered() {
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let mut medium = Medium::new(LEN);
            write(&mut medium, 0, 1, 1);
            write(&mut medium, 4, 2, 2);
            medium.cut(&mut Noise(seed));
            let left = marks(&medium);
            seen.insert((left[0], left[4], left[5]));
        }
        for expected in [(0, 0, 0), (1, 2, 2), (1, 0, 0), (0, 2, 2), (0, 2, 0), (0, 0, 2)] {
            assert!(seen.contains(&expected), "{expected:?} in {seen:?}");
        }
    }

    #[test]
    fn a_cut_is_the_same_for_the_same_seed_and_leaves_nothing_volatile() {
        let cut = |seed| {
            let mut medium = Medium::new(LEN);
            (0..8).for_each(|sector| write(&mut medium, sector, 1, 9));
            let cut = medium.cut(&mut Noise(seed));
            assert_eq!(cut.lost + cut.torn + cut.kept, 8);
            let left = marks(&medium);
            assert_eq!(medium.cut(&mut Noise(seed)), Cut::default());
            assert_eq!(left, marks(&medium));
            left
        };
        assert_eq!(cut(7), cut(7));
    }

    #[test]
    fn a_drive_has_an_end() {
        let mut medium = Medium::new(LEN);
        assert_eq!(medium.write(LEN - 1, &[1, 1]), None);
        assert_eq!(medium.write(usize::MAX, &[1]), None);
        assert_eq!(medium.read(LEN - 1, 4), [0]);
        assert!(medium.read(usize::MAX, 4).is_empty());
    }
}
