//! What is wrong with a log that must neither be served as it is nor be cut.

use std::fmt;
use std::io;
use std::path::PathBuf;

use ottla_record::Offset;

/// Records that are known to have been in the log cannot be read any more, or it cannot be told
/// whether they were. No batch was cut or changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The directory of the partition.
    pub dir: PathBuf,
    /// The file at fault; the directory itself if the log is missing.
    pub file: PathBuf,
    /// The byte of the file from which on it cannot be read.
    pub position: u64,
    /// The offset that is expected there.
    pub offset: Offset,
    /// What was found instead.
    pub what: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { position, offset, what, .. } = self;
        let (dir, file) = (self.dir.display(), self.file.display());
        write!(
            f,
            "{file} is damaged at byte {position} (offset {offset}): {what}; run `ottla log verify \
             {dir}`, and then `ottla log repair {dir}` or move the directory away"
        )
    }
}

impl std::error::Error for Damage {}

/// Why a log was not opened.
#[derive(Debug)]
pub enum OpenError {
    /// The log is damaged.
    Damaged(Damage),
    /// The disk refused, or the log holds records of a format before 2, which are not served.
    Io(io::Error),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged(damage) => damage.fmt(f),
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for OpenError {}

impl From<io::Error> for OpenError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Damage> for OpenError {
    fn from(damage: Damage) -> Self {
        Self::Damaged(damage)
    }
}

impl From<OpenError> for io::Error {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Damaged(damage) => Self::new(io::ErrorKind::InvalidData, damage),
            OpenError::Io(error) => error,
        }
    }
}
