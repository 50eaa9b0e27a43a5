//! Compaction against a model that knows every record ever written and what may be gone of them.

mod transactions;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use ottla_fake::{Crash, Dice};
use ottla_log::{CleanerSettings, Log, LogCleaner, LogManager, TopicPartition};
use ottla_record::{
    BatchBuilder, BatchOptions, Codec, Offset, ProducerEpoch, ProducerId, RecordBatch, Sequence,
    Timestamp, batches,
};
use ottla_runtime::disk::read_file;
use ottla_runtime::{Clock, Disk};

use crate::manager::{self, ID};
use crate::{Machine, NOW, contents, try_append};

const DELETE_RETENTION_MS: i64 = 10_000;

const OVERRIDES: [(&str, &str); 6] = [
    ("cleanup.policy", "compact"),
    ("segment.bytes", "2000"),
    ("index.interval.bytes", "300"),
    ("min.cleanable.dirty.ratio", "0"),
    ("delete.retention.ms", "10000"),
    ("flush.before.ack", "false"),
];

pub(crate) fn settings() -> CleanerSettings {
    CleanerSettings {
        threads: 1,
        dedupe_buffer_bytes: 1 << 20,
        io_buffer_bytes: 1400,
        load_factor: 0.9,
        io_max_bytes_per_second: f64::MAX,
    }
}

/// A broker with one compacted log.
struct Broker {
    machine: Machine,
    manager: Arc<LogManager>,
    log: Arc<Log>,
    cleaner: LogCleaner,
}

fn flights() -> TopicPartition {
    TopicPartition::new("flights", 0)
}

impl Broker {
    fn new(overrides: &[(&str, &str)]) -> Self {
        let mut all: BTreeMap<_, _> = OVERRIDES.into_iter().collect();
        all.extend(overrides.iter().copied());
        let all: Vec<_> = all.into_iter().collect();
        Self::on(Machine::new(&all), settings())
    }

    fn on(machine: Machine, settings: CleanerSettings) -> Self {
        let manager = Arc::new(manager::open(&machine, &["/data"]).unwrap());
        let log = manager.get_or_create(&flights(), ID, machine.config.clone()).unwrap();
        let cleaner = LogCleaner::new(manager.clone(), machine.clock.clone(), settings);
        Self { machine, manager, log, cleaner }
    }

    /// The broker that finds what the crash leaves of this one.
    fn after(&self, crash: Crash) -> Self {
        let Machine { disk, clock, config } = &self.machine;
        let (disk, clock, config) = (disk.after(crash), clock.clone(), config.clone());
        Self::on(Machine { disk, clock, config }, settings())
    }

    /// Up to which offset the log was compacted, as the disk says.
    fn checkpoint(&self) -> i64 {
        let path = Path::new("/data/cleaner-offset-checkpoint");
        let Ok(bytes) = read_file(&*self.machine.disk, path) else { return 0 };
        let text = String::from_utf8(bytes).unwrap();
        text.trim().rsplit_once(' ').map_or(0, |(_, offset)| offset.parse().unwrap())
    }

    fn files(&self) -> Vec<String> {
        let entries = self.machine.disk.read_dir(Path::new("/data/flights-0")).unwrap();
        entries.into_iter().map(|entry| entry.name).collect()
    }
}

/// A record, without its offset.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Written {
    key: u64,
    value: Option<Vec<u8>>,
    timestamp: i64,
}

#[derive(Default)]
struct Model {
    records: BTreeMap<i64, Written>,
    /// The last batch of each producer, and its next sequence.
    producers: BTreeMap<i64, (Vec<u8>, i32)>,
    /// When a pass first saw a tombstone that was the last of its key.
    first_seen: BTreeMap<i64, i64>,
    /// All below it was compacted.
    end: i64,
}

