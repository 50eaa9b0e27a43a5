//! What is wrong with a file, where, and what that means.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

use ottla_record::Offset;

/// What a finding means for whoever runs the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Meaning {
    /// Nothing is wrong with what the broker serves, or its next start puts it right.
    Harmless,
    /// Every record is there. What was derived from them is wrong, and can be derived anew.
    Derived,
    /// The broker refuses it, and it cannot be derived: a person has to decide.
    Operator,
    /// Records that were acknowledged may be missing or unreadable.
    Lost,
}

impl Meaning {
    /// One word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Harmless => "harmless",
            Self::Derived => "derived",
            Self::Operator => "operator",
            Self::Lost => "lost",
        }
    }
}

/// One inconsistency.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The file, or the directory.
    pub path: PathBuf,
    /// Where in the file, in bytes.
    pub position: Option<u64>,
    /// The offset in the log that is concerned.
    pub offset: Option<Offset>,
    /// What is wrong.
    pub what: String,
    /// What that means.
    pub meaning: Meaning,
    pub(crate) fix: Fix,
}

impl Finding {
    /// Whether bytes of a log cannot be read that the next start does not cut.
    pub(crate) fn is_damage(&self) -> bool {
        matches!(self.fix, Fix::Cut(_)) && self.meaning != Meaning::Harmless
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if let Some(position) = self.position {
            write!(f, " at byte {position}")?;
        }
        if let Some(offset) = self.offset {
            write!(f, " (offset {offset})")?;
        }
        write!(f, ": {} [{}]", self.what, self.meaning.name())
    }
}

/// What puts a finding right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fix {
    /// Nothing that could be done without a person.
    None,
    /// Both indexes of the segment are made anew.
    Indexes(Offset),
    /// The transaction index of the segment is made anew.
    TransactionIndex(Offset),
    /// The snapshot at the offset is made anew.
    Snapshot(Offset),
    /// The history of leader epochs is made anew.
    Epochs,
    /// The file is moved to the side: the broker does without it.
    SetAside,
    /// The offsets beyond the end of their log are brought back to it.
    Checkpoint,
    /// The bytes are cut out of the segment, or the log ends there.
    Cut(Cut),
}

/// A range of a segment that holds no batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    /// The segment.
    pub(crate) base: Offset,
    /// Its bytes in the log file.
    pub(crate) bytes: Range<u64>,
    /// The first offset that cannot be read.
    pub(crate) first: Offset,
    /// The offset of the batch that stands behind; `None` if none does.
    pub(crate) next: Option<Offset>,
}
