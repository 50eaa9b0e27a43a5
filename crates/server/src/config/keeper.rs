//! The built-in keeper: where its clients find it, and with whom it is a quorum.

use ottla_config::{ConfigError, Settings};
use ottla_keeper::VoterId;
use ottla_keeper::shell::tend::parse_voters;
use ottla_record::BrokerId;

use super::keys::KeeperKeys;
use super::listeners::Address;

/// The built-in keeper of a broker.
#[derive(Clone, Debug)]
pub struct KeeperConfig {
    /// `keeper.listener`.
    pub listener: Address,
    /// `keeper.quorum.voters`: none for a keeper that is alone.
    pub voters: Vec<(VoterId, Address)>,
    /// Found no quorum on a new directory, but wait to be taken into one. No key: it is said at one
    /// start, and has no meaning at the next.
    pub join: bool,
}

impl KeeperConfig {
    pub(super) fn read(
        keys: &KeeperKeys,
        id: BrokerId,
        settings: &Settings,
        errors: &mut Vec<ConfigError>,
    ) -> Option<Self> {
        let mut bad = |key: &str, value: &str, reason: String| {
            let (key, value, origin) = (key.to_owned(), value.to_owned(), settings.origin(key));
            errors.push(ConfigError::BadValue { key, value, reason, origin });
        };
        let listener = address(&keys.keeper_listener);
        if listener.is_none() {
            let reason = "it is not of the form host:port".to_owned();
            bad("keeper.listener", &keys.keeper_listener, reason);
        }
        let mut voters = Vec::new();
        if let Some(text) = &keys.keeper_quorum_voters {
            match parse_voters(text) {
                Ok(parsed) => {
                    let parsed = parsed.into_iter();
                    voters = parsed.filter_map(|(id, at)| Some((id, address(&at)?))).collect();
                    if own(&voters, id).is_none() {
                        let reason = format!("it does not name this broker, {id}");
                        bad("keeper.quorum.voters", text, reason);
                    }
                }
                Err(reason) => bad("keeper.quorum.voters", text, reason),
            }
        }
        Some(Self { listener: listener?, voters, join: false })
    }

    /// Where this broker's keeper listens for the others, if it does.
    #[must_use]
    pub fn own_address(&self, id: BrokerId) -> Option<&Address> {
        own(&self.voters, id)
    }
}

fn own(voters: &[(VoterId, Address)], id: BrokerId) -> Option<&Address> {
    let own = VoterId::try_from(id.0).ok();
    voters.iter().find(|(voter, _)| Some(*voter) == own).map(|(_, address)| address)
}

fn address(text: &str) -> Option<Address> {
    let (host, port) = text.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    Some(Address { host, port: port.parse().ok()? })
}
