//! Putting one segment in the place of others, so that a crash leaves either.
//!
//! ```text
//! N.log.cleaned   written and synced           a load removes it
//!   ↓ all files are renamed, the directory is synced: from here on it counts
//! N.log.swap      the others are removed       a load goes on with this
//!   ↓ renamed, synced
//! N.log           the indexes follow, synced   a load goes on with this
//! ```
//!
//! The names and what a load makes of them ([`crate::leftovers`]) are Kafka's. What follows must not
//! overtake on the disk: the directory is synced in between. A segment whose log is still there must
//! have its index of aborted transactions, or their records would come back.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use ottla_runtime::disk::Disk;

use crate::log::Log;
use crate::segment::{Segment, SegmentOptions, remove_if_there};

/// The files of a segment that belong to its log.
const INDEXES: [&str; 3] = ["index", "timeindex", "txnindex"];

/// Puts `cleaned`, which is sealed, in the place of `sources`: neighbours in the log, of which the
/// first has its base offset. Readers that hold the sources read on.
///
/// # Errors
/// The disk refused. The directory is offline then, unless nothing was changed.
pub(crate) fn replace(log: &Log, sources: &[Arc<Segment>], cleaned: &Segment) -> io::Result<()> {
    sources.iter().try_for_each(|source| source.hold_files())?;
    let swap = Swap { options: log.options(), sources, cleaned };
    swap.disk().sync_dir(log.dir())?;
    let replacement = swap.run(log).inspect_err(|error| log.volume.fail(error))?;
    // No error may come between: appends wait for this.
    let _appender = log.appender.lock();
    let mut list = log.segments.load().to_vec();
    let at = list.partition_point(|segment| segment.base_offset() < cleaned.base_offset());
    list.splice(at..at + sources.len(), [Arc::new(replacement)]);
    log.segments.store(Arc::new(list));
    Ok(())
}

struct Swap<'a> {
    options: SegmentOptions,
    sources: &'a [Arc<Segment>],
    cleaned: &'a Segment,
}

impl Swap<'_> {
    fn run(&self, log: &Log) -> io::Result<Segment> {
        let (disk, dir) = (self.disk(), log.dir());
        let base = self.cleaned.base_offset();
        for suffix in ["log"].iter().chain(&INDEXES) {
            self.rename(&format!("{suffix}.cleaned"), &format!("{suffix}.swap"))?;
        }
        disk.sync_dir(dir)?;
        self.sources.iter().for_each(|source| source.give_names_up());
        let others = self.sources.iter().map(|s| s.base_offset()).filter(|&other| other != base);
        let others: Vec<_> = others.collect();
        if !others.is_empty() {
            others.iter().try_for_each(|&other| self.remove(self.options.path(other, "log")))?;
            disk.sync_dir(dir)?;
        }
        for suffix in INDEXES {
            self.remove(self.options.path(base, suffix))?;
            others.iter().try_for_each(|&other| self.remove(self.options.path(other, suffix)))?;
        }
        others.iter().try_for_each(|&other| self.remove(self.options.path(other, "snapshot")))?;
        disk.sync_dir(dir)?;
        self.rename("log.swap", "log")?;
        disk.sync_dir(dir)?;
        INDEXES.iter().try_for_each(|suffix| self.rename(&format!("{suffix}.swap"), suffix))?;
        disk.sync_dir(dir)?;
        let (replacement, has_indexes) = Segment::open(&self.options, base, true)?;
        match has_indexes {
            true => Ok(replacement),
            false => Err(io::Error::other(format!("{}: no indexes", replacement.path()))),
        }
    }

    fn disk(&self) -> &dyn Disk {
        &*self.options.disk
    }

    /// Renames a file of the new segment, if it has such a file.
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let base = self.cleaned.base_offset();
        let (from, to) = (self.options.path(base, from), self.options.path(base, to));
        if self.disk().exists(&from) { self.disk().rename(&from, &to) } else { Ok(()) }
    }

    fn remove(&self, path: PathBuf) -> io::Result<()> {
        remove_if_there(self.disk(), &path)
    }
}

/// Removes what was written for a segment that will replace none.
pub(crate) fn discard(options: &SegmentOptions, cleaned: &Segment) -> io::Result<()> {
    for suffix in ["log"].iter().chain(&INDEXES) {
        let path = options.path(cleaned.base_offset(), &format!("{suffix}.cleaned"));
        remove_if_there(&*options.disk, &path)?;
    }
    Ok(())
}
