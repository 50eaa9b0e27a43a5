//! Whether a server is who it says.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use ottla_security::certificate::common_name_for_host;

/// Trusts what a trust store holds, by the rules of webpki with three additions of Java's: the host's
/// name need not be checked; a certificate without alternative names is about the host that its common
/// name says; and a certificate that is itself in the trust store is trusted even if it might be an
/// authority's, as those that are signed by themselves often are.
#[derive(Debug)]
pub(crate) struct Verifier {
    roots: RootCertStore,
    trusted: Vec<CertificateDer<'static>>,
    checks_host: bool,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    pub(crate) fn new(
        trusted: Vec<CertificateDer<'static>>,
        checks_host: bool,
        provider: &CryptoProvider,
    ) -> Result<Self, Error> {
        let mut roots = RootCertStore::empty();
        trusted.iter().try_for_each(|certificate| roots.add(certificate.clone()))?;
        let algorithms = provider.signature_verification_algorithms;
        Ok(Self { roots, trusted, checks_host, algorithms })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let parsed = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.algorithms.all;
        let (roots, rest) = (&self.roots, intermediates);
        match verify_server_cert_signed_by_trust_anchor(&parsed, roots, rest, now, algorithms) {
            // Whether it is an authority's is asked after its dates.
            Err(error) if is_authority(&error) && self.trusted.contains(end_entity) => {}
            verified => verified?,
        }
        if self.checks_host {
            match verify_server_name(&parsed, server_name) {
                Err(error)
                    if common_name_for_host(end_entity)
                        .is_some_and(|name| is_named(server_name, &name)) =>
                {
                    let _by_its_common_name = error;
                }
                verified => verified?,
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn is_authority(error: &Error) -> bool {
    matches!(webpki_error(error), Some(webpki::Error::CaUsedAsEndEntity))
}

/// What webpki said, where rustls has no word for it.
pub(crate) fn webpki_error(error: &Error) -> Option<&webpki::Error> {
    match error {
        Error::InvalidCertificate(CertificateError::Other(other)) => other.0.downcast_ref(),
        _ => None,
    }
}

/// Whether a common name is that of a host. `*.` at its beginning stands for one label.
fn is_named(host: &ServerName<'_>, common_name: &str) -> bool {
    let text = host.to_str();
    let is_below = |parent| match host {
        ServerName::DnsName(_) => {
            text.split_once('.').is_some_and(|(_, rest)| rest.eq_ignore_ascii_case(parent))
        }
        _ => false,
    };
    text.eq_ignore_ascii_case(common_name) || common_name.strip_prefix("*.").is_some_and(is_below)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_names_name_hosts() {
        let is_named = |host: &str, name| is_named(&ServerName::try_from(host).unwrap(), name);
        assert!(is_named("zk1.example.org", "ZK1.example.org"));
        assert!(is_named("zk1.example.org", "*.example.org"));
        assert!(!is_named("a.zk1.example.org", "*.example.org"));
        assert!(!is_named("example.org", "*.example.org"));
        assert!(!is_named("zk1.example.org", "zk2.example.org"));
        assert!(is_named("10.0.0.1", "10.0.0.1"));
        assert!(!is_named("10.0.0.1", "*.0.0.1"));
    }
}
