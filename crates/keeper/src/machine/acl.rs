//! Who may do what with a node.

use core::net::IpAddr;
use std::sync::Arc;

/// To read data and children.
pub const READ: i32 = 1;
/// To write data.
pub const WRITE: i32 = 2;
/// To make children.
pub const CREATE: i32 = 4;
/// To delete children.
pub const DELETE: i32 = 8;
/// To change who may do what.
pub const ADMIN: i32 = 16;
/// All of it.
pub const ALL: i32 = 31;

/// Whom a client has shown to be, or who is meant, in the words of a scheme: `world:anyone`,
/// `ip:10.0.0.0/8`, `digest:user:hash`, `sasl:user`, `x509:name`; `super` may do everything.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// How it is shown.
    pub scheme: Box<str>,
    /// Who it is, as the scheme has it.
    pub id: Box<str>,
}

/// What one identity may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acl {
    /// The sum of [`READ`], [`WRITE`], [`CREATE`], [`DELETE`] and [`ADMIN`].
    pub permissions: i32,
    /// Who.
    pub identity: Identity,
}

/// Who may do what with a node; the default is everyone everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessList(Option<Arc<[Acl]>>);

impl Identity {
    /// An identity.
    pub fn new(scheme: &str, id: &str) -> Self {
        Self { scheme: scheme.into(), id: id.into() }
    }

    /// Everyone.
    #[must_use]
    pub fn anyone() -> Self {
        Self::new("world", "anyone")
    }

    /// The keeper's own process.
    #[must_use]
    pub fn superuser() -> Self {
        Self::new("super", "")
    }

    /// Whether a client that has shown to be `shown` is meant.
    fn means(&self, shown: &Self) -> bool {
        let is_same_scheme = self.scheme == shown.scheme;
        is_same_scheme
            && (self.id == shown.id || &*self.scheme == "ip" && in_net(&self.id, &shown.id))
    }
}

impl AccessList {
    /// The list, as a client wrote it.
    #[must_use]
    pub fn new(list: Vec<Acl>) -> Self {
        let is_open = matches!(&list[..], [Acl { permissions: ALL, identity }] if *identity == Identity::anyone());
        Self((!is_open).then(|| list.into()))
    }

    /// The list, as a client reads it.
    #[must_use]
    pub fn list(&self) -> Vec<Acl> {
        match &self.0 {
            Some(list) => list.to_vec(),
            None => vec![Acl { permissions: ALL, identity: Identity::anyone() }],
        }
    }

    /// Whether one who has shown to be all of `shown` may do one of `permissions`.
    #[must_use]
    pub fn allows(&self, permissions: i32, shown: &[Identity]) -> bool {
        let Some(list) = &self.0 else { return true };
        let is_anyone =
            |acl: &Acl| *acl.identity.scheme == *"world" && *acl.identity.id == *"anyone";
        let is_meant = |acl: &Acl| is_anyone(acl) || shown.iter().any(|id| acl.identity.means(id));
        shown.iter().any(|id| *id.scheme == *"super")
            || list.iter().any(|acl| acl.permissions & permissions != 0 && is_meant(acl))
    }

    /// What it takes in memory beyond the node's own.
    pub(super) fn bytes(&self) -> usize {
        let of = |acl: &Acl| 40 + acl.identity.scheme.len() + acl.identity.id.len();
        self.0.iter().flat_map(|list| list.iter()).map(of).sum()
    }

