//! `ottla log`: looking at the files of logs, and putting them right.

mod decoders;
mod dump;
mod repair;
mod verify;

use std::io::{self, Write as _};

use clap::Subcommand;

use crate::exit::{Failure, Outcome};

#[derive(clap::Args, Debug)]
pub(crate) struct Log {
    #[command(subcommand)]
    command: LogCommand,
}

#[derive(Subcommand, Debug)]
enum LogCommand {
    /// Print what is in the files of a log, as kafka-dump-log does
    Dump(dump::Dump),
    /// Tell whether the files of log directories agree, and where they do not
    Verify(verify::Verify),
    /// Make anew what is derived from a log, and cut out what is damaged if told so
    Repair(repair::Repair),
}

impl Log {
    pub(crate) fn run(self) -> Outcome {
        match self.command {
            LogCommand::Dump(dump) => dump.run(),
            LogCommand::Verify(verify) => verify.run(),
            LogCommand::Repair(repair) => repair.run(),
        }
    }
}

/// Standard output, written in large pieces. Nobody reading it any more (`| head`) ends the command
/// without an error.
struct Printer(io::BufWriter<io::StdoutLock<'static>>);

impl Printer {
    fn new() -> Self {
        Self(io::BufWriter::with_capacity(64 * 1024, io::stdout().lock()))
    }

    fn line(&mut self, line: impl std::fmt::Display) -> io::Result<()> {
        writeln!(self.0, "{line}")
    }

    /// Ends the command with what its printing came to.
    fn finish(mut self, printed: io::Result<()>) -> Outcome {
        match printed.and_then(|()| self.0.flush()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(Failure::failed(format_args!("cannot write to standard output: {error}")))
            }
            _ => Ok(()),
        }
    }
}
