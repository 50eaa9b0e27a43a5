//! Content that is replaced as a whole: a first line, a length, a checksum, a body.
//!
//! ```text
//! line      the kind of file and the version of its layout, ended by \n
//! u64       length of the body
//! u32       CRC-32C of the body
//! body
//! ```

use std::io::{self, IoSlice};

use ottla_runtime::File;

/// Puts `body` behind `line` and its checksum.
pub(super) fn seal(line: &str, body: &[u8]) -> Vec<u8> {
    let mut sealed = Vec::with_capacity(line.len() + 12 + body.len());
    sealed.extend_from_slice(line.as_bytes());
    sealed.extend_from_slice(&(body.len() as u64).to_be_bytes());
    sealed.extend_from_slice(&crc_fast::crc32_iscsi(body).to_be_bytes());
    sealed.extend_from_slice(body);
    sealed
}

/// Content that is put together bit by bit in a file.
pub(super) struct Seal {
    line: &'static str,
    digest: crc_fast::Digest,
    bytes: u64,
}

impl Seal {
    /// A body without bytes so far.
    pub(super) fn new(line: &'static str) -> Self {
        let digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
        Self { line, digest, bytes: 0 }
    }

    /// Writes the next bytes of the body, and has the disk begin with them.
    pub(super) fn append(&mut self, file: &dyn File, bytes: &[u8]) -> io::Result<()> {
        let at = body_start(self.line) as u64 + self.bytes;
        file.write_at(&[IoSlice::new(bytes)], at)?;
        file.start_writeback(at..at + bytes.len() as u64);
        self.digest.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Writes what stands before the body, and tells the size of the file.
    pub(super) fn finish(&self, file: &dyn File) -> io::Result<u64> {
        let mut head = self.line.as_bytes().to_vec();
        head.extend_from_slice(&self.bytes.to_be_bytes());
        head.extend_from_slice(&(self.digest.finalize() as u32).to_be_bytes());
        file.write_at(&[IoSlice::new(&head)], 0)?;
        Ok(head.len() as u64 + self.bytes)
    }
}

/// Where the body begins behind `line`.
pub(super) fn body_start(line: &str) -> usize {
    line.len() + 12
}

/// Where in a file its bytes are wrong, and how.
pub(super) type Damage = (u64, &'static str);

/// The body, and what comes after it.
pub(super) fn unseal<'a>(line: &str, bytes: &'a [u8]) -> Result<(&'a [u8], &'a [u8]), Damage> {
    let rest = bytes
        .strip_prefix(line.as_bytes())
        .ok_or((0, "the first line is not that of this file and version"))?;
    let start = line.len() as u64;
    let (head, rest) = rest.split_first_chunk::<12>().ok_or((start, "the file is cut short"))?;
    let [l0, l1, l2, l3, l4, l5, l6, l7, c0, c1, c2, c3] = *head;
    let len = u64::from_be_bytes([l0, l1, l2, l3, l4, l5, l6, l7]);
    let (body, rest) = usize::try_from(len)
        .ok()
        .and_then(|len| rest.split_at_checked(len))
        .ok_or((start, "the file is cut short"))?;
    if crc_fast::crc32_iscsi(body) != u32::from_be_bytes([c0, c1, c2, c3]) {
        return Err((start, "the checksum does not match"));
    }
    Ok((body, rest))
}
