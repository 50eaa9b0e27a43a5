//! How connections with an external ZooKeeper are encrypted: Kafka's keys `zookeeper.ssl.*`.

use std::path::PathBuf;

use ottla_config::{ConfigError, Password, Settings};
use ottla_security::StoreType;
use ottla_tls::Protocol;

use super::keys::ZooKeeperTlsKeys;

const ENABLE: &str = "zookeeper.ssl.client.enable";
const PROTOCOL: &str = "zookeeper.ssl.protocol";
const PROTOCOLS: &str = "zookeeper.ssl.enabled.protocols";
const HOSTS: &str = "zookeeper.ssl.endpoint.identification.algorithm";

/// Versions of TLS that Java knows and nobody speaks any more.
const OLD_PROTOCOLS: [&str; 4] = ["TLSv1.1", "TLSv1", "SSLv3", "SSLv2Hello"];

/// The settings, with the files of which they speak not read yet.
#[derive(Clone, Debug)]
pub struct ZooKeeperTls {
    /// `zookeeper.ssl.truststore.*`.
    pub trust_store: StoreConfig,
    /// `zookeeper.ssl.keystore.*`; `None`: nothing is shown to the servers.
    pub key_store: Option<StoreConfig>,
    /// `zookeeper.ssl.enabled.protocols`, else `zookeeper.ssl.protocol`.
    pub protocols: Vec<Protocol>,
    /// `zookeeper.ssl.cipher.suites`.
    pub cipher_suites: Option<Vec<String>>,
    /// `zookeeper.ssl.endpoint.identification.algorithm`.
    pub checks_host: bool,
}

/// A key store or trust store.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// The key that says where it is.
    pub key: &'static str,
    /// Its file.
    pub location: PathBuf,
    /// Its password, and that of the key in it.
    pub password: Option<Password>,
    /// What it is said to be; `None`: what it looks like.
    pub kind: Option<StoreType>,
}

impl ZooKeeperTls {
    /// Reads what a file of properties says, in which all other keys are passed over: what Kafka's
    /// tools take with `--zk-tls-config-file`. `None`: connections are not to be encrypted.
    pub fn load(settings: &Settings) -> Result<Option<Self>, Vec<ConfigError>> {
        let keys = ZooKeeperTlsKeys::read(settings)?;
        let mut errors = settings.errors.clone();
        let tls = Self::read(&keys, settings, &mut errors);
        if errors.is_empty() { Ok(tls) } else { Err(errors) }
    }

    /// `None` if connections are not to be encrypted, or if something is wrong.
    pub(super) fn read(
        keys: &ZooKeeperTlsKeys,
        settings: &Settings,
        errors: &mut Vec<ConfigError>,
    ) -> Option<Self> {
        if !keys.zookeeper_ssl_client_enable {
            return None;
        }
        let before = errors.len();
        let mut bad = |key: &str, value: &str, reason: &str| {
            let (key, value, origin) = (key.to_owned(), value.to_owned(), settings.origin(key));
            errors.push(ConfigError::BadValue { key, value, reason: reason.to_owned(), origin });
        };
        for (key, is_on) in [
            ("zookeeper.ssl.crl.enable", keys.zookeeper_ssl_crl_enable),
            ("zookeeper.ssl.ocsp.enable", keys.zookeeper_ssl_ocsp_enable),
        ] {
            if is_on {
                bad(key, "true", "whether a certificate was revoked is not looked up so far");
            }
        }
        let trust_store = store(
            "zookeeper.ssl.truststore.location",
            keys.zookeeper_ssl_truststore_location.as_ref(),
            keys.zookeeper_ssl_truststore_password.as_ref(),
            ("zookeeper.ssl.truststore.type", keys.zookeeper_ssl_truststore_type.as_ref()),
            &mut bad,
        );
        if trust_store.is_none() {
            let reason = "no server would be trusted: set zookeeper.ssl.truststore.location too, to a \
                          store with the certificates of who issued the servers'";
            bad(ENABLE, "true", reason);
        }
        let key_store = store(
            "zookeeper.ssl.keystore.location",
            keys.zookeeper_ssl_keystore_location.as_ref(),
            keys.zookeeper_ssl_keystore_password.as_ref(),
            ("zookeeper.ssl.keystore.type", keys.zookeeper_ssl_keystore_type.as_ref()),
            &mut bad,
        );
        let protocols = protocols(keys, &mut bad);
        let algorithm = &keys.zookeeper_ssl_endpoint_identification_algorithm;
        if !algorithm.is_empty() && !algorithm.eq_ignore_ascii_case("https") {
            bad(HOSTS, algorithm, "Must be HTTPS, or nothing: then names are not compared");
        }
        if errors.len() > before {
            return None;
        }
        Some(Self {
            trust_store: trust_store?,
            key_store,
            protocols,
            cipher_suites: keys
                .zookeeper_ssl_cipher_suites
                .clone()
                .filter(|names| !names.is_empty()),
            checks_host: !algorithm.is_empty(),
        })
    }
}

fn store(
    key: &'static str,
    location: Option<&String>,
    password: Option<&Password>,
    (type_key, name): (&str, Option<&String>),
    bad: &mut impl FnMut(&str, &str, &str),
) -> Option<StoreConfig> {
    let name = name.filter(|name| !name.is_empty());
    let kind = name.and_then(|name| StoreType::from_name(name));
    if let (Some(name), None) = (name, kind) {
        bad(type_key, name, "Must be one of JKS, PKCS12, PEM, or unset");
    }
    let location = location.filter(|location| !location.is_empty())?;
    let password = password.filter(|password| !password.reveal().is_empty());
    Some(StoreConfig { key, location: location.into(), password: password.cloned(), kind })
}

/// Those of the list that are still spoken, of which there must be one.
fn protocols(keys: &ZooKeeperTlsKeys, bad: &mut impl FnMut(&str, &str, &str)) -> Vec<Protocol> {
    let own = vec![keys.zookeeper_ssl_protocol.clone()];
    let (key, names) = match &keys.zookeeper_ssl_enabled_protocols {
        Some(names) if !names.is_empty() => (PROTOCOLS, names),
        _ => (PROTOCOL, &own),
    };
    let is_known = |name: &&String| {
        Protocol::from_java(name).is_some() || OLD_PROTOCOLS.contains(&name.as_str())
    };
    let protocols: Vec<Protocol> =
        names.iter().filter_map(|name| Protocol::from_java(name)).collect();
    if protocols.is_empty() || !names.iter().all(|name| is_known(&name)) {
        bad(key, &names.join(","), "Must be TLSv1.2 or TLSv1.3; older ones are not spoken");
    }
    protocols
}
