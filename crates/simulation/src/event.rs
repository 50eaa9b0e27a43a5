//! What clients asked, were told, and saw.

use std::fmt;

/// A partition of a topic that is never made twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// The number in the topic's name.
    pub(crate) topic: u32,
    pub(crate) partition: i32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", topic_name(self.topic), self.partition)
    }
}

/// The name of a topic.
pub(crate) fn topic_name(topic: u32) -> String {
    format!("t{topic}")
}

/// What a record holds: nobody else writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Value {
    pub(crate) producer: u32,
    /// Counts from 0.
    pub(crate) number: u32,
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.producer, self.number)
    }
}

/// What a producer wants of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// Once, and in the order of the numbers: it has a sequence, and is sent until it is acknowledged.
    Sequenced,
    /// It is sent once, without a sequence.
    Plain,
    /// Never: it was damaged on its way.
    Refused,
}

/// Something that a client did, or was told.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// A record is about to be sent for the first time.
    Asked { place: Place, value: Value, wish: Wish },
    /// It was acknowledged (acks=1 or all).
    Acknowledged { place: Place, value: Value, offset: i64 },
    /// A record was read.
    Read { place: Place, offset: i64, value: Value },
    /// A broker told how far a partition is committed.
    HighWatermark { place: Place, high_watermark: i64 },
    /// Records below an offset are to be deleted.
    DeletionAsked { place: Place, before: i64 },
    /// They are.
    Deleted { place: Place, start: i64 },
    /// An offset is about to be committed.
    CommitAsked { group: u32, place: Place, offset: i64 },
    /// It is.
    Committed { group: u32, place: Place, offset: i64 },
    /// A committed offset was read; −1 is none.
    CommitRead { group: u32, place: Place, offset: i64 },
    /// A producer id was given.
    ProducerId { id: i64, epoch: i16 },
    /// When all is calm, a partition was read from its start to its end: these offsets.
    ReadWhole { place: Place, start: i64, records: Vec<(i64, Value)> },
}
