//! Java's names of protocols and cipher suites.

use rustls::SupportedCipherSuite;
use rustls::crypto::CryptoProvider;

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// `TLSv1.2`.
    Tls12,
    /// `TLSv1.3`.
    Tls13,
}

impl Protocol {
    /// The version that Java calls so. Older ones are spoken no more.
    #[must_use]
    pub fn from_java(name: &str) -> Option<Self> {
        match name {
            "TLSv1.2" => Some(Self::Tls12),
            "TLSv1.3" => Some(Self::Tls13),
            _ => None,
        }
    }
}

/// What is offered where the configuration does not choose, by Java's names.
#[must_use]
pub fn cipher_suites() -> Vec<String> {
    provider().cipher_suites.iter().map(|suite| java_name(*suite)).collect()
}

/// The cryptography that all connections use. It is AWS-LC's and not ring's, which builds in half the
/// time, because ring does not read the elliptic keys that `keytool` makes: Java leaves out the public
/// half, and ring wants to see it.
pub(crate) fn provider() -> CryptoProvider {
    rustls::crypto::aws_lc_rs::default_provider()
}

/// rustls marks those of TLS 1.3, which are for nothing else.
pub(crate) fn java_name(suite: SupportedCipherSuite) -> String {
    suite.suite().as_str().unwrap_or_default().replace("TLS13_", "TLS_")
}
