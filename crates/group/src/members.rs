//! The members of one group.
//!
//! Invariants, kept by this file alone: `supported[p]` is the number of members that know protocol
//! `p`; `awaiting_join` is the number of members with a parked JoinGroup; `static_ids` maps the
//! instance id of every static member to its member id.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::machine::Token;

/// An assignment protocol that a member knows, with what it says to the leader about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Protocol {
    pub(crate) name: String,
    /// Opaque here; for protocol type `consumer` it is the subscription.
    pub(crate) metadata: Vec<u8>,
}

/// A member of a group.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) id: Arc<str>,
    /// `group.instance.id` of a static member (KIP-345).
    pub(crate) instance_id: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) session_timeout_ms: i32,
    pub(crate) rebalance_timeout_ms: i32,
    /// What the leader assigned to it, opaque; empty until the generation is stable.
    pub(crate) assignment: Vec<u8>,
    /// It has not been answered a JoinGroup yet, so no heartbeat can be expected of it.
    pub(crate) is_new: bool,
    /// A SyncGroup that waits for the leader's assignment.
    pub(crate) sync: Option<Token>,
    /// In the member's order of preference.
    protocols: Vec<Protocol>,
    /// A JoinGroup that waits for the end of the join phase.
    join: Option<Token>,
}

impl Member {
    /// A new member that nothing is parked for.
    pub(crate) fn new(id: Arc<str>, instance_id: Option<String>, protocols: Vec<Protocol>) -> Self {
        Self {
            id,
            instance_id,
            client_id: String::new(),
            client_host: String::new(),
            session_timeout_ms: 0,
            rebalance_timeout_ms: 0,
            assignment: Vec::new(),
            is_new: false,
            sync: None,
            protocols,
            join: None,
        }
    }

    pub(crate) fn awaits_join(&self) -> bool {
        self.join.is_some()
    }

    /// Whether the broker owes the member an answer, so that its session cannot run out.
    pub(crate) fn is_parked(&self) -> bool {
        self.join.is_some() || self.sync.is_some()
    }

    pub(crate) fn protocols(&self) -> &[Protocol] {
        &self.protocols
    }

    /// What the member says about itself for protocol `name`; empty if it does not know it.
    pub(crate) fn metadata(&self, name: &str) -> &[u8] {
        self.protocols.iter().find(|p| p.name == name).map_or(&[], |p| &p.metadata)
    }

    /// The first of the member's protocols that is among the candidates.
    fn vote<'a>(&'a self, candidates: &[&str]) -> Option<&'a str> {
        self.protocols.iter().map(|p| p.name.as_str()).find(|name| candidates.contains(name))
    }
}

/// The members of a group, in the order of their ids.
#[derive(Debug, Default)]
pub(crate) struct Members {
    by_id: BTreeMap<Arc<str>, Member>,
    static_ids: BTreeMap<String, Arc<str>>,
    supported: BTreeMap<String, usize>,
    awaiting_join: usize,
}

impl Members {
    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// The number of members with a parked JoinGroup.
    pub(crate) fn awaiting_join(&self) -> usize {
        self.awaiting_join
    }

    pub(crate) fn contains(&self, id: &str) -> bool {
        self.by_id.contains_key(id)
    }

    pub(crate) fn get(&self, id: &str) -> Option<&Member> {
        self.by_id.get(id)
    }

    /// The member, to change what this collection does not count.
    pub(crate) fn get_mut(&mut self, id: &str) -> Option<&mut Member> {
        self.by_id.get_mut(id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Member> {
        self.by_id.values()
    }

    /// The ids, to change members while going through them.
    pub(crate) fn ids(&self) -> Vec<Arc<str>> {
        self.by_id.keys().cloned().collect()
    }

    /// The member id that the static member `instance_id` has at present.
    pub(crate) fn static_id(&self, instance_id: &str) -> Option<&Arc<str>> {
        self.static_ids.get(instance_id)
    }

    /// Adds a member whose id and instance id are not in the group.
    pub(crate) fn insert(&mut self, member: Member) {
        self.count_protocols(&member.protocols, 1);
        self.awaiting_join += usize::from(member.awaits_join());
        if let Some(instance_id) = &member.instance_id {
            self.static_ids.insert(instance_id.clone(), Arc::clone(&member.id));
        }
        let earlier = self.by_id.insert(Arc::clone(&member.id), member);
        debug_assert!(earlier.is_none(), "a member was added twice");
    }

    pub(crate) fn remove(&mut self, id: &str) -> Option<Member> {
        let member = self.by_id.remove(id)?;
        self.count_protocols(&member.protocols, -1);
        self.awaiting_join -= usize::from(member.awaits_join());
        if let Some(instance_id) = &member.instance_id {
            self.static_ids.remove(instance_id);
        }
        Some(member)
    }

    pub(crate) fn set_protocols(&mut self, id: &str, protocols: Vec<Protocol>) {
        let Some(member) = self.by_id.get_mut(id) else { return };
        let earlier = std::mem::replace(&mut member.protocols, protocols.clone());
        self.count_protocols(&earlier, -1);
        self.count_protocols(&protocols, 1);
    }

    /// Parks a JoinGroup of the member. Returns one that was parked before.
    pub(crate) fn park_join(&mut self, id: &str, token: Token) -> Option<Token> {
        let earlier = self.by_id.get_mut(id)?.join.replace(token);
        self.awaiting_join += usize::from(earlier.is_none());
        earlier
    }

    /// Takes the member's parked JoinGroup, to answer it.
    pub(crate) fn take_join(&mut self, id: &str) -> Option<Token> {
        let token = self.by_id.get_mut(id)?.join.take();
        self.awaiting_join -= usize::from(token.is_some());
        token
    }

    /// Whether every member knows the protocol. True of any protocol when there are no members.
    pub(crate) fn all_support(&self, protocol: &str) -> bool {
        self.supported.get(protocol).copied().unwrap_or(0) == self.len()
    }

    /// Each member votes for the first of its protocols that all members know; the protocol with
    /// the most votes wins, and of several the first by name. `None` if they share no protocol.
    pub(crate) fn select_protocol(&self) -> Option<String> {
        let candidates: Vec<&str> =
            self.supported.keys().map(String::as_str).filter(|p| self.all_support(p)).collect();
        let mut votes = BTreeMap::<&str, usize>::new();
        for vote in self.iter().filter_map(|member| member.vote(&candidates)) {
            *votes.entry(vote).or_default() += 1;
        }
        // `max_by_key` returns the last of equals.
        votes.into_iter().rev().max_by_key(|(_, count)| *count).map(|(name, _)| name.to_owned())
    }

    /// How long the slowest member may take to rejoin, in milliseconds; 0 without members.
    pub(crate) fn max_rebalance_timeout_ms(&self) -> i32 {
        self.iter().map(|member| member.rebalance_timeout_ms).max().unwrap_or(0)
    }

    fn count_protocols(&mut self, protocols: &[Protocol], change: isize) {
        for (i, protocol) in protocols.iter().enumerate() {
            // A name that a member repeats counts once.
            if protocols[..i].iter().any(|earlier| earlier.name == protocol.name) {
                continue;
            }
            let count = self.supported.entry(protocol.name.clone()).or_default();
            *count = count.saturating_add_signed(change);
            if *count == 0 {
                self.supported.remove(&protocol.name);
            }
        }
    }
}
