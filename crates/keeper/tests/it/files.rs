//! The directory: what of it may be damaged, by whom it may be opened, how far it may grow.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ottla_fake::{Crash, FakeDisk};
use ottla_keeper::{
    ANY_VERSION, DirectoryId, Limits, Op, OpenError, ProposeError, Reply, Request, Tree, Voter,
};
use ottla_runtime::Disk;
use ottla_runtime::disk::{OpenMode, read_file};

use super::{DIR, VOTER, open, open_as, open_session, propose, propose_all};

fn path(name: &str) -> PathBuf {
    Path::new(DIR).join(name)
}

fn write(path: &str) -> Request {
    Request::Write(vec![Op::create(path, Some(b"data".to_vec()))])
}

/// A directory with the nodes /0, /1… each proposed on its own, and its tree after each.
fn written(nodes: usize, limits: Limits) -> (Arc<FakeDisk>, Vec<Tree>) {
    let disk = FakeDisk::with_dir("/data");
    let keeper = open(&disk, limits).unwrap();
    let session = open_session(&keeper);
    let mut trees = Vec::new();
    for node in 0..nodes {
        propose(&keeper, session, write(&format!("/{node}"))).unwrap().result.unwrap();
        trees.push(keeper.read(Tree::clone));
    }
    (disk.after(Crash::Process), trees)
}

/// Where each record of a log begins, and where the last one ends.
fn records(log: &[u8]) -> Vec<usize> {
    let line = log.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    let mut at = line + 12 + 16;
    let mut starts = vec![at];
    while at < log.len() {
        at += 8 + u32::from_be_bytes(log[at + 4..at + 8].try_into().unwrap()) as usize;
        starts.push(at);
    }
    assert_eq!(at, log.len());
    starts
}

#[test]
fn a_torn_tail_is_cut_and_the_log_goes_on() {
    let (disk, trees) = written(3, Limits::default());
    let log = read_file(&*disk, &path("log")).unwrap();
    let starts = records(&log);
    let last = starts[starts.len() - 2];
    for cut in last..log.len() {
        let torn = disk.after(Crash::Process);
        torn.open(&path("log"), OpenMode::ReadWrite).unwrap().set_len(cut as u64).unwrap();
        let keeper = open(&torn, Limits::default()).unwrap();
        assert_eq!(keeper.read(Tree::clone), trees[1], "cut at {cut}");
        let session = open_session(&keeper);
        propose(&keeper, session, write("/again")).unwrap().result.unwrap();
        let expected = keeper.read(Tree::clone);

        let again = open(&torn.after(Crash::Process), Limits::default()).unwrap();
        assert_eq!(again.read(Tree::clone), expected, "cut at {cut}");
    }
}

#[test]
fn a_damaged_record_before_a_valid_one_is_an_error_that_names_it() {
    let (disk, trees) = written(3, Limits::default());
    let log = read_file(&*disk, &path("log")).unwrap();
    let starts = records(&log);
    let last = starts[starts.len() - 2];
    for at in starts[0]..last {
        let damaged = disk.after(Crash::Process);
        damaged.flip_bit(path("log"), at);
        let record = starts.iter().rfind(|start| **start <= at).unwrap();
        match open(&damaged, Limits::default()) {
            Err(OpenError::Corrupt { path: file, position, .. }) => {
                assert_eq!((file, position), (path("log"), *record as u64), "bit in byte {at}");
            }
            other => panic!("bit in byte {at}: {other:?}"),
        }
    }
    // The last record looks like one that a crash has torn.
    for at in last..log.len() {
        let damaged = disk.after(Crash::Process);
        damaged.flip_bit(path("log"), at);
        let keeper = open(&damaged, Limits::default()).unwrap();
        assert_eq!(keeper.read(Tree::clone), trees[1], "bit in byte {at}");
    }
}

