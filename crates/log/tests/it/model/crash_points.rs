//! Crashes at every call of the disk, one seed after the other.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use ottla_fake::{Crash, Dice, FakeDisk};

use super::broker::{Broker, Ended, heal};
use super::operation::Operation;
use super::state::Model;

/// How many crash points a run looks at, unless `OTTLA_CRASH_POINTS` says otherwise.
const POINTS: usize = 5000;

/// Operations between two crashes.
const OPERATIONS: usize = 12;

/// Crashes from which the logs of one seed go on.
const LIVES: usize = 3;

/// A disk with what is known of the logs on it.
struct Life {
    disk: Arc<FakeDisk>,
    model: Model,
    /// What it begins after.
    crash: Option<Crash>,
    /// The logs before and after the operation that a killed process was at: what it did may still
    /// be undone by a power cut, until the start that follows has put all on the disk.
    past: Option<(Model, Model)>,
}

/// The moment before or within one call of the disk.
struct Moment {
    disk: Arc<FakeDisk>,
    /// Indexes into the operations of the life; 0 is the start.
    operation: usize,
}

/// What one life was: the moments of it, and the logs before and after each operation.
struct Lived {
    moments: Vec<Moment>,
    models: Vec<Model>,
    past: Option<(Model, Model)>,
}

impl Life {
    fn new() -> Self {
        let (disk, model) = (FakeDisk::with_dir("/data"), Model::default());
        Self { disk, model, crash: None, past: None }
    }

    /// Starts, does the operations one after the other, and keeps every moment.
    fn live(&self, operations: &[Operation]) -> Lived {
        let disk = self.disk.after(Crash::Process);
        disk.record();
        let mut models = vec![self.model.clone()];
        let mut ends = Vec::new();
        let mut model = self.model.clone();
        let started = Broker::start(disk.clone()).expect("it started before, from the same disk");
        assert_eq!(model.compare(started.manager()), Ok(()), "at the next start");
        models.push(model.clone());
        ends.push(disk.recorded());
        let mut broker = Ok(started);
        let mut fault = None;
        for &operation in operations {
            broker = match (broker, operation) {
                (Ok(broker), Operation::Fault(next)) => {
                    fault = Some(next);
                    Ok(broker)
                }
                (Ok(broker), operation) => {
                    if let Some(fault) = fault.take() {
                        broker.fail(fault, &mut model);
                    }
                    let went_on = broker.run(operation, &mut model);
                    heal(&disk);
                    went_on
                }
                (Err(Ended), _) => break,
            };
            models.push(model.clone());
            ends.push(disk.recorded());
        }
        let moment = |(n, disk)| Moment { disk, operation: ends.partition_point(|end| *end <= n) };
        let moments = disk.take_recording().into_iter().enumerate().map(moment).collect();
        Lived { moments, models, past: self.past.clone() }
    }
}

impl Lived {
    /// Crashes at a moment, and checks what is found. Returns it.
    fn crash(&self, moment: &Moment, crash: Crash, is_thorough: bool) -> Life {
        let disk = moment.disk.after(crash);
        let broker = Broker::start(disk.after(Crash::Process))
            .unwrap_or_else(|error| panic!("it does not open: {error}"));
        assert_eq!((broker.manager().failures(), broker.manager().offline()), (vec![], vec![]));
        let (before, after) = (&self.models[moment.operation], &self.models[moment.operation + 1]);
        let past = self.past.as_ref().filter(|_| moment.operation == 0);
        let (before, after) = match past.filter(|_| crash != Crash::Process) {
            Some((before_past, after_past)) if !before.may_leave(after, broker.manager()) => {
                (before_past, after_past)
            }
            _ => (before, after),
        };
        let mut model = before.after_crash(after, broker.manager(), crash);
        let unsettled = || past.cloned().unwrap_or_else(|| (before.clone(), after.clone()));
        let past = (crash == Crash::Process).then(unsettled);
        let life = Life { disk, model: model.clone(), crash: Some(crash), past };
        broker.retry(&model);
        if is_thorough {
            broker.go_on(&mut model);
        }
        life
    }
}

