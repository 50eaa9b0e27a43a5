//! Looking after a quorum of keepers.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use ottla_keeper::shell::tend::{self, TendError};
use ottla_keeper::shell::tool::{self, Ask, Description};
use ottla_keeper::shell::{Backup, back_up};
use ottla_keeper::{Peer, QuorumId, Standing, VoterId};
use ottla_runtime::World;
use serde_json::json;

use crate::exit::{Exit, Failure, Outcome};
use crate::terminal::{human_bytes, print_all};

/// Where keepers are.
#[derive(Args, Debug)]
struct Known {
    /// Where keepers of the quorum listen for each other: one that answers is enough
    #[arg(
        long = "keeper",
        value_name = "HOST:PORT",
        env = "OTTLA_KEEPER",
        value_delimiter = ',',
        required = true
    )]
    addresses: Vec<String>,
}

#[derive(Args, Debug)]
pub(super) struct Found {
    /// The voters and where each listens for the others
    #[arg(value_name = "ID@HOST:PORT,…", value_parser = tend::parse_voters)]
    voters: std::vec::Vec<(VoterId, String)>,
}

#[derive(Args, Debug)]
pub(super) struct Status {
    #[command(flatten)]
    known: Known,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
pub(super) struct Add {
    /// The keeper, which waits, and where it listens for the others
    #[arg(value_name = "ID@HOST:PORT", value_parser = tend::parse_voter)]
    voter: (VoterId, String),
    #[command(flatten)]
    known: Known,
}

#[derive(Args, Debug)]
pub(super) struct Remove {
    /// The keeper's number
    id: VoterId,
    #[command(flatten)]
    known: Known,
}

/// Without --to, each of the keepers that are named writes a snapshot into its directory. With it, the
/// leader of their quorum writes one, which is copied, checked, and can be given to "ottla keeper
/// restore". The copy has the passwords of sessions: its owner alone may read it.
#[derive(Args, Debug)]
pub(super) struct Snapshot {
    #[command(flatten)]
    known: Known,
    /// Save the leader's as a backup, in a file of that name
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
}

impl Found {
    pub(super) async fn run(self) -> Outcome {
        let world = World::system();
        let quorum = QuorumId(world.random.bytes16());
        let founded = tend::found(&*world.network, quorum, &self.voters).await;
        report(founded.map_err(failure)?)
    }
}

impl Add {
    pub(super) async fn run(self) -> Outcome {
        let network = World::system().network;
        let (id, address) = self.voter;
        let added = tend::add(&*network, &self.known.addresses, (id, &address)).await;
        report(added.map_err(failure)?)
    }
}

impl Remove {
    pub(super) async fn run(self) -> Outcome {
        let network = World::system().network;
        let removed = tend::remove(&*network, &self.known.addresses, self.id).await;
        report(removed.map_err(failure)?)
    }
}

impl Snapshot {
    pub(super) async fn run(self) -> Outcome {
        let World { network, disk, .. } = World::system();
        if let Some(file) = self.to {
            let saved = back_up(&*network, &disk, &self.known.addresses, &file).await;
            let Backup { bytes, nodes, zxid } = saved.map_err(Failure::failed)?;
            let (file, size) = (file.display(), human_bytes(bytes));
            return print_all(&format!("{file}: {nodes} nodes as of zxid {zxid:#x}, {size}\n"));
        }
        for address in &self.known.addresses {
            let told = tool::ask(&*network, address, &Ask::Snapshot).await;
            let told = told.map_err(|error| unreached(address, &error))?;
            told.map_err(|reason| Failure::failed(format_args!("{address}: {reason}")))?;
        }
        Ok(())
    }
}

impl Status {
    pub(super) async fn run(self) -> Outcome {
        let network = World::system().network;
        let known = &self.known.addresses;
        // The leader knows most; without one, whoever answers.
        let described = match tend::leader(&*network, known).await {
            Ok(leader) => leader,
            Err(_) => {
                let mut first = Err(Failure::usage("--keeper names nobody"));
                for address in known {
                    first = tool::describe(&*network, address)
                        .await
                        .map_err(|error| unreached(address, &error));
                    if first.is_ok() {
                        break;
                    }
                }
                first?
            }
        };
        print_all(&if self.json { to_json(&described) } else { to_text(&described) })
    }
}

fn report(description: Description) -> Outcome {
    print_all(&to_text(&description))
}

fn failure(error: TendError) -> Failure {
    Failure::failed(error)
}

fn unreached(address: &str, error: &std::io::Error) -> Failure {
    Failure::new(Exit::Unreachable, format_args!("no keeper answers at {address}: {error}"))
}

/// How a peer is, in words, as the one who was asked sees it.
fn state(description: &Description, peer: &Peer) -> String {
    let id = peer.voter.id;
    if peer.voter == description.own.voter {
        let leads = description.leader == Some(id);
        return if leads { "leads" } else { "answered" }.to_owned();
    }
    let contact = description.contacts.iter().find(|contact| contact.id == id);
    match contact {
        Some(contact) if contact.is_heard && description.leader == Some(id) => "leads".to_owned(),
        Some(contact) if contact.is_heard => match contact.matched {
            Some(matched) => {
                format!("follows, {} entries behind", description.last.saturating_sub(matched))
            }
            None => "heard of".to_owned(),
        },
        Some(contact) => match &contact.refusal {
            Some(refusal) => format!(
                "refuses: {refusal}; \"ottla keeper add {id}@{}\" takes a new directory in",
                peer.address
            ),
            None => "not heard of".to_owned(),
        },
        None => "not heard of".to_owned(),
    }
}

fn standing(standing: Standing) -> &'static str {
    match standing {
        Standing::Voter => "voter",
        Standing::Joining => "joining",
        Standing::Leaving => "leaving",
        Standing::Learner => "learner",
    }
}

