//! Writing primitives into a frame, and the places where bytes from elsewhere go.

use std::fmt;

use ottla_record::Uuid;

use crate::Records;
use crate::decode::MAX_STRING;

/// Why a message cannot be written in a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EncodeError {
    /// The field that could not be written, as `Struct.field`, or the struct's name alone.
    pub field: &'static str,
    /// What was wrong with it.
    pub kind: EncodeErrorKind,
}

/// What was wrong with a field's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum EncodeErrorKind {
    /// The message does not exist in this version.
    UnsupportedVersion(i16),
    /// The field has a value, but does not exist in this version and may not be left out.
    NotInVersion(i16),
    /// Null where this version has no null.
    UnexpectedNull,
    /// A string of more than 32 767 bytes, or anything else of more than 2³¹−1.
    TooLong,
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let field = self.field;
        match self.kind {
            EncodeErrorKind::UnsupportedVersion(version) => {
                write!(f, "{field}: unsupported version {version}")
            }
            EncodeErrorKind::NotInVersion(version) => {
                write!(f, "{field}: has a value, which version {version} cannot carry")
            }
            EncodeErrorKind::UnexpectedNull => write!(f, "{field}: null is not allowed"),
            EncodeErrorKind::TooLong => write!(f, "{field}: too long"),
        }
    }
}

impl std::error::Error for EncodeError {}

/// Makes the error; out of the way of the paths that succeed.
#[cold]
#[inline(never)]
pub(crate) fn invalid(field: &'static str, kind: EncodeErrorKind) -> EncodeError {
    EncodeError { field, kind }
}

/// Refuses a version that the message does not have.
#[inline]
pub(crate) fn check_version<M: crate::Message>(version: i16) -> Result<(), EncodeError> {
    if M::VERSIONS.contains(version) {
        Ok(())
    } else {
        Err(invalid(M::NAME, EncodeErrorKind::UnsupportedVersion(version)))
    }
}

/// The error of a field that has a value but no place in `version`.
#[cold]
pub(crate) fn not_in_version(version: i16, field: &'static str) -> EncodeError {
    invalid(field, EncodeErrorKind::NotInVersion(version))
}

/// A place in a frame where bytes go that the encoder does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Splice {
    /// How many bytes of [`Encoder::buf`] go before it.
    pub at: usize,
    /// How many bytes go there.
    pub len: usize,
}

/// What has been written so far. The frame is `buf` with each splice's bytes put in at its place;
/// splices are in order of `at`, and two may share a place.
#[derive(Debug, Default)]
pub struct Encoder {
    /// The bytes at hand.
    pub buf: Vec<u8>,
    /// The places where bytes from elsewhere go.
    pub splices: Vec<Splice>,
}

