//! A network of the keepers' and the clients' own, whose ways can be cut one by one.
//!
//! Owns: network namespaces of iproute2, one for each keeper and one for the router that all of them and
//! the clients are connected to. A packet goes through the router, which drops it without a word where
//! it was told to. Must not know: who leads, what is sent.
//!
//! iproute2 keeps names below /run, which nobody else may see: else two runs would meet.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::Outcome;
use crate::namespace::run;

/// Where keepers serve clients, and where they listen for each other.
pub(super) const CLIENTS_PORT: u16 = 2181;
pub(super) const PEERS_PORT: u16 = 2888;
/// The place of all clients; keepers have theirs from 1 on.
pub(super) const CLIENTS: usize = 0;
const ROUTER: &str = "router";
/// Rules of the router's before its own.
const FIRST_RULE: u32 = 100;

/// The network; the router and the links go with the process.
pub(super) struct Network {
    rules: AtomicU32,
}

/// A way that is cut.
pub(super) struct Cut(u32);

impl Network {
    /// Connects clients, which are this process, and so many keepers.
    pub(super) fn new(keepers: usize) -> Outcome<Self> {
        ip("link set lo up")?;
        ip(&format!("netns add {ROUTER}"))?;
        let forward = "echo 1 > /proc/sys/net/ipv4/ip_forward";
        run(inside(ROUTER).args(["sh", "-c", forward]))?;
        for place in CLIENTS..=keepers {
            let here = if place == CLIENTS {
                String::new()
            } else {
                ip(&format!("netns add k{place}"))?;
                ip(&format!("-n k{place} link set lo up"))?;
                format!("-n k{place}")
            };
            ip(&format!("{here} link add wire type veth peer name r{place} netns {ROUTER}"))?;
            ip(&format!("{here} addr add {}/24 dev wire", host(place)))?;
            ip(&format!("{here} link set wire up"))?;
            ip(&format!("-n {ROUTER} addr add 10.77.{place}.1/24 dev r{place}"))?;
            ip(&format!("-n {ROUTER} link set r{place} up"))?;
            ip(&format!("{here} route add default via 10.77.{place}.1"))?;
        }
        Ok(Self { rules: AtomicU32::new(FIRST_RULE) })
    }

    /// Nothing comes from one place to another one any more; what goes the other way does.
    pub(super) fn cut(&self, from: usize, to: usize) -> Outcome<Cut> {
        self.drop_packets(&format!("from {} to {}", host(from), host(to)))
    }

    /// A keeper hears no clients any more; who asks it as a tool is heard.
    pub(super) fn cut_clients(&self, keeper: usize) -> Outcome<Cut> {
        let (from, to) = (host(CLIENTS), host(keeper));
        self.drop_packets(&format!("from {from} to {to} ipproto tcp dport {CLIENTS_PORT}"))
    }

    fn drop_packets(&self, which: &str) -> Outcome<Cut> {
        let rule = self.rules.fetch_add(1, Ordering::Relaxed);
        ip(&format!("-n {ROUTER} rule add pref {rule} {which} blackhole"))?;
        Ok(Cut(rule))
    }

    pub(super) fn heal(&self, cut: &Cut) -> Outcome<()> {
        ip(&format!("-n {ROUTER} rule del pref {}", cut.0))
    }

    /// All that a keeper sends and is sent has so much room. What does not find any waits, up to 300 ms,
    /// and is lost beyond that.
    pub(super) fn slow(&self, keeper: usize, kilobits: u64) -> Outcome<()> {
        let shaped = format!("root tbf rate {kilobits}kbit burst 4kb latency 300ms");
        tc(&format!("-n {ROUTER} qdisc replace dev r{keeper} {shaped}"))?;
        tc(&format!("-n k{keeper} qdisc replace dev wire {shaped}"))
    }

    pub(super) fn hasten(&self, keeper: usize) -> Outcome<()> {
        tc(&format!("-n {ROUTER} qdisc del dev r{keeper} root"))?;
        tc(&format!("-n k{keeper} qdisc del dev wire root"))
    }
}

/// The address of a place.
pub(super) fn host(place: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, place as u8, 2)
}

/// Where a keeper serves clients.
pub(super) fn server(keeper: usize) -> SocketAddr {
    (host(keeper), CLIENTS_PORT).into()
}

/// Where a keeper listens for the others and for tools.
pub(super) fn peer(keeper: usize) -> SocketAddr {
    (host(keeper), PEERS_PORT).into()
}

/// A program at the place of a keeper is to follow.
pub(super) fn at(keeper: usize) -> Command {
    inside(&format!("k{keeper}"))
}

/// `ip netns exec` would give it mounts of its own, which outlive ours.
fn inside(namespace: &str) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/run/netns/{namespace}")).arg("--");
    command
}

fn ip(words: &str) -> Outcome<()> {
    run(Command::new("ip").args(words.split_whitespace()))
}

fn tc(words: &str) -> Outcome<()> {
    run(Command::new("tc").args(words.split_whitespace()))
}
