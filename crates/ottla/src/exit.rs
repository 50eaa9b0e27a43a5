//! How a command ends: the exit codes, and a failure with the one line the user reads.

use std::fmt;
use std::process::ExitCode;

/// Why a command failed, as the shell sees it. 0 is success; clap itself exits with 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// The broker refused the operation, or it failed half-way.
    Failed = 1,
    /// The command line, or the input that a command reads, is wrong.
    Usage = 2,
    /// A configuration file, key or value is wrong.
    Configuration = 3,
    /// The data directory or a listener's port is in use by another process.
    InUse = 4,
    /// No broker answered.
    Unreachable = 5,
}

/// The table that `ottla --help` ends with.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  the operation failed
  2  wrong command line or input
  3  wrong configuration
  4  data directory or port in use
  5  no broker answered";

/// A command's failure: printed to stderr as `ottla: <message>`, then the process exits with `exit`.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    message: String,
}

impl Failure {
    /// A failure that says what went wrong and, where it is known, what to do about it.
    pub(crate) fn new(exit: Exit, message: impl fmt::Display) -> Self {
        Self { exit, message: message.to_string() }
    }

    /// The operation failed.
    pub(crate) fn failed(message: impl fmt::Display) -> Self {
        Self::new(Exit::Failed, message)
    }

    /// The command line or the input is wrong.
    pub(crate) fn usage(message: impl fmt::Display) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// The process's exit code.
    pub(crate) fn code(&self) -> ExitCode {
        ExitCode::from(self.exit as u8)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// What every command returns.
pub(crate) type Outcome = Result<(), Failure>;
