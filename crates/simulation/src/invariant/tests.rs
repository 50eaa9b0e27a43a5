//! Each invariant with what it allows and what it does not.

use super::{
    Invariant, committed_offsets::CommittedOffsets, kept::Kept, only_asked::OnlyAsked,
    ordered::Ordered, producer_ids::ProducerIds, same::Same, watermarks::Watermarks,
};
use crate::event::Event::{self, *};
use crate::event::{Place, Value, Wish};

const HERE: Place = Place { topic: 0, partition: 0 };
const THERE: Place = Place { topic: 1, partition: 0 };

/// After `before` these hold each on its own, and each of `not` does not.
fn check<I: Invariant + Default>(before: &[Event], holds: &[&[Event]], not: &[&[Event]]) {
    let judge = |events: &[Event]| {
        let mut invariant = I::default();
        before.iter().for_each(|event| assert_eq!(invariant.see(event), Ok(()), "{event:?}"));
        events.iter().try_for_each(|event| invariant.see(event))
    };
    for events in holds {
        assert_eq!(judge(events), Ok(()), "{events:?}");
    }
    for events in not {
        assert!(judge(events).is_err(), "{events:?} should not hold");
    }
}

fn value(number: u32) -> Value {
    Value { producer: 1, number }
}

fn whole(start: i64, records: &[(i64, u32)]) -> Event {
    let records = records.iter().map(|&(offset, number)| (offset, value(number))).collect();
    ReadWhole { place: HERE, start, records }
}

fn asked(number: u32, wish: Wish) -> Event {
    Asked { place: HERE, value: value(number), wish }
}

fn read(offset: i64, number: u32) -> Event {
    Read { place: HERE, offset, value: value(number) }
}

fn acknowledged(offset: i64, number: u32) -> Event {
    Acknowledged { place: HERE, value: value(number), offset }
}

#[test]
fn acknowledged_is_kept() {
    check::<Kept>(
        &[acknowledged(0, 1), acknowledged(2, 2)],
        &[
            &[whole(0, &[(0, 1), (1, 9), (2, 2)])],
            &[acknowledged(0, 1)],
            &[DeletionAsked { place: HERE, before: 1 }, whole(1, &[(2, 2)])],
            &[DeletionAsked { place: HERE, before: 1 }, whole(0, &[(0, 1), (2, 2)])],
        ],
        &[
            &[whole(0, &[(0, 1)])],
            &[whole(0, &[(0, 1), (1, 2)])],
            &[whole(1, &[(2, 2)])],
            &[acknowledged(0, 2)],
            &[DeletionAsked { place: THERE, before: 1 }, whole(1, &[(2, 2)])],
            &[
                DeletionAsked { place: HERE, before: 1 },
                Deleted { place: HERE, start: 1 },
                whole(0, &[(0, 1), (2, 2)]),
            ],
        ],
    );
}

#[test]
fn only_what_was_asked_is_there_once() {
    check::<OnlyAsked>(
        &[asked(1, Wish::Plain), asked(2, Wish::Sequenced), asked(3, Wish::Refused)],
        &[&[read(0, 1), read(1, 2), read(0, 1)], &[whole(0, &[(0, 2), (1, 1)])]],
        &[
            &[read(0, 3)],
            &[read(0, 4)],
            &[read(0, 1), whole(0, &[(0, 2), (1, 1)])],
            &[Read { place: THERE, offset: 0, value: value(1) }],
        ],
    );
}

#[test]
fn the_same_offset_has_the_same_record() {
    check::<Same>(
        &[read(3, 1)],
        &[&[read(3, 1), read(4, 2)], &[whole(0, &[(3, 1)])], &[whole(4, &[])]],
        &[&[read(3, 2)], &[whole(0, &[(3, 2)])], &[whole(0, &[(2, 2)])]],
    );
}

#[test]
fn sequences_keep_their_order() {
    check::<Ordered>(
        &[asked(1, Wish::Sequenced), asked(2, Wish::Sequenced)],
        &[&[whole(0, &[(0, 1), (7, 2)])], &[whole(0, &[(0, 2)])]],
        &[&[whole(0, &[(0, 2), (1, 1)])], &[whole(0, &[(0, 1), (1, 1)])]],
    );
}

#[test]
fn watermarks_never_go_back() {
    let mark = |high_watermark| HighWatermark { place: HERE, high_watermark };
    check::<Watermarks>(
        &[mark(5)],
        &[&[mark(5), mark(6)], &[read(4, 1)], &[HighWatermark { place: THERE, high_watermark: 1 }]],
        &[&[mark(4)], &[read(5, 1)]],
    );
}

#[test]
fn committed_offsets_are_kept() {
    let (group, place) = (0, HERE);
    let ask = |offset| CommitAsked { group, place, offset };
    let found = |offset| CommitRead { group, place, offset };
    check::<CommittedOffsets>(
        &[ask(1), Committed { group, place, offset: 1 }, ask(2)],
        &[&[found(1), found(2)], &[found(2), found(2)]],
        &[&[found(-1)], &[found(0)], &[found(3)], &[found(2), found(1)]],
    );
    check::<CommittedOffsets>(&[], &[&[found(-1)]], &[&[found(0)]]);
}

#[test]
fn a_producer_id_is_given_once() {
    check::<ProducerIds>(
        &[ProducerId { id: 1, epoch: 0 }],
        &[&[ProducerId { id: 1, epoch: 1 }, ProducerId { id: 2, epoch: 0 }]],
        &[&[ProducerId { id: 1, epoch: 0 }]],
    );
}