macro_rules! number {
    ($($(#[$doc:meta])* $name:ident: $type:ty;)*) => {
        $($(#[$doc])*
        #[inline]
        pub fn $name(&mut self, value: $type) {
            self.buf.extend_from_slice(&value.to_be_bytes());
        })*
    };
}

impl Encoder {
    /// An encoder that empties `buf` and writes into it.
    #[must_use]
    pub fn new(mut buf: Vec<u8>) -> Self {
        buf.clear();
        Self { buf, splices: Vec::new() }
    }

    /// Length of the frame in bytes, spliced bytes included.
    #[must_use]
    pub fn total_len(&self) -> usize {
        self.buf.len() + self.splices.iter().map(|splice| splice.len).sum::<usize>()
    }

    number! {
        /// Writes an int8.
        i8: i8;
        /// Writes an int16.
        i16: i16;
        /// Writes a uint16.
        u16: u16;
        /// Writes an int32.
        i32: i32;
        /// Writes a uint32.
        u32: u32;
        /// Writes an int64.
        i64: i64;
        /// Writes a float64.
        f64: f64;
    }

    /// Writes a boolean.
    #[inline]
    pub fn bool(&mut self, value: bool) {
        self.buf.push(u8::from(value));
    }

    /// Writes a uuid.
    #[inline]
    pub fn uuid(&mut self, value: Uuid) {
        self.buf.extend_from_slice(&value.0);
    }

    /// Writes an unsigned varint.
    #[inline]
    pub fn uvarint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.buf.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.buf.push(value as u8);
    }

    /// Writes the length of bytes, records or an array; `None` is null.
    #[inline]
    fn len(
        &mut self,
        flexible: bool,
        nullable: bool,
        len: Option<usize>,
        field: &'static str,
    ) -> Result<(), EncodeError> {
        match len.map(i32::try_from) {
            // A compact length is one more than the length, unsigned.
            Some(Ok(len)) if flexible => self.uvarint(len as u32 + 1),
            Some(Ok(len)) => self.i32(len),
            Some(Err(_)) => return Err(invalid(field, EncodeErrorKind::TooLong)),
            None if !nullable => return Err(invalid(field, EncodeErrorKind::UnexpectedNull)),
            None if flexible => self.uvarint(0),
            None => self.i32(-1),
        }
        Ok(())
    }

    /// Writes a string that may be null where `nullable` holds; `flexible` chooses the compact
    /// form.
    #[inline]
    pub fn opt_string(
        &mut self,
        flexible: bool,
        nullable: bool,
        value: Option<&str>,
        field: &'static str,
    ) -> Result<(), EncodeError> {
        match value {
            Some(text) if text.len() > MAX_STRING => {
                return Err(invalid(field, EncodeErrorKind::TooLong));
            }
            Some(text) => {
                if flexible {
                    self.uvarint(text.len() as u32 + 1);
                } else {
                    self.i16(text.len() as i16);
                }
                self.buf.extend_from_slice(text.as_bytes());
            }
            None if !nullable => return Err(invalid(field, EncodeErrorKind::UnexpectedNull)),
            None if flexible => self.uvarint(0),
            None => self.i16(-1),
        }
        Ok(())
    }

    /// Writes a string.
    #[inline]
    pub fn string(
        &mut self,
        flexible: bool,
        value: &str,
        field: &'static str,
    ) -> Result<(), EncodeError> {
        self.opt_string(flexible, false, Some(value), field)
    }

    /// Writes bytes that may be null where `nullable` holds.
    #[inline]
    pub fn opt_bytes(
        &mut self,
        flexible: bool,
        nullable: bool,
        value: Option<&[u8]>,
        field: &'static str,
    ) -> Result<(), EncodeError> {
        self.len(flexible, nullable, value.map(<[u8]>::len), field)?;
        self.buf.extend_from_slice(value.unwrap_or_default());
        Ok(())
    }

    /// Writes bytes.
    #[inline]
    pub fn bytes(
        &mut self,
        flexible: bool,
        value: &[u8],
        field: &'static str,
    ) -> Result<(), EncodeError> {
        self.opt_bytes(flexible, false, Some(value), field)
    }

    /// Writes records, or their length and a splice; they may be null where `nullable` holds.
    #[inline]
    pub fn opt_records(
        &mut self,
        flexible: bool,
        nullable: bool,
        value: Option<&Records<'_>>,
        field: &'static str,
    ) -> Result<(), EncodeError> {
        self.len(flexible, nullable, value.map(Records::len), field)?;
        match value {
            Some(Records::Bytes(bytes)) => self.buf.extend_from_slice(bytes),
            Some(&Records::Spliced(len)) if len > 0 => {
                self.splices.push(Splice { at: self.buf.len(), len });
            }
            Some(Records::Spliced(_)) | None => {}
        }
        Ok(())
    }

    /// Writes an array that may be null where `nullable` holds.
    #[inline]
    pub fn opt_array<T>(
        &mut self,
        flexible: bool,
        nullable: bool,
        value: Option<&[T]>,
        field: &'static str,
        mut element: impl FnMut(&mut Self, &T) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        self.len(flexible, nullable, value.map(<[T]>::len), field)?;
        value.unwrap_or_default().iter().try_for_each(|x| element(self, x))
    }

    /// Writes an array.
    #[inline]
    pub fn array<T>(
        &mut self,
        flexible: bool,
        value: &[T],
        field: &'static str,
        element: impl FnMut(&mut Self, &T) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        self.opt_array(flexible, false, Some(value), field, element)
    }

    /// Writes a struct, preceded by a byte where `nullable` holds: 1, or −1 for null.
    #[inline]
    pub fn opt_struct<T>(
        &mut self,
        nullable: bool,
        value: Option<&T>,
        field: &'static str,
        content: impl FnOnce(&mut Self, &T) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        match value {
            Some(value) => {
                if nullable {
                    self.i8(1);
                }
                content(self, value)
            }
            None if nullable => {
                self.i8(-1);
                Ok(())
            }
            None => Err(invalid(field, EncodeErrorKind::UnexpectedNull)),
        }
    }

    /// Begins the tagged fields of a struct: a count of 0, whose place is returned.
    #[inline]
    pub fn begin_tags(&mut self) -> usize {
        self.buf.push(0);
        self.buf.len() - 1
    }

    /// Writes one tagged field and counts it at `tags`, the place that [`Self::begin_tags`] gave.
    /// A schema has fewer than 128 tags in a struct and no records in a tagged field.
    #[inline]
    pub fn tagged(
        &mut self,
        tags: usize,
        tag: u32,
        field: &'static str,
        content: impl FnOnce(&mut Self) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        self.buf[tags] += 1;
        self.uvarint(tag);
        let start = self.buf.len();
        content(self)?;
        let len = self.buf.len() - start;
        let Ok(prefix) = i32::try_from(len) else {
            return Err(invalid(field, EncodeErrorKind::TooLong));
        };
        // The size goes before the content but is known only after it.
        self.uvarint(prefix as u32);
        let prefix_len = self.buf.len() - start - len;
        self.buf[start..].rotate_right(prefix_len);
        Ok(())
    }
}
