//! A crash at every change of the disk, and at every change of the recovery from it.

use std::path::Path;
use std::sync::Arc;

use ottla_fake::{Crash, FakeDisk};
use ottla_keeper::{Caller, CreateMode, Keeper, Limits, Op, Request, Tree};
use ottla_runtime::disk::read_file;

use super::{DIR, OPEN, apply, open, propose_all, session_of};

/// So small that the log is replaced by a snapshot several times.
const LIMITS: Limits = Limits { tree_bytes: 1 << 20, proposal_bytes: 1 << 16, log_bytes: 300 };

/// Proposals in order, each of which one crash either has or has not lost whole.
fn proposals() -> Vec<Vec<Request>> {
    let mut proposals = vec![vec![OPEN]];
    let data = || Some(vec![b'd'; 60]);
    proposals.push(vec![Request::Write(vec![
        Op::create("/a", data()),
        Op::create_as("/a/e", data(), CreateMode::Ephemeral),
    ])]);
    for n in 0..10 {
        proposals.push(vec![
            Request::Write(vec![Op::create_as("/a/s_", data(), CreateMode::PersistentSequential)]),
            Request::Write(vec![
                Op::set("/a", vec![b'd'; 60], n),
                Op::create(format!("/n{n}"), data()),
            ]),
        ]);
        proposals.push(vec![Request::Write(vec![Op::delete(format!("/n{n}"), 0)])]);
    }
    proposals
}

/// The trees after each proposal, the empty one first.
fn trees() -> Vec<Tree> {
    let mut trees = vec![Tree::new()];
    let mut session = Caller::default();
    for proposal in proposals() {
        let mut tree = trees[trees.len() - 1].clone();
        for request in proposal {
            let opens = request == OPEN;
            let outcome = apply(&mut tree, session, request);
            assert!(outcome.result.is_ok(), "{outcome:?}");
            if opens {
                session = session_of(&outcome);
            }
        }
        trees.push(tree);
    }
    trees
}

/// Proposes until the disk fails and tells how many were acknowledged.
fn run(keeper: &Keeper) -> usize {
    let mut session = Caller::default();
    let mut acknowledged = 0;
    for proposal in proposals() {
        let Ok(outcomes) = propose_all(keeper, session, proposal) else { break };
        if session == Caller::default() {
            session = session_of(&outcomes[0]);
        }
        acknowledged += 1;
    }
    acknowledged
}

fn crashes() -> impl Iterator<Item = Crash> {
    std::iter::once(Crash::Process).chain((0..3).map(|seed| Crash::Power { seed }))
}

#[test]
fn a_crash_at_any_change_of_the_disk_leaves_what_was_acknowledged() {
    let trees = trees();
    let mut crashed_at_each_proposal = vec![false; trees.len()];
    for changes in 0.. {
        let disk = FakeDisk::with_dir("/data");
        disk.fail_after(changes);
        let acknowledged = open(&disk, LIMITS).map_or(0, |keeper| run(&keeper));
        crashed_at_each_proposal[acknowledged] = true;
        for crash in crashes() {
            let context = format!("after {changes} changes, {crash:?}");
            check(&disk.after(crash), &trees, acknowledged, &context);
        }
        if acknowledged + 1 == trees.len() {
            break;
        }
    }
    assert!(crashed_at_each_proposal.iter().all(|crashed| *crashed));
}

/// Opens what a crash left: at once, and after a second crash at each change of a first opening.
fn check(disk: &Arc<FakeDisk>, trees: &[Tree], acknowledged: usize, context: &str) {
    // The proposal under way may have become durable too.
    let next = trees.get(acknowledged + 1).unwrap_or(&trees[acknowledged]);
    let allowed = [&trees[acknowledged], next];
    for changes in 0.. {
        let first = disk.after(Crash::Process);
        first.fail_after(changes);
        let opened = open(&first, LIMITS).ok().map(|keeper| keeper.read(Tree::clone));
        let crash = if changes % 2 == 0 { Crash::Process } else { Crash::Power { seed: changes } };
        let second = first.after(crash);
        let keeper = open(&second, LIMITS).unwrap_or_else(|e| panic!("{context}/{changes}: {e}"));
        let tree = keeper.read(Tree::clone);
        assert!(allowed.contains(&&tree), "{context}, then {changes}: {tree:?}");
        // Whichever of both it is, once it was told it stays.
        if let Some(told) = opened {
            assert_eq!(told, tree, "{context}/{changes}");
            break;
        }
    }
}

#[test]
fn the_log_is_replaced_by_snapshots_and_stays_small() {
    let disk = FakeDisk::with_dir("/data");
    let keeper = open(&disk, LIMITS).unwrap();
    let all = run(&keeper);
    assert_eq!(all + 1, trees().len());
    let size = |name: &str| read_file(&*disk, &Path::new(DIR).join(name)).unwrap().len() as u64;
    let proposal_bytes_max = 400;
    assert!(size("snapshot") > 0);
    assert!(size("log") <= LIMITS.log_bytes.max(size("snapshot")) + proposal_bytes_max);
    assert_eq!(keeper.read(Tree::clone), trees()[all]);
}

#[test]
fn what_a_failed_sync_lost_is_not_known_after_a_restart() {
    let mut lost = 0;
    for (first, before) in trees().iter().enumerate().take(proposals().len()).skip(1) {
        let disk = FakeDisk::with_dir("/data");
        let keeper = open(&disk, LIMITS).expect("opens");
        let mut session = Caller::default();
        for (n, proposal) in proposals().into_iter().enumerate() {
            if n == first {
                disk.lose_next_sync();
            }
            let Ok(outcomes) = propose_all(&keeper, session, proposal) else { break };
            if n == 0 {
                session = session_of(&outcomes[0]);
            }
        }
        let killed = disk.after(Crash::Process);
        let tree = |disk: &Arc<FakeDisk>| open(disk, LIMITS).expect("opens").read(Tree::clone);
        let known = tree(&killed);
        lost += usize::from(known == *before);
        for seed in 0..8 {
            let found = tree(&killed.after(Crash::Power { seed }));
            assert_eq!(found, known, "at proposal {first}, seed {seed}");
        }
    }
    assert!(lost > 0, "or nothing was shown");
}
