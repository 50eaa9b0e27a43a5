//! Looking after a quorum from outside: founding it, taking voters in, letting them go.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::time::Duration;

use ottla_runtime::{Network, time};

use super::peers::split_address;
use super::tool::{self, Ask, Description};
use crate::machine::quorum::{Change, Membership, Peer, QuorumId, Standing, VoterId};

/// So long a change may take: as long as a new voter needs to catch up.
const CHANGE_TIME: Duration = Duration::from_secs(120);

/// How often somebody who waits for a change looks whether it is done.
const LOOK: Duration = Duration::from_millis(50);

/// Why something was not done, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TendError(String);

impl fmt::Display for TendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TendError {}

impl TendError {
    pub(super) fn unreached(address: &str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self(format!("no keeper answers at {address}: {error}"))
    }

    pub(super) fn refused(leader: &str, reason: &str) -> Self {
        Self(format!("the leader at {leader} refuses: {reason}"))
    }
}

/// A voter as people write it: `id@host:port`.
pub fn parse_voter(text: &str) -> Result<(VoterId, String), String> {
    let parts = text.split_once('@').and_then(|(id, address)| Some((id.parse().ok()?, address)));
    match parts {
        Some((id, address)) if split_address(address).is_ok() => Ok((id, address.to_owned())),
        _ => Err(format!("{text:?} is not of the form ID@HOST:PORT")),
    }
}

/// Voters as people write them, `1@host:port,2@host:port`: each id and each address once.
pub fn parse_voters(text: &str) -> Result<Vec<(VoterId, String)>, String> {
    let voters: Vec<_> =
        text.split(',').map(str::trim).map(parse_voter).collect::<Result<_, _>>()?;
    let ids: BTreeSet<_> = voters.iter().map(|(id, _)| id).collect();
    let addresses: BTreeSet<_> = voters.iter().map(|(_, address)| address).collect();
    if ids.len() < voters.len() || addresses.len() < voters.len() {
        return Err(format!("{text:?} names an id or an address twice"));
    }
    Ok(voters)
}

/// Begins a quorum of these voters, all of which wait with directories that belong to none. One of
/// them writes it down; it calls the others.
pub async fn found(
    network: &dyn Network,
    quorum: QuorumId,
    voters: &[(VoterId, String)],
) -> Result<Description, TendError> {
    let mut founders = Vec::new();
    for (id, address) in voters {
        let own = waiting(network, address).await?;
        if own.voter.id != *id {
            let is = own.voter.id;
            return Err(TendError(format!("the keeper at {address} is voter {is}, not {id}")));
        }
        founders.push(Peer { address: address.clone(), ..own });
    }
    let Some((_, first)) = voters.first() else {
        return Err(TendError("a quorum has at least one voter".to_owned()));
    };
    let founding = Ask::Found(Membership::of(quorum, founders));
    let told = tool::ask(network, first, &founding).await.map_err(TendError::unreached(first))?;
    told.map_err(|reason| TendError(format!("the keeper at {first} refuses: {reason}")))?;
    let known: Vec<_> = voters.iter().map(|(_, address)| address.clone()).collect();
    await_change(network, &known, "a leader", |_| true).await
}

/// Takes a voter in that waits at `address` with a directory that belongs to no quorum. A voter of
/// the same id, whose disk this one replaces, is let go first.
pub async fn add(
    network: &dyn Network,
    known: &[String],
    (id, address): (VoterId, &str),
) -> Result<Description, TendError> {
    let own = tool::describe(network, address).await.map_err(TendError::unreached(address))?;
    let leader = leader(network, known).await?;
    let is_member = own.membership.quorum == leader.membership.quorum;
    if !own.membership.is_empty() && !is_member {
        return Err(TendError(format!(
            "the keeper at {address} belongs to quorum {} already: it needs a new directory",
            own.membership.quorum
        )));
    }
    let own = own.own;
    if own.voter.id != id {
        let is = own.voter.id;
        return Err(TendError(format!("the keeper at {address} is voter {is}, not {id}")));
    }
    if leader.membership.peer(id).is_some_and(|(peer, _)| peer.voter != own.voter) {
        remove(network, known, id).await?;
    }
    let added = Peer { address: address.to_owned(), ..own };
    change(network, known, &Change::Add(added.clone())).await?;
    let votes = (added, Standing::Voter);
    let what = format!("voter {id} to catch up");
    await_change(network, known, &what, |membership| membership.peers.contains(&votes)).await
}

/// Lets a voter go.
pub async fn remove(
    network: &dyn Network,
    known: &[String],
    id: VoterId,
) -> Result<Description, TendError> {
    change(network, known, &Change::Remove(id)).await?;
    let what = format!("the others to do without voter {id}");
    await_change(network, known, &what, |membership| membership.peer(id).is_none()).await
}

/// The leader of the quorum that the keepers at these addresses belong to.
pub async fn leader(network: &dyn Network, known: &[String]) -> Result<Description, TendError> {
    let mut last = TendError("no keeper's address is known".to_owned());
    for address in known {
        let description = match tool::describe(network, address).await {
            Ok(description) => description,
            Err(error) => {
                last = TendError::unreached(address)(error);
                continue;
            }
        };
        let leader = description.leader.and_then(|id| description.membership.peer(id));
        let Some((leader, _)) = leader else {
            last = TendError(format!("the keeper at {address} knows of no leader"));
            continue;
        };
        if leader.voter == description.own.voter {
            return Ok(description);
        }
        match tool::describe(network, &leader.address).await {
            Ok(description) => return Ok(description),
            Err(error) => last = TendError::unreached(&leader.address)(error),
        }
    }
    Err(last)
}

async fn waiting(network: &dyn Network, address: &str) -> Result<Peer, TendError> {
    let it = tool::describe(network, address).await.map_err(TendError::unreached(address))?;
    if it.membership.is_empty() {
        return Ok(it.own);
    }
    Err(TendError(format!(
        "the keeper at {address} belongs to quorum {} already; nothing was changed",
        it.membership.quorum
    )))
}

async fn change(network: &dyn Network, known: &[String], change: &Change) -> Result<(), TendError> {
    let leader = leader(network, known).await?;
    let at = &leader_address(&leader);
    let told = tool::ask(network, at, &Ask::Change(change.clone())).await;
    let told = told.map_err(TendError::unreached(at))?;
    told.map(drop).map_err(|reason| TendError::refused(at, &reason))
}

/// Where the leader is, as the log has it: what it calls itself need not be reachable from here.
pub(super) fn leader_address(leader: &Description) -> String {
    let own = leader.membership.peer(leader.own.voter.id);
    own.map_or(&leader.own.address, |(peer, _)| &peer.address).clone()
}

/// Waits until a leader has committed a change after which `is_done`.
async fn await_change(
    network: &dyn Network,
    known: &[String],
    what: &str,
    is_done: impl Fn(&Membership) -> bool,
) -> Result<Description, TendError> {
    let end = time::now() + CHANGE_TIME;
    loop {
        // The leader may have been let go, or stopped: the next look finds another one.
        let is_settled =
            |it: &Description| it.membership.is_settled() && it.committed >= it.changed;
        match leader(network, known).await {
            Ok(it) if is_settled(&it) && is_done(&it.membership) => return Ok(it),
            _ if time::now() > end => return Err(late(what)),
            _ => time::sleep(LOOK).await,
        }
    }
}

fn late(what: &str) -> TendError {
    let seconds = CHANGE_TIME.as_secs();
    TendError(format!("{seconds} s were too few for {what}; the quorum goes on trying"))
}
