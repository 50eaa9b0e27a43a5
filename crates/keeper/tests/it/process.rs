//! Keepers as they are shipped, on a clock, a network and disks of a test, in one thread.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::sync::Arc;

use ottla_fake::{FakeDisk, FakeNetwork, FakeRandom, RunningClock};
use ottla_keeper::{Keeper, Limits, Membership, Options, Peer, Timing};
use ottla_runtime::net::ListenOptions;
use ottla_runtime::{Spawner, Task, World};

use super::DIR;

/// A process with a keeper: when it is dropped, it is killed.
pub(super) struct Process {
    pub(super) keeper: Arc<Keeper>,
    _tasks: Vec<Task<()>>,
}

/// What a process finds in the world.
pub(super) struct Place<'a> {
    pub(super) network: &'a FakeNetwork,
    pub(super) clock: &'a Arc<RunningClock>,
    pub(super) disk: &'a Arc<FakeDisk>,
    pub(super) seed: u64,
}

impl Process {
    /// Starts the keeper `own`, which listens at the address of host `id`, whatever it calls itself. Its
    /// log is short, so that snapshots are written and sent.
    pub(super) fn start(
        id: u8,
        place: &Place<'_>,
        own: Peer,
        founding: Option<Membership>,
    ) -> Self {
        let network = place.network.host(id);
        let world = World {
            clock: place.clock.clone(),
            disk: place.disk.clone(),
            network: network.clone(),
            random: Arc::new(FakeRandom::new(place.seed)),
        };
        let limits = Limits { log_bytes: 4_000, ..Limits::default() };
        let (dir, timing) = (DIR.into(), Timing::default());
        let options = Options { dir, own, founding, limits, timing };
        let keeper = Arc::new(Keeper::open(&world, &options).expect("the directory opens"));
        let listening = ListenOptions { backlog: 8, send_buffer: None, receive_buffer: None };
        let listener = network.listen(address(id), listening).expect("the port is free");
        let spawner = Spawner::current();
        let mut tasks = keeper.connect(network, &spawner, &spawner, listener);
        tasks.push(spawner.spawn(keeper.clone().drive()));
        Self { keeper, _tasks: tasks }
    }
}

/// Where the keeper of a host listens for the others.
pub(super) fn address(id: u8) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, id)), 2888)
}

/// Runs `test` on a runtime whose time jumps to whatever is next.
pub(super) fn simulate<T>(test: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_time().start_paused(true).build().unwrap().block_on(test)
}

/// The seeds that a test runs: `count` of them, or as many as `OTTLA_KEEPER_SEEDS` says, or the one of
/// `OTTLA_KEEPER_SEED`.
pub(super) fn seeds(count: u64) -> Range<u64> {
    let number = |name: &str| std::env::var(name).ok()?.parse().ok();
    match number("OTTLA_KEEPER_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("OTTLA_KEEPER_SEEDS").unwrap_or(count),
    }
}

/// Says how to run a seed again.
pub(super) fn say_again(seed: u64, test: &str) {
    eprintln!("again: OTTLA_KEEPER_SEED={seed} cargo test -p ottla-keeper --test it {test}");
}
