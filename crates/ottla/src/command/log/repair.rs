//! `ottla log repair`: what is derived is made anew, and damaged bytes are cut out if told so.

use std::io;
use std::path::PathBuf;

use clap::Args;
use ottla_log::DirectoryError;
use ottla_log::inspect::{Damaged, Repair as LogRepair, RepairOptions, RepairPlan};
use ottla_runtime::World;

use super::Printer;
use super::verify::{Meter, summary_line};
use crate::exit::{Exit, Failure, Outcome};
use crate::terminal::confirm;

/// Nothing is deleted: what is replaced or cut is kept in ".damaged-<milliseconds>" beside it. The
/// broker has to be stopped. Exit code 0: nothing is wrong any more; 1: something still is.
#[derive(Args, Debug)]
pub(crate) struct Repair {
    /// A log directory (of log.dirs), or the directory of one partition in it
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Tell what would be done, and do nothing
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
    /// Do it without asking
    #[arg(long)]
    yes: bool,
    /// End a log at the first bytes of it that cannot be read: all records from there on are lost
    #[arg(long, conflicts_with = "skip_damaged")]
    truncate_damaged: bool,
    /// Take bytes that cannot be read out of a log, and keep the records behind them
    #[arg(long)]
    skip_damaged: bool,
    /// Bytes between the entries of a new index (index.interval.bytes)
    #[arg(long, value_name = "BYTES", default_value_t = 4096)]
    index_interval_bytes: u64,
}

impl Repair {
    pub(crate) fn run(self) -> Outcome {
        let world = World::system();
        let options = RepairOptions {
            damaged: match (self.truncate_damaged, self.skip_damaged) {
                (true, _) => Damaged::Truncate,
                (_, true) => Damaged::Skip,
                _ => Damaged::Leave,
            },
            index_interval_bytes: self.index_interval_bytes,
            index_bytes_max: 10 << 20,
            now_ms: world.clock.wall_ms(),
        };
        let repair = LogRepair::open(world.disk, &self.dir, options).map_err(|error| {
            let exit = match error {
                DirectoryError::InUse { .. } => Exit::InUse,
                _ => Exit::Usage,
            };
            Failure::new(exit, error)
        })?;
        let failed = |error: io::Error| Failure::failed(format_args!("{error}; run it again"));
        let mut meter = Meter::new();
        let plan = repair.plan(&mut |progress| meter.show(progress)).map_err(failed)?;
        meter.clear();
        print(|out| {
            plan.steps.iter().try_for_each(|step| out.line(format_args!("to do: {step}")))?;
            plan.left.iter().try_for_each(|finding| out.line(format_args!("left: {finding}")))
        })?;
        if plan.steps.is_empty() || self.dry_run {
            return match plan.left.len() + plan.steps.len() {
                0 => print(|out| out.line("nothing to repair")),
                _ if plan.steps.is_empty() => Err(left(plan.left.len())),
                _ => Ok(()),
            };
        }
        self.confirm(&plan)?;
        let repaired = repair.apply(plan, &mut |progress| meter.show(progress)).map_err(failed)?;
        meter.clear();
        print(|out| {
            repaired.done.iter().try_for_each(|step| out.line(format_args!("done: {step}")))?;
            repaired
                .left
                .iter()
                .try_for_each(|finding| out.line(format_args!("left: {finding}")))?;
            out.line(summary_line(&repaired.summary, meter.elapsed()))
        })?;
        if repaired.left.is_empty() { Ok(()) } else { Err(left(repaired.left.len())) }
    }

    fn confirm(&self, plan: &RepairPlan) -> Outcome {
        if self.yes {
            return Ok(());
        }
        confirm(&format!("Do these {} things?", plan.steps.len()))
    }
}

fn left(findings: usize) -> Failure {
    Failure::failed(format_args!(
        "{findings} findings are left; for damaged logs see --truncate-damaged and --skip-damaged"
    ))
}

fn print(lines: impl FnOnce(&mut Printer) -> io::Result<()>) -> Outcome {
    let mut out = Printer::new();
    let printed = lines(&mut out);
    out.finish(printed)
}
