//! Reading primitives from a frame. Nothing here panics, and nothing is allocated beyond what the
//! bytes at hand can justify.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use ottla_record::Uuid;

/// Why bytes are not the message they claim to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodeError {
    /// The field that could not be read, as `Struct.field`, or the struct's name alone.
    pub field: &'static str,
    /// What was wrong with it.
    pub kind: DecodeErrorKind,
}

/// What was wrong with the bytes of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodeErrorKind {
    /// The frame, or the tagged field around this one, ends too early.
    Truncated,
    /// A length is negative (and not the −1 of null), or a string is longer than 32 767 bytes.
    InvalidLength,
    /// More elements are announced than the remaining bytes could hold.
    CountExceedsFrame,
    /// Null where this version has no null.
    UnexpectedNull,
    /// A variable-length integer is longer than 32 bits.
    InvalidVarint,
    /// A tagged field is longer than its content.
    TaggedSize,
    /// Bytes are left after the last field.
    TrailingBytes,
    /// No api has this key.
    UnknownApiKey(i16),
    /// No record of the coordinator has this type.
    UnknownRecordType(i16),
    /// The message does not exist in this version.
    UnsupportedVersion(i16),
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let field = self.field;
        match self.kind {
            DecodeErrorKind::Truncated => write!(f, "{field}: the bytes end too early"),
            DecodeErrorKind::InvalidLength => write!(f, "{field}: invalid length"),
            DecodeErrorKind::CountExceedsFrame => {
                write!(f, "{field}: more elements than the remaining bytes could hold")
            }
            DecodeErrorKind::UnexpectedNull => write!(f, "{field}: null is not allowed"),
            DecodeErrorKind::InvalidVarint => write!(f, "{field}: varint longer than 32 bits"),
            DecodeErrorKind::TaggedSize => {
                write!(f, "{field}: tagged field longer than its content")
            }
            DecodeErrorKind::TrailingBytes => write!(f, "{field}: bytes after the last field"),
            DecodeErrorKind::UnknownApiKey(key) => write!(f, "{field}: unknown api key {key}"),
            DecodeErrorKind::UnknownRecordType(number) => {
                write!(f, "{field}: unknown record type {number}")
            }
            DecodeErrorKind::UnsupportedVersion(version) => {
                write!(f, "{field}: unsupported version {version}")
            }
        }
    }
}

impl std::error::Error for DecodeError {}

/// Makes the error; out of the way of the paths that succeed.
#[cold]
#[inline(never)]
pub(crate) fn invalid(field: &'static str, kind: DecodeErrorKind) -> DecodeError {
    DecodeError { field, kind }
}

/// Refuses a version that the message does not have.
#[inline]
pub(crate) fn check_version<M: crate::Message>(version: i16) -> Result<(), DecodeError> {
    if M::VERSIONS.contains(version) {
        Ok(())
    } else {
        Err(invalid(M::NAME, DecodeErrorKind::UnsupportedVersion(version)))
    }
}

/// The longest string of the protocol in bytes, compact or not.
pub(crate) const MAX_STRING: usize = i16::MAX as usize;

/// For how many of `count` announced elements to reserve memory. An element may be larger in
/// memory than on the wire: reserve no more than there are bytes left, and let elements that were
/// really read ask for the rest.
#[inline]
fn reservation<T>(count: usize, remaining: usize) -> usize {
    count.min(remaining / size_of::<T>().max(1))
}

/// A cursor over one frame. Every method names the field it reads, for the error.
#[derive(Debug, Clone)]
pub struct Decoder<'a> {
    frame: &'a [u8],
    /// Never beyond the end of `frame`.
    at: usize,
}

