//! Who connects.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use ottla_runtime::Clock;
use ottla_runtime::net::Stream;
use ottla_security::Identity;
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::time_provider::TimeProvider;
use rustls::{
    ClientConfig, ClientConnection, Connection, Error, InconsistentKeys, SupportedProtocolVersion,
    version,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::names::{Protocol, java_name, provider};
use crate::refusal::Refusal;
use crate::stream::TlsStream;
use crate::verifier::Verifier;

/// What a configuration says.
#[derive(Debug)]
pub struct ClientSettings {
    /// A server's certificate is one of these, or was issued by one of them, or by who was.
    pub trusted: Vec<CertificateDer<'static>>,
    /// Who we are, where a server asks for it.
    pub identity: Option<Identity>,
    /// Which versions are spoken.
    pub protocols: Vec<Protocol>,
    /// Which cipher suites are offered, by Java's names; those that are not known are passed over.
    /// `None`: all that are safe.
    pub cipher_suites: Option<Vec<String>>,
    /// Whether a server's certificate must name the host that was to be connected with.
    pub checks_host: bool,
}

/// Which of the settings cannot be used, and why.
#[derive(Debug)]
pub enum SettingsError {
    /// A trusted certificate cannot be read.
    Trusted(String),
    /// Key and certificate do not belong together, or are of a kind that is not known.
    Identity(String),
    /// None of the cipher suites is known, or none is for the versions that are spoken.
    CipherSuites,
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Trusted(reason) => write!(f, "a certificate of it cannot be read ({reason})"),
            Self::Identity(reason) => {
                write!(f, "its private key and certificate cannot be used ({reason})")
            }
            Self::CipherSuites => write!(
                f,
                "none of them is safe, known and of the protocols that are enabled; there are {}",
                crate::cipher_suites().join(", ")
            ),
        }
    }
}

impl std::error::Error for SettingsError {}

/// Connects with servers. A clone costs little.
#[derive(Clone)]
pub struct Client {
    config: Arc<ClientConfig>,
    has_identity: bool,
}

/// Without what it was made of.
impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("has_identity", &self.has_identity).finish_non_exhaustive()
    }
}

impl Client {
    /// Takes the settings; `clock` says whether certificates have expired.
    pub fn new(settings: ClientSettings, clock: Arc<dyn Clock>) -> Result<Self, SettingsError> {
        let ClientSettings { trusted, identity, protocols, cipher_suites, checks_host } = settings;
        let mut provider = provider();
        if let Some(names) = cipher_suites {
            provider.cipher_suites.retain(|suite| names.contains(&java_name(*suite)));
        }
        let verifier = Verifier::new(trusted, checks_host, &provider);
        let verifier = verifier.map_err(|error| SettingsError::Trusted(error.to_string()))?;
        let has_identity = identity.is_some();
        let own = identity.map(|identity| certified(identity, &provider)).transpose();
        let own = own.map_err(|error| SettingsError::Identity(error.to_string()))?;
        let now = Arc::new(Now(clock));
        let builder = ClientConfig::builder_with_details(Arc::new(provider), now)
            .with_protocol_versions(&versions(&protocols))
            .map_err(|_| SettingsError::CipherSuites)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match own {
            Some(own) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(own))),
            None => builder.with_no_client_auth(),
        };
        // Each connection shows its certificate: who we are does not hang on what a server remembers.
        config.resumption = Resumption::disabled();
        Ok(Self { config: Arc::new(config), has_identity })
    }

    /// Whether it has a certificate to show.
    #[must_use]
    pub fn has_identity(&self) -> bool {
        self.has_identity
    }

    /// Comes to terms with the server at the other end of `stream`, which was to be `host`, a name or
    /// an address. What is not the network's fault is a [`Refusal`] in the error. There is no limit
    /// in time; dropping the future hangs up.
    pub async fn connect(&self, stream: Box<dyn Stream>, host: &str) -> io::Result<TlsStream> {
        TlsStream::establish(stream, self.connection(host)?).await
    }

    fn connection(&self, host: &str) -> Result<Box<Connection>, Refusal> {
        let name =
            ServerName::try_from(host.trim_matches(['[', ']'])).map_err(|_| Refusal::NoName)?;
        let connection = ClientConnection::new(Arc::clone(&self.config), name.to_owned())?;
        Ok(Box::new(connection.into()))
    }
}

fn certified(
    Identity { key, chain }: Identity,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, Error> {
    let own = CertifiedKey::new(chain, provider.key_provider.load_private_key(key)?);
    match own.keys_match() {
        Err(error @ Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => Err(error),
        // What webpki does not read, as those of version 1, is for the server to judge.
        _ => Ok(own),
    }
}

fn versions(protocols: &[Protocol]) -> Vec<&'static SupportedProtocolVersion> {
    let version = |protocol: &Protocol| match protocol {
        Protocol::Tls12 => &version::TLS12,
        Protocol::Tls13 => &version::TLS13,
    };
    protocols.iter().map(version).collect()
}

struct Now(Arc<dyn Clock>);

impl fmt::Debug for Now {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Now")
    }
}

impl TimeProvider for Now {
    fn current_time(&self) -> Option<UnixTime> {
        let wall_ms = u64::try_from(self.0.wall_ms()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_millis(wall_ms)))
    }
}
