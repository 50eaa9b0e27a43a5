//! `/kafka-acl/...` and `/kafka-acl-extended/...`: access rules.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Malformed, from_json, malformed, to_json};

/// What a set of rules is about: a kind of resource, as Kafka names it, and a name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AclResource {
    /// `Topic`, `Group`, `Cluster`…
    pub resource_type: &'static str,
    /// The whole name of the resource; `*` for all of the kind.
    pub name: String,
    /// `name` is only what the names of the resources begin with.
    pub is_prefix: bool,
}

impl AclResource {
    /// Where the rules lie.
    #[must_use]
    pub fn path(&self) -> String {
        let parent = if self.is_prefix { "/kafka-acl-extended/prefixed" } else { "/kafka-acl" };
        format!("{parent}/{}/{}", self.resource_type, self.name)
    }
}

/// One rule, in Kafka's words.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AclEntry {
    /// Whom it is for, such as `User:ann`.
    pub principal: String,
    /// `Allow` or `Deny`.
    #[serde(rename = "permissionType")]
    pub permission_type: String,
    /// `Read`, `Write`…
    pub operation: String,
    /// From where; `*` for everywhere.
    pub host: String,
}

#[derive(Serialize, Deserialize)]
struct AclsJson {
    version: i32,
    acls: BTreeSet<AclEntry>,
}

/// Kafka's text of the rules of a resource.
#[must_use]
pub fn encode_acls(acls: &BTreeSet<AclEntry>) -> Vec<u8> {
    to_json(&AclsJson { version: 1, acls: acls.clone() })
}

/// Reads the rules of a resource.
pub fn decode_acls(data: &[u8]) -> Result<BTreeSet<AclEntry>, Malformed> {
    const WHAT: &str = "access rules";
    let json: AclsJson = from_json(WHAT, data)?;
    if json.version != 1 {
        return Err(malformed(WHAT)("unknown version"));
    }
    Ok(json.acls)
}

/// The rules of each resource.
pub type Acls = BTreeMap<AclResource, BTreeSet<AclEntry>>;