    /// What a client wrote, with `auth` for all that it has shown to be replaced by that; `None` if
    /// that is no list.
    #[must_use]
    pub fn resolve(list: Vec<Acl>, shown: &[Identity]) -> Option<Self> {
        let mut resolved: Vec<Acl> = Vec::new();
        for Acl { permissions, identity } in list {
            let mut add = |identity: Identity| {
                let acl = Acl { permissions, identity };
                if !resolved.contains(&acl) {
                    resolved.push(acl);
                }
            };
            match &*identity.scheme {
                "world" if &*identity.id == "anyone" => add(identity),
                "auth" => {
                    // An address is nothing that a client has shown.
                    let mut own = shown.iter().filter(|id| &*id.scheme != "ip").peekable();
                    own.peek()?;
                    own.cloned().for_each(add);
                }
                "ip" => add(net(&identity.id).map(|_| identity)?),
                "digest" if identity.id.split(':').count() == 2 => add(identity),
                "sasl" | "x509" if !identity.id.is_empty() => add(identity),
                _ => return None,
            }
        }
        (!resolved.is_empty()).then(|| Self::new(resolved))
    }
}

/// An address and how many of its bits count: `10.0.0.0/8`.
fn net(text: &str) -> Option<(IpAddr, u32)> {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits.parse().ok()?)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().ok()?;
    let all = if address.is_ipv4() { 32 } else { 128 };
    let bits = bits.unwrap_or(all);
    (bits <= all).then_some((address, bits))
}

fn in_net(range: &str, address: &str) -> bool {
    let (Some((range, bits)), Ok(address)) = (net(range), address.parse::<IpAddr>()) else {
        return false;
    };
    match (range, address) {
        (IpAddr::V4(range), IpAddr::V4(address)) => {
            (range.to_bits() ^ address.to_bits()).leading_zeros() >= bits
        }
        (IpAddr::V6(range), IpAddr::V6(address)) => {
            (range.to_bits() ^ address.to_bits()).leading_zeros() >= bits
        }
        _ => false,
    }
}

/// Everyone may read.
pub(super) fn read_only() -> AccessList {
    AccessList::new(vec![Acl { permissions: READ, identity: Identity::new("world", "anyone") }])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acl(permissions: i32, scheme: &str, id: &str) -> Acl {
        Acl { permissions, identity: Identity::new(scheme, id) }
    }

    #[test]
    fn a_list_allows_whom_it_means() {
        let list = AccessList::new(vec![
            acl(READ, "world", "anyone"),
            acl(WRITE | CREATE, "digest", "bob:hash"),
            acl(DELETE, "ip", "10.1.0.0/16"),
        ]);
        let ip = |address| Identity::new("ip", address);
        let bob = Identity::new("digest", "bob:hash");
        assert!(list.allows(READ, &[]));
        assert!(!list.allows(WRITE, &[ip("10.1.2.3")]));
        assert!(list.allows(DELETE, &[ip("10.1.2.3")]));
        assert!(!list.allows(DELETE, &[ip("10.2.0.1")]));
        assert!(list.allows(WRITE, &[ip("10.2.0.1"), bob.clone()]));
        assert!(!list.allows(ADMIN, &[bob]));
        assert!(!list.allows(WRITE, &[Identity::new("sasl", "bob:hash")]));
        assert!(list.allows(ADMIN, &[Identity::superuser()]));
        assert!(AccessList::default().allows(ADMIN, &[]));
    }

    #[test]
    fn a_client_writes_lists_of_known_schemes() {
        let shown = [Identity::new("ip", "10.0.0.1"), Identity::new("digest", "bob:hash")];
        let resolve = |list: Vec<Acl>| AccessList::resolve(list, &shown).map(|list| list.list());
        let auth = resolve(vec![acl(ALL, "auth", ""), acl(READ, "world", "anyone")]);
        let expected = vec![acl(ALL, "digest", "bob:hash"), acl(READ, "world", "anyone")];
        assert_eq!(auth, Some(expected));
        for bad in [
            vec![],
            vec![acl(ALL, "world", "bob")],
            vec![acl(ALL, "ip", "10.0.0.1/33")],
            vec![acl(ALL, "ip", "bob")],
            vec![acl(ALL, "digest", "bob")],
            vec![acl(ALL, "nonsense", "bob")],
        ] {
            assert_eq!(resolve(bad.clone()), None, "{bad:?}");
        }
        assert_eq!(AccessList::resolve(vec![acl(ALL, "auth", "")], &shown[..1]), None);
    }
}
