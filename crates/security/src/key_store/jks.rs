//! Java's own form of a key store, of which it has two versions.

use rustls_pki_types::CertificateDer;
use sha1::{Digest, Sha1};

use super::{Entries, KeyEntry, StoreError, StoredKey};
use crate::der::{Der, tag};

/// The algorithm by which keys are protected, Sun's own.
const PROTECTED: &[u8] = &[0x2b, 6, 1, 4, 1, 0x2a, 2, 0x11, 1, 1];

/// SHA-1's.
const HASH_BYTES: usize = 20;

const KEY: u32 = 1;
const TRUSTED: u32 = 2;

/// Reads a store, and compares the hash at its end if there is a password to make it with.
pub(super) fn read(bytes: &[u8], password: Option<&str>) -> Result<Entries, StoreError> {
    let body_length = bytes.len().checked_sub(HASH_BYTES).ok_or(StoreError::Malformed)?;
    let (body, hash) = bytes.split_at(body_length);
    if let Some(password) = password {
        let own = Sha1::new()
            .chain_update(utf16(password))
            .chain_update(b"Mighty Aphrodite")
            .chain_update(body)
            .finalize();
        if own[..] != *hash {
            return Err(StoreError::WrongPassword);
        }
    }
    let mut input = Input(body);
    let _magic = input.u32()?;
    let version = input.u32()?;
    if !matches!(version, 1 | 2) {
        return Err(StoreError::Unsupported(format!("it is of version {version} of JKS")));
    }
    let mut entries = Entries::default();
    for _ in 0..input.u32()? {
        let kind = input.u32()?;
        let name = String::from_utf8_lossy(input.short()?).into_owned();
        let _created = input.take(8)?;
        match kind {
            KEY => {
                let key = StoredKey::Jks(input.long()?.to_vec());
                let mut chain = Vec::new();
                for _ in 0..input.u32()? {
                    chain.push(certificate(&mut input, version)?);
                }
                entries.keys.push(KeyEntry { name, key, chain });
            }
            TRUSTED => entries.trusted.push(certificate(&mut input, version)?),
            _ => return Err(StoreError::Malformed),
        }
    }
    Ok(entries)
}

/// Takes the protection off a key. What comes out is PKCS#8.
pub(super) fn unlock(info: &[u8], password: &str) -> Result<Vec<u8>, StoreError> {
    let mut info = Der::new(info).sequence()?;
    if info.sequence()?.take(tag::OID)? != PROTECTED {
        return Err(StoreError::Unsupported("its key is protected in an unknown way".to_owned()));
    }
    let protected = info.take(tag::OCTETS)?;
    let (salt, rest) = protected.split_at_checked(HASH_BYTES).ok_or(StoreError::Malformed)?;
    let length = rest.len().checked_sub(HASH_BYTES).ok_or(StoreError::Malformed)?;
    let (hidden, check) = rest.split_at(length);
    let password = utf16(password);
    let mut key = Vec::with_capacity(length);
    let mut pad = salt.to_vec();
    for block in hidden.chunks(HASH_BYTES) {
        pad = Sha1::new().chain_update(&password).chain_update(&pad).finalize().to_vec();
        key.extend(block.iter().zip(&pad).map(|(hidden, pad)| hidden ^ pad));
    }
    let own = Sha1::new().chain_update(&password).chain_update(&key).finalize();
    if own[..] == *check { Ok(key) } else { Err(StoreError::WrongPassword) }
}

fn certificate(input: &mut Input<'_>, version: u32) -> Result<CertificateDer<'static>, StoreError> {
    if version > 1 {
        let _kind = input.short()?;
    }
    Ok(input.long()?.to_vec().into())
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_be_bytes).collect()
}

/// What is left to be read, as Java's `DataInputStream` reads.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], StoreError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(StoreError::Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn u32(&mut self) -> Result<u32, StoreError> {
        Ok(self.take(4)?.iter().fold(0, |number, &byte| number << 8 | u32::from(byte)))
    }

    /// Bytes behind a length of two bytes.
    fn short(&mut self) -> Result<&'a [u8], StoreError> {
        let length = self.take(2)?.iter().fold(0, |length, &byte| length << 8 | usize::from(byte));
        self.take(length)
    }

    /// Bytes behind a length of four bytes.
    fn long(&mut self) -> Result<&'a [u8], StoreError> {
        let length = self.u32()?;
        self.take(usize::try_from(length).map_err(|_| StoreError::Malformed)?)
    }
}
