//! The payload of Produce and Fetch: record batches, held or merely announced.

use std::borrow::Cow;

use crate::IntoOwned;

/// Record batches inside a message, opaque to the protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Records<'a> {
    /// The batches themselves; decoding borrows them from the frame.
    Bytes(Cow<'a, [u8]>),
    /// This many bytes of batches that the sender of the frame takes from elsewhere, such as a
    /// range of a log file. Encoding writes the length prefix and an [`Encoder`] splice; decoding
    /// never gives this variant.
    ///
    /// [`Encoder`]: crate::Encoder
    Spliced(usize),
}

impl Records<'_> {
    /// Size of the batches in bytes, wherever they are.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Spliced(len) => *len,
        }
    }

    /// Whether there is no batch at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The batches, if they are held here: always so in a decoded message.
    #[must_use]
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            Self::Spliced(_) => None,
        }
    }
}

impl<'a> From<&'a [u8]> for Records<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::Bytes(Cow::Borrowed(bytes))
    }
}

impl From<Vec<u8>> for Records<'_> {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(Cow::Owned(bytes))
    }
}

impl IntoOwned for Records<'_> {
    type Owned = Records<'static>;

    fn into_owned(self) -> Records<'static> {
        match self {
            Self::Bytes(bytes) => Records::Bytes(Cow::Owned(bytes.into_owned())),
            Self::Spliced(len) => Records::Spliced(len),
        }
    }
}
