//! `ottla log verify`: whether the files of log directories agree.

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use ottla_log::inspect::{Finding, Progress, Summary, VerifyOptions, verify};
use ottla_runtime::disk::{SystemDisk, lock_holder};
use ottla_runtime::{Clock, World};
use serde_json::{Value, json};

use super::Printer;
use crate::exit::{Exit, Failure, Outcome};
use crate::terminal::human_bytes;

/// What means no harm (a torn tail that the next start cuts, an index that it makes anew) is told,
/// and is no inconsistency. Exit code 0: none; 1: some; 2: it could not be looked at.
#[derive(Args, Debug)]
pub(crate) struct Verify {
    /// Log directories (log.dirs), or the directory of one partition
    #[arg(required = true, value_name = "DIR")]
    dirs: Vec<PathBuf>,
    /// Believe the checksums of batches: do not unpack them and look at their records
    #[arg(long)]
    shallow: bool,
    /// Print JSON objects, one per finding, and a summary
    #[arg(long)]
    json: bool,
}

impl Verify {
    pub(crate) fn run(self) -> Outcome {
        let mut is_running = false;
        for dir in &self.dirs {
            let of_partition = dir.parent().map(|data| data.join(".lock"));
            let locks = [Some(dir.join(".lock")), of_partition];
            if let Some(pid) = locks.into_iter().flatten().find_map(|lock| lock_holder(&lock)) {
                is_running = true;
                let dir = dir.display();
                eprintln!("ottla: process {pid} uses {dir}: the ends of its logs may move");
            }
        }
        let mut out = Printer::new();
        let mut printed = Ok(());
        let mut meter = Meter::new();
        let options = VerifyOptions { shallow: self.shallow, is_running };
        let found = &mut |finding: Finding| {
            if printed.is_ok() {
                printed = match self.json {
                    true => out.line(finding_json(&finding)),
                    false => out.line(&finding),
                };
            }
        };
        let verified =
            verify(&SystemDisk, &self.dirs, options, found, &mut |progress| meter.show(progress));
        meter.clear();
        let summary = verified
            .map_err(|error| Failure::usage(format_args!("cannot look at all of it: {error}")))?;
        if printed.is_ok() {
            printed = match self.json {
                true => out.line(summary_json(&summary)),
                false => out.line(summary_line(&summary, meter.elapsed())),
            };
        }
        out.finish(printed)?;
        match summary.inconsistencies {
            0 => Ok(()),
            n => Err(Failure::new(Exit::Failed, format_args!("{n} inconsistencies"))),
        }
    }
}

pub(super) fn summary_line(summary: &Summary, took: Duration) -> String {
    let Summary { read, partitions, batches, records, harmless, inconsistencies } = summary;
    let megabytes = read.bytes as f64 / 1e6;
    format!(
        "{inconsistencies} inconsistencies, {harmless} harmless findings: {partitions} partitions, \
         {} files, {batches} batches, {records} records, {} in {:.1} s ({:.0} MB/s)",
        read.files,
        human_bytes(read.bytes),
        took.as_secs_f64(),
        megabytes / took.as_secs_f64().max(0.001)
    )
}

pub(super) fn finding_json(finding: &Finding) -> Value {
    json!({
        "file": finding.path.display().to_string(), "position": finding.position,
        "offset": finding.offset.map(|offset| offset.0), "what": finding.what,
        "meaning": finding.meaning.name(),
    })
}

fn summary_json(summary: &Summary) -> Value {
    let Summary { read, partitions, batches, records, harmless, inconsistencies } = *summary;
    json!({
        "inconsistencies": inconsistencies, "harmless": harmless, "partitions": partitions,
        "files": read.files, "bytes": read.bytes, "batches": batches, "records": records,
    })
}

/// How far a walk has come, on a terminal.
pub(super) struct Meter {
    clock: Arc<dyn Clock>,
    began: Duration,
    shown: Duration,
    is_terminal: bool,
}

impl Meter {
    pub(super) fn new() -> Self {
        let clock = World::system().clock;
        let began = clock.elapsed();
        let is_terminal = std::io::stderr().is_terminal();
        Self { clock, began, shown: began, is_terminal }
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.clock.elapsed().saturating_sub(self.began)
    }

    pub(super) fn show(&mut self, progress: Progress) {
        const SHOW_EVERY: Duration = Duration::from_millis(200);
        let now = self.clock.elapsed();
        if !self.is_terminal || now.saturating_sub(self.shown) < SHOW_EVERY {
            return;
        }
        self.shown = now;
        let rate = progress.bytes as f64 / 1e6 / self.elapsed().as_secs_f64().max(0.001);
        let (files, bytes) = (progress.files, human_bytes(progress.bytes));
        // A terminal that is gone is none of this command's business.
        let _ = write!(std::io::stderr(), "\r\x1b[K{files} files, {bytes}, {rate:.0} MB/s");
    }

    pub(super) fn clear(&self) {
        if self.is_terminal {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
