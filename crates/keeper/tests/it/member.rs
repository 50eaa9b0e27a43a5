//! One voter, and what it makes of a single message.

use std::time::Duration;

use ottla_keeper::machine::quorum::{
    Batch, Entry, HardState, LogId, Member, Message, Payload, Remembered,
};
use ottla_keeper::{DirectoryId, Membership, Peer, QuorumId, Timing, Voter, VoterId};

const NOW: Duration = Duration::from_secs(10);

fn voter(id: VoterId) -> Voter {
    Voter { id, directory: DirectoryId([id as u8; 16]) }
}

fn founding() -> Entry {
    let peers = (1..=3).map(|id| Peer { voter: voter(id), address: format!("host-{id}:1") });
    let payload = Payload::Membership(Membership::of(QuorumId([9; 16]), peers));
    Entry { id: LogId { term: 0, index: 1 }, payload }
}

/// The entry that the leader of a term began with.
fn beginning(term: u64, index: u64) -> Entry {
    Entry { id: LogId { term, index }, payload: Payload::Blank }
}

/// Voter 1 of three, in a term, with entries behind the first.
fn member(term: u64, entries: impl IntoIterator<Item = Entry>) -> Member {
    let hard_state = HardState { term, voted_for: None };
    let entries = [founding()].into_iter().chain(entries).collect();
    let remembered = Remembered { hard_state, entries, ..Remembered::default() };
    Member::new(voter(1), remembered, Timing::default(), 1, NOW).expect("the terms ascend")
}

/// The same, leading the next term, with all of its log on another voter too.
fn leader(term: u64) -> Member {
    let mut member = member(term, []);
    member.tick(member.deadline());
    let granted = |is_trial| Message::Vote { term: term + 1, is_granted: true, is_trial };
    let now = member.deadline().min(NOW + Duration::from_millis(500));
    for is_trial in [true, false] {
        member.receive(now, 2, granted(is_trial)).unwrap();
        member.effects(now);
    }
    let last = member.last();
    member.receive(now, 2, Message::Appended { term: term + 1, last }).unwrap();
    member.effects(now);
    assert!(member.leads(now));
    member
}

#[test]
fn what_is_committed_counts_no_further_than_what_the_leader_shows() {
    // Of its own log, all that it has in common with the leader's is the second entry: the leader sends
    // no more at first.
    let mut member = member(2, [beginning(1, 2), beginning(2, 3)]);
    let after = LogId { term: 1, index: 2 };
    let shown = Message::Append { term: 3, committed: 3, after, entries: Vec::new() };
    member.receive(NOW, 2, shown).unwrap();
    assert!(!member.effects(NOW).committed.contains(&beginning(2, 3)));
    // The entry that was committed comes in the place of its own.
    let shown = Message::Append { term: 3, committed: 3, after, entries: vec![beginning(3, 3)] };
    member.receive(NOW, 2, shown).unwrap();
    let committed = member.effects(NOW).committed;
    assert_eq!(committed, [founding(), beginning(1, 2), beginning(3, 3)]);
}

#[test]
fn what_a_leader_learns_to_be_committed_it_says_at_once() {
    let mut leader = leader(4);
    let now = NOW + Duration::from_millis(500);
    let batch = Batch { time_ms: 0, proposals: b"x"[..].into() };
    let proposed = leader.propose(now, batch).expect("it leads");
    leader.effects(now);
    leader.receive(now, 2, Message::Appended { term: 5, last: proposed }).unwrap();
    let told = leader.effects(now).messages.into_iter().filter_map(|(to, message)| match message {
        Message::Append { committed, .. } => Some((to, committed)),
        _ => None,
    });
    assert_eq!(told.collect::<Vec<_>>(), [(2, proposed.index), (3, proposed.index)]);
    assert!(leader.effects(now).messages.is_empty(), "it says so once");
}

/// The answers to a trial.
fn granted(member: &mut Member, now: Duration, term: u64, last: LogId) -> Vec<bool> {
    member.receive(now, 2, Message::AskVote { term, last, is_trial: true }).unwrap();
    let answers =
        member.effects(now).messages.into_iter().filter_map(|(_, message)| match message {
            Message::Vote { is_granted, is_trial: true, .. } => Some(is_granted),
            _ => None,
        });
    answers.collect()
}

#[test]
fn a_leader_that_hears_only_of_who_looks_for_one_gives_way() {
    let mut leader = leader(4);
    let ahead = LogId { term: 6, index: leader.last().index };
    let mut now = NOW + Duration::from_secs(2);
    for _ in 0..5 {
        assert_eq!(granted(&mut leader, now, 7, ahead), [true]);
        assert!(!leader.leads(now), "nobody follows it");
        now += Duration::from_millis(100);
    }
}

#[test]
fn a_leader_that_fell_silent_speaks_to_who_is_behind_it() {
    let mut leader = leader(4);
    let now = NOW + Duration::from_secs(2);
    leader.tick(now);
    let appends = |leader: &mut Member, now| {
        let messages = leader.effects(now).messages;
        messages.iter().filter(|(_, message)| matches!(message, Message::Append { .. })).count()
    };
    assert_eq!(appends(&mut leader, now), 0, "it hears of nobody");
    let behind = LogId { term: 0, index: 1 };
    assert_eq!(granted(&mut leader, now, 6, behind), [false]);
    let later = leader.deadline().max(now);
    leader.tick(later);
    assert_ne!(appends(&mut leader, later), 0, "nobody else can lead");
}