impl Model {
    /// Appends a batch of random records.
    fn append(&mut self, broker: &Broker, dice: &mut Dice, keys: u64) {
        let producer = dice.roll(5) as i64 - 1;
        let mut options = BatchOptions {
            codec: Codec::ALL[dice.roll(5) as usize],
            log_append_time: (dice.roll(8) == 0).then_some(Timestamp(NOW + 77)),
            ..BatchOptions::default()
        };
        let sequence = self.producers.get(&producer).map_or(0, |(_, next)| *next);
        if producer >= 0 {
            options.producer_id = ProducerId(producer);
            options.producer_epoch = ProducerEpoch(0);
            options.base_sequence = Sequence(sequence);
        }
        let mut builder = BatchBuilder::new(options);
        let mut records = Vec::new();
        for _ in 0..=dice.roll(5) {
            let key = dice.roll(keys);
            let value =
                (dice.roll(4) > 0).then(|| vec![dice.roll(256) as u8; dice.roll(200) as usize]);
            let ms = NOW + dice.roll(100_000) as i64;
            builder.append(Timestamp(ms), Some(&key.to_be_bytes()), value.as_deref(), &[]);
            let timestamp = options.log_append_time.map_or(ms, |time| time.0);
            records.push(Written { key, value, timestamp });
        }
        let bytes = builder.build();
        let appended = try_append(&broker.log, &bytes, 0).unwrap();
        self.producers.insert(producer, (bytes, sequence + records.len() as i32));
        self.records.extend((appended.base_offset.0..).zip(records));
    }

    /// Notes a pass that ended at `end` at the time `now`.
    fn passed(&mut self, end: i64, now: i64) {
        self.end = self.end.max(end);
        for (offset, _) in
            self.newest(end).into_values().filter(|(_, record)| record.value.is_none())
        {
            self.first_seen.entry(offset).or_insert(now);
        }
    }

    /// The last record of each key below `end`.
    fn newest(&self, end: i64) -> BTreeMap<u64, (i64, Written)> {
        let below = self.records.range(..end);
        below.map(|(&offset, record)| (record.key, (offset, record.clone()))).collect()
    }

    /// What the log holds after a pass at the time `now`.
    fn expected(&self, now: i64) -> BTreeMap<i64, Written> {
        let is_expired = |offset: &i64| {
            self.first_seen.get(offset).is_some_and(|seen| seen + DELETE_RETENTION_MS <= now)
        };
        let mut expected: BTreeMap<_, _> = self.newest(self.end).into_values().collect();
        expected.retain(|offset, record| record.value.is_some() || !is_expired(offset));
        expected.extend(self.records.range(self.end..).map(|(&o, r)| (o, r.clone())));
        expected
    }
}

/// Every record that readers get, by offset.
fn served(log: &Log) -> BTreeMap<i64, Written> {
    let mut served = BTreeMap::new();
    let mut end = 0;
    for stored in contents(log) {
        let (batch, _) = RecordBatch::parse(&stored.bytes).unwrap();
        assert!(stored.base >= end, "batches overlap");
        end = stored.next;
        if batch.attributes().is_control() {
            continue;
        }
        batch
            .visit_records(1 << 20, |record| {
                let key = u64::from_be_bytes(record.key.unwrap().try_into().unwrap());
                let (value, timestamp) = (record.value.map(Vec::from), record.timestamp.0);
                let is_new =
                    served.insert(record.offset.0, Written { key, value, timestamp }).is_none();
                assert!(is_new && (stored.base..stored.next).contains(&record.offset.0));
            })
            .unwrap();
    }
    served
}

fn no_pause(_: std::time::Duration) {}

/// The time indexes know the records that are left.
#[track_caller]
fn check_times(log: &Log, served: &BTreeMap<i64, Written>, context: &str) {
    for record in served.values() {
        let first = served.iter().find(|(_, other)| other.timestamp >= record.timestamp).unwrap();
        let found = log.offset_for_timestamp(Timestamp(record.timestamp)).unwrap().unwrap();
        assert_eq!((found.offset.0, found.timestamp.0), (*first.0, first.1.timestamp), "{context}");
    }
}

/// A retry of the last batch of every producer is still known for one, from the log alone.
#[track_caller]
fn check_producers(broker: &Broker, model: &Model, context: &str) {
    for name in broker.files().iter().filter(|name| name.ends_with(".snapshot")) {
        let path = Path::new("/data/flights-0").join(name);
        broker.machine.disk.remove_file(&path).unwrap();
    }
    let broker = broker.after(Crash::Process);
    for (batch, _) in model.producers.iter().filter(|(id, _)| **id >= 0).map(|(_, last)| last) {
        let appended = try_append(&broker.log, batch, 0).unwrap();
        assert!(appended.duplicate, "{context}: a retry was stored twice");
    }
}

