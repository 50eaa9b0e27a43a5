//! PKCS#12 (RFC 7292), as `keytool` and OpenSSL write it.

use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};

use super::encryption::{check_mac, decrypt};
use super::{Entries, KeyEntry, StoreError, StoredKey};
use crate::certificate::Names;
use crate::der::{Der, Malformed, dotted, tag};

const DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 1];
const ENCRYPTED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 6];
/// The head of the kinds of bags, and of them keys, encrypted keys and certificates.
const BAG: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 0x0c, 0x0a, 1];
const X509: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 0x16, 1];
const FRIENDLY_NAME: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 0x14];
const LOCAL_KEY_ID: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 0x15];
/// Java's mark on a trusted certificate.
const TRUSTED: &[u8] = &[0x60, 0x86, 0x48, 1, 0x86, 0xf9, 0x66, 0xad, 0xca, 0x7b, 1, 1];

/// A chain of certificates has no more.
const CHAIN_MAX: usize = 10;

/// Reads a store. Without a password it is tried with an empty one.
pub(super) fn read(bytes: &[u8], password: Option<&str>) -> Result<Entries, StoreError> {
    read_bags(bytes, password.unwrap_or_default()).map_err(|error| match error {
        StoreError::WrongPassword if password.is_none() => StoreError::NoPassword,
        error => error,
    })
}

fn read_bags(bytes: &[u8], password: &str) -> Result<Entries, StoreError> {
    let mut store = Der::new(bytes).sequence()?;
    if store.u32()? != 3 {
        return Err(StoreError::Malformed);
    }
    let mut outer = store.sequence()?;
    let name = outer.take(tag::OID)?;
    if name != DATA {
        let reason =
            format!("it is signed in place of being protected by a password ({})", dotted(name));
        return Err(StoreError::Unsupported(reason));
    }
    let content = outer.inside(tag::CONTEXT_0_OF)?.take(tag::OCTETS)?;
    if !store.is_empty() {
        check_mac(store.sequence()?, content, password)?;
    }
    let mut bags = Bags::default();
    let mut parts = Der::new(content).sequence()?;
    while !parts.is_empty() {
        let mut part = parts.sequence()?;
        let name = part.take(tag::OID)?;
        let mut content = part.inside(tag::CONTEXT_0_OF)?;
        if name == DATA {
            bags.read(content.take(tag::OCTETS)?)?;
        } else if name == ENCRYPTED_DATA {
            bags.read(&decrypted(content.sequence()?, password)?)?;
        } else {
            return Err(StoreError::Unsupported(format!(
                "it has a part that is not known ({})",
                dotted(name)
            )));
        }
    }
    Ok(bags.entries())
}

fn decrypted(mut data: Der<'_>, password: &str) -> Result<Vec<u8>, StoreError> {
    let _version = data.u32()?;
    let mut content = data.sequence()?;
    let _kind = content.take(tag::OID)?;
    let algorithm = content.sequence()?;
    decrypt(algorithm, content.take(tag::CONTEXT_0)?, password)
}

#[derive(Default)]
struct Bags {
    keys: Vec<(StoredKey, Attributes)>,
    certificates: Vec<(CertificateDer<'static>, Attributes)>,
}

#[derive(Default)]
struct Attributes {
    name: Option<String>,
    /// What a key and its certificate have in common.
    key_id: Option<Vec<u8>>,
    is_trusted: bool,
}

impl Bags {
    fn read(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let mut bags = Der::new(bytes).sequence()?;
        while !bags.is_empty() {
            let mut bag = bags.sequence()?;
            let kind = bag.take(tag::OID)?;
            let mut value = bag.inside(tag::CONTEXT_0_OF)?;
            let attributes = Attributes::read(bag)?;
            match kind.strip_prefix(BAG) {
                Some([1]) => {
                    let (key, _) = value.whole()?;
                    let key = StoredKey::Plain(PrivatePkcs8KeyDer::from(key.to_vec()).into());
                    self.keys.push((key, attributes));
                }
                Some([2]) => {
                    let (key, _) = value.whole()?;
                    self.keys.push((StoredKey::Encrypted(key.to_vec()), attributes));
                }
                Some([3]) => {
                    let mut certificate = value.sequence()?;
                    if certificate.take(tag::OID)? == X509 {
                        let bytes = certificate.inside(tag::CONTEXT_0_OF)?.take(tag::OCTETS)?;
                        self.certificates.push((bytes.to_vec().into(), attributes));
                    }
                }
                // Lists of what was revoked and secrets of other kinds are of no use here.
                _ => {}
            }
        }
        Ok(())
    }

    fn entries(self) -> Entries {
        let Self { keys, certificates } = self;
        let trusted = certificates.iter().filter(|(_, attributes)| attributes.is_trusted);
        let trusted = trusted.map(|(certificate, _)| certificate.clone()).collect();
        let entry = |(key, attributes): (StoredKey, Attributes)| KeyEntry {
            chain: chain(&certificates, attributes.key_id.as_deref()),
            name: attributes.name.unwrap_or_else(|| "without a name".to_owned()),
            key,
        };
        Entries { keys: keys.into_iter().map(entry).collect(), trusted }
    }
}

impl Attributes {
    fn read(mut bag: Der<'_>) -> Result<Self, Malformed> {
        let mut found = Self::default();
        let Some(attributes) = bag.optional(tag::SET)? else { return Ok(found) };
        let mut attributes = Der::new(attributes);
        while !attributes.is_empty() {
            let mut attribute = attributes.sequence()?;
            let name = attribute.take(tag::OID)?;
            let mut values = attribute.inside(tag::SET)?;
            match name {
                FRIENDLY_NAME => {
                    let (_, text) = values.whole()?;
                    let units =
                        text.chunks_exact(2).map(|unit| u16::from_be_bytes([unit[0], unit[1]]));
                    found.name =
                        Some(char::decode_utf16(units).map(|c| c.unwrap_or('\u{fffd}')).collect());
                }
                LOCAL_KEY_ID => found.key_id = Some(values.take(tag::OCTETS)?.to_vec()),
                TRUSTED => found.is_trusted = true,
                _ => {}
            }
        }
        Ok(found)
    }
}

/// The certificate of a key, then the one of whoever issued each, as far as they are there.
fn chain(
    certificates: &[(CertificateDer<'static>, Attributes)],
    key_id: Option<&[u8]>,
) -> Vec<CertificateDer<'static>> {
    // A key without a mark is the only one, and its certificate comes first.
    let own = certificates.iter().find(|(_, attributes)| match key_id {
        Some(_) => attributes.key_id.as_deref() == key_id,
        None => !attributes.is_trusted,
    });
    let mut chain: Vec<CertificateDer<'static>> = Vec::new();
    let mut next = own.map(|(certificate, _)| certificate);
    while let Some(certificate) = next.filter(|_| chain.len() < CHAIN_MAX) {
        chain.push(certificate.clone());
        next = Names::of(certificate).ok().filter(|names| names.issuer != names.subject).and_then(
            |names| {
                let is_issuer = |other: &&CertificateDer<'static>| {
                    Names::of(other).is_ok_and(|other| other.subject == names.issuer)
                };
                certificates.iter().map(|(certificate, _)| certificate).find(is_issuer)
            },
        );
    }
    chain
}
