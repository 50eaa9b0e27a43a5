//! Certificates and keys as text.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer};

use super::{Entries, KeyEntry, StoreError, StoredKey};

const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
const DASHES: &str = "-----";

/// Whether there is a section in it.
pub(super) fn is_pem(bytes: &[u8]) -> bool {
    bytes.windows(BEGIN.len()).any(|window| window == BEGIN.as_bytes())
}

/// Reads the sections. The certificates are a chain where there is a key, and trusted where one looks
/// for those.
pub(super) fn read(bytes: &[u8]) -> Result<Entries, StoreError> {
    let text = std::str::from_utf8(bytes).map_err(|_| StoreError::Malformed)?;
    let (mut certificates, mut keys) = (Vec::new(), Vec::new());
    let mut open: Option<(&str, String)> = None;
    for line in text.lines().map(str::trim) {
        if let Some(label) = line.strip_prefix(BEGIN).and_then(|rest| rest.strip_suffix(DASHES)) {
            open = Some((label, String::new()));
        } else if let Some(end) = line.strip_prefix(END) {
            let (label, body) = open.take().ok_or(StoreError::Malformed)?;
            if end.strip_suffix(DASHES) != Some(label) {
                return Err(StoreError::Malformed);
            }
            // An old form of encryption has lines of its own before the text.
            let der = STANDARD.decode(&body).map_err(|_| match body.contains(':') {
                true => StoreError::Unsupported(
                    "its private key is encrypted as before PKCS#8".to_owned(),
                ),
                false => StoreError::Malformed,
            })?;
            match label {
                "CERTIFICATE" | "X509 CERTIFICATE" | "TRUSTED CERTIFICATE" => {
                    certificates.push(der.into());
                }
                "ENCRYPTED PRIVATE KEY" => keys.push(StoredKey::Encrypted(der)),
                label => keys.extend(plain_key(label, der).map(StoredKey::Plain)),
            }
        } else if let Some((_, body)) = &mut open {
            body.push_str(line);
        }
    }
    if open.is_some() {
        return Err(StoreError::Malformed);
    }
    let entry =
        |(at, key)| KeyEntry { name: format!("key {}", at + 1), key, chain: certificates.clone() };
    let keys = keys.into_iter().enumerate().map(entry).collect();
    Ok(Entries { keys, trusted: certificates })
}

/// A key in the clear; `None` if it is something else.
fn plain_key(label: &str, der: Vec<u8>) -> Option<PrivateKeyDer<'static>> {
    match label {
        "PRIVATE KEY" => Some(PrivatePkcs8KeyDer::from(der).into()),
        "RSA PRIVATE KEY" => Some(PrivatePkcs1KeyDer::from(der).into()),
        "EC PRIVATE KEY" => Some(PrivateSec1KeyDer::from(der).into()),
        _ => None,
    }
}
