//! The small numbers of Kafka, each its own type, so that two of them cannot be swapped in a call.

use std::fmt;
use std::ops::{Add, Sub};

/// Declares an integer newtype with its wire representation and a display that is the bare number.
macro_rules! number {
    ($(#[$doc:meta])* $name:ident($repr:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub $repr);

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }

        impl From<$repr> for $name {
            fn from(value: $repr) -> Self {
                Self(value)
            }
        }

        impl From<$name> for $repr {
            fn from(value: $name) -> Self {
                value.0
            }
        }
    };
}

number! {
    /// The position of a record in a partition's log: 0, 1, 2… A log end offset (LEO) and a high
    /// watermark are offsets too: the next one to be written, the next one not yet committed.
    Offset(i64)
}
number! {
    /// A term of leadership of one partition; −1 where it is unknown.
    LeaderEpoch(i32)
}
number! {
    /// A broker's `broker.id` (`node.id`); −1 stands for "none".
    BrokerId(i32)
}
number! {
    /// The index of a partition within its topic.
    PartitionId(i32)
}
number! {
    /// The id that the cluster gave to an idempotent or transactional producer; −1 is "none".
    ProducerId(i64)
}
number! {
    /// The epoch of a producer id, which fences earlier holders of it; −1 is "none".
    ProducerEpoch(i16)
}
number! {
    /// The sequence number of a record of one producer in one partition. It wraps from 2³¹−1 to 0.
    Sequence(i32)
}
number! {
    /// Milliseconds since 1970-01-01 UTC; −1 is "no timestamp".
    Timestamp(i64)
}

impl Offset {
    /// The lowest offset a log can have.
    pub const ZERO: Self = Self(0);
    /// Kafka's "no offset" on the wire.
    pub const NONE: Self = Self(-1);
}

impl Add<i64> for Offset {
    type Output = Self;
    fn add(self, records: i64) -> Self {
        Self(self.0 + records)
    }
}

impl Sub for Offset {
    type Output = i64;
    fn sub(self, earlier: Self) -> i64 {
        self.0 - earlier.0
    }
}

impl LeaderEpoch {
    /// Epoch not known: an old client, or a batch that no leader has stamped.
    pub const NONE: Self = Self(-1);
}

impl BrokerId {
    /// No broker: a partition without a leader.
    pub const NONE: Self = Self(-1);
}

impl ProducerId {
    /// The producer is not idempotent.
    pub const NONE: Self = Self(-1);
}

impl ProducerEpoch {
    /// The producer is not idempotent.
    pub const NONE: Self = Self(-1);
}

impl Sequence {
    /// The producer is not idempotent.
    pub const NONE: Self = Self(-1);

    /// The sequence `records` further on, wrapping from 2³¹−1 to 0.
    #[must_use]
    pub fn advance(self, records: i32) -> Self {
        Self(((i64::from(self.0) + i64::from(records)) % (i64::from(i32::MAX) + 1)) as i32)
    }
}

impl Timestamp {
    /// The record carries no timestamp.
    pub const NONE: Self = Self(-1);
}

/// A topic's or directory's 128-bit id. Its text is URL-safe base64 without padding, 22 characters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Uuid(pub [u8; 16]);

const BASE64_URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

impl Uuid {
    /// The all-zero id, which means "no id".
    pub const ZERO: Self = Self([0; 16]);

    /// Makes a version 4 id from 16 random bytes.
    #[must_use]
    pub fn from_random(mut bytes: [u8; 16]) -> Self {
        bytes[6] = (bytes[6] & 0x0f) | 0x40;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        Self(bytes)
    }

    /// Whether this is the all-zero id.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        *self == Self::ZERO
    }

    /// Reads the 22-character text form; `None` if it is not one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != 22 {
            return None;
        }
        let mut bits: u32 = 0;
        let mut held = 0;
        let mut bytes = [0; 16];
        let mut filled = 0;
        for c in text.bytes() {
            let value = BASE64_URL.iter().position(|&b| b == c)? as u32;
            bits = (bits << 6) | value;
            held += 6;
            if held >= 8 && filled < 16 {
                held -= 8;
                bytes[filled] = (bits >> held) as u8;
                filled += 1;
            }
            bits &= (1 << held) - 1;
        }
        // 22 characters carry 132 bits; the last four must be zero for the text to be canonical.
        (bits == 0).then_some(Self(bytes))
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0u8; 22];
        let mut written = 0;
        for chunk in self.0.chunks(3) {
            let mut block = [0u8; 3];
            block[..chunk.len()].copy_from_slice(chunk);
            let bits = u32::from_be_bytes([0, block[0], block[1], block[2]]);
            for i in 0..=chunk.len() {
                text[written] = BASE64_URL[(bits >> (18 - 6 * i)) as usize & 63];
                written += 1;
            }
        }
        f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuid_text_is_kafkas() {
        let metadata_topic = Uuid([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(metadata_topic.to_string(), "AAAAAAAAAAAAAAAAAAAAAQ");
        assert_eq!(Uuid::parse("AAAAAAAAAAAAAAAAAAAAAQ"), Some(metadata_topic));
        let any = Uuid::from_random(std::array::from_fn(|i| (i * 37 + 11) as u8));
        assert_eq!(Uuid::parse(&any.to_string()), Some(any));
        for bad in ["", "AAAAAAAAAAAAAAAAAAAAA", "AAAAAAAAAAAAAAAAAAAAA=", "AAAAAAAAAAAAAAAAAAAAAR"]
        {
            assert_eq!(Uuid::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn sequence_wraps_to_zero() {
        assert_eq!(Sequence(i32::MAX).advance(1), Sequence(0));
        assert_eq!(Sequence(i32::MAX - 1).advance(4), Sequence(2));
        assert_eq!(Sequence(5).advance(3), Sequence(8));
    }
}
