//! The files that keys of TLS name: they are read when they are needed.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use ottla_config::Password;
use ottla_runtime::World;
use ottla_runtime::disk::read_file;
use ottla_security::StoreError;
use ottla_security::key_store::{identity, trusted};
use ottla_tls::{Client, ClientSettings, SettingsError};

use crate::config::{StoreConfig, ZooKeeperTls};

/// Why a store that a key names cannot be used.
#[derive(Debug)]
pub struct TlsError {
    key: &'static str,
    /// Of a store.
    location: Option<PathBuf>,
    reason: Reason,
}

#[derive(Debug)]
enum Reason {
    Unreadable(io::Error),
    Store(StoreError),
    Settings(SettingsError),
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.key)?;
        if let Some(location) = &self.location {
            write!(f, " ({})", location.display())?;
        }
        match &self.reason {
            Reason::Unreadable(error) => write!(f, " cannot be read: {error}"),
            Reason::Store(error) => write!(f, " cannot be used: {error}"),
            Reason::Settings(error) => write!(f, " cannot be used: {error}"),
        }
    }
}

impl std::error::Error for TlsError {}

/// Reads the stores, and makes who connects with ZooKeeper.
pub fn zookeeper_client(config: &ZooKeeperTls, world: &World) -> Result<Client, TlsError> {
    let settings = ClientSettings {
        trusted: open(&config.trust_store, world, trusted)?,
        identity: config
            .key_store
            .as_ref()
            .map(|store| open(store, world, identity))
            .transpose()?,
        protocols: config.protocols.clone(),
        cipher_suites: config.cipher_suites.clone(),
        checks_host: config.checks_host,
    };
    Client::new(settings, Arc::clone(&world.clock)).map_err(|error| {
        let store = match &error {
            SettingsError::Trusted(_) => Some(&config.trust_store),
            SettingsError::Identity(_) => config.key_store.as_ref(),
            SettingsError::CipherSuites => None,
        };
        TlsError {
            key: store.map_or("zookeeper.ssl.cipher.suites", |store| store.key),
            location: store.map(|store| store.location.clone()),
            reason: Reason::Settings(error),
        }
    })
}

/// A way to read a store: its bytes, its password and what it is said to be.
type Read<T> = fn(&[u8], Option<&str>, Option<ottla_security::StoreType>) -> Result<T, StoreError>;

fn open<T>(store: &StoreConfig, world: &World, read: Read<T>) -> Result<T, TlsError> {
    let failed =
        |reason| TlsError { key: store.key, location: Some(store.location.clone()), reason };
    let bytes = read_file(&*world.disk, &store.location)
        .map_err(|error| failed(Reason::Unreadable(error)))?;
    let password = store.password.as_ref().map(Password::reveal);
    read(&bytes, password, store.kind).map_err(|error| failed(Reason::Store(error)))
}
