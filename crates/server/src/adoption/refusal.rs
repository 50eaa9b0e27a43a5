//! Why directories of Kafka's are not adopted, and what to do.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;

use ottla_log::DirectoryError;
use ottla_metadata::adoption::Refusal;

use super::metadata_log::MetadataLogError;

/// How many names a message gives before it only counts.
const NAMED_MAX: usize = 5;

/// Why directories of Kafka's are not adopted. Nothing in them was changed.
#[derive(Debug)]
pub enum AdoptionError {
    /// A directory cannot be looked at, or is someone else's.
    Directory(DirectoryError),
    /// The metadata log cannot be read.
    MetadataLog(MetadataLogError),
    /// The cluster is not one that a broker can take over.
    Refused(Refusal),
    /// There is a metadata log, and no `meta.properties`.
    NoIdentity {
        /// The first log directory.
        dir: PathBuf,
    },
    /// The directory is KRaft's, and no metadata log is found.
    NoMetadataLog {
        /// The directory.
        dir: PathBuf,
    },
    /// There is more than one metadata log.
    SeveralMetadataLogs {
        /// Their paths.
        paths: BTreeSet<PathBuf>,
    },
    /// The cluster's metadata is elsewhere, in ZooKeeper, or nowhere.
    NoMetadata {
        /// The first log directory.
        dir: PathBuf,
        /// How many logs there are.
        logs: usize,
    },
    /// A partition has two logs.
    Twice {
        /// The partition.
        partition: String,
        /// One of the logs.
        path: PathBuf,
    },
    /// The logs of a topic name different topics.
    TwoIds {
        /// The topic.
        topic: String,
        /// A log that contradicts an earlier one.
        path: PathBuf,
    },
    /// The logs and the metadata log do not tell of the same partitions.
    Mismatch {
        /// Logs that the metadata log does not know.
        strays: Vec<PathBuf>,
        /// Partitions that have no log.
        missing: Vec<String>,
    },
}

impl From<DirectoryError> for AdoptionError {
    fn from(error: DirectoryError) -> Self {
        Self::Directory(error)
    }
}

impl From<MetadataLogError> for AdoptionError {
    fn from(error: MetadataLogError) -> Self {
        Self::MetadataLog(error)
    }
}

impl From<Refusal> for AdoptionError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl fmt::Display for AdoptionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(error) => error.fmt(f),
            Self::MetadataLog(error) => error.fmt(f),
            Self::Refused(refusal) => write!(f, "not adopted: {refusal}"),
            Self::NoIdentity { dir } => write!(
                f,
                "{} has Kafka's metadata log and no meta.properties, which names the cluster: put \
                 it back",
                dir.display()
            ),
            Self::NoMetadataLog { dir } => write!(
                f,
                "{} belongs to a KRaft cluster, and no log directory has __cluster_metadata-0: set \
                 metadata.log.dir to the directory that has it",
                dir.display()
            ),
            Self::SeveralMetadataLogs { paths } => write!(
                f,
                "there is more than one metadata log, and which one counts is not to be guessed: \
                 {}. Set aside those that do not",
                list(paths.iter().map(|path| path.display().to_string()))
            ),
            Self::NoMetadata { dir, logs } => write!(
                f,
                "{} has {logs} log(s) of a cluster whose metadata is in ZooKeeper, and this broker's \
                 own tree knows nothing of it. Bring the metadata along: point zookeeper.connect at \
                 the ensemble, or copy its tree with \"ottla keeper import\". Or start with --adopt, \
                 which takes names, ids and partitions of topics from the directories; configs, \
                 access rules, credentials and quotas are lost then",
                dir.display()
            ),
            Self::Twice { partition, path } => write!(
                f,
                "{partition} has two logs, one of them {}: move the one that does not count out of \
                 the log directory",
                path.display()
            ),
            Self::TwoIds { topic, path } => write!(
                f,
                "the logs of topic {topic} have different topic ids, as after a deletion: {} \
                 contradicts an earlier one; move what is old out of the log directory",
                path.display()
            ),
            Self::Mismatch { strays, missing } => mismatch(f, strays, missing),
        }
    }
}

impl std::error::Error for AdoptionError {}

fn mismatch(f: &mut fmt::Formatter<'_>, strays: &[PathBuf], missing: &[String]) -> fmt::Result {
    f.write_str("the metadata log and the log directories do not agree.")?;
    if !strays.is_empty() {
        let paths = list(strays.iter().map(|path| path.display().to_string()));
        write!(f, " The metadata log does not know these logs (any more): {paths}.")?;
    }
    if !missing.is_empty() {
        let partitions = list(missing.iter().cloned());
        write!(f, " No log directory has the log of these partitions: {partitions}.")?;
    }
    f.write_str(
        " Look whether log.dirs names all directories; start Kafka once more and stop it, which puts \
         right what it had not finished; or start with --adopt: unknown logs are set aside then \
         (renamed to -stray, as Kafka does), and missing ones begin empty",
    )
}

/// The first few names, and how many more there are.
fn list(names: impl ExactSizeIterator<Item = String>) -> String {
    let more = names.len().saturating_sub(NAMED_MAX);
    let named: Vec<String> = names.take(NAMED_MAX).collect();
    let named = named.join(", ");
    if more == 0 { named } else { format!("{named} and {more} more") }
}
