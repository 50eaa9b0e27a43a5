//! What tools ask, and whom the voter talks to.

use std::io;

use tokio::sync::oneshot;
use tracing::info;

use super::{Core, Round};
use crate::machine::quorum::{Change, LogId, Membership};
use crate::shell::contacts::Refusal;
use crate::shell::tool::{Answer, Ask, Contact, Description, Part, Told};

impl Core {
    /// Answers a tool.
    pub(super) fn steer(
        &mut self,
        round: &Round<'_>,
        ask: Ask,
        answer: oneshot::Sender<Answer>,
    ) -> io::Result<()> {
        let told = match ask {
            Ask::Describe => Ok(Told::Description(self.describe(round))),
            Ask::Found(membership) => self.found(round, &membership)?.map(|()| Told::Done),
            Ask::Change(change) => self.change(round, &change).map(|()| Told::Done),
            Ask::Snapshot => {
                self.begin_snapshot(round)?;
                self.snapshot_wanted.push(answer);
                return Ok(());
            }
            Ask::Part { last, offset } => self.part(last, offset).map(Told::Part),
            Ask::HandOver => match self.member.hand_over(round.now) {
                Some(_) => Ok(Told::Done),
                None => Err("it does not lead, or no other voter is heard of".to_owned()),
            },
        };
        // A tool that has gone need not know.
        let _ = answer.send(told);
        Ok(())
    }

    /// Whether its log names nobody.
    pub(in crate::shell) fn is_waiting(&self) -> bool {
        self.member.membership().is_empty()
    }

    fn describe(&self, round: &Round<'_>) -> Description {
        let membership = self.member.membership();
        let others = membership.peers.iter().map(|(peer, _)| peer.voter.id);
        let contact = |id| Contact {
            id,
            is_heard: self.member.is_heard(id, round.now),
            matched: self.member.matched(id),
            refusal: round.peers.refusal(id).map(|refusal| Refusal::why(refusal).to_owned()),
        };
        Description {
            own: round.contacts.lock().own().clone(),
            membership: membership.clone(),
            changed: self.member.changed(),
            term: self.member.term(),
            leader: self.member.leader(round.now),
            last: self.member.last().index,
            committed: self.member.committed(),
            zxid: round.served.tree().last_zxid(),
            contacts: others.filter(|&id| id != self.id).map(contact).collect(),
        }
    }

    fn part(&self, wanted: Option<LogId>, offset: u64) -> Result<Part, String> {
        let last = self.storage.snapshot();
        if last == LogId::default() {
            return Err("it has not written a snapshot yet".to_owned());
        }
        if wanted.is_some_and(|wanted| wanted != last) {
            return Err("another snapshot has taken its place".to_owned());
        }
        let (bytes, is_end) = self.storage.read_part(offset).map_err(|error| error.to_string())?;
        Ok(Part { last, is_end, bytes })
    }

    fn found(
        &mut self,
        round: &Round<'_>,
        membership: &Membership,
    ) -> io::Result<Result<(), String>> {
        let own = round.contacts.lock().own().voter;
        if !self.storage.is_new() {
            return Ok(Err("its directory belongs to a quorum already".to_owned()));
        }
        if !membership.is_founding() {
            return Ok(Err("a quorum begins with an id and with voters alone".to_owned()));
        }
        if membership.peer(own.id).is_none_or(|(peer, _)| peer.voter != own) {
            return Ok(Err("the quorum would not have it, as the voter that it is".to_owned()));
        }
        let founding = self.storage.found(membership)?;
        self.member.found(round.now, founding);
        info!(quorum = %membership.quorum, voters = membership.peers.len(), "the quorum is founded");
        Ok(Ok(()))
    }

    fn change(&mut self, round: &Round<'_>, change: &Change) -> Result<(), String> {
        let begun = self.member.change(round.now, change).map_err(|refused| refused.to_string())?;
        info!(?change, entry = begun.index, "a change of the quorum begins");
        Ok(())
    }

    /// Keeps the log's word for where voters listen true: one who calls from elsewhere has moved.
    pub(super) fn note_moved(&mut self, round: &Round<'_>) {
        let moved = round.contacts.lock().moved();
        if let Some(moved) = moved {
            // What stands against it now may not stand against it the next time.
            let _ = self.change(round, &Change::Add(moved));
        }
    }

    /// Dials whom the log names and who calls.
    pub(super) fn note_contacts(&self, round: &Round<'_>, has_called: bool) {
        let mut contacts = round.contacts.lock();
        if contacts.note_membership(self.member.changed(), self.member.membership()) || has_called {
            round.peers.set_book(contacts.book());
        }
    }
}
