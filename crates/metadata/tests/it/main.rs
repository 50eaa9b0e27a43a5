//! The cluster's metadata over the built-in keeper on a disk in memory.

mod adoption;
mod cluster;
mod configs;
mod contract;
mod copy;
mod ensemble;
mod interruptions;
mod operations;
mod providers;
mod sasl;
mod topics;
mod znodes;

use std::sync::Arc;
use std::time::Duration;

use ottla_fake::{Crash, FakeDisk, FakeNetwork, FakeRandom};
use ottla_keeper::{
    Caller, Command, DirectoryId, Keeper, Limits, Membership, Options, Password, Peer, QuorumId,
    Request, Timing, Voter,
};
use ottla_metadata::admin::{self, Controller, Election};
use ottla_metadata::znodes::{BrokerRegistration, Endpoint, SecurityProtocol};
use ottla_metadata::{BuiltIn, Tree};
use ottla_record::{BrokerId, Uuid};
use ottla_runtime::{Clock, Spawner, Task, World};

const NOW_MS: i64 = 1_700_000_000_000;
const ME: BrokerId = BrokerId(1);

struct FixedClock;

impl Clock for FixedClock {
    fn wall_ms(&self) -> i64 {
        NOW_MS
    }

    fn elapsed(&self) -> Duration {
        Duration::ZERO
    }
}

/// One node: its disk, its keeper and its session.
struct Node {
    disk: Arc<FakeDisk>,
    keeper: Arc<Keeper>,
    tree: Arc<dyn Tree>,
    _driver: Task<()>,
}

impl Node {
    async fn new() -> Self {
        Self::on(FakeDisk::with_dir("/data")).await
    }

    async fn on(disk: Arc<FakeDisk>) -> Self {
        let voter = Voter { id: 1, directory: DirectoryId([7; 16]) };
        let world = World {
            clock: Arc::new(FixedClock),
            disk: disk.clone(),
            network: FakeNetwork::new(0, Duration::ZERO).host(1),
            random: Arc::new(FakeRandom::new(0)),
        };
        let dir = "/data/keeper".into();
        let own = Peer { voter, address: String::new() };
        let founding = Some(Membership::of(QuorumId([3; 16]), [own.clone()]));
        let (limits, timing) = (Limits::default(), Timing::default());
        let options = Options { dir, own, founding, limits, timing };
        let keeper = Arc::new(Keeper::open(&world, &options).unwrap());
        let driver = Spawner::current().spawn(keeper.clone().drive());
        end_sessions(&keeper).await;
        let tree = session(&keeper).await;
        Self { disk, keeper, tree, _driver: driver }
    }

    /// A node whose broker has started.
    async fn started() -> Self {
        let node = Self::new().await;
        node.start().await;
        node
    }

    async fn start(&self) -> i64 {
        admin::create_top_level_paths(&*self.tree).await.unwrap();
        admin::get_or_create_cluster_id(&*self.tree, Uuid([3; 16])).await.unwrap();
        admin::register_broker(&*self.tree, ME, &registration()).await.unwrap()
    }

    async fn elected(&self) -> Controller {
        match Controller::elect(self.tree.clone(), ME, NOW_MS).await.unwrap() {
            Election::Won(controller) => controller,
            Election::Lost(other) => panic!("lost to {other}"),
        }
    }

    /// The node after its process was killed and started again.
    async fn restarted(&self) -> Self {
        Self::on(self.disk.after(Crash::Process)).await
    }

    fn text(&self, path: &str) -> String {
        let data = self.keeper.read(|tree| tree.get(path)).expect(path).data;
        String::from_utf8(data.unwrap_or_default().to_vec()).unwrap()
    }

    fn children(&self, path: &str) -> Vec<String> {
        let names = |tree: &ottla_keeper::Tree| {
            tree.children(path).expect(path).map(str::to_owned).collect()
        };
        self.keeper.read(names)
    }

    fn exists(&self, path: &str) -> bool {
        self.keeper.read(|tree| tree.exists(path)).is_some()
    }
}

/// A new session with a keeper.
async fn session(keeper: &Arc<Keeper>) -> Arc<dyn Tree> {
    Arc::new(BuiltIn::connect(keeper.clone(), Password([1; 16]), None).await.unwrap())
}

fn registration() -> BrokerRegistration {
    BrokerRegistration {
        endpoints: vec![Endpoint {
            listener: "PLAINTEXT".to_owned(),
            security_protocol: SecurityProtocol::Plaintext,
            host: "h".to_owned(),
            port: 9092,
        }],
        rack: None,
        jmx_port: -1,
        timestamp_ms: NOW_MS,
        features: Default::default(),
        log_dirs: Vec::new(),
    }
}

fn run(test: impl Future<Output = ()>) {
    ottla_runtime::task::block_on(test).unwrap();
}

/// Ends all sessions that there are, as if all clients had been silent for too long.
async fn end_sessions(keeper: &Keeper) {
    let sessions: Vec<Caller> = keeper.read(|tree| tree.sessions().collect());
    let end = |caller| Command::new(caller, Request::CloseSession);
    keeper.propose(sessions.into_iter().map(end).collect()).unwrap().await.unwrap();
}
