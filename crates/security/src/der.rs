//! A reader of DER, as far as key stores and certificates go.

/// Tags of what is read here.
pub(crate) mod tag {
    pub(crate) const INTEGER: u8 = 0x02;
    pub(crate) const OCTETS: u8 = 0x04;
    pub(crate) const OID: u8 = 0x06;
    pub(crate) const SEQUENCE: u8 = 0x30;
    pub(crate) const SET: u8 = 0x31;
    /// `[0]`, of one value and of one that holds others.
    pub(crate) const CONTEXT_0: u8 = 0x80;
    pub(crate) const CONTEXT_0_OF: u8 = 0xa0;
    pub(crate) const CONTEXT_3_OF: u8 = 0xa3;
}

/// It is not DER, or not what is expected there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// A row of values of which the first ones have been read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// The next value with its tag and length, and its content alone.
    pub(crate) fn whole(&mut self) -> Result<(&'a [u8], &'a [u8]), Malformed> {
        let (&length, mut rest) = self.0.get(1..).and_then(<[u8]>::split_first).ok_or(Malformed)?;
        let length = match length {
            0..=0x7f => usize::from(length),
            // Longer than four bytes is longer than any file that is read here. None at all is BER's
            // way of leaving the end open.
            0x81..=0x84 => {
                let (bytes, after) =
                    rest.split_at_checked(usize::from(length & 0x7f)).ok_or(Malformed)?;
                rest = after;
                bytes.iter().fold(0, |length, &byte| length << 8 | usize::from(byte))
            }
            _ => return Err(Malformed),
        };
        let content = rest.get(..length).ok_or(Malformed)?;
        let (whole, after) = self.0.split_at(self.0.len() - rest.len() + length);
        self.0 = after;
        Ok((whole, content))
    }

    /// The content of the next value, if it has this tag.
    pub(crate) fn optional(&mut self, tag: u8) -> Result<Option<&'a [u8]>, Malformed> {
        match self.0.first() {
            Some(&found) if found == tag => self.whole().map(|(_, content)| Some(content)),
            _ => Ok(None),
        }
    }

    /// The content of the next value, which has this tag.
    pub(crate) fn take(&mut self, tag: u8) -> Result<&'a [u8], Malformed> {
        self.optional(tag)?.ok_or(Malformed)
    }

    /// The values of the next value, which has this tag.
    pub(crate) fn inside(&mut self, tag: u8) -> Result<Self, Malformed> {
        self.take(tag).map(Self)
    }

    pub(crate) fn sequence(&mut self) -> Result<Self, Malformed> {
        self.inside(tag::SEQUENCE)
    }

    /// An integer that is neither negative nor large.
    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        let bytes = self.take(tag::INTEGER)?;
        let is_small = matches!(bytes, [0..=0x7f, ..]) && bytes.len() <= 4;
        let number = bytes.iter().fold(0, |number, &byte| number << 8 | u32::from(byte));
        if is_small { Ok(number) } else { Err(Malformed) }
    }
}

/// An object identifier with dots.
pub(crate) fn dotted(oid: &[u8]) -> String {
    let mut arcs: Vec<u64> = Vec::new();
    let mut arc: u64 = 0;
    for &byte in oid {
        arc = arc << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            if arcs.is_empty() {
                let first = (arc / 40).min(2);
                arcs.push(first);
                arc -= first * 40;
            }
            arcs.push(arc);
            arc = 0;
        }
    }
    arcs.iter().map(u64::to_string).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_one_after_the_other() {
        let mut der = Der::new(&[0x30, 6, 2, 1, 5, 4, 1, 9, 2, 2, 1, 0]);
        let mut inner = der.sequence().unwrap();
        assert_eq!(inner.u32(), Ok(5));
        assert_eq!(inner.optional(tag::SET), Ok(None));
        assert_eq!(inner.take(tag::OCTETS), Ok(&[9][..]));
        assert!(inner.is_empty());
        assert_eq!(der.u32(), Ok(256));
        assert_eq!(der.u32(), Err(Malformed));
    }

    #[test]
    fn lengths_beyond_the_end_are_refused() {
        for bytes in [
            &[0x30][..],
            &[0x30, 1],
            &[0x30, 0x80, 0, 0],
            &[0x30, 0x85, 0, 0, 0, 0, 1],
            &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff],
            &[0x30, 0x82, 1],
        ] {
            assert_eq!(Der::new(bytes).whole().err(), Some(Malformed), "{bytes:x?}");
        }
        let mut long = vec![0x30, 0x81, 0x80];
        long.extend([0; 128]);
        assert_eq!(
            Der::new(&long).whole().map(|(whole, content)| (whole.len(), content.len())),
            Ok((131, 128))
        );
        assert_eq!(Der::new(&[2, 1, 0x80]).u32(), Err(Malformed));
        assert_eq!(Der::new(&[2, 5, 1, 0, 0, 0, 0]).u32(), Err(Malformed));
    }

    #[test]
    fn identifiers_have_dots() {
        assert_eq!(
            dotted(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 5, 0x0d]),
            "1.2.840.113549.1.5.13"
        );
        assert_eq!(dotted(&[0x60, 0x86, 0x48, 1]), "2.16.840.1");
    }
}
