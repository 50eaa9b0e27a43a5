//! The bytes of ZooKeeper's protocol (jute): integers big-endian, a string or a buffer is its length
//! in i32 (−1: null) and its bytes, a vector its count in i32 and its items.

use std::sync::Arc;

use crate::machine::{Acl, Corrupt, Decoder, Identity, Stat};

/// Takes values off the front of a packet.
#[derive(Debug)]
pub(super) struct Reader<'a>(Decoder<'a>);

impl<'a> Reader<'a> {
    pub(super) fn new(packet: &'a [u8]) -> Self {
        Self(Decoder::new(packet, "packet"))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.rest().is_empty()
    }

    pub(super) fn corrupt(&self) -> Corrupt {
        self.0.corrupt()
    }

    pub(super) fn bool(&mut self) -> Result<bool, Corrupt> {
        Ok(self.0.u8()? != 0)
    }

    pub(super) fn i32(&mut self) -> Result<i32, Corrupt> {
        self.0.i32()
    }

    pub(super) fn i64(&mut self) -> Result<i64, Corrupt> {
        self.0.i64()
    }

    /// The length of a string, a buffer or a vector; `None` for null.
    fn length(&mut self) -> Result<Option<usize>, Corrupt> {
        match self.0.i32()? {
            -1 => Ok(None),
            length => usize::try_from(length).map(Some).map_err(|_| self.0.corrupt()),
        }
    }

    pub(super) fn buffer(&mut self) -> Result<Option<&'a [u8]>, Corrupt> {
        let length = self.length()?;
        length.map(|length| self.0.bytes(length)).transpose()
    }

    pub(super) fn data(&mut self) -> Result<Option<Arc<[u8]>>, Corrupt> {
        Ok(self.buffer()?.map(Arc::from))
    }

    /// A string; null reads as the empty one.
    pub(super) fn text(&mut self) -> Result<String, Corrupt> {
        let bytes = self.buffer()?.unwrap_or_default();
        std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| self.0.corrupt())
    }

    pub(super) fn vector<T>(
        &mut self,
        read: impl Fn(&mut Self) -> Result<T, Corrupt>,
    ) -> Result<Vec<T>, Corrupt> {
        let mut items = Vec::new();
        for _ in 0..self.length()?.unwrap_or(0) {
            items.push(read(self)?);
        }
        Ok(items)
    }

    pub(super) fn acl(&mut self) -> Result<Vec<Acl>, Corrupt> {
        self.vector(|input| {
            let permissions = input.i32()?;
            let identity = Identity::new(&input.text()?, &input.text()?);
            Ok(Acl { permissions, identity })
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
    fn texts<'a>(&mut self, values: impl ExactSizeIterator<Item = &'a str>);
    fn stat(&mut self, stat: &Stat);
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
pub(super) fn packet(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.i32(0);
    write(out);
    let length = (out.len() - start - 4) as i32;
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}
