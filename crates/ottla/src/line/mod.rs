//! Records as lines of text: what `produce` reads and `consume` prints.
//!
//! Owns: the two formats (separated text, JSON). Must not know: brokers, standard input.

mod json;
mod text;

pub(crate) use text::{Columns, TextFormat};

/// A name and a value; `None` is null.
pub(crate) type Header = (String, Option<Vec<u8>>);

/// One record as a line has it, before or after its journey.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LineRecord {
    /// `None` lets the partitioner choose.
    pub(crate) partition: Option<i32>,
    /// Only on the way out.
    pub(crate) offset: Option<i64>,
    /// Milliseconds since 1970; `None` lets the producer take the present time.
    pub(crate) timestamp_ms: Option<i64>,
    pub(crate) key: Option<Vec<u8>>,
    /// `None` is a tombstone: compaction deletes the key.
    pub(crate) value: Option<Vec<u8>>,
    /// In order; names may repeat.
    pub(crate) headers: Vec<Header>,
}

/// How lines are read and written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Key and value with a separator between them.
    Text(TextFormat),
    /// One JSON object per line; what `consume --json` prints, `produce --json` reads.
    Json,
}

impl Format {
    /// Reads one line (without its line feed). The error says what is wrong with it.
    pub(crate) fn read(&self, line: &[u8]) -> Result<LineRecord, String> {
        match self {
            Self::Text(format) => format.read(line),
            Self::Json => json::read(line),
        }
    }

    /// Appends one line with its line feed to `out`.
    pub(crate) fn write(&self, record: &LineRecord, out: &mut Vec<u8>) {
        match self {
            Self::Text(format) => format.write(record, out),
            Self::Json => json::write(record, out),
        }
        out.push(b'\n');
    }
}
