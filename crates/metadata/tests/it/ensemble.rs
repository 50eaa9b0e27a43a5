//! An ensemble in memory: a keeper that serves ZooKeeper's protocol on a network that delays and is
//! cut, in time that jumps to whatever is next.

use std::sync::Arc;
use std::time::Duration;

use ottla_fake::{FakeDisk, FakeNetwork, FakeRandom, RunningClock};
use ottla_keeper::wire::{ServeOptions, serve};
use ottla_keeper::{
    DirectoryId, Keeper, Limits, Membership, Options, Peer, QuorumId, Timing, Voter,
};
use ottla_metadata::{ZooKeeper, ZooKeeperOptions};
use ottla_runtime::net::ListenOptions;
use ottla_runtime::{Clock, Spawner, Task, World};

use super::NOW_MS;

pub(crate) const SERVER: u8 = 1;
/// The host of the sessions that are opened.
pub(crate) const CLIENT: u8 = 2;
pub(crate) const SESSION_TIMEOUT: Duration = Duration::from_secs(12);

pub(crate) struct Ensemble {
    pub(crate) network: FakeNetwork,
    pub(crate) client_disk: Arc<FakeDisk>,
    clock: Arc<dyn Clock>,
    _tasks: [Task<()>; 2],
}

impl Ensemble {
    pub(crate) fn start(seed: u64) -> Self {
        let network = FakeNetwork::new(seed, Duration::from_millis(2));
        let clock: Arc<dyn Clock> = Arc::new(RunningClock::at(NOW_MS));
        let world = World {
            clock: Arc::clone(&clock),
            disk: FakeDisk::with_dir("/data"),
            network: network.host(SERVER),
            random: Arc::new(FakeRandom::new(seed)),
        };
        let voter = Voter { id: 1, directory: DirectoryId([7; 16]) };
        let (limits, timing) = (Limits::default(), Timing::default());
        let dir = "/data/keeper".into();
        let own = Peer { voter, address: String::new() };
        let founding = Some(Membership::of(QuorumId([3; 16]), [own.clone()]));
        let options = Options { dir, own, founding, limits, timing };
        let keeper = Arc::new(Keeper::open(&world, &options).unwrap());
        let listening = ListenOptions { backlog: 8, send_buffer: None, receive_buffer: None };
        let address = world.network.resolve("10.0.0.1", 2181).unwrap();
        let listener = world.network.listen(address, listening).unwrap();
        let spawner = Spawner::current();
        let driver = spawner.spawn(keeper.clone().drive());
        let World { clock: serving_clock, random, .. } = world;
        let options = ServeOptions::default();
        let serving = serve(keeper, serving_clock, random, listener, &spawner, options);
        let client_disk = FakeDisk::with_dir("/client");
        Self { network, client_disk, clock, _tasks: [driver, serving] }
    }

    pub(crate) fn options(&self) -> ZooKeeperOptions {
        let mut options = ZooKeeperOptions::new("10.0.0.1:2181".parse().unwrap());
        options.session_timeout = SESSION_TIMEOUT;
        options
    }

    /// The world of the client that is cut off.
    pub(crate) fn client(&self) -> World {
        self.world_of(CLIENT)
    }

    fn world_of(&self, host: u8) -> World {
        World {
            clock: Arc::clone(&self.clock),
            disk: self.client_disk.clone(),
            network: self.network.host(host),
            random: Arc::new(FakeRandom::new(5)),
        }
    }

    pub(crate) async fn session(&self) -> Arc<ZooKeeper> {
        self.session_as(self.options()).await
    }

    /// A session of another host.
    pub(crate) async fn session_at(&self, host: u8) -> Arc<ZooKeeper> {
        Arc::new(ZooKeeper::connect(&self.world_of(host), self.options()).await.unwrap())
    }

    pub(crate) async fn session_as(&self, options: ZooKeeperOptions) -> Arc<ZooKeeper> {
        Arc::new(ZooKeeper::connect(&self.client(), options).await.unwrap())
    }

    /// Nothing reaches the client any more.
    pub(crate) fn cut_answers(&self) {
        self.network.cut(SERVER, CLIENT);
    }

    /// Nothing reaches the server any more.
    pub(crate) fn cut_requests(&self) {
        self.network.cut(CLIENT, SERVER);
    }
}

/// Runs `test` on a runtime whose time jumps to whatever is next.
pub(crate) fn simulate<T>(test: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_time().start_paused(true).build().unwrap().block_on(test)
}
