//! Checksums: the one place that names the CRC implementation.

/// CRC-32C (Castagnoli) of `bytes`, the checksum of record batches with magic 2.
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

/// CRC-32 (IEEE) of `bytes`, the checksum of messages with magic 0 and 1.
#[must_use]
pub fn crc32(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iso_hdlc(bytes)
}

/// CRC-32C of bytes that lie in several slices, such as a patched header and its payload.
///
/// Setting it up costs a few nanoseconds and a copy of the parameters (some 200 bytes); for one
/// slice [`crc32c`] does without.
#[derive(Debug)]
pub struct Crc32c(crc_fast::Digest);

impl Crc32c {
    /// A checksum over nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self(crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi))
    }

    /// The checksum over what came before, followed by `bytes`.
    #[must_use]
    pub fn update(mut self, bytes: &[u8]) -> Self {
        self.0.update(bytes);
        self
    }

    /// The checksum of everything given to [`update`](Self::update).
    #[must_use]
    pub fn finish(&self) -> u32 {
        self.0.finalize() as u32
    }
}

impl Default for Crc32c {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bit by bit, from the definition.
    fn reference(polynomial: u32, bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0, |crc, &byte| {
            (0..8).fold(crc ^ u32::from(byte), |crc, _| {
                if crc & 1 == 1 { (crc >> 1) ^ polynomial } else { crc >> 1 }
            })
        })
    }

    #[test]
    fn both_agree_with_their_definition_at_every_length() {
        let bytes: Vec<u8> = (0..1500u32).map(|i| (i * i / 7) as u8).collect();
        for end in (0..300).chain([511, 512, 513, 1024, 1500]) {
            let bytes = &bytes[..end];
            assert_eq!(crc32c(bytes), reference(0x82f6_3b78, bytes), "{end} bytes");
            assert_eq!(crc32(bytes), reference(0xedb8_8320, bytes), "{end} bytes");
        }
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn slices_give_the_checksum_of_the_whole() {
        let bytes: Vec<u8> = (0..700u32).map(|i| (i * 31) as u8).collect();
        for split in [0, 1, 40, 61, 333, 700] {
            let crc = Crc32c::new().update(&bytes[..split]).update(&bytes[split..]);
            assert_eq!(crc.finish(), crc32c(&bytes), "split at {split}");
        }
    }
}
