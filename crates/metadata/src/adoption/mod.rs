//! Taking over the cluster that a directory of Kafka's tells of.
//!
//! Owns: what the records of KRaft's metadata log mean ([`Replay`] makes an [`Image`] of them), which
//! znodes say the same ([`Adoption`]), and writing these into a tree that nobody has used. Must not
//! know: files and directories; who decides that a cluster is adopted.

mod image;
mod nodes;
mod record;
mod write;

pub use image::{Image, ImageAcl, ImagePartition, ImageTopic, Replay};
pub use nodes::{Adoption, LogEpochs, Refusal};
pub use record::{MetadataRecord, RecordError};