/// Appends, lets time pass and compacts, as the seed says, and compares after each pass.
fn run(seed: u64, settings: CleanerSettings, is_bounded: bool) -> Result<(), String> {
    let mut dice = Dice::new(seed);
    let mut broker = Broker::new(&[("segment.bytes", &(1200 + dice.roll(2000)).to_string())]);
    broker.cleaner =
        LogCleaner::new(broker.manager.clone(), broker.machine.clock.clone(), settings);
    let mut model = Model::default();
    let keys = 1 + dice.roll(60);
    let mut passes = 0;
    for round in 0..12 {
        for _ in 0..dice.roll(25) {
            model.append(&broker, &mut dice, keys);
        }
        let end = broker.log.end();
        broker.log.flush().unwrap();
        while broker.cleaner.clean_filthiest(&no_pause) {
            passes += 1;
            let now = broker.machine.clock.wall_ms();
            model.passed(broker.checkpoint(), now);
            let context = format!("seed {seed}, round {round}, pass {passes}");
            let served = served(&broker.log);
            assert_eq!(served, model.expected(now), "{context}");
            assert_eq!(broker.log.end(), end, "{context}");
            check_times(&broker.log, &served, &context);
        }
        let leftovers = broker.files().into_iter().filter(|name| !is_live(name));
        assert_eq!(leftovers.collect::<Vec<_>>(), Vec::<String>::new());
        if dice.roll(4) == 0 {
            broker = broker.after(Crash::Process);
            broker.cleaner =
                LogCleaner::new(broker.manager.clone(), broker.machine.clock.clone(), settings);
        }
        broker.machine.clock.advance(dice.roll(DELETE_RETENTION_MS as u64) as i64);
    }
    check_producers(&broker, &model, &format!("seed {seed}"));
    match passes > 3 && (!is_bounded || passes > 6) {
        true => Ok(()),
        false => Err(format!("seed {seed}: {passes} passes only")),
    }
}

fn is_live(name: &str) -> bool {
    ["cleaned", "swap", "deleted", "tmp"].iter().all(|suffix| !name.ends_with(suffix))
}

#[test]
fn the_last_record_of_each_key_is_kept_and_only_what_may_go_is_gone() {
    let few = (0..40).filter_map(|seed| run(seed, settings(), false).err()).collect::<Vec<_>>();
    assert!(few.len() < 10, "{few:?}");
}

#[test]
fn a_map_that_takes_few_keys_needs_more_passes_and_comes_to_the_same() {
    // Room for eight keys.
    let small = CleanerSettings { dedupe_buffer_bytes: 9 * 24, ..settings() };
    let few = (100..130).filter_map(|seed| run(seed, small, true).err()).collect::<Vec<_>>();
    assert!(few.len() < 10, "{few:?}");
}

/// A log of six segments or so, all of it durable, with what the model knows of it.
fn filled(seed: u64) -> (Broker, Model) {
    let (broker, mut model, mut dice) = (Broker::new(&[]), Model::default(), Dice::new(seed));
    for _ in 0..30 {
        model.append(&broker, &mut dice, 12);
    }
    broker.manager.checkpoint().unwrap();
    (broker, model)
}

#[test]
fn compacting_what_is_compact_changes_nothing() {
    for seed in 0..10 {
        let (broker, mut model) = filled(seed);
        assert!(broker.cleaner.clean_filthiest(&no_pause));
        model.passed(broker.checkpoint(), NOW);
        let before = contents(&broker.log);
        // Forgets how far the log was cleaned.
        let path = Path::new("/data/cleaner-offset-checkpoint");
        broker.machine.disk.remove_file(path).unwrap();
        let broker = broker.after(Crash::Process);
        assert!(broker.cleaner.clean_filthiest(&no_pause), "seed {seed}");
        assert_eq!(contents(&broker.log), before, "seed {seed}");
        assert_eq!(served(&broker.log), model.expected(NOW), "seed {seed}");
        assert!(!broker.cleaner.clean_filthiest(&no_pause), "there is nothing left to clean");
    }
}