fn to_text(it: &Description) -> String {
    if it.membership.is_empty() {
        let (id, directory) = (it.own.voter.id, it.own.voter.directory);
        return format!("voter {id}, directory {directory:?}, belongs to no quorum yet\n");
    }
    let leader = it.leader.map_or("none".to_owned(), |id| id.to_string());
    let mut out = format!(
        "quorum     {}\nleader     {leader}\nterm       {}\ncommitted  {} of {} entries\nzxid       {:#x}\n",
        it.membership.quorum, it.term, it.committed, it.last, it.zxid,
    );
    for (peer, stands) in &it.membership.peers {
        let (id, address, state) = (peer.voter.id, &peer.address, state(it, peer));
        let address = if address.is_empty() { "no address" } else { address };
        // Writing to a string does not fail.
        let _ = writeln!(out, "{:<10} {id} at {address}: {state}", standing(*stands));
    }
    out
}

fn to_json(it: &Description) -> String {
    let peers = it.membership.peers.iter().map(|(peer, stands)| {
        let contact = it.contacts.iter().find(|contact| contact.id == peer.voter.id);
        let is_own = peer.voter == it.own.voter;
        json!({
            "id": peer.voter.id,
            "directory": format!("{:?}", peer.voter.directory),
            "address": peer.address,
            "standing": standing(*stands),
            "heard": is_own || contact.is_some_and(|contact| contact.is_heard),
            "matched": contact.and_then(|contact| contact.matched),
            "refusal": contact.and_then(|contact| contact.refusal.as_ref()),
        })
    });
    let report = json!({
        "quorum": (!it.membership.is_empty()).then(|| it.membership.quorum.to_string()),
        "id": it.own.voter.id,
        "directory": format!("{:?}", it.own.voter.directory),
        "leader": it.leader,
        "term": it.term,
        "committed": it.committed,
        "last": it.last,
        "zxid": it.zxid,
        "peers": peers.collect::<Vec<_>>(),
    });
    format!("{report}\n")
}
