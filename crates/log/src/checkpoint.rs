//! Kafka's checkpoint files: small text files of offsets, replaced as a whole.
//!
//! Format (version 0): a line with the version, a line with the number of entries, one line per
//! entry with its words separated by one space.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};

use ottla_record::{Offset, PartitionId};
use ottla_runtime::disk::{Disk, OpenMode, read_file, replace_file};

use crate::segment::remove_if_there;

/// A partition by the name of its topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: String,
    /// The index within the topic.
    pub partition: PartitionId,
}

impl TopicPartition {
    /// Names a partition.
    pub fn new(topic: impl Into<String>, partition: impl Into<PartitionId>) -> Self {
        Self { topic: topic.into(), partition: partition.into() }
    }
}

impl std::fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// Reads the entry lines of the checkpoint at `path`. A missing or empty file has none.
pub(crate) fn read_lines(disk: &dyn Disk, path: &Path) -> io::Result<Vec<String>> {
    if !disk.exists(path) {
        return Ok(Vec::new());
    }
    let bytes = read_file(disk, path)?;
    let text = String::from_utf8(bytes).map_err(|_| malformed(path, "it is not UTF-8"))?;
    let mut lines = text.lines();
    let (Some(version), Some(count)) = (lines.next(), lines.next()) else {
        return Ok(Vec::new());
    };
    if version.trim() != "0" {
        return Err(malformed(path, &format!("version {version} is not known, only 0 is")));
    }
    let count: usize = count.trim().parse().map_err(|_| malformed(path, "no entry count"))?;
    let entries: Vec<String> = lines.map(str::to_owned).collect();
    if entries.len() != count {
        let found = entries.len();
        return Err(malformed(path, &format!("{count} entries announced, {found} found")));
    }
    Ok(entries)
}

/// Replaces the checkpoint at `path`.
pub(crate) fn write_lines<L: std::fmt::Display>(
    disk: &dyn Disk,
    path: &Path,
    lines: impl ExactSizeIterator<Item = L>,
) -> io::Result<()> {
    replace_file(disk, path, text_of(lines).as_bytes())
}

/// The text of a checkpoint with these entry lines.
pub(crate) fn text_of<L: std::fmt::Display>(lines: impl ExactSizeIterator<Item = L>) -> String {
    let mut text = format!("0\n{}\n", lines.len());
    for line in lines {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{line}");
    }
    text
}

/// Reads a checkpoint of one offset per partition.
pub(crate) fn read_offsets(
    disk: &dyn Disk,
    path: &Path,
) -> io::Result<BTreeMap<TopicPartition, Offset>> {
    let mut offsets = BTreeMap::new();
    for line in read_lines(disk, path)? {
        let words: Vec<&str> = line.split_whitespace().collect();
        let entry = match words[..] {
            [topic, partition, offset] => partition
                .parse::<i32>()
                .ok()
                .zip(offset.parse::<i64>().ok())
                .map(|(partition, offset)| (TopicPartition::new(topic, partition), offset)),
            _ => None,
        };
        let (partition, offset) =
            entry.ok_or_else(|| malformed(path, &format!("bad line {line:?}")))?;
        offsets.insert(partition, Offset(offset));
    }
    Ok(offsets)
}

/// Replaces a checkpoint of one offset per partition.
pub(crate) fn write_offsets(
    disk: &dyn Disk,
    path: &Path,
    offsets: &BTreeMap<TopicPartition, Offset>,
) -> io::Result<()> {
    replace_file(disk, path, text_of_offsets(offsets).as_bytes())
}

/// Replaces checkpoints of one directory that are replaced every second. What they held before stays
/// in `<name>.old`, which is written to the next time. So nothing is allocated and nothing freed, for
/// which the syncs of appends would wait.
///
/// The names in the directory must be durable, or the file that is written to might be the one in
/// place after a power cut. They are again when this returned. After a crash, some of the files may
/// be replaced and some not.
pub(crate) fn replace_often(
    disk: &dyn Disk,
    dir: &Path,
    files: &[(&str, String)],
) -> io::Result<()> {
    for (name, text) in files {
        let spare = disk.open(&old(dir, name), OpenMode::Create)?;
        spare.write_at(&[IoSlice::new(text.as_bytes())], 0)?;
        let len = text.len() as u64;
        if spare.len()? != len {
            spare.set_len(len)?;
        }
        spare.sync_data()?;
    }
    files.iter().try_for_each(|(name, _)| disk.exchange(&old(dir, name), &dir.join(name)))?;
    if files.is_empty() { Ok(()) } else { disk.sync_dir(dir) }
}

/// Removes what [`replace_often`] keeps.
pub(crate) fn remove_old(disk: &dyn Disk, dir: &Path, name: &str) -> io::Result<()> {
    remove_if_there(disk, &old(dir, name))
}

fn old(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.old"))
}

/// The text of a checkpoint of one offset per partition.
pub(crate) fn text_of_offsets(offsets: &BTreeMap<TopicPartition, Offset>) -> String {
    let line =
        |(p, offset): (&TopicPartition, &Offset)| format!("{} {} {offset}", p.topic, p.partition);
    text_of(offsets.iter().map(line))
}

fn malformed(path: &Path, what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{}: {what}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ottla_fake::FakeDisk;

    #[test]
    fn text_is_kafkas() {
        let disk = FakeDisk::with_dir("/d");
        let path = Path::new("/d/recovery-point-offset-checkpoint");
        let offsets = BTreeMap::from([
            (TopicPartition::new("b", 1), Offset(7)),
            (TopicPartition::new("a", 0), Offset(42)),
        ]);
        write_offsets(&*disk, path, &offsets).unwrap();
        assert_eq!(read_file(&*disk, path).unwrap(), b"0\n2\na 0 42\nb 1 7\n");
        assert_eq!(read_offsets(&*disk, path).unwrap(), offsets);
    }

    #[test]
    fn what_is_malformed_is_named() {
        let disk = FakeDisk::with_dir("/d");
        let path = Path::new("/d/c");
        assert_eq!(read_offsets(&*disk, path).unwrap(), BTreeMap::new());
        for (text, complaint) in [
            ("1\n0\n", "/d/c: version 1 is not known, only 0 is"),
            ("0\nx\n", "/d/c: no entry count"),
            ("0\n2\na 0 1\n", "/d/c: 2 entries announced, 1 found"),
            ("0\n1\na 0\n", "/d/c: bad line \"a 0\""),
            ("0\n1\na x 1\n", "/d/c: bad line \"a x 1\""),
        ] {
            let file = disk.open(path, OpenMode::Create).unwrap();
            file.set_len(0).unwrap();
            file.write_at(&[IoSlice::new(text.as_bytes())], 0).unwrap();
            assert_eq!(read_offsets(&*disk, path).unwrap_err().to_string(), complaint);
        }
    }
}
