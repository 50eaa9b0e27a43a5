//! What is told when a server and we do not come to terms on TLS, with the keys that say more.

use ottla_tls::Refusal;

/// What hangs up, answers something else, or does not answer at all.
pub(super) const PLAIN_PORT: &str =
    "a port for plain connections does so, and TLS has another one, the servers' secureClientPort";

/// Says what a server refuses, or what is refused of it. `has_identity` is whether we have a
/// certificate to show.
pub(super) fn told(refusal: &Refusal, has_identity: bool) -> String {
    let hint = match refusal {
        Refusal::Untrusted => {
            "zookeeper.ssl.truststore.location has to hold who issued it, or the certificate itself"
        }
        Refusal::OtherHost { .. } | Refusal::NoName => {
            "name the server in zookeeper.connect as its certificate does, or give it one with the \
             subject alternative name; with zookeeper.ssl.endpoint.identification.algorithm set to \
             nothing, names are not compared"
        }
        Refusal::OurCertificate(_) if has_identity => {
            "the servers' trust store has to hold who issued the one in \
             zookeeper.ssl.keystore.location"
        }
        Refusal::OurCertificate(_) => {
            "set zookeeper.ssl.keystore.location: servers want a certificate unless their \
             ssl.clientAuth says otherwise"
        }
        Refusal::NothingInCommon(_) => {
            "look at zookeeper.ssl.protocol, zookeeper.ssl.enabled.protocols and \
             zookeeper.ssl.cipher.suites"
        }
        Refusal::HungUp | Refusal::NotTls => PLAIN_PORT,
        Refusal::OutOfTime { .. } | Refusal::Certificate(_) | Refusal::Other(_) => {
            return refusal.to_string();
        }
    };
    format!("{refusal}; {hint}")
}
