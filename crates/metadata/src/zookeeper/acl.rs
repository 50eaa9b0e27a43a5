//! Who may do what with a node that Kafka creates, when `zookeeper.set.acl` is on.

use ottla_keeper::machine::{Acl, Identity, acl};

/// Nodes whose path begins so hold what only brokers may read: credentials and encrypted values.
const SENSITIVE: [&str; 3] = ["/config/users", "/config/brokers", "/delegation_token/tokens"];

/// Where consumers of long ago write themselves.
const CONSUMERS: &str = "/consumers";

/// The list of Kafka's secure clusters: who creates a node may do everything, everyone may read it
/// unless it is sensitive.
pub(super) fn secure(path: &str) -> Vec<Acl> {
    if path == CONSUMERS {
        return vec![Acl { permissions: acl::ALL, identity: Identity::anyone() }];
    }
    // The ensemble replaces it by all that the session has shown to be.
    let mut list = vec![Acl { permissions: acl::ALL, identity: Identity::new("auth", "") }];
    if !SENSITIVE.iter().any(|sensitive| path.starts_with(sensitive)) {
        list.push(Acl { permissions: acl::READ, identity: Identity::anyone() });
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_those_of_kafka() {
        let told = |path| {
            let words = secure(path).into_iter().map(|Acl { permissions, identity }| {
                format!("{}:{}:{permissions}", identity.scheme, identity.id)
            });
            words.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(told("/brokers/topics/a"), "auth::31 world:anyone:1");
        assert_eq!(told("/config/topics/a"), "auth::31 world:anyone:1");
        assert_eq!(told("/config/users/alice"), "auth::31");
        assert_eq!(told("/config/brokers"), "auth::31");
        assert_eq!(told("/delegation_token/tokens/t"), "auth::31");
        assert_eq!(told("/consumers"), "world:anyone:31");
        assert_eq!(told("/consumers/g"), "auth::31 world:anyone:1");
    }
}
