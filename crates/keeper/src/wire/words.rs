//! Four-letter words: what operators ask a voter without a session.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;
use std::time::Duration;

use parking_lot::Mutex;

use super::Shared;
use crate::machine::{SessionId, Watcher};
use crate::shell::Role;

/// What connections count.
#[derive(Default)]
pub(super) struct Statistics(Mutex<Counts>);

#[derive(Default)]
struct Counts {
    received: u64,
    answered: u64,
    latency_min: Option<Duration>,
    latency_max: Duration,
    latency_sum: Duration,
    connections: BTreeMap<Watcher, (SocketAddr, SessionId)>,
}

impl Statistics {
    pub(super) fn connected(&self, watcher: Watcher, peer: SocketAddr, session: SessionId) {
        self.0.lock().connections.insert(watcher, (peer, session));
    }

    pub(super) fn disconnected(&self, watcher: Watcher) {
        self.0.lock().connections.remove(&watcher);
    }

    pub(super) fn received(&self) {
        self.0.lock().received += 1;
    }

    pub(super) fn answered(&self, latency: Duration) {
        let mut counts = self.0.lock();
        counts.answered += 1;
        counts.latency_sum += latency;
        counts.latency_max = counts.latency_max.max(latency);
        counts.latency_min = Some(counts.latency_min.map_or(latency, |min| min.min(latency)));
    }
}

impl Counts {
    fn latency_avg(&self) -> Duration {
        self.latency_sum / u32::try_from(self.answered.max(1)).unwrap_or(u32::MAX)
    }
}

/// The answer to a word; `None` if it is none.
pub(super) fn answer(shared: &Shared, word: &[u8; 4]) -> Option<String> {
    if !word.iter().all(u8::is_ascii_lowercase) {
        return None;
    }
    if shared.keeper.status().role == Role::Stopped {
        // In ZooKeeper's words, which those who look after it know.
        return Some("This ZooKeeper instance is not currently serving requests\n".to_owned());
    }
    Some(match word {
        b"ruok" => "imok".to_owned(),
        b"srvr" => server(shared),
        b"mntr" => monitor(shared),
        b"cons" => connections(shared),
        b"dump" => sessions(shared),
        // kazoo reads the version there.
        b"envi" => format!("Environment:\nzookeeper.version={}\n", version()),
        _ => format!(
            "{} is not executed because it is not in the whitelist.\n",
            String::from_utf8_lossy(word)
        ),
    })
}

/// In the form of a version of ZooKeeper, which clients parse: that of the protocol.
fn version() -> String {
    format!("3.8.0-ottla-{}", env!("CARGO_PKG_VERSION"))
}

fn mode(shared: &Shared) -> &'static str {
    match shared.keeper.status().role {
        Role::Alone => "standalone",
        Role::Leader => "leader",
        Role::Follower => "follower",
        Role::Searching => "searching",
        Role::Stopped => "stopped",
    }
}

fn server(shared: &Shared) -> String {
    let (nodes, zxid) = shared.keeper.read(|tree| (tree.len(), tree.last_zxid()));
    let counts = shared.statistics.0.lock();
    format!(
        "Zookeeper version: {}\nLatency min/avg/max: {}/{:.1}/{}\nReceived: {}\nSent: {}\n\
         Connections: {}\nOutstanding: {}\nZxid: {zxid:#x}\nMode: {}\nNode count: {nodes}\n",
        version(),
        counts.latency_min.unwrap_or_default().as_millis(),
        counts.latency_avg().as_secs_f64() * 1e3,
        counts.latency_max.as_millis(),
        counts.received,
        counts.answered,
        counts.connections.len(),
        counts.received - counts.answered.min(counts.received),
        mode(shared),
    )
}

fn monitor(shared: &Shared) -> String {
    let tree = shared.keeper.read(|tree| {
        let ephemerals: usize =
            tree.sessions().map(|caller| tree.ephemerals(caller.session).count()).sum();
        [tree.len(), ephemerals, tree.bytes(), tree.sessions().len()]
    });
    let [nodes, ephemerals, bytes, sessions] = tree;
    let (_, watches) = shared.keeper.count_clients();
    let counts = shared.statistics.0.lock();
    let mut out = String::new();
    let mut line = |name: &str, value: &dyn std::fmt::Display| {
        let _ = writeln!(out, "zk_{name}\t{value}");
    };
    line("version", &version());
    line("server_state", &mode(shared));
    line("avg_latency", &format_args!("{:.1}", counts.latency_avg().as_secs_f64() * 1e3));
    line("max_latency", &counts.latency_max.as_millis());
    line("min_latency", &counts.latency_min.unwrap_or_default().as_millis());
    line("packets_received", &counts.received);
    line("packets_sent", &counts.answered);
    line("num_alive_connections", &counts.connections.len());
    line("outstanding_requests", &(counts.received - counts.answered.min(counts.received)));
    line("znode_count", &nodes);
    line("watch_count", &watches);
    line("ephemerals_count", &ephemerals);
    line("global_sessions", &sessions);
    line("approximate_data_size", &bytes);
    out
}

fn connections(shared: &Shared) -> String {
    let counts = shared.statistics.0.lock();
    let mut out = String::new();
    for (peer, session) in counts.connections.values() {
        let _ = writeln!(out, " /{peer}[1](sid={:#x})", session.0);
    }
    out.push('\n');
    out
}

fn sessions(shared: &Shared) -> String {
    shared.keeper.read(|tree| {
        let mut out = format!("SessionTracker dump:\nSessions ({}):\n", tree.sessions().len());
        for caller in tree.sessions() {
            let timeout_ms = tree.timeout_ms(caller.session).unwrap_or(0);
            let _ = writeln!(out, "{:#x}\t{timeout_ms}ms", caller.session.0);
        }
        let owners: Vec<_> = tree
            .sessions()
            .filter(|caller| tree.ephemerals(caller.session).next().is_some())
            .collect();
        let _ =
            writeln!(out, "ephemeral nodes dump:\nSessions with Ephemerals ({}):", owners.len());
        for caller in owners {
            let _ = writeln!(out, "{:#x}:", caller.session.0);
            tree.ephemerals(caller.session).for_each(|path| {
                let _ = writeln!(out, "\t{path}");
            });
        }
        out
    })
}
