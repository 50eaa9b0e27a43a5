//! One bit flipped in any file of a data directory: it is told where, or it does no harm; and no
//! other partition notices.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ottla_fake::{Crash, FakeDisk};
use ottla_log::{DirectoryError, LogDirectory, LogManager, OpenOptions, TopicPartition};
use ottla_record::{BrokerId, LeaderEpoch, Offset, Uuid, batches};
use ottla_runtime::Disk;
use ottla_runtime::disk::read_file;

use crate::{Machine, Stored, append, batch, idempotent, try_append};

const DIR: &str = "/data/a";

/// How many batches of the idempotent producer there are.
const BATCHES: i32 = 12;

/// Larger files are flipped at every so many bytes.
const STEP: usize = 7;

fn open(disk: Arc<FakeDisk>) -> Result<(Machine, LogManager), DirectoryError> {
    let overrides =
        [("segment.bytes", "1200"), ("index.interval.bytes", "200"), ("retention.ms", "-1")];
    let machine = Machine::on(disk, &overrides);
    let world = machine.world();
    let mut directory = LogDirectory::open(&world, Path::new(DIR), BrokerId(1))?;
    directory.join("a cluster")?;
    let options = OpenOptions { threads: 1, expected: &BTreeSet::new() };
    let manager = LogManager::open(&world, vec![directory], options, |_| machine.config.clone())?;
    Ok((machine, manager))
}

fn name(partition: i32) -> TopicPartition {
    TopicPartition::new("flights", partition)
}

/// A directory with two logs of several segments, checkpointed in their middle.
fn directory(is_clean: bool) -> Arc<FakeDisk> {
    let (machine, manager) = open(FakeDisk::with_dir("/data")).ok().unwrap();
    let logs = [0, 1].map(|n| {
        manager.get_or_create(&name(n), Uuid([n as u8 + 1; 16]), machine.config.clone()).unwrap()
    });
    for n in 0..BATCHES {
        for log in &logs {
            append(log, &idempotent(1, n, 1));
            append(log, &batch(2, 10 * n as usize));
            try_append(log, &batch(1, 150), n / 4).unwrap();
        }
        if n == 6 {
            for log in &logs {
                assert_eq!(log.advance_log_start_offset(Offset(2)), Offset(2));
            }
            manager.checkpoint().unwrap();
        }
    }
    if is_clean {
        manager.close().unwrap();
    }
    machine.disk.after(Crash::Process)
}

/// What clients can learn of a log.
#[derive(Debug, PartialEq)]
struct Seen {
    start: Offset,
    batches: Vec<Stored>,
    epochs: Vec<Option<LeaderEpoch>>,
    /// A retry of the last batch of the producer is known as such.
    knows_retry: bool,
}

/// Reads a log as a client does, which checks what it gets.
fn see(manager: &LogManager, name: &TopicPartition) -> Result<Seen, String> {
    if let Some((_, reason)) = manager.offline().into_iter().find(|(offline, _)| offline == name) {
        assert!(reason.contains(DIR), "{reason}");
        return Err(reason.to_string());
    }
    let log = manager.get(name).ok_or("the log is gone")?;
    let (start, limit) = (log.log_start_offset(), log.end());
    let (mut next, mut found) = (start, Vec::new());
    while next < limit.offset {
        let slice = log.read(next, 4000, limit, true).map_err(|error| error.to_string())?;
        let mut bytes = vec![0; slice.len];
        slice.file.read_at(&mut bytes, slice.position).map_err(|error| error.to_string())?;
        let before = next;
        for batch in batches(&bytes).map_while(Result::ok) {
            batch.verify_crc().map_err(|error| error.to_string())?;
            next = batch.next_offset();
            let bytes = batch.as_bytes().to_vec();
            let (base, next) = (batch.base_offset().0, batch.next_offset().0);
            found.push(Stored { base, next, bytes });
        }
        if next <= before {
            return Err(format!("no batch at {before}"));
        }
    }
    let epochs = found.iter().map(|batch| log.epoch_of(Offset(batch.base))).collect();
    let last = idempotent(1, BATCHES - 1, 1);
    let knows_retry = try_append(&log, &last, 9).is_ok_and(|appended| appended.duplicate);
    Ok(Seen { start, batches: found, epochs, knows_retry })
}

fn files(disk: &FakeDisk, dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in disk.read_dir(dir).unwrap() {
        let path = dir.join(entry.name);
        match entry.is_dir {
            true => found.extend(files(disk, &path)),
            false => found.push(path),
        }
    }
    found
}

/// What became of the flips in the files of one kind.
#[derive(Debug, Default)]
struct Outcomes {
    harmless: usize,
    /// The start is refused, with the name of the file; or a read is.
    told: usize,
    /// The end of a log was cut, beyond its recovery point.
    cut: usize,
    /// A field of Kafka's formats that has no checksum has another value.
    unprotected: usize,
}

