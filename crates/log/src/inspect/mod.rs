//! Looking at the files of logs without opening a log: what the commands `ottla log` are made of.
//!
//! Owns: walks over segments, indexes, snapshots and checkpoints that believe nothing of what they
//! read, hold a bounded part of it, and change nothing; the rules by which files contradict each
//! other ([`verify`]); and putting right what they derive from the log ([`repair`]). A broker may
//! run beside the walks: files grow and go under them.
//! Must not know: how findings are shown, command lines.

mod batches;
mod entries;
mod files;
mod finding;
mod repair;
mod verify;

pub use batches::{BatchReader, RecordView, Step, StoredBatch, UnreadableRecords};
pub use entries::{
    AbortedTransaction, Entries, IndexEntry, ProducerSnapshot, SnapshotError, TimeIndexEntry,
    aborted_transactions, offset_entries, producers_of_snapshot, time_entries,
};
pub use files::{FileKind, base_offset_of, read_text};
pub use finding::{Finding, Meaning};
pub use repair::{Damaged, Repair, RepairOptions, RepairPlan, Repaired};
pub use verify::{Progress, Summary, VerifyOptions, verify};
