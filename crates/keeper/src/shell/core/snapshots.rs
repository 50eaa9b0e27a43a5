//! Snapshots: own ones that are written, and those of a leader on their way to who lags behind its log.

use std::io;
use std::time::Duration;

use super::{Core, Round};
use crate::machine::quorum::{Letter, LogId, VoterId};
use crate::shell::served::Served;
use crate::shell::tool::Told;

/// After so long without an answer, a part of a snapshot is sent again.
const PART_AGAIN: Duration = Duration::from_secs(1);

/// How far another voter is with this one's snapshot.
#[derive(Clone, Copy)]
pub(super) struct Progress {
    last: LogId,
    offset: u64,
    sent: Duration,
}

impl Core {
    /// Begins to put the tree into a snapshot.
    pub(super) fn begin_snapshot(&mut self, round: &Round<'_>) -> io::Result<()> {
        round.served.change(|tree, _| self.storage.begin_snapshot(tree))
    }

    /// Whether there is work that is done between rounds, a bit at a time.
    pub(in crate::shell) fn is_working(&self) -> bool {
        self.stopped.is_none() && self.storage.is_working()
    }

    /// Does some of that work. Blocks on the disk.
    pub(in crate::shell) fn work(&mut self, served: &Served) {
        let member = &self.member;
        let mut part = |part: &mut Vec<u8>| served.write_out(part);
        match self.storage.work(&mut part, |last| member.entries_behind(last)) {
            Ok(None) => {}
            Ok(Some(last)) => {
                self.member.note_snapshot(last);
                for waiting in self.snapshot_wanted.drain(..) {
                    // A tool that has gone need not know.
                    let _ = waiting.send(Ok(Told::Done));
                }
            }
            Err(error) => {
                self.stop(&error);
                served.drop_all();
            }
        }
    }

    /// Sends the next part of the snapshot to a voter, unless it was sent a moment ago.
    pub(super) fn send_snapshot(
        &mut self,
        now: Duration,
        to: VoterId,
        letters: &mut Vec<(VoterId, Letter)>,
    ) -> io::Result<()> {
        let last = self.storage.snapshot();
        let progress = self.lagging.get(&to).filter(|progress| progress.last == last);
        let offset = match progress {
            Some(progress) if now < progress.sent + PART_AGAIN => return Ok(()),
            progress => progress.map_or(0, |progress| progress.offset),
        };
        self.send_part(now, to, offset, letters)
    }

    fn send_part(
        &mut self,
        now: Duration,
        to: VoterId,
        offset: u64,
        letters: &mut Vec<(VoterId, Letter)>,
    ) -> io::Result<()> {
        let (term, last) = (self.member.term(), self.storage.snapshot());
        self.lagging.insert(to, Progress { last, offset, sent: now });
        let (bytes, is_end) = self.storage.read_part(offset)?;
        let part = Letter::Part { term, last, offset, is_end, bytes: bytes.into() };
        letters.push((to, part));
        Ok(())
    }

    /// Goes on with what another voter has of this one's snapshot.
    pub(super) fn note_got(
        &mut self,
        now: Duration,
        from: VoterId,
        (term, last, offset): (u64, LogId, u64),
        letters: &mut Vec<(VoterId, Letter)>,
    ) -> io::Result<()> {
        let is_current = term == self.member.term() && last == self.storage.snapshot();
        if !is_current || !self.member.leads(now) || !self.lagging.contains_key(&from) {
            return Ok(());
        }
        if self.storage.is_whole(offset) {
            self.lagging.remove(&from);
            return Ok(());
        }
        self.send_part(now, from, offset, letters)
    }

    /// Takes a part of the leader's snapshot, and the snapshot in the place of tree and log when
    /// that was the last one.
    pub(super) fn take_part(
        &mut self,
        round: &Round<'_>,
        from: VoterId,
        letter: &Letter,
        letters: &mut Vec<(VoterId, Letter)>,
    ) -> io::Result<()> {
        let &Letter::Part { term, last, offset, is_end, ref bytes } = letter else { return Ok(()) };
        if !self.member.wants_snapshot(term, last) {
            return Ok(());
        }
        // What a tree takes in memory is more than it takes in a file.
        let bytes_max = 2 * round.limits.tree_bytes as u64;
        let mut got = self.storage.take_part(last, offset, bytes, bytes_max)?;
        if is_end && got == offset + bytes.len() as u64 {
            let member = &self.member;
            match self.storage.install(last, |last| member.entries_behind(last))? {
                Some((tree, membership)) => {
                    round.served.change(|served, _| *served = tree);
                    self.snapshot_wanted.clear();
                    // Nobody can tell them what changed.
                    round.served.drop_all();
                    self.member.install(round.now, (from, term), last, &membership);
                    // What of the own proposals is in it, it does not tell.
                    self.give_up();
                }
                None => got = 0,
            }
        }
        letters.push((from, Letter::Got { term, last, offset: got }));
        Ok(())
    }
}