fn kind(path: &Path) -> String {
    let is_of_log = path.parent() != Some(Path::new(DIR));
    let extension = path.extension().filter(|_| is_of_log);
    let extension = extension.filter(|extension| *extension != "metadata");
    extension.or_else(|| path.file_name()).unwrap().to_string_lossy().into_owned()
}

/// Flips bits all over a directory, and opens it. Returns what happened by the kind of the file.
fn flip_all(is_clean: bool) -> BTreeMap<String, Outcomes> {
    let before = directory(is_clean);
    let (_, manager) = open(before.after(Crash::Process)).ok().unwrap();
    let whole = [0, 1].map(|n| see(&manager, &name(n)).unwrap());
    let mut outcomes = BTreeMap::<String, Outcomes>::new();
    for path in files(&before, Path::new(DIR)) {
        // The other partition is like this one.
        if path.starts_with("/data/a/flights-1") {
            continue;
        }
        let content = read_file(&*before, &path).unwrap();
        let (len, unprotected) = (content.len(), unprotected(&path, &content));
        let step = if len < 300 { 1 } else { STEP };
        let of_kind = outcomes.entry(kind(&path)).or_default();
        for at in (0..len).step_by(step) {
            let context = format!("{} byte {at} (clean: {is_clean})", path.display());
            let disk = before.after(Crash::Process);
            disk.flip_bit(&path, at);
            match open(disk) {
                // The directory is offline, with all its logs.
                Ok((_, manager)) if !manager.failures().is_empty() => {
                    let (dir, reason) = &manager.failures()[0];
                    assert!(dir == Path::new(DIR) && reason.contains(DIR), "{context}: {reason}");
                    of_kind.told += 1;
                }
                Ok(_) if unprotected.contains(&at) => of_kind.unprotected += 1,
                Ok((_, manager)) => judge(&manager, &path, &whole, of_kind, &context),
                Err(error) => {
                    let dir = path.parent().unwrap().to_string_lossy().into_owned();
                    assert!(error.to_string().contains(&dir), "{context}: {error}");
                    of_kind.told += 1;
                }
            }
        }
    }
    outcomes
}

/// The bytes of a `.log` that no checksum covers: the offsets and the epochs of its batches.
fn unprotected(path: &Path, content: &[u8]) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    if kind(path) == "log" {
        let mut at = 0;
        for batch in batches(content).map(Result::unwrap) {
            found.extend((at..at + 8).chain(at + 12..at + 16));
            at += batch.as_bytes().len();
        }
    }
    found
}

fn judge(
    manager: &LogManager,
    path: &Path,
    whole: &[Seen; 2],
    outcomes: &mut Outcomes,
    context: &str,
) {
    let other = see(manager, &name(1));
    // Checkpoints speak of both partitions.
    if path.parent() != Some(Path::new(DIR)) {
        assert_eq!(other.as_ref(), Ok(&whole[1]), "{context}: the other partition");
    }
    let whole = &whole[0];
    let seen = match see(manager, &name(0)) {
        Ok(seen) => seen,
        Err(told) => {
            assert_ne!(told, "the log is gone", "{context}");
            outcomes.told += 1;
            return;
        }
    };
    let is_prefix = whole.batches.starts_with(&seen.batches);
    let may_differ = match kind(path).as_str() {
        "log-start-offset-checkpoint" => {
            whole.batches.ends_with(&seen.batches) || seen.batches.ends_with(&whole.batches)
        }
        "leader-epoch-checkpoint" => seen.batches == whole.batches,
        _ => false,
    };
    if seen == *whole {
        outcomes.harmless += 1;
    } else if kind(path) == "log" && is_prefix && !seen.batches.is_empty() {
        outcomes.cut += 1;
    } else {
        let (found, expected) = (seen.batches.len(), whole.batches.len());
        assert!(may_differ, "{context}: {found} batches from {}, not {expected}", seen.start);
        outcomes.unprotected += 1;
    }
}

#[test]
fn a_flipped_bit_is_told_or_does_no_harm() {
    for is_clean in [true, false] {
        let outcomes = flip_all(is_clean);
        eprintln!("clean: {is_clean}: {outcomes:#?}");
        assert_eq!(outcomes.values().filter(|kind| kind.harmless + kind.told == 0).count(), 0);
        // What is derived does no harm at all.
        for kind in ["index", "timeindex", "snapshot"] {
            let Outcomes { told, cut, unprotected, .. } = outcomes[kind];
            assert_eq!((told, cut, unprotected), (0, 0, 0), "{kind} (clean: {is_clean})");
        }
        // Nothing but the end of a log that was not closed may be cut.
        assert!(!is_clean || outcomes["log"].cut == 0);
    }
}
