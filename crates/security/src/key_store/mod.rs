//! Key stores and trust stores: PEM, PKCS#12 and Java's own JKS.
//!
//! Java tells the two last apart by what the file holds, whichever of them it is told, and so does this:
//! since Java 9, `keytool` writes PKCS#12 into files that are called `.jks`.

mod encryption;
mod jks;
mod pem;
mod pkcs12;
#[cfg(test)]
mod tests;

use std::fmt;

use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use self::encryption::decrypt_pkcs8;
use crate::der::Malformed;

/// What a configuration calls the form of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreType {
    /// Text between `-----BEGIN` and `-----END`.
    Pem,
    /// PKCS#12 or JKS: either name stands for both, as in Java.
    Java,
}

impl StoreType {
    /// The form that is called so in a configuration, in any case.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name.to_ascii_uppercase().as_str() {
            "PEM" => Some(Self::Pem),
            "JKS" | "PKCS12" => Some(Self::Java),
            _ => None,
        }
    }
}

/// A private key, and the certificates that say whose it is: its own first, then each one's issuer.
pub struct Identity {
    /// The key.
    pub key: PrivateKeyDer<'static>,
    /// At least one.
    pub chain: Vec<CertificateDer<'static>>,
}

/// Without the key.
impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("certificates", &self.chain.len()).finish_non_exhaustive()
    }
}

/// Why a store cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// It is of no form that is known, or its file is damaged.
    Malformed,
    /// It is PEM and should be another form, or the other way round.
    OtherType,
    /// It is of a form, or protected in a way, that is not read.
    Unsupported(String),
    /// It does not open without a password.
    NoPassword,
    /// It does not open with this password.
    WrongPassword,
    /// There is no private key in it.
    NoKey,
    /// There is more than one private key in it; these are their names.
    ManyKeys(Vec<String>),
    /// A private key has no certificate.
    NoCertificate,
    /// There is no certificate in it that is marked as trusted.
    NothingTrusted,
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "it is neither PEM nor PKCS12 nor JKS, or it is damaged",
            Self::OtherType => "it is of another type than the one that is set",
            Self::Unsupported(what) => {
                return write!(
                    f,
                    "{what}: convert it with keytool -importkeystore -deststoretype pkcs12"
                );
            }
            Self::NoPassword => "it needs a password, and none is set",
            Self::WrongPassword => "its password is another one, or it is damaged",
            Self::NoKey => "it holds no private key",
            Self::ManyKeys(names) => {
                return write!(
                    f,
                    "it holds several private keys ({}): leave one of them in it",
                    names.join(", ")
                );
            }
            Self::NoCertificate => "its private key has no certificate",
            Self::NothingTrusted => {
                "it holds no trusted certificate (keytool -importcert puts one into it)"
            }
        })
    }
}

impl std::error::Error for StoreError {}

impl From<Malformed> for StoreError {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

/// What a store holds.
#[derive(Default)]
struct Entries {
    keys: Vec<KeyEntry>,
    trusted: Vec<CertificateDer<'static>>,
}

struct KeyEntry {
    name: String,
    key: StoredKey,
    chain: Vec<CertificateDer<'static>>,
}

/// A private key as it is stored.
enum StoredKey {
    Plain(PrivateKeyDer<'static>),
    /// PKCS#8's `EncryptedPrivateKeyInfo`.
    Encrypted(Vec<u8>),
    /// The same, by the algorithm of JKS.
    Jks(Vec<u8>),
}

/// Reads the one private key of a key store, and its certificates. The key has the store's password.
pub fn identity(
    bytes: &[u8],
    password: Option<&str>,
    kind: Option<StoreType>,
) -> Result<Identity, StoreError> {
    let mut keys = entries(bytes, password, kind)?.keys;
    if keys.len() > 1 {
        return Err(StoreError::ManyKeys(keys.into_iter().map(|entry| entry.name).collect()));
    }
    let KeyEntry { key, chain, .. } = keys.pop().ok_or(StoreError::NoKey)?;
    let pkcs8 = |key: Vec<u8>| PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key));
    let key = match key {
        StoredKey::Plain(key) => key,
        StoredKey::Encrypted(info) => {
            pkcs8(decrypt_pkcs8(&info, password.ok_or(StoreError::NoPassword)?)?)
        }
        StoredKey::Jks(info) => pkcs8(jks::unlock(&info, password.ok_or(StoreError::NoPassword)?)?),
    };
    if chain.is_empty() { Err(StoreError::NoCertificate) } else { Ok(Identity { key, chain }) }
}

/// Reads the trusted certificates of a trust store. As in Java, the certificates of a private key are
/// not among them; in PEM, where nothing is marked, all are.
pub fn trusted(
    bytes: &[u8],
    password: Option<&str>,
    kind: Option<StoreType>,
) -> Result<Vec<CertificateDer<'static>>, StoreError> {
    let trusted = entries(bytes, password, kind)?.trusted;
    if trusted.is_empty() { Err(StoreError::NothingTrusted) } else { Ok(trusted) }
}

fn entries(
    bytes: &[u8],
    password: Option<&str>,
    kind: Option<StoreType>,
) -> Result<Entries, StoreError> {
    let is_pem = pem::is_pem(bytes);
    if kind.is_some_and(|kind| is_pem != (kind == StoreType::Pem)) {
        return Err(StoreError::OtherType);
    }
    match bytes {
        _ if is_pem => pem::read(bytes),
        [0xfe, 0xed, 0xfe, 0xed, ..] => jks::read(bytes, password),
        [0xce, 0xce, 0xce, 0xce, ..] => Err(StoreError::Unsupported("it is a JCEKS".to_owned())),
        _ => pkcs12::read(bytes, password),
    }
}