/// What fails, for the one who is to find out why.
struct Failure {
    operations: Vec<Operation>,
    crash: Crash,
    why: Box<dyn std::any::Any + Send>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = &self.why;
        let text = why.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| why.downcast_ref::<&str>().copied()).unwrap_or("it panicked");
        for operation in &self.operations {
            writeln!(f, "  {operation:?}")?;
        }
        write!(f, "  {:?} crash: {text}", self.crash)
    }
}

/// Crashes at every moment of a life. Returns how many crashes there were, and one of the lives
/// that they leave.
fn explore(
    life: &Life,
    operations: &[Operation],
    dice: &mut Dice,
) -> Result<(usize, Life), Failure> {
    let failed = |why, until: usize, crash| Failure {
        operations: operations[..until.min(operations.len())].to_vec(),
        crash,
        why,
    };
    let lived = catch_unwind(AssertUnwindSafe(|| life.live(operations)))
        .map_err(|why| failed(why, operations.len(), Crash::Process))?;
    let chosen = dice.roll(lived.moments.len() as u64) as usize;
    let mut next = None;
    let mut points = 0;
    for (n, moment) in lived.moments.iter().enumerate() {
        let power = Crash::Power { seed: dice.roll(u64::MAX) };
        let goes_on_after_power = dice.roll(2) == 0;
        for crash in [Crash::Process, power] {
            let is_thorough = (n + points) % 8 == 0;
            let found = catch_unwind(AssertUnwindSafe(|| lived.crash(moment, crash, is_thorough)))
                .map_err(|why| failed(why, moment.operation, crash))?;
            points += 1;
            if n == chosen && goes_on_after_power == (crash == power) {
                next = Some(found);
            }
        }
    }
    Ok((points, next.unwrap_or_else(Life::new)))
}

fn draw(dice: &mut Dice) -> Vec<Operation> {
    (0..OPERATIONS).map(|_| Operation::draw(dice)).collect()
}

/// Runs one seed: lives that follow on each other. Returns how many crash points it had.
fn run(seed: u64) -> usize {
    let mut dice = Dice::new(seed);
    let mut life = Life::new();
    let mut points = 0;
    for n in 0..LIVES {
        let operations = draw(&mut dice);
        let fate = dice.clone();
        match explore(&life, &operations, &mut dice) {
            Ok((more, next)) => {
                points += more;
                life = next;
            }
            Err(failure) => {
                let failure = shorten(&life, failure, &fate);
                eprintln!(
                    "seed {seed}, life {n}, after {:?}, with\n{}fails after\n{failure}\n\
                     again: OTTLA_CRASH_SEED={seed} cargo test --profile ci -p ottla-log \
                     --test it crash_points",
                    life.crash, life.model,
                );
                resume_unwind(failure.why);
            }
        }
    }
    points
}

/// Leaves out what it fails without.
fn shorten(life: &Life, mut failure: Failure, fate: &Dice) -> Failure {
    for n in (0..failure.operations.len()).rev() {
        let mut fewer = failure.operations.clone();
        fewer.remove(n);
        if let Err(shorter) = explore(life, &fewer, &mut fate.clone()) {
            failure = shorter;
        }
    }
    failure
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn nothing_durable_is_lost_nothing_is_invented_and_all_opens() {
    if let Some(seed) = number("OTTLA_CRASH_SEED") {
        eprintln!("seed {seed}: {} crash points", run(seed));
        return;
    }
    let wanted = number("OTTLA_CRASH_POINTS").map_or(POINTS, |points| points as usize);
    let (mut points, mut seeds) = (0, 0);
    while points < wanted {
        points += run(seeds);
        seeds += 1;
    }
    eprintln!("{points} crash points of {seeds} seeds");
}
