//! Who keeps the cluster's metadata: the built-in keeper, or an external ZooKeeper.

use ottla_config::{ConfigError, Settings, Warning};
use ottla_record::BrokerId;

use super::keeper::KeeperConfig;
use super::keys::{KeeperKeys, ZooKeeperKeys, ZooKeeperTlsKeys};
use super::zookeeper::ZooKeeperConfig;

/// Where the tree of znodes is.
#[derive(Clone, Debug)]
pub enum CoordinationConfig {
    /// In the built-in keeper.
    Keeper(KeeperConfig),
    /// In the ensemble of `zookeeper.connect`.
    ZooKeeper(Box<ZooKeeperConfig>),
}

impl CoordinationConfig {
    pub(super) fn read(
        id: BrokerId,
        settings: &Settings,
        errors: &mut Vec<ConfigError>,
    ) -> Option<Self> {
        let before = errors.len();
        let keeper = super::take(KeeperKeys::read(settings), errors);
        let zookeeper = super::take(ZooKeeperKeys::read(settings), errors);
        let tls = super::take(ZooKeeperTlsKeys::read(settings), errors);
        let (keeper, zookeeper, tls) = (keeper?, zookeeper?, tls?);
        let Some(connect) = &zookeeper.zookeeper_connect else {
            return KeeperConfig::read(&keeper, id, settings, errors).map(Self::Keeper);
        };
        for key in KeeperKeys::KEYS.iter().filter(|key| settings.get(key.name).is_some()) {
            errors.push(ConfigError::Conflict {
                reason: format!(
                    "zookeeper.connect ({}) and {} ({}) are both set: either ZooKeeper keeps the \
                     metadata or the built-in keeper does; remove one of the two",
                    settings.origin("zookeeper.connect"),
                    key.name,
                    settings.origin(key.name)
                ),
            });
        }
        let config = ZooKeeperConfig::read(connect, &zookeeper, &tls, settings, errors);
        config.filter(|_| errors.len() == before).map(|config| Self::ZooKeeper(Box::new(config)))
    }

    /// Warns of what belongs to the other way.
    pub(super) fn advise(&self, settings: &Settings, warnings: &mut Vec<Warning>) {
        if let Self::ZooKeeper(_) = self {
            return;
        }
        let keys = ZooKeeperKeys::KEYS.iter().chain(ZooKeeperTlsKeys::KEYS);
        for key in keys.filter(|key| settings.get(key.name).is_some()) {
            warnings.push(Warning::NoEffect {
                key: key.name.to_owned(),
                note: "without zookeeper.connect, metadata is kept in the built-in keeper"
                    .to_owned(),
                origin: settings.origin(key.name),
            });
        }
    }
}
