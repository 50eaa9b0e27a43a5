//! What a follower appends is its leader's log again.

use ottla_log::FollowerAppendError;
use ottla_record::{
    BatchOptions, EndTransactionMarker, LeaderEpoch, Offset, PatchedHeader, ProducerEpoch,
    ProducerId, RecordBatch, Timestamp,
};

use crate::{Machine, NOW, append, batch, batch_with, contents, idempotent, try_append};

const OVERRIDES: [(&str, &str); 2] = [("segment.bytes", "400"), ("index.interval.bytes", "100")];

/// A batch as it stands in a leader's log.
fn at(base: i64, epoch: i32, batch: &[u8]) -> Vec<u8> {
    let (batch, _) = RecordBatch::parse(batch).unwrap();
    let header = PatchedHeader::new(&batch, Offset(base), LeaderEpoch(epoch));
    [header.as_bytes(), batch.payload()].concat()
}

fn refusal(machine: &Machine, bytes: &[u8]) -> String {
    let log = machine.open_clean();
    append(&log, &batch(3, 10));
    let error = log.append_as_follower(bytes).unwrap_err();
    assert_eq!(log.end().offset, Offset(3), "{error}");
    error.to_string()
}

#[test]
fn a_followers_files_are_its_leaders() {
    let leader = Machine::new(&OVERRIDES);
    let log = leader.open_clean();
    for n in 0..20 {
        try_append(&log, &batch(1 + n % 3, n * 7 % 60), n as i32 / 7).unwrap();
        try_append(&log, &idempotent(1, n as i32, 1), n as i32 / 7).unwrap();
    }
    let expected = contents(&log);
    let follower = Machine::new(&OVERRIDES);
    let copy = follower.open_clean();
    // Several batches at a time, across rolls.
    for some in expected.chunks(7) {
        let bytes: Vec<u8> = some.iter().flat_map(|batch| batch.bytes.clone()).collect();
        let end = copy.append_as_follower(&bytes).unwrap();
        assert_eq!(end, copy.end());
    }
    assert_eq!(contents(&copy), expected);
    assert_eq!((copy.end(), copy.segment_count()), (log.end(), log.segment_count()));
    assert_eq!(copy.end_of_epoch(LeaderEpoch(1)), log.end_of_epoch(LeaderEpoch(1)));
    assert!(append(&copy, &idempotent(1, 19, 1)).duplicate);
    log.close().unwrap();
    copy.close().unwrap();
    assert_eq!(crate::golden::files_of(&follower), crate::golden::files_of(&leader));
}

#[test]
fn gaps_are_kept_and_a_segment_begins_where_its_first_batch_does() {
    let machine = Machine::new(&[("cleanup.policy", "compact")]);
    let log = machine.open_clean();
    let far = 5_000_000_000;
    let batches = [at(7, 0, &batch(2, 10)), at(20, 0, &batch(1, 10)), at(far, 0, &batch(1, 10))];
    log.append_as_follower(&batches.concat()).unwrap();
    for clean in [false, true] {
        if clean {
            log.close().unwrap();
        }
        let log = match clean {
            true => machine.open_clean(),
            false => machine.open_unclean(),
        };
        // The segment of offset 0 cannot tell an offset as far as that.
        assert_eq!(log.end().segment, Offset(far));
        for (offset, expected) in [(0, 7), (8, 7), (9, 20), (21, far), (far, far)] {
            let slice = log.read(Offset(offset), 61, log.end(), true).unwrap();
            let mut bytes = vec![0; slice.len];
            slice.file.read_at(&mut bytes, slice.position).unwrap();
            let found = RecordBatch::parse(&bytes).unwrap().0.base_offset();
            assert_eq!(found, Offset(expected), "read from {offset}");
        }
        assert_eq!(log.end().offset, Offset(far + 1));
    }
}

#[test]
fn the_first_batch_may_be_too_far_for_the_first_segment() {
    let machine = Machine::new(&[("cleanup.policy", "compact")]);
    let log = machine.open_clean();
    log.append_as_follower(&at(1 << 40, 3, &batch(1, 10))).unwrap();
    assert_eq!((log.end().segment, log.segment_count()), (Offset(1 << 40), 2));
    for log in [machine.open_unclean(), log] {
        assert_eq!(log.end().offset, Offset((1 << 40) + 1));
        assert_eq!(contents_from(&log, 0), 1);
    }
}

fn contents_from(log: &ottla_log::Log, offset: i64) -> usize {
    let slice = log.read(Offset(offset), 1000, log.end(), true).unwrap();
    let mut bytes = vec![0; slice.len];
    slice.file.read_at(&mut bytes, slice.position).unwrap();
    ottla_record::batches(&bytes).map(Result::unwrap).count()
}

#[test]
fn control_batches_are_taken() {
    let machine = Machine::new(&[]);
    let log = machine.open_clean();
    let marker = EndTransactionMarker { committed: true, coordinator_epoch: 4 };
    let marker = marker.batch(ProducerId(9), ProducerEpoch(0), Timestamp(NOW));
    log.append_as_follower(&at(0, 0, &marker)).unwrap();
    assert_eq!(contents(&log)[0].bytes, at(0, 0, &marker));
}

#[test]
fn what_is_no_log_is_refused_as_a_whole() {
    let machine = Machine::new(&[]);
    let good = at(3, 0, &batch(2, 10));
    let malformed = |bytes: &[u8]| {
        let log = machine.open_clean();
        let error = log.append_as_follower(bytes).unwrap_err();
        assert_eq!(log.end().offset, Offset(0));
        match error {
            FollowerAppendError::Malformed { position, .. } => position,
            error => panic!("{error}"),
        }
    };
    let next = at(5, 0, &batch(1, 1));
    for cut in 1..next.len() {
        assert_eq!(malformed(&[&good[..], &next[..cut]].concat()), good.len());
    }
    for bit in (17 * 8..good.len() * 8).step_by(5) {
        let mut flipped = good.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(malformed(&flipped), 0, "bit {bit}");
    }
    assert_eq!(malformed(&[&good[..], &at(4, 0, &batch(1, 1))].concat()), good.len());
    assert_eq!(malformed(&at(-1, 0, &batch(1, 1))), 0);
    assert_eq!(malformed(&at(i64::MAX, 0, &batch(1, 1))), 0);
    assert_eq!(malformed(&at(i64::MAX - 1, 0, &batch(3, 1))), 0);
    assert_eq!(
        refusal(&Machine::new(&[]), &at(2, 0, &batch(5, 1))),
        "a batch begins at offset 2, below the log end offset 3"
    );
}

#[test]
fn a_batch_is_not_too_large_for_a_follower() {
    let machine = Machine::new(&OVERRIDES);
    let log = machine.open_clean();
    let large = batch_with(BatchOptions::default(), &[NOW], 1000);
    log.append_as_follower(&[at(0, 0, &batch(1, 1)), at(1, 0, &large)].concat()).unwrap();
    assert_eq!((log.end().offset, log.segment_count()), (Offset(2), 2));
}