#[test]
fn a_crash_at_any_change_of_the_disk_leaves_a_log_with_every_last_record() {
    let mut is_done = false;
    let mut changes = 0;
    while !is_done {
        for seed in 0..3 {
            let (broker, model) = filled(seed);
            broker.machine.disk.fail_after(changes);
            broker.cleaner.clean_filthiest(&no_pause);
            is_done = broker.machine.disk.sync_dir(Path::new("/data")).is_ok();
            let cuts = (0..6).map(|n| Crash::Power { seed: changes * 1000 + n });
            for crash in cuts.chain([Crash::Process]) {
                let context = format!("seed {seed}, {changes} changes, {crash:?}");
                check_after(&broker.after(crash), &model, &context);
            }
        }
        changes += 1;
    }
    assert!(changes > 40, "a pass changes the disk {changes} times only");
}

/// What was found after a crash is whole, and the next pass brings it to the end.
#[track_caller]
fn check_after(broker: &Broker, model: &Model, context: &str) {
    let found = served(&broker.log);
    for (offset, record) in &found {
        assert_eq!(model.records.get(offset), Some(record), "{context}");
    }
    let is_served = |(offset, _): &(i64, Written)| found.contains_key(offset);
    assert!(model.newest(i64::MAX).values().all(is_served), "{context}: a last record is lost");
    let leftovers: Vec<_> = broker.files().into_iter().filter(|name| !is_live(name)).collect();
    assert!(leftovers.is_empty(), "{context}: {leftovers:?}");
    check_times(&broker.log, &found, context);
    broker.cleaner.clean_filthiest(&no_pause);
    let mut model = Model { records: model.records.clone(), ..Model::default() };
    model.passed(broker.checkpoint(), NOW);
    assert!(model.end > 0, "{context}");
    assert_eq!(served(&broker.log), model.expected(NOW), "{context}");
}

#[test]
fn a_disk_that_refuses_in_between_leaves_the_log_as_it_is_read() {
    for changes in 0.. {
        let (broker, model) = filled(9);
        broker.machine.disk.fail_after(changes);
        let is_cleaned = broker.cleaner.clean_filthiest(&no_pause);
        broker.machine.disk.heal();
        let found = served(&broker.log);
        let newest = model.newest(i64::MAX);
        assert!(newest.values().all(|(offset, _)| found.contains_key(offset)), "{changes}");
        if is_cleaned {
            break;
        }
    }
}

/// The last value of each key, as a reader finds them that takes a little at a time up to an end that
/// moves on.
fn read_to_the_end(log: &Log) -> BTreeMap<u64, u64> {
    let number = |bytes: &[u8]| u64::from_be_bytes(bytes.try_into().unwrap());
    let (mut next, mut newest) = (Offset::ZERO, BTreeMap::new());
    while next < log.end().offset {
        let slice = log.read(next, 300, log.end(), true).unwrap();
        let mut bytes = vec![0; slice.len];
        assert_eq!(slice.file.read_at(&mut bytes, slice.position).unwrap(), slice.len);
        for batch in batches(&bytes).map_while(Result::ok) {
            batch.verify_crc().unwrap();
            next = batch.next_offset();
            batch
                .visit_records(1000, |record| {
                    newest.insert(number(record.key.unwrap()), number(record.value.unwrap()));
                })
                .unwrap();
        }
    }
    newest
}

#[test]
fn a_reader_misses_no_last_record_while_passes_run() {
    let broker = Broker::new(&[]);
    let (log, cleaner) = (&broker.log, &broker.cleaner);
    let keys = 20u64;
    let batch = |n: u64| {
        let mut builder = BatchBuilder::new(BatchOptions::default());
        for key in 0..keys {
            let (key, value) = (key.to_be_bytes(), n.to_be_bytes());
            builder.append(Timestamp(NOW), Some(&key), Some(&value), &[]);
        }
        builder.build()
    };
    let (written, passes) = (AtomicU64::new(0), AtomicU64::new(0));
    let is_done = || passes.load(SeqCst) == 8;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in (1..).take_while(|_| !is_done()) {
                // Not too far ahead of the passes.
                while n > 40 * (passes.load(SeqCst) + 1) {
                    std::thread::yield_now();
                }
                try_append(log, &batch(n), 0).unwrap();
                written.store(n, SeqCst);
            }
        });
        scope.spawn(|| {
            while !is_done() {
                let last = written.load(SeqCst);
                let newest = read_to_the_end(log);
                assert!(last == 0 || newest.len() as u64 == keys);
                assert!(newest.values().all(|&value| value >= last), "missed round {last}");
            }
        });
        while !is_done() {
            log.flush().unwrap();
            passes.fetch_add(u64::from(cleaner.clean_filthiest(&no_pause)), SeqCst);
        }
    });
}