#[test]
fn damage_elsewhere_is_an_error_that_names_the_file() {
    let small = Limits { log_bytes: 200, ..Limits::default() };
    let (disk, _) = written(8, small);
    let names_file = |disk: &Arc<FakeDisk>, name: &str, context: &str| match open(disk, small) {
        Err(OpenError::Corrupt { path: file, .. }) => assert_eq!(file, path(name), "{context}"),
        other => panic!("{context}: {other:?}"),
    };
    for name in ["snapshot", "hard-state"] {
        let len = read_file(&*disk, &path(name)).unwrap().len();
        for at in 0..len {
            let damaged = disk.after(Crash::Process);
            damaged.flip_bit(path(name), at);
            names_file(&damaged, name, &format!("bit in byte {at} of {name}"));
        }
    }
    let header = records(&read_file(&*disk, &path("log")).unwrap())[0];
    for at in 0..header {
        let damaged = disk.after(Crash::Process);
        damaged.flip_bit(path("log"), at);
        names_file(&damaged, "log", &format!("bit in byte {at} of the log's header"));
    }
    for name in ["snapshot", "hard-state", "log"] {
        let missing = disk.after(Crash::Process);
        missing.remove_file(&path(name)).unwrap();
        names_file(&missing, name, &format!("without {name}"));
    }
}

#[test]
fn a_directory_belongs_to_one_voter_and_one_process() {
    let (disk, _) = written(1, Limits::default());
    for other in [Voter { id: 2, ..VOTER }, Voter { directory: DirectoryId([8; 16]), ..VOTER }] {
        let copy = disk.after(Crash::Process);
        match open_as(other, &copy, Limits::default()) {
            Err(OpenError::OtherVoter { other, .. }) => assert_eq!(other, VOTER),
            opened => panic!("{opened:?}"),
        }
    }
    let _keeper = open(&disk, Limits::default()).unwrap();
    assert!(matches!(open(&disk, Limits::default()), Err(OpenError::Locked { .. })));
}

#[test]
fn requests_share_one_flush_and_fail_each_on_its_own() {
    let disk = FakeDisk::with_dir("/data");
    let keeper = open(&disk, Limits::default()).unwrap();
    let session = open_session(&keeper);
    // One write and one sync.
    disk.fail_after(2);
    let requests = ["/a", "/a", "/b"].map(write).to_vec();
    let outcomes = propose_all(&keeper, session, requests).unwrap();
    let done: Vec<bool> = outcomes.iter().map(|outcome| outcome.result.is_ok()).collect();
    assert_eq!(done, [true, false, true]);
    let zxids: Vec<i64> = outcomes.iter().map(|outcome| outcome.zxid).collect();
    assert_eq!(zxids, [1, 2, 3].map(|n| session.session.0 + n));

    // The disk is gone now: the keeper stops for good, but can be looked at.
    for _ in 0..2 {
        let refused = propose(&keeper, session, write("/c"));
        assert!(matches!(refused, Err(ProposeError::Stopped { .. })), "{refused:?}");
    }
    assert!(keeper.read(|tree| tree.exists("/b")).is_some());
}

#[test]
fn what_would_exceed_a_limit_is_refused_and_deleting_is_not() {
    let limits = Limits { tree_bytes: 4096, proposal_bytes: 1000, ..Limits::default() };
    let disk = FakeDisk::with_dir("/data");
    let keeper = open(&disk, limits).unwrap();
    let session = open_session(&keeper);
    let mut created = 0;
    let refused = loop {
        match propose(&keeper, session, write(&format!("/{created}"))) {
            Ok(_) => created += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(refused, ProposeError::TreeFull { limit: 4096 });
    assert!(created > 4 && keeper.read(Tree::bytes) <= 4096);
    let delete = Request::Write(vec![Op::delete("/0", ANY_VERSION)]);
    let deleted = propose(&keeper, session, delete).unwrap().result.unwrap();
    assert!(matches!(deleted, Reply::Written(_)));
    propose(&keeper, session, write("/0")).unwrap().result.unwrap();

    let large = Request::Write(vec![Op::set("/0", vec![0; 1000], ANY_VERSION)]);
    let refused = propose(&keeper, session, large);
    assert_eq!(refused, Err(ProposeError::TooLarge { limit: 1000 }));
}
