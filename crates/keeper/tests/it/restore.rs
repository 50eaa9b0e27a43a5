//! A directory that is made of a tree: when that is refused, and a crash at every change of the disk.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ottla_fake::{Crash, FakeDisk};
use ottla_keeper::shell::{RecoverError, RestoreError, Survivor, make_directory, read_backup};
use ottla_keeper::{Caller, CreateMode, Limits, Op, OpenError, Request, Tree};
use ottla_runtime::Disk;
use ottla_runtime::disk::read_file;

use super::{DIR, OPEN, apply, open, open_session, propose, session_of};

/// So small that the log is replaced by a snapshot at once.
const LIMITS: Limits = Limits { tree_bytes: 1 << 20, proposal_bytes: 1 << 16, log_bytes: 200 };

fn tree() -> Tree {
    let mut tree = Tree::new();
    let session = session_of(&apply(&mut tree, Caller::default(), OPEN));
    let create = Op::create("/a", Some(b"data".to_vec()));
    let ephemeral = Op::create_as("/a/e", None, CreateMode::Ephemeral);
    apply(&mut tree, session, Request::Write(vec![create, ephemeral])).result.unwrap();
    tree
}

/// What a directory that is made of [`tree`] begins with.
fn begun() -> Tree {
    let mut tree = tree();
    tree.begin_epoch();
    tree
}

fn make(disk: &Arc<FakeDisk>) -> Result<(), RestoreError> {
    let disk: Arc<dyn Disk> = disk.clone();
    make_directory(&disk, Path::new(DIR), tree())
}

fn is_empty(disk: &FakeDisk) -> bool {
    disk.read_dir(Path::new(DIR)).map_or(true, |entries| entries.is_empty())
}

fn crashes() -> impl Iterator<Item = Crash> {
    std::iter::once(Crash::Process).chain((0..4).map(|seed| Crash::Power { seed }))
}

/// Opens what was made, with another crash at each change of the first opening. Who was killed before
/// the name was durable may lose it to a power cut, but not once the directory was opened.
fn check(disk: &Arc<FakeDisk>, context: &str) {
    for changes in 0.. {
        let first = disk.after(Crash::Process);
        first.fail_after(changes);
        let is_open = open(&first, LIMITS).is_ok();
        let second = first.after(Crash::Power { seed: changes });
        if !is_open && is_empty(&second) {
            make(&second).unwrap_or_else(|error| panic!("{context}/{changes}: {error}"));
        }
        let keeper = open(&second, LIMITS).unwrap_or_else(|e| panic!("{context}/{changes}: {e}"));
        assert_eq!(keeper.read(Tree::clone), begun(), "{context}/{changes}");
        // It is at work.
        let session = open_session(&keeper);
        assert!(session.session.0 > begun().last_zxid(), "{context}/{changes}");
        if is_open {
            break;
        }
    }
}

#[test]
fn a_crash_while_a_directory_is_made_leaves_all_of_it_or_nothing() {
    for is_there in [false, true] {
        let disk = FakeDisk::with_dir(if is_there { DIR } else { "/" });
        disk.record();
        make(&disk).unwrap();
        let done = disk.after(Crash::Power { seed: 9 });
        check(&done, "done");
        let (mut whole, mut none) = (0, 0);
        for (n, image) in disk.take_recording().iter().enumerate() {
            for crash in crashes() {
                let context = format!("there: {is_there}, change {n}, {crash:?}");
                let left = image.after(crash);
                if is_empty(&left) {
                    none += 1;
                    // What was left beside it is in nobody's way.
                    make(&left).unwrap_or_else(|error| panic!("{context}: {error}"));
                } else {
                    whole += 1;
                }
                check(&left, &context);
            }
        }
        assert!(none > 20 && whole > 0, "{none} {whole}");
    }
}

#[test]
fn a_directory_that_is_used_is_left_alone() {
    let disk = FakeDisk::with_dir("/data");
    drop(open(&disk, LIMITS).unwrap());
    let before = read_file(&*disk, &Path::new(DIR).join("log")).unwrap();
    let refused = make(&disk).unwrap_err();
    assert!(matches!(&refused, RestoreError::NotEmpty { dir } if dir == Path::new(DIR)));
    assert_eq!(
        refused.to_string(),
        "/data/keeper is not empty: name a new directory, or move it away"
    );
    assert_eq!(read_file(&*disk, &Path::new(DIR).join("log")).unwrap(), before);
}

#[test]
fn a_damaged_backup_is_refused_by_name() {
    let disk = FakeDisk::with_dir("/data");
    let keeper = open(&disk, LIMITS).unwrap();
    let session = open_session(&keeper);
    for n in 0..5 {
        let create = Op::create(format!("/{n}"), Some(b"data".to_vec()));
        propose(&keeper, session, Request::Write(vec![create])).unwrap().result.unwrap();
    }
    let backup = PathBuf::from(DIR).join("snapshot");
    assert!(read_backup(&*disk, &backup).unwrap().exists("/1").is_some());
    for at in 0..read_file(&*disk, &backup).unwrap().len() {
        let damaged = disk.after(Crash::Process);
        damaged.flip_bit(&backup, at);
        match read_backup(&*damaged, &backup) {
            Err(OpenError::Corrupt { path, .. }) => assert_eq!(path, backup, "bit in byte {at}"),
            other => panic!("bit in byte {at}: {other:?}"),
        }
    }
    let missing = read_backup(&*disk, Path::new("/data/none")).unwrap_err();
    assert!(missing.to_string().starts_with("/data/none: "), "{missing}");
}

#[test]
fn there_is_nothing_to_recover_where_nothing_is_lost() {
    let disk = FakeDisk::with_dir("/data");
    let shared: Arc<dyn Disk> = disk.clone();
    let recover = || Survivor::open(&shared, Path::new(DIR)).map(|_| ()).unwrap_err();
    assert!(matches!(recover(), RecoverError::Missing { .. }));
    assert!(!disk.exists(Path::new(DIR)), "asking makes nothing");
    make(&disk).unwrap();
    assert!(matches!(recover(), RecoverError::NoQuorum { .. }));
    let keeper = open(&disk, LIMITS).unwrap();
    assert!(matches!(recover(), RecoverError::Open(OpenError::Locked { .. })));
    drop(keeper);
    assert!(matches!(recover(), RecoverError::Alone { .. }));
}