macro_rules! number {
    ($($(#[$doc:meta])* $name:ident: $type:ty;)*) => {
        $($(#[$doc])*
        #[inline]
        pub fn $name(&mut self, field: &'static str) -> Result<$type, DecodeError> {
            self.array_of(field).map(<$type>::from_be_bytes)
        })*
    };
}

impl<'a> Decoder<'a> {
    /// A decoder at the start of `frame`, which is without its length prefix.
    #[must_use]
    pub fn new(frame: &'a [u8]) -> Self {
        Self { frame, at: 0 }
    }

    /// How many bytes have been read.
    #[must_use]
    pub fn position(&self) -> usize {
        self.at
    }

    /// How many bytes are left.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.frame.len() - self.at
    }

    /// Demands that every byte has been read.
    ///
    /// # Errors
    /// [`DecodeErrorKind::TrailingBytes`] if one has not.
    pub fn finish(&self) -> Result<(), DecodeError> {
        if self.remaining() == 0 {
            Ok(())
        } else {
            Err(invalid("frame", DecodeErrorKind::TrailingBytes))
        }
    }

    /// Where in the frame a slice that was borrowed from it stands; `None` for any other slice.
    #[must_use]
    pub fn range_of(&self, part: &[u8]) -> Option<Range<usize>> {
        let start = part.as_ptr().addr().checked_sub(self.frame.as_ptr().addr())?;
        let end = start.checked_add(part.len())?;
        (end <= self.frame.len()).then_some(start..end)
    }

    #[inline]
    fn take(&mut self, len: usize, field: &'static str) -> Result<&'a [u8], DecodeError> {
        match self.frame[self.at..].split_at_checked(len) {
            Some((taken, _)) => {
                self.at += len;
                Ok(taken)
            }
            None => Err(invalid(field, DecodeErrorKind::Truncated)),
        }
    }

    #[inline]
    fn array_of<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        match self.frame[self.at..].first_chunk() {
            Some(bytes) => {
                self.at += N;
                Ok(*bytes)
            }
            None => Err(invalid(field, DecodeErrorKind::Truncated)),
        }
    }

    number! {
        /// Reads an int8.
        i8: i8;
        /// Reads an int16.
        i16: i16;
        /// Reads a uint16.
        u16: u16;
        /// Reads an int32.
        i32: i32;
        /// Reads a uint32.
        u32: u32;
        /// Reads an int64.
        i64: i64;
        /// Reads a float64.
        f64: f64;
    }

    /// Reads a boolean: any byte but 0 is true, as in Kafka.
    #[inline]
    pub fn bool(&mut self, field: &'static str) -> Result<bool, DecodeError> {
        Ok(self.i8(field)? != 0)
    }

    /// Reads a uuid.
    #[inline]
    pub fn uuid(&mut self, field: &'static str) -> Result<Uuid, DecodeError> {
        self.array_of(field).map(Uuid)
    }

    /// Reads an unsigned varint of at most 32 bits.
    #[inline]
    pub fn uvarint(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        match self.frame.get(self.at) {
            Some(&byte) if byte < 0x80 => {
                self.at += 1;
                Ok(u32::from(byte))
            }
            _ => self.long_uvarint(field),
        }
    }

    fn long_uvarint(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        let mut value = 0;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.array_of(field)?;
            if shift == 28 && byte > 0x0f {
                break;
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(invalid(field, DecodeErrorKind::InvalidVarint))
    }

    /// Reads a compact length: an unsigned varint of length + 1, where 0 is null.
    #[inline]
    fn compact_len(&mut self, field: &'static str) -> Result<Option<usize>, DecodeError> {
        Ok((self.uvarint(field)? as usize).checked_sub(1))
    }

    /// Reads the length of bytes, records or an array; `None` is null.
    #[inline]
    fn len(&mut self, flexible: bool, field: &'static str) -> Result<Option<usize>, DecodeError> {
        if flexible {
            return self.compact_len(field);
        }
        match self.i32(field)? {
            -1 => Ok(None),
            len => match usize::try_from(len) {
                Ok(len) => Ok(Some(len)),
                Err(_) => Err(invalid(field, DecodeErrorKind::InvalidLength)),
            },
        }
    }

    /// Reads a string that may be null where `nullable` holds; `flexible` chooses the compact form.
    #[inline]
    pub fn opt_string(
        &mut self,
        flexible: bool,
        nullable: bool,
        field: &'static str,
    ) -> Result<Option<Cow<'a, str>>, DecodeError> {
        let len = if flexible {
            self.compact_len(field)?
        } else {
            match self.i16(field)? {
                -1 => None,
                len => match usize::try_from(len) {
                    Ok(len) => Some(len),
                    Err(_) => return Err(invalid(field, DecodeErrorKind::InvalidLength)),
                },
            }
        };
        match len {
            // As Java does: what is not UTF-8 becomes U+FFFD, which no topic's name may contain. Clients
            // in other encodings have been sending such client ids for years.
            Some(len) if len <= MAX_STRING => {
                Ok(Some(String::from_utf8_lossy(self.take(len, field)?)))
            }
            Some(_) => Err(invalid(field, DecodeErrorKind::InvalidLength)),
            None if nullable => Ok(None),
            None => Err(invalid(field, DecodeErrorKind::UnexpectedNull)),
        }
    }

    /// Reads a string.
    #[inline]
    pub fn string(
        &mut self,
        flexible: bool,
        field: &'static str,
    ) -> Result<Cow<'a, str>, DecodeError> {
        Ok(self.opt_string(flexible, false, field)?.unwrap_or_default())
    }

    /// Reads bytes that may be null where `nullable` holds.
    #[inline]
    pub fn opt_bytes(
        &mut self,
        flexible: bool,
        nullable: bool,
        field: &'static str,
    ) -> Result<Option<Cow<'a, [u8]>>, DecodeError> {
        match self.len(flexible, field)? {
            Some(len) => Ok(Some(Cow::Borrowed(self.take(len, field)?))),
            None if nullable => Ok(None),
            None => Err(invalid(field, DecodeErrorKind::UnexpectedNull)),
        }
    }

    /// Reads bytes.
    #[inline]
    pub fn bytes(
        &mut self,
        flexible: bool,
        field: &'static str,
    ) -> Result<Cow<'a, [u8]>, DecodeError> {
        Ok(self.opt_bytes(flexible, false, field)?.unwrap_or_default())
    }

    /// Reads records that may be null where `nullable` holds.
    #[inline]
    pub fn opt_records(
        &mut self,
        flexible: bool,
        nullable: bool,
        field: &'static str,
    ) -> Result<Option<crate::Records<'a>>, DecodeError> {
        Ok(self.opt_bytes(flexible, nullable, field)?.map(crate::Records::Bytes))
    }

    /// Reads an array that may be null where `nullable` holds. `min_size` is the least number of
    /// bytes that one element takes on the wire; a count that could not fit is refused.
    #[inline]
    pub fn opt_array<T>(
        &mut self,
        flexible: bool,
        nullable: bool,
        min_size: usize,
        field: &'static str,
        mut element: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Option<Vec<T>>, DecodeError> {
        let Some(count) = self.len(flexible, field)? else {
            return if nullable {
                Ok(None)
            } else {
                Err(invalid(field, DecodeErrorKind::UnexpectedNull))
            };
        };
        if count.checked_mul(min_size).is_none_or(|least| least > self.remaining()) {
            return Err(invalid(field, DecodeErrorKind::CountExceedsFrame));
        }
        let mut elements = Vec::with_capacity(reservation::<T>(count, self.remaining()));
        for _ in 0..count {
            elements.push(element(self)?);
        }
        Ok(Some(elements))
    }

    /// Reads an array; see [`Self::opt_array`].
    #[inline]
    pub fn array<T>(
        &mut self,
        flexible: bool,
        min_size: usize,
        field: &'static str,
        element: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        Ok(self.opt_array(flexible, false, min_size, field, element)?.unwrap_or_default())
    }

    /// Reads a struct that, where `nullable` holds, is preceded by a byte: negative for null.
    #[inline]
    pub fn opt_struct<T>(
        &mut self,
        nullable: bool,
        field: &'static str,
        content: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Option<T>, DecodeError> {
        if nullable && self.i8(field)? < 0 { Ok(None) } else { content(self).map(Some) }
    }

    /// Skips the tagged fields at the end of a struct that has none of its own. Nearly always there
    /// are none, and this is read once per struct.
    #[inline(always)]
    pub fn skip_tags(&mut self, field: &'static str) -> Result<(), DecodeError> {
        if self.frame.get(self.at) == Some(&0) {
            self.at += 1;
            return Ok(());
        }
        self.skip_some_tags(field)
    }

    #[inline(never)]
    fn skip_some_tags(&mut self, field: &'static str) -> Result<(), DecodeError> {
        self.tags(field, |_, _| Ok(false))
    }

    /// Reads the tagged fields at the end of a struct. `known` reads the content of a tag it knows
    /// and says so; a tag it does not know is skipped. Tags need not be in order.
    #[inline]
    pub fn tags(
        &mut self,
        field: &'static str,
        mut known: impl FnMut(&mut Self, u32) -> Result<bool, DecodeError>,
    ) -> Result<(), DecodeError> {
        for _ in 0..self.uvarint(field)? {
            let tag = self.uvarint(field)?;
            let len = self.uvarint(field)? as usize;
            if len > self.remaining() {
                return Err(invalid(field, DecodeErrorKind::Truncated));
            }
            let whole = self.frame;
            let end = self.at + len;
            self.frame = &whole[..end];
            if !known(self, tag)? {
                self.at = end;
            } else if self.at != end {
                return Err(invalid(field, DecodeErrorKind::TaggedSize));
            }
            self.frame = whole;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_have_at_most_32_bits() {
        for (bytes, value) in [
            (&[0x00][..], Ok(0)),
            (&[0x7f], Ok(127)),
            (&[0x80, 0x01], Ok(128)),
            (&[0xff, 0xff, 0xff, 0xff, 0x0f], Ok(u32::MAX)),
            (&[0xff, 0xff, 0xff, 0xff, 0x1f], Err(DecodeErrorKind::InvalidVarint)),
            (&[0x80, 0x80, 0x80, 0x80, 0x80, 0x00], Err(DecodeErrorKind::InvalidVarint)),
            (&[0x80], Err(DecodeErrorKind::Truncated)),
            (&[], Err(DecodeErrorKind::Truncated)),
        ] {
            assert_eq!(Decoder::new(bytes).uvarint("x").map_err(|e| e.kind), value, "{bytes:x?}");
        }
    }

    #[test]
    fn memory_reserved_never_exceeds_the_bytes_left() {
        assert_eq!(reservation::<[u8; 40]>(1_000_000, 2_000_000), 50_000);
        assert_eq!(reservation::<[u8; 40]>(3, 2_000_000), 3);
        assert_eq!(reservation::<[u8; 40]>(30, 30), 0);
        assert_eq!(reservation::<()>(30, 30), 30);
    }

    #[test]
    fn elements_beyond_the_reservation_are_read() {
        let mut frame = vec![0, 0, 3, 232];
        frame.resize(1004, 7);
        let mut d = Decoder::new(&frame);
        let read = d.array(false, 1, "x", |d| Ok([i64::from(d.i8("x")?); 8]));
        assert_eq!(read, Ok(vec![[7; 8]; 1000]));
    }
}
