//! The coordinator of groups over a log in memory.

mod memory;
mod node;

use std::task::{Context, Poll, Waker};

use node::{Node, coordinator_errors, every_response};
use ottla_coordinator::{AppendError, LoadError, Reply, StateLog};
use ottla_protocol::ErrorCode;
use ottla_record::{BatchBuilder, BatchOptions, Codec, Timestamp};

fn refused() -> AppendError {
    AppendError::Refused("no space left on device".into())
}

#[test]
fn what_is_committed_at_once_is_answered_at_once_and_survives_a_reload() {
    let node = Node::loaded();
    let Reply::Done(committed) = node.commit("g", 7) else { panic!("it had to wait") };
    assert_eq!(node::commit_code(&committed), ErrorCode::NONE);
    assert_eq!(node.fetched("g"), 7);
    let reopened = Node::over(node.log.clone());
    reopened.load();
    assert_eq!(reopened.fetched("g"), 7);
    assert_eq!(reopened.fetched("another"), -1);
}

#[test]
fn an_answer_waits_until_its_records_are_committed() {
    let node = Node::loaded();
    node.log.hold_commits();
    let mut commit = node.later(node.commit("g", 7));
    let mut fetch = node.later(node.fetch("g"));
    let Reply::Done(heartbeat) = node.heartbeat("g", "m") else { panic!("it tells of no record") };
    assert_eq!(ErrorCode(heartbeat.error_code), ErrorCode::UNKNOWN_MEMBER_ID);
    node.groups.advance(0);
    assert!(!node.is_ready(&mut commit) && !node.is_ready(&mut fetch));
    assert_eq!(node.log.watched().first(), Some(&node.log.end_offset()));

    node.log.commit_all();
    node.groups.advance(0);
    assert_eq!(node::commit_code(&node.wait(commit)), ErrorCode::NONE);
    assert_eq!(node::fetched_offset(&node.wait(fetch)), 7);
}

#[test]
fn an_answer_does_not_wait_for_ever() {
    let node = Node::loaded();
    node.log.hold_commits();
    let commit = node.later(node.commit("g", 7));
    assert_eq!(node.groups.drive(), Some(5_000));
    node.clock.advance(5_000);
    assert_eq!(node.groups.drive(), None);
    let answer = node.wait(commit);
    assert_eq!(node::commit_code(&answer), ErrorCode::COORDINATOR_NOT_AVAILABLE);
    // It may have been appended all the same, and then it counts.
    node.log.commit_all();
    assert_eq!(node.fetched("g"), 7);
}

#[test]
fn a_failed_append_ends_the_machine_until_it_is_loaded_again() {
    let node = Node::loaded();
    assert_eq!(node::commit_code(&node.done(node.commit("g", 7))), ErrorCode::NONE);
    let join = node.later(node.join("h", 3));
    node.log.hold_commits();
    let waiting = node.later(node.commit("g", 8));
    node.log.fail(Some(refused));
    let failed = node.done(node.commit("g", 9));
    assert_eq!(node::commit_code(&failed), ErrorCode::NOT_COORDINATOR);
    assert_eq!(node::commit_code(&node.wait(waiting)), ErrorCode::NOT_COORDINATOR);
    assert_eq!(ErrorCode(node.wait(join).error_code), ErrorCode::NOT_COORDINATOR);

    assert!(node.was_woken());
    assert_eq!(node.groups.unloaded(), [0]);
    let refused = node.done(node.commit("g", 10));
    assert_eq!(node::commit_code(&refused), ErrorCode::COORDINATOR_LOAD_IN_PROGRESS);
    node.log.fail(None);
    node.log.commit_all();
    node.load();
    assert!(node.groups.unloaded().is_empty());
    assert_eq!(node.fetched("g"), 8, "it was in the log, though its client was not told");
}

#[test]
fn whoever_waits_is_told_that_leadership_is_lost() {
    let node = Node::loaded();
    let join = node.later(node.join("g", 3));
    node.log.fail(Some(|| AppendError::NotLeader));
    let commit = node.done(node.commit("g2", 1));
    assert_eq!(node::commit_code(&commit), ErrorCode::NOT_COORDINATOR);
    assert_eq!(ErrorCode(node.wait(join).error_code), ErrorCode::NOT_COORDINATOR);
    assert!(node.groups.unloaded().is_empty(), "only its leader loads a partition");

    let node = Node::loaded();
    let join = node.later(node.join("g", 3));
    node.groups.resign(0);
    assert_eq!(ErrorCode(node.wait(join).error_code), ErrorCode::NOT_COORDINATOR);
    let commit = node.done(node.commit("g", 1));
    assert_eq!(node::commit_code(&commit), ErrorCode::NOT_COORDINATOR);
}