#[test]
fn what_is_damaged_is_left_as_it_is_and_not_cleaned_again() {
    let (broker, _) = filled(3);
    let first = format!("/data/flights-0/{:020}.log", 0);
    broker.machine.disk.flip_bit(&first, 100);
    let before = read_file(&*broker.machine.disk, Path::new(&first)).unwrap();
    assert!(!broker.cleaner.clean_filthiest(&no_pause));
    assert_eq!(read_file(&*broker.machine.disk, Path::new(&first)).unwrap(), before);
    assert!(broker.files().iter().all(|name| is_live(name)));
    assert_eq!(broker.checkpoint(), 0);
}

#[test]
fn a_log_that_is_deleted_or_closed_meanwhile_is_left_alone() {
    for is_deleted in [true, false] {
        let (broker, _) = filled(4);
        let slow = CleanerSettings { io_max_bytes_per_second: 1e-6, ..settings() };
        let clock = broker.machine.clock.clone();
        let cleaner = LogCleaner::new(broker.manager.clone(), clock, slow);
        let manager = &broker.manager;
        std::thread::scope(|scope| {
            let (begun, wait) = std::sync::mpsc::channel();
            scope.spawn(move || {
                wait.recv().unwrap();
                if is_deleted {
                    manager.delete(&[flights()]).unwrap()
                } else {
                    manager.close().unwrap()
                }
            });
            // The pass is paused for years, unless it gives way to the other.
            let pause = |_| begun.send(()).unwrap_or_default();
            assert!(!cleaner.clean_filthiest(&pause));
        });
        let disk = &broker.machine.disk;
        assert_eq!(disk.exists(Path::new("/data/flights-0")), !is_deleted);
        if !is_deleted {
            assert!(broker.files().iter().all(|name| is_live(name)));
        }
    }
}

#[test]
fn keys_that_are_due_and_those_that_are_not() {
    let broker = Broker::new(&[("min.compaction.lag.ms", "50000")]);
    let mut dice = Dice::new(1);
    let mut model = Model::default();
    for _ in 0..30 {
        model.append(&broker, &mut dice, 5);
    }
    broker.log.flush().unwrap();
    // The timestamps reach 100 seconds ahead.
    assert!(!broker.cleaner.clean_filthiest(&no_pause));
    broker.machine.clock.advance(151_000);
    assert!(broker.cleaner.clean_filthiest(&no_pause));
    assert!(broker.checkpoint() > 0);

    let lazy = [("min.cleanable.dirty.ratio", "1"), ("max.compaction.lag.ms", "200000")];
    let broker = Broker::new(&lazy);
    for _ in 0..30 {
        model.append(&broker, &mut dice, 5);
    }
    broker.log.flush().unwrap();
    assert!(!broker.cleaner.clean_filthiest(&no_pause));
    broker.machine.clock.advance(400_000);
    assert!(broker.cleaner.clean_filthiest(&no_pause), "a record is overdue");
}

#[test]
fn a_log_that_is_deleted_takes_its_checkpoint_along() {
    let (broker, _) = filled(5);
    assert!(broker.cleaner.clean_filthiest(&no_pause));
    assert!(broker.checkpoint() > 0);
    broker.manager.delete(&[flights()]).unwrap();
    assert_eq!(broker.checkpoint(), 0);
}

#[test]
fn batches_larger_than_the_buffer_are_compacted() {
    let broker = Broker::new(&[("segment.bytes", "60000")]);
    let value = |n: u8| vec![n; 20_000];
    for n in 0..10 {
        let mut builder = BatchBuilder::new(BatchOptions::default());
        builder.append(Timestamp(NOW), Some(&7u64.to_be_bytes()), Some(&value(n)), &[]);
        try_append(&broker.log, &builder.build(), 0).unwrap();
    }
    broker.log.flush().unwrap();
    assert!(broker.cleaner.clean_filthiest(&no_pause));
    let found: BTreeSet<_> = served(&broker.log).into_keys().collect();
    let end = broker.checkpoint();
    assert_eq!(found, (end - 1..10).collect());
    assert!(broker.log.end().offset == Offset(10) && end > 2);
}
