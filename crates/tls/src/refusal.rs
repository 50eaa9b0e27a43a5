//! Why two sides do not come to terms.

use std::fmt;
use std::io;

use rustls::{AlertDescription, CertificateError, Error};

use crate::verifier::webpki_error;

const DAY_S: u64 = 24 * 60 * 60;

/// Why two sides do not come to terms. It stands in an [`io::Error`], where [`Refusal::of`] finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The host's name can be in no certificate.
    NoName,
    /// Nobody whom we trust has issued the peer's certificate.
    Untrusted,
    /// The peer's certificate is out of its time: since, or until, so many days.
    OutOfTime {
        /// Whether its time is over, not still to come.
        is_over: bool,
        /// For how long.
        days: u64,
    },
    /// The peer's certificate is about other hosts.
    OtherHost {
        /// Them.
        presented: Vec<String>,
    },
    /// There is something else about the peer's certificate.
    Certificate(String),
    /// The peer has something against our certificate, or that we showed none. The word is TLS's.
    OurCertificate(String),
    /// Both have no version or cipher suite in common. The word is TLS's.
    NothingInCommon(String),
    /// What comes from the peer is not TLS.
    NotTls,
    /// The peer hung up before we came to terms.
    HungUp,
    /// The peer broke the protocol, or says so of us.
    Other(String),
}

impl Refusal {
    /// The refusal that an error is about, if it is about one.
    #[must_use]
    pub fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoName => f.write_str("its name is no host's name"),
            Self::Untrusted => {
                f.write_str("its certificate was not issued by any that the trust store holds")
            }
            Self::OutOfTime { is_over: true, days } => {
                write!(f, "its certificate has expired, {days} days ago by our clock")
            }
            Self::OutOfTime { is_over: false, days } => {
                write!(f, "its certificate is valid only in {days} days by our clock")
            }
            Self::OtherHost { presented } if presented.is_empty() => {
                f.write_str("its certificate is about another host, or names none")
            }
            Self::OtherHost { presented } => {
                write!(f, "its certificate is about other hosts: {}", presented.join(", "))
            }
            Self::Certificate(reason) => write!(f, "its certificate cannot be used: {reason}"),
            Self::OurCertificate(word) => {
                write!(f, "it does not accept our certificate, or wants one ({word})")
            }
            Self::NothingInCommon(word) => {
                write!(f, "it has no protocol version and cipher suite in common with us ({word})")
            }
            Self::NotTls => f.write_str("what it answers is not TLS"),
            Self::HungUp => f.write_str("it hung up when TLS was to begin"),
            Self::Other(reason) => write!(f, "TLS failed: {reason}"),
        }
    }
}

impl std::error::Error for Refusal {}

impl From<Refusal> for io::Error {
    fn from(refusal: Refusal) -> Self {
        io::Error::new(io::ErrorKind::InvalidData, refusal)
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        match error {
            Error::InvalidCertificate(ref reason) => certificate(reason, &error),
            Error::AlertReceived(alert) => alerted(alert),
            Error::PeerIncompatible(reason) => Self::NothingInCommon(format!("{reason:?}")),
            Error::InvalidMessage(_) => Self::NotTls,
            error => Self::Other(error.to_string()),
        }
    }
}

fn certificate(reason: &CertificateError, error: &Error) -> Refusal {
    let days = |from: &rustls_pki_types::UnixTime, to: &rustls_pki_types::UnixTime| {
        to.as_secs().saturating_sub(from.as_secs()) / DAY_S
    };
    match reason {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => Refusal::Untrusted,
        CertificateError::ExpiredContext { time, not_after } => {
            Refusal::OutOfTime { is_over: true, days: days(not_after, time) }
        }
        CertificateError::NotValidYetContext { time, not_before } => {
            Refusal::OutOfTime { is_over: false, days: days(time, not_before) }
        }
        CertificateError::NotValidForNameContext { presented, .. } => {
            Refusal::OtherHost { presented: presented.iter().map(|name| bare(name)).collect() }
        }
        reason => match webpki_error(error) {
            Some(webpki::Error::UnsupportedCertVersion) => Refusal::Certificate(
                "it is of version 1 of X.509; make it again with a subject alternative name, which \
                 makes it version 3"
                    .to_owned(),
            ),
            Some(webpki::Error::CaUsedAsEndEntity) => {
                let reason = "it is a certificate authority's, and not itself in the trust store";
                Refusal::Certificate(reason.to_owned())
            }
            _ => Refusal::Certificate(reason.to_string()),
        },
    }
}

/// A name out of what webpki writes: `DnsName("a")`, `IpAddress(b)`.
fn bare(name: &str) -> String {
    let inner = name.split_once('(').map_or(name, |(_, inner)| inner);
    inner.trim_end_matches(')').trim_matches('"').to_owned()
}

fn alerted(alert: AlertDescription) -> Refusal {
    use AlertDescription as Alert;
    let word = alert.as_str().map_or_else(|| u8::from(alert).to_string(), str::to_owned);
    match alert {
        Alert::NoCertificate
        | Alert::BadCertificate
        | Alert::UnsupportedCertificate
        | Alert::CertificateRevoked
        | Alert::CertificateExpired
        | Alert::CertificateUnknown
        | Alert::CertificateRequired
        | Alert::UnknownCA
        | Alert::AccessDenied => Refusal::OurCertificate(word),
        Alert::HandshakeFailure | Alert::ProtocolVersion | Alert::InsufficientSecurity => {
            Refusal::NothingInCommon(word)
        }
        _ => Refusal::Other(format!("it ended the connection with the alert {word}")),
    }
}

#[cfg(test)]
mod tests {
    use ottla_security::key_store::identity;
    use rustls::server::ParsedCertificate;

    use super::*;

    #[test]
    fn an_old_certificate_is_told_from_a_wrong_one() {
        let store = include_bytes!("../../security/tests/data/version-1.pem");
        let chain = identity(store, None, None).unwrap().chain;
        let error = ParsedCertificate::try_from(&chain[0]).map(drop).unwrap_err();
        let told = Refusal::from(error).to_string();
        assert!(told.contains("version 1 of X.509; make it again"), "{told}");
    }
}