#[test]
fn errors_before_any_machine_is_asked() {
    let of = |node: &Node, group| coordinator_errors(node, group).join(" ");
    let node = Node::over(memory::MemoryLog::new());
    let loading = "join COORDINATOR_LOAD_IN_PROGRESS, sync REBALANCE_IN_PROGRESS, heartbeat NONE, \
                   leave COORDINATOR_LOAD_IN_PROGRESS, commit COORDINATOR_LOAD_IN_PROGRESS, \
                   fetch COORDINATOR_LOAD_IN_PROGRESS, describe COORDINATOR_LOAD_IN_PROGRESS, \
                   delete COORDINATOR_LOAD_IN_PROGRESS, \
                   delete offsets COORDINATOR_LOAD_IN_PROGRESS, list COORDINATOR_LOAD_IN_PROGRESS";
    assert_eq!(of(&node, "g"), loading);
    node.load();
    let invalid = "join INVALID_GROUP_ID, sync INVALID_GROUP_ID, heartbeat INVALID_GROUP_ID, \
                   leave INVALID_GROUP_ID, commit NONE, fetch NONE, describe NONE, delete NONE, \
                   delete offsets INVALID_GROUP_ID, list NONE";
    assert_eq!(of(&node, ""), invalid);
    let same = |code: &str, list: &str| {
        let names =
            "join sync heartbeat leave commit fetch describe delete delete-offsets".split(' ');
        let all: Vec<_> = names.map(|name| format!("{} {code},", name.replace('-', " "))).collect();
        format!("{} list {list}", all.join(" "))
    };
    node.groups.resign(0);
    assert_eq!(of(&node, "g"), same("NOT_COORDINATOR", "NONE"));
    node.groups.shut_down();
    let code = "COORDINATOR_NOT_AVAILABLE";
    assert_eq!(of(&node, "g"), same(code, code));
}

#[test]
fn a_log_is_loaded_in_pieces_and_whatever_its_batches_are() {
    let node = Node::loaded();
    for offset in 0..100 {
        node.done(node.commit(&format!("g{offset}"), offset));
    }
    // A record type of another protocol, a record without a key, and a batch that is compressed.
    let options = BatchOptions { codec: Codec::Zstd, ..BatchOptions::default() };
    let mut batch = BatchBuilder::new(options);
    batch.append(Timestamp(0), Some(&[0, 99, 1, 2]), Some(&[0]), &[]);
    batch.append(Timestamp(0), None, Some(&[0]), &[]);
    node.log.append(batch.build()).expect("a batch");

    let reopened = Node::over(node.log.clone());
    let reads = node.log.reads();
    reopened.load();
    assert!(node.log.reads() - reads > 2, "the log is larger than what is read at once");
    for offset in 0..100 {
        assert_eq!(reopened.fetched(&format!("g{offset}")), offset);
    }
}

#[test]
fn what_cannot_be_understood_is_not_coordinated() {
    let node = Node::loaded();
    node.done(node.commit("g", 1));
    let options = BatchOptions { is_transactional: true, ..BatchOptions::default() };
    let mut batch = BatchBuilder::new(options);
    batch.append(Timestamp(0), Some(&[0, 1]), None, &[]);
    node.log.append(batch.build()).expect("a batch");
    let reopened = Node::over(node.log.clone());
    let error = reopened.groups.load(0).expect_err("a transaction");
    assert!(matches!(error, LoadError::Transactional(offset) if offset.0 == 1), "{error}");
    let commit = reopened.done(reopened.commit("g", 2));
    assert_eq!(node::commit_code(&commit), ErrorCode::COORDINATOR_NOT_AVAILABLE);
    assert_eq!(reopened.groups.unloaded(), [0], "it can be tried again");

    let node = Node::loaded();
    let mut batch = BatchBuilder::new(BatchOptions::default());
    batch.append(Timestamp(0), Some(&[0, 1, 0]), None, &[]);
    node.log.append(batch.build()).expect("a batch");
    let error = Node::over(node.log.clone()).groups.load(0).expect_err("half a key");
    assert!(matches!(error, LoadError::Record(offset, _) if offset.0 == 0), "{error}");

    let node = Node::loaded();
    node.done(node.commit("g", 1));
    node.log.truncate_by_one();
    let error = Node::over(node.log.clone()).groups.load(0).expect_err("half a batch");
    assert!(matches!(error, LoadError::Read(_)), "{error}");
}

#[test]
fn timers_are_driven_and_an_earlier_one_wakes_the_driver() {
    let node = Node::loaded();
    assert_eq!(node.groups.drive(), None);
    assert!(node.was_woken(), "a partition was to be loaded");
    assert!(!node.was_woken());
    let join = node.later(node.join("g", 3));
    assert!(node.was_woken(), "the first rebalance begins in three seconds");
    assert_eq!(node.groups.drive(), Some(3_000));
    let other = node.later(node.join("g", 3));
    assert!(!node.was_woken(), "nothing is due before that");
    node.clock.advance(3_000);
    assert_eq!(node.groups.drive(), Some(6_000), "a member arrived, so it waits on");
    node.clock.advance(3_000);
    assert_eq!(node.groups.drive(), Some(16_000), "the sessions of ten seconds");
    let (first, second) = (node.wait(join), node.wait(other));
    assert_eq!((first.generation_id, second.generation_id), (1, 1));
    assert_eq!(first.members.len() + second.members.len(), 2, "the leader is told of both");
}

#[test]
fn a_deleted_topic_takes_its_offsets_along() {
    let node = Node::loaded();
    for group in 0..1_000 {
        node.done(node.commit(&format!("g{group}"), 1));
    }
    node.log.limit_batches(500);
    node.groups.handle_topics_deleted(&["another"]);
    assert_eq!((node.fetched("g0"), node.fetched("g999")), (1, 1));
    node.log.hold_commits();
    node.groups.handle_topics_deleted(&["t"]);
    node.log.commit_all();
    node.groups.advance(0);
    assert_eq!((node.fetched("g0"), node.fetched("g999")), (-1, -1));
}

#[test]
fn every_response_can_be_written_in_every_version() {
    let (node, written) = (Node::loaded(), every_response);
    assert!(written(&node) > 60);
}

/// A future that is polled once, without a runtime.
fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    std::pin::Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}
