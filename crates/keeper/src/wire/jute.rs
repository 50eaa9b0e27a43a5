//! The bytes of ZooKeeper's protocol (jute): integers big-endian, a string or a buffer is its length
//! in i32 (−1: null) and its bytes, a vector its count in i32 and its items.

use std::sync::Arc;

use crate::machine::{Acl, Corrupt, Decoder, Identity, SessionId, Stat};

/// Takes values off the front of a packet.
#[derive(Debug)]
pub struct Reader<'a>(Decoder<'a>);

impl<'a> Reader<'a> {
    /// Reads `packet`.
    #[must_use]
    pub fn new(packet: &'a [u8]) -> Self {
        Self(Decoder::new(packet, "packet"))
    }

    /// Whether all was read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.rest().is_empty()
    }

    /// The error of what the protocol does not have.
    #[must_use]
    pub fn corrupt(&self) -> Corrupt {
        self.0.corrupt()
    }

    /// One byte.
    pub fn bool(&mut self) -> Result<bool, Corrupt> {
        Ok(self.0.u8()? != 0)
    }

    /// Four bytes.
    pub fn i32(&mut self) -> Result<i32, Corrupt> {
        self.0.i32()
    }

    /// Eight bytes.
    pub fn i64(&mut self) -> Result<i64, Corrupt> {
        self.0.i64()
    }

    /// The length of a string, a buffer or a vector; `None` for null.
    fn length(&mut self) -> Result<Option<usize>, Corrupt> {
        match self.0.i32()? {
            -1 => Ok(None),
            length => usize::try_from(length).map(Some).map_err(|_| self.0.corrupt()),
        }
    }

    /// Bytes behind their length; `None` is null.
    pub fn buffer(&mut self) -> Result<Option<&'a [u8]>, Corrupt> {
        let length = self.length()?;
        length.map(|length| self.0.bytes(length)).transpose()
    }

    /// The same, to keep.
    pub fn data(&mut self) -> Result<Option<Arc<[u8]>>, Corrupt> {
        Ok(self.buffer()?.map(Arc::from))
    }

    /// A string; null reads as the empty one.
    pub fn str(&mut self) -> Result<&'a str, Corrupt> {
        let bytes = self.buffer()?.unwrap_or_default();
        std::str::from_utf8(bytes).map_err(|_| self.0.corrupt())
    }

    /// The same, to keep.
    pub fn text(&mut self) -> Result<String, Corrupt> {
        self.str().map(str::to_owned)
    }

    /// Items behind their count. It takes memory as they come, not as their count claims.
    pub fn vector<T>(
        &mut self,
        read: impl Fn(&mut Self) -> Result<T, Corrupt>,
    ) -> Result<Vec<T>, Corrupt> {
        let mut items = Vec::new();
        for _ in 0..self.length()?.unwrap_or(0) {
            items.push(read(self)?);
        }
        Ok(items)
    }

    /// A list of access.
    pub fn acl(&mut self) -> Result<Vec<Acl>, Corrupt> {
        self.vector(|input| {
            let permissions = input.i32()?;
            let identity = Identity::new(&input.text()?, &input.text()?);
            Ok(Acl { permissions, identity })
        })
    }

    /// What is known about a node.
    pub fn stat(&mut self) -> Result<Stat, Corrupt> {
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
pub trait Write {
    /// One byte.
    fn bool(&mut self, value: bool);
    /// Four bytes.
    fn i32(&mut self, value: i32);
    /// Eight bytes.
    fn i64(&mut self, value: i64);
    /// Bytes behind their length; `None` is null.
    fn buffer(&mut self, value: Option<&[u8]>);
    /// A string.
    fn text(&mut self, value: &str);
    /// A vector of strings.
    fn texts<'a>(&mut self, values: impl ExactSizeIterator<Item = &'a str>);
    /// What is known about a node.
    fn stat(&mut self, stat: &Stat);
    /// A list of access.
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
        // What a packet holds came in packets, whose length is an i32.
        self.i32(value.map_or(-1, |value| value.len() as i32));
        self.extend_from_slice(value.unwrap_or_default());
    }

    fn text(&mut self, value: &str) {
        self.buffer(Some(value.as_bytes()));
    }

    fn texts<'a>(&mut self, values: impl ExactSizeIterator<Item = &'a str>) {
        self.i32(values.len() as i32);
        values.for_each(|value| self.text(value));
    }

    fn stat(&mut self, stat: &Stat) {
        for zxid in [stat.czxid, stat.mzxid, stat.ctime_ms, stat.mtime_ms] {
            self.i64(zxid);
        }
        for version in [stat.version, stat.cversion, stat.aversion] {
            self.i32(version);
        }
        self.i64(stat.ephemeral_owner.0);
        self.i32(stat.data_length);
        self.i32(stat.num_children);
        self.i64(stat.pzxid);
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
pub fn frame(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.i32(0);
    write(out);
    let length = (out.len() - start - 4) as i32;
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRONG: Corrupt = Corrupt { what: "packet" };

    #[test]
    fn values_come_back() {
        let stat = Stat { czxid: 1, mzxid: -2, pzxid: 3, version: 4, ..BLANK };
        let acl = vec![Acl { permissions: 31, identity: Identity::new("world", "anyone") }];
        let mut out = Vec::new();
        frame(&mut out, |out| {
            out.bool(true);
            out.i32(-7);
            out.i64(1 << 40);
            out.buffer(None);
            out.text("é");
            out.texts(["a", "b"].into_iter());
            out.stat(&stat);
            out.acl(&acl);
        });
        let (length, packet) = out.split_at(4);
        assert_eq!(length, (packet.len() as i32).to_be_bytes());
        let mut reader = Reader::new(packet);
        assert_eq!((reader.bool(), reader.i32(), reader.i64()), (Ok(true), Ok(-7), Ok(1 << 40)));
        assert_eq!((reader.buffer(), reader.str()), (Ok(None), Ok("é")));
        assert_eq!(reader.vector(Reader::text), Ok(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!((reader.stat(), reader.acl()), (Ok(stat), Ok(acl)));
        assert!(reader.is_empty());
        assert_eq!(reader.i32(), Err(WRONG));
    }

    #[test]
    fn what_claims_more_than_there_is_is_corrupt() {
        for claim in [[0x7f, 0xff, 0xff, 0xff], [0xff, 0xff, 0xff, 0xfe]] {
            assert_eq!(Reader::new(&claim).buffer(), Err(WRONG));
            assert_eq!(Reader::new(&claim).vector(Reader::text), Err(WRONG));
        }
        assert_eq!(Reader::new(&[0; 67]).stat(), Err(WRONG));
    }

    const BLANK: Stat = Stat {
        czxid: 0,
        mzxid: 0,
        pzxid: 0,
        ctime_ms: 0,
        mtime_ms: 0,
        version: 0,
        cversion: 0,
        aversion: 0,
        ephemeral_owner: SessionId::NONE,
        data_length: 0,
        num_children: 0,
    };
}
