//! An external ZooKeeper ensemble: who it is, and how it is spoken with.

use std::time::Duration;

use ottla_config::{ConfigError, Settings};
use ottla_metadata::{ConnectString, SaslLogin};

use super::jaas;
use super::keys::{ZooKeeperKeys, ZooKeeperTlsKeys};
use super::zookeeper_tls::ZooKeeperTls;

/// The ensemble that keeps the cluster's metadata.
#[derive(Clone, Debug)]
pub struct ZooKeeperConfig {
    /// `zookeeper.connect`.
    pub connect: ConnectString,
    /// `zookeeper.session.timeout.ms`.
    pub session_timeout: Duration,
    /// `zookeeper.connection.timeout.ms`, else the session's.
    pub connection_timeout: Duration,
    /// `zookeeper.max.in.flight.requests`.
    pub in_flight_max: usize,
    /// `zookeeper.set.acl`.
    pub set_acl: bool,
    /// `zookeeper.digest.login`, as it is sent.
    pub digest_login: Option<Vec<u8>>,
    /// `zookeeper.sasl.jaas.config`.
    pub sasl_login: Option<SaslLogin>,
    /// How connections are encrypted, if they are.
    pub tls: Option<ZooKeeperTls>,
}

impl ZooKeeperConfig {
    /// Reads what belongs to `connect`, the value of `zookeeper.connect`.
    pub(super) fn read(
        connect: &str,
        keys: &ZooKeeperKeys,
        tls: &ZooKeeperTlsKeys,
        settings: &Settings,
        errors: &mut Vec<ConfigError>,
    ) -> Option<Self> {
        let before = errors.len();
        let shows_certificate = tls.zookeeper_ssl_client_enable
            && tls.zookeeper_ssl_keystore_location.as_ref().is_some_and(|path| !path.is_empty());
        let tls = ZooKeeperTls::read(tls, settings, errors);
        let mut bad = |key: &str, value: &str, reason: String| {
            let (key, value, origin) = (key.to_owned(), value.to_owned(), settings.origin(key));
            errors.push(ConfigError::BadValue { key, value, reason, origin });
        };
        let parsed = connect.parse::<ConnectString>();
        let parsed =
            parsed.map_err(|error| bad("zookeeper.connect", connect, error.to_string())).ok();
        let login = keys.zookeeper_digest_login.as_ref().map(|login| login.reveal());
        if login.is_some_and(|login| !login.contains(':')) {
            let reason = "it is not of the form user:password".to_owned();
            bad("zookeeper.digest.login", "[hidden]", reason);
        }
        let sasl = keys.zookeeper_sasl_jaas_config.as_ref();
        let sasl_login = sasl.map(|text| jaas::zookeeper_login(text.reveal())).transpose();
        let sasl_login = sasl_login
            .map_err(|reason| bad("zookeeper.sasl.jaas.config", "[hidden]", reason))
            .unwrap_or_default();
        let is_known = login.is_some() || sasl.is_some() || shows_certificate;
        if keys.zookeeper_set_acl && !is_known {
            let reason = "nodes can belong to this broker only if the ensemble knows who it is: \
                          set zookeeper.sasl.jaas.config or zookeeper.digest.login too, or \
                          zookeeper.ssl.client.enable and zookeeper.ssl.keystore.location"
                .to_owned();
            bad("zookeeper.set.acl", "true", reason);
        }
        if errors.len() > before {
            return None;
        }
        let session = milliseconds(keys.zookeeper_session_timeout_ms);
        Some(Self {
            connect: parsed?,
            session_timeout: session,
            connection_timeout: keys.zookeeper_connection_timeout_ms.map_or(session, milliseconds),
            in_flight_max: keys.zookeeper_max_in_flight_requests.unsigned_abs() as usize,
            set_acl: keys.zookeeper_set_acl,
            digest_login: login.map(|login| login.as_bytes().to_vec()),
            sasl_login,
            tls,
        })
    }
}

fn milliseconds(count: i32) -> Duration {
    Duration::from_millis(u64::from(count.unsigned_abs()))
}
