//! The bytes of ZooKeeper's protocol (jute): integers big-endian, a string or a buffer is its length
//! in i32 (−1: null) and its bytes, a vector its count in i32 and its items.

use ottla_keeper::machine::{Acl, Identity};

use crate::tree::{SessionId, Stat};

/// What came is not what the protocol has there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// Takes values off the front of a packet.
#[derive(Debug)]
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(packet: &'a [u8]) -> Self {
        Self(packet)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (value, rest) = self.0.split_first_chunk().ok_or(Malformed)?;
        self.0 = rest;
        Ok(*value)
    }

    pub(super) fn bool(&mut self) -> Result<bool, Malformed> {
        self.array::<1>().map(|[value]| value != 0)
    }

    pub(super) fn i32(&mut self) -> Result<i32, Malformed> {
        self.array().map(i32::from_be_bytes)
    }

    pub(super) fn i64(&mut self) -> Result<i64, Malformed> {
        self.array().map(i64::from_be_bytes)
    }

    /// `None` is null.
    pub(super) fn buffer(&mut self) -> Result<Option<&'a [u8]>, Malformed> {
        let length = self.i32()?;
        if length == -1 {
            return Ok(None);
        }
        let length = usize::try_from(length).map_err(|_| Malformed)?;
        let (value, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        Ok(Some(value))
    }

    pub(super) fn text(&mut self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.buffer()?.unwrap_or_default()).map_err(|_| Malformed)
    }

    /// A vector of strings; it takes memory as they come, not as their count claims.
    pub(super) fn texts(&mut self) -> Result<Vec<String>, Malformed> {
        let mut texts = Vec::new();
        for _ in 0..self.i32()? {
            texts.push(self.text()?.to_owned());
        }
        Ok(texts)
    }

    /// An access list; it takes memory as its entries come.
    pub(super) fn acl(&mut self) -> Result<Vec<Acl>, Malformed> {
        let mut list = Vec::new();
        for _ in 0..self.i32()? {
            let permissions = self.i32()?;
            let identity = Identity::new(self.text()?, self.text()?);
            list.push(Acl { permissions, identity });
        }
        Ok(list)
    }

    pub(super) fn stat(&mut self) -> Result<Stat, Malformed> {
        let (czxid, mzxid) = (self.i64()?, self.i64()?);
        let (ctime_ms, mtime_ms) = (self.i64()?, self.i64()?);
        let (version, cversion, aversion) = (self.i32()?, self.i32()?, self.i32()?);
        let ephemeral_owner = SessionId(self.i64()?);
        let (data_length, num_children) = (self.i32()?, self.i32()?);
        let pzxid = self.i64()?;
        Ok(Stat {
            czxid,
            mzxid,
            pzxid,
            ctime_ms,
            mtime_ms,
            version,
            cversion,
            aversion,
            ephemeral_owner,
            data_length,
            num_children,
        })
    }
}

/// Appends values to a packet.
pub(super) trait Write {
    fn bool(&mut self, value: bool);
    fn i32(&mut self, value: i32);
    fn i64(&mut self, value: i64);
    fn buffer(&mut self, value: Option<&[u8]>);
    fn text(&mut self, value: &str);
    fn acl(&mut self, list: &[Acl]);
}

impl Write for Vec<u8> {
    fn bool(&mut self, value: bool) {
        self.push(u8::from(value));
    }

    fn i32(&mut self, value: i32) {
        self.extend_from_slice(&value.to_be_bytes());
    }

    fn i64(&mut self, value: i64) {
        self.extend_from_slice(&value.to_be_bytes());
    }

    fn buffer(&mut self, value: Option<&[u8]>) {
        // Packets are bounded far below what an i32 can tell.
        self.i32(value.map_or(-1, |value| value.len() as i32));
        self.extend_from_slice(value.unwrap_or_default());
    }

    fn text(&mut self, value: &str) {
        self.buffer(Some(value.as_bytes()));
    }

    fn acl(&mut self, list: &[Acl]) {
        self.i32(list.len() as i32);
        for Acl { permissions, identity } in list {
            self.i32(*permissions);
            self.text(&identity.scheme);
            self.text(&identity.id);
        }
    }
}

/// Appends a packet behind its length.
pub(super) fn frame(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.i32(0);
    write(out);
    let length = (out.len() - start - 4) as i32;
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back() {
        let mut out = Vec::new();
        frame(&mut out, |out| {
            out.bool(true);
            out.i32(-7);
            out.i64(1 << 40);
            out.buffer(None);
            out.text("é");
        });
        let (length, packet) = out.split_at(4);
        assert_eq!(length, (packet.len() as i32).to_be_bytes());
        let mut reader = Reader::new(packet);
        assert_eq!((reader.bool(), reader.i32(), reader.i64()), (Ok(true), Ok(-7), Ok(1 << 40)));
        assert_eq!((reader.buffer(), reader.text()), (Ok(None), Ok("é")));
        assert_eq!(reader.i32(), Err(Malformed));
    }

    #[test]
    fn what_claims_more_than_there_is_is_malformed() {
        for claim in [[0x7f, 0xff, 0xff, 0xff], [0xff, 0xff, 0xff, 0xfe]] {
            assert_eq!(Reader::new(&claim).buffer(), Err(Malformed));
        }
        assert_eq!(Reader::new(&[0x7f, 0xff, 0xff, 0xff]).texts(), Err(Malformed));
        assert_eq!(Reader::new(&[0; 67]).stat(), Err(Malformed));
    }
}
