//! One run: from the first start, through the storm, to the last look at everything.

use std::sync::Arc;
use std::time::Duration;

use ottla_fake::{Dice, FakeNetwork};
use ottla_runtime::{Spawner, Task, time};

use crate::cluster::Cluster;
use crate::plan::{Plan, STORM};
use crate::stage::{Stage, Violation, client_network};
use crate::trace::Trace;
use crate::workload;

/// Servers that start for the first time serve within this time.
const BEGINNING: Duration = Duration::from_secs(30);

/// When nothing goes wrong any more, all is well within this time.
const CALM: Duration = Duration::from_secs(90);

/// How long a message is under way, now and then ten times that.
const DELAY_MAX: Duration = Duration::from_millis(3);

/// What came of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What does not hold.
    pub violations: Vec<Violation>,
    /// What clients were told.
    pub events: u64,
    /// How much time passed in the simulation.
    pub simulated: Duration,
    /// A number that stands for everything that happened.
    pub trace: u64,
}

/// Lets a plan happen. With `is_printed` it is told, line by line.
#[must_use]
pub fn run(plan: &Plan, is_printed: bool) -> Outcome {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    match runtime {
        Ok(runtime) => runtime.block_on(play(plan, is_printed)),
        Err(error) => panic!("no runtime: {error}"),
    }
}

async fn play(plan: &Plan, is_printed: bool) -> Outcome {
    let begun = time::now();
    let trace = Trace::new(is_printed);
    let network = FakeNetwork::new(plan.seed ^ 0x6e65_7477_6f72_6b00, DELAY_MAX);
    network.record();
    let dice = Dice::new(plan.seed ^ 0x636c_6965_6e74_7300);
    let stage = Stage::new(client_network(&network), trace.clone(), dice);
    let cluster = Cluster::new(plan.nodes, plan.seed, network.clone(), trace.clone());
    storm(plan, &cluster, &stage).await;
    let (violations, events) = stage.findings();
    for sent in network.take_recording() {
        trace.digest(sent.hash);
    }
    Outcome { violations, events, simulated: begun.elapsed(), trace: trace.hash() }
}

/// All of it, unless something takes too long.
async fn storm(plan: &Plan, cluster: &Arc<Cluster>, stage: &Arc<Stage>) {
    let begun = time::now();
    let late = || stage.complain("servers start", format!("they do not serve after {BEGINNING:?}"));
    let Ok(_watch) = time::timeout(BEGINNING, cluster.begin()).await else { return late() };
    let left = BEGINNING.saturating_sub(begun.elapsed());
    if time::timeout(left, workload::prepare(stage)).await.is_err() {
        return late();
    }
    let clients = workload::start(stage);
    let faults = plan.faults.iter().map(|&(at, fault)| {
        let cluster = Arc::clone(cluster);
        Spawner::current().spawn(async move {
            time::sleep(at).await;
            cluster.suffer(fault).await;
        })
    });
    let faults: Vec<_> = faults.collect();
    time::sleep(STORM).await;
    let calm_at = plan.faults.iter().map(|(at, fault)| *at + fault.lasts()).max();
    time::sleep(calm_at.unwrap_or_default().saturating_sub(STORM)).await;
    stage.note(format_args!("the storm is over"));
    stage.calm_down();
    let deadline = time::now() + CALM;
    for fault in faults {
        if time::timeout(deadline - time::now(), fault).await.is_err() {
            stage.complain("all becomes well", format!("a fault is not over after {CALM:?}"));
            cluster.describe().await;
            return;
        }
    }
    if let Err(who) = finish(clients, deadline).await {
        stage.complain("all becomes well", format!("{who} is not done after {CALM:?}"));
        return;
    }
    for place in workload::places() {
        let reading = workload::read_whole(stage, place);
        if time::timeout(deadline - time::now(), reading).await.is_err() {
            stage.complain("all becomes well", format!("{place} is not readable after {CALM:?}"));
        }
    }
}

async fn finish(
    clients: Vec<(&'static str, Task<()>)>,
    deadline: time::Instant,
) -> Result<(), &'static str> {
    for (who, client) in clients {
        let left = deadline - time::now();
        time::timeout(left, client).await.map_err(|_| who)?;
    }
    Ok(())
}
