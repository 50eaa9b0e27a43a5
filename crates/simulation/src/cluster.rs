//! The machines of a run: starting, killing and healing them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ottla_fake::{
    Crash, Dice, FakeDisk, FakeNetwork, FakeProcess, FakeRandom, HostId, RunningClock,
};
use ottla_keeper::QuorumId;
use ottla_keeper::shell::{tend, tool};
use ottla_runtime::task::Process;
use ottla_runtime::{Spawner, World, time};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::plan::{CLIENTS, Fault};
use crate::server;
use crate::trace::Trace;

/// How long a job on a thread takes at most, and on a slow machine.
const JOB_MAX: Duration = Duration::from_millis(4);
const JOB_MAX_SLOW: Duration = Duration::from_millis(400);

/// Whoever looks after processes sees after so long that one has ended, and starts it again.
const WATCH: Duration = Duration::from_millis(500);

/// The disk of a healthy machine.
const DISK_BYTES: u64 = 1 << 40;

/// When the first machine starts.
const EPOCH_MS: i64 = 1_700_000_000_000;

/// From where the keepers are looked after.
const OPERATOR: HostId = CLIENTS + 1;

/// How long it is waited until a voter is taken in.
const OPERATOR_PATIENCE: Duration = Duration::from_secs(20);

/// The machines and what is between them.
pub(crate) struct Cluster {
    nodes: HostId,
    network: FakeNetwork,
    trace: Trace,
    dice: Mutex<Dice>,
    machines: Vec<Mutex<Machine>>,
    is_wiping: AtomicBool,
}

struct Machine {
    disk: Arc<FakeDisk>,
    clock: Arc<RunningClock>,
    running: Option<Running>,
    /// So many faults keep it down.
    holds: u32,
    is_full: bool,
}

struct Running {
    process: Arc<FakeProcess>,
    stop: Option<oneshot::Sender<()>>,
    has_ended: Arc<AtomicBool>,
}

impl Cluster {
    pub(crate) fn new(nodes: HostId, seed: u64, network: FakeNetwork, trace: Trace) -> Arc<Self> {
        let machine = |_| {
            let disk = FakeDisk::with_dir(server::root());
            let clock = Arc::new(RunningClock::at(EPOCH_MS));
            Mutex::new(Machine { disk, clock, running: None, holds: 0, is_full: false })
        };
        Arc::new(Self {
            nodes,
            network,
            trace,
            dice: Mutex::new(Dice::new(seed ^ 0x6861_7264_7761_7265)),
            machines: (0..nodes).map(machine).collect(),
            is_wiping: AtomicBool::new(false),
        })
    }

    /// Starts all servers, and the quorum if they are several. Returns the task that restarts what
    /// ends by itself.
    pub(crate) async fn begin(self: &Arc<Self>) -> ottla_runtime::Task<()> {
        (1..=self.nodes).for_each(|host| self.start(host));
        if self.nodes > 1 {
            let quorum = QuorumId([7; 16]);
            let network = self.network.host(OPERATOR);
            let voters = server::voters(self.nodes);
            while let Err(error) = tend::found(&*network, quorum, &voters).await {
                self.trace.note(format_args!("the quorum is not founded: {error}"));
                time::sleep(WATCH).await;
            }
        }
        let cluster = Arc::clone(self);
        Spawner::current().spawn(async move {
            loop {
                time::sleep(WATCH).await;
                (1..=cluster.nodes).for_each(|host| cluster.start(host));
            }
        })
    }

    fn machine(&self, host: HostId) -> &Mutex<Machine> {
        &self.machines[usize::from(host) - 1]
    }

    fn roll(&self) -> u64 {
        self.dice.lock().roll(u64::MAX)
    }

    /// Starts a server that neither runs nor is kept down.
    fn start(&self, host: HostId) {
        let (seed, random) = (self.roll(), self.roll());
        let mut machine = self.machine(host).lock();
        let runs = machine.running.as_ref().is_some_and(|it| !it.has_ended.load(Ordering::Relaxed));
        if runs || machine.holds > 0 {
            return;
        }
        if machine.running.take().is_some() {
            machine.replace_disk(Crash::Process);
        }
        let process = FakeProcess::new(seed, JOB_MAX);
        let world = World {
            clock: machine.clock.clone(),
            disk: machine.disk.clone(),
            network: self.network.host(host),
            random: Arc::new(FakeRandom::new(random)),
        };
        let (stop, stopped) = oneshot::channel();
        let has_ended = Arc::new(AtomicBool::new(false));
        let (ended, trace, nodes) = (has_ended.clone(), self.trace.clone(), self.nodes);
        trace.note(format_args!("host {host} starts"));
        Spawner::of(process.clone()).detach(async move {
            match server::run(world, host, nodes, stopped).await {
                Ok(()) => trace.note(format_args!("host {host} has stopped")),
                Err(error) => trace.note(format_args!("host {host} has ended: {error}")),
            }
            ended.store(true, Ordering::Relaxed);
        });
        machine.running = Some(Running { process, stop: Some(stop), has_ended });
    }

    /// Ends a server's process, and with power its machine's memory.
    fn crash(&self, host: HostId, is_power_cut: bool) {
        let seed = self.roll();
        let mut machine = self.machine(host).lock();
        let how = if is_power_cut { "loses power" } else { "is killed" };
        self.trace.note(format_args!("host {host} {how}"));
        // First what is on the disk, then what the process leaves behind in its last moments.
        machine.replace_disk(if is_power_cut { Crash::Power { seed } } else { Crash::Process });
        if is_power_cut {
            self.network.darken(host);
        }
        if let Some(running) = machine.running.take() {
            running.process.end();
        }
    }

    fn hold(&self, host: HostId) {
        self.machine(host).lock().holds += 1;
    }

    async fn release(&self, host: HostId, after: Duration) {
        time::sleep(after).await;
        self.machine(host).lock().holds -= 1;
        self.network.light(host);
        self.start(host);
    }

    /// Lets a fault happen, to its end.
    pub(crate) async fn suffer(self: Arc<Self>, fault: Fault) {
        self.trace.note(format_args!("{fault:?}"));
        match fault {
            Fault::Kill { host, down } => self.kill(host, None, false, down).await,
            Fault::KillAt { host, changes, down } => {
                self.kill(host, Some(changes), false, down).await;
            }
            Fault::PowerCut { host, down } => self.kill(host, None, true, down).await,
            Fault::PowerCutAt { host, changes, down } => {
                self.kill(host, Some(changes), true, down).await;
            }
            Fault::Blackout { down } => {
                (1..=self.nodes).for_each(|host| {
                    self.hold(host);
                    self.crash(host, true);
                });
                for host in 1..=self.nodes {
                    self.release(host, down / u32::from(self.nodes)).await;
                }
            }
            Fault::Restart { host, down } => self.restart(host, down).await,
            Fault::Pause { host, lasting } => self.pause(host, lasting).await,
            Fault::Cut { from, to, lasting } => {
                self.network.cut(from, to);
                time::sleep(lasting).await;
                self.network.mend(from, to);
            }
            Fault::CutOff { host, lasting } => self.cut_off(host, lasting).await,
            Fault::Reset { host } => self.network.reset(host),
            Fault::Jump { host, ms } => self.machine(host).lock().clock.jump(ms),
            Fault::Full { host, lasting } => self.fill(host, lasting).await,
            Fault::Slow { host, lasting } => self.slow_down(host, lasting).await,
            Fault::Broken { host, changes, lasting } => {
                self.machine(host).lock().disk.fail_after(changes);
                time::sleep(lasting).await;
                // Its owner has found the loose cable.
                self.kill(host, None, false, WATCH).await;
            }
            Fault::LoseSync { host, down } => {
                self.machine(host).lock().disk.lose_next_sync();
                time::sleep(Duration::from_secs(2)).await;
                self.kill(host, None, false, down).await;
            }
            Fault::Wipe { host, down } => self.wipe(host, down).await,
        }
    }

    /// Tells how the keepers are, for whoever looks for what has gone wrong.
    pub(crate) async fn describe(&self) {
        let network = self.network.host(OPERATOR);
        for (id, address) in server::voters(self.nodes) {
            let asked = tool::describe(&*network, &address);
            match time::timeout(Duration::from_secs(5), asked).await {
                Ok(Ok(it)) => self.trace.note(format_args!("keeper {id}: {it:?}")),
                Ok(Err(error)) => self.trace.note(format_args!("keeper {id}: {error}")),
                Err(_) => self.trace.note(format_args!("keeper {id} does not answer")),
            }
        }
    }

    async fn kill(&self, host: HostId, at: Option<u64>, is_power_cut: bool, down: Duration) {
        if let Some(changes) = at {
            let disk = self.machine(host).lock().disk.clone();
            disk.fail_after(changes);
            let deadline = time::now() + Duration::from_secs(3);
            while !disk.is_spent() && time::now() < deadline {
                time::sleep(Duration::from_millis(2)).await;
            }
        }
        self.hold(host);
        self.crash(host, is_power_cut);
        self.release(host, down).await;
    }

    async fn restart(&self, host: HostId, down: Duration) {
        let running = {
            let mut machine = self.machine(host).lock();
            let running = machine.running.as_mut();
            running.and_then(|it| Some((it.stop.take()?, it.has_ended.clone())))
        };
        let Some((stop, has_ended)) = running else { return };
        self.hold(host);
        let _ = stop.send(());
        let deadline = time::now() + Duration::from_secs(10);
        while !has_ended.load(Ordering::Relaxed) && time::now() < deadline {
            time::sleep(Duration::from_millis(10)).await;
        }
        // Who does not stop is killed, as service managers do.
        self.crash(host, false);
        self.release(host, down).await;
    }

    async fn pause(&self, host: HostId, lasting: Duration) {
        let Some(process) = self.process(host) else { return };
        process.stop();
        time::sleep(lasting).await;
        process.go_on();
    }

    async fn slow_down(&self, host: HostId, lasting: Duration) {
        let Some(process) = self.process(host) else { return };
        process.set_job_max(JOB_MAX_SLOW);
        time::sleep(lasting).await;
        process.set_job_max(JOB_MAX);
    }

    fn process(&self, host: HostId) -> Option<Arc<FakeProcess>> {
        self.machine(host).lock().running.as_ref().map(|running| running.process.clone())
    }

    async fn cut_off(&self, host: HostId, lasting: Duration) {
        let others = || (1..=self.nodes).chain([CLIENTS]).filter(move |&other| other != host);
        for other in others() {
            self.network.cut(host, other);
            self.network.cut(other, host);
        }
        time::sleep(lasting).await;
        for other in others() {
            self.network.mend(host, other);
            self.network.mend(other, host);
        }
    }

    async fn fill(&self, host: HostId, lasting: Duration) {
        self.machine(host).lock().set_full(true);
        time::sleep(lasting).await;
        self.machine(host).lock().set_full(false);
    }

    /// Replaces a keeper's disk. The others must let its former self go, and take the new one in.
    async fn wipe(&self, host: HostId, down: Duration) {
        // One damaged disk at a time.
        if self.is_wiping.swap(true, Ordering::Relaxed) {
            return;
        }
        self.hold(host);
        self.crash(host, true);
        self.machine(host).lock().disk = FakeDisk::with_dir(server::root());
        self.release(host, down).await;
        let network = self.network.host(OPERATOR);
        let all = server::voters(self.nodes);
        let (id, address) = &all[usize::from(host) - 1];
        let known: Vec<_> = all.iter().map(|(_, address)| address.clone()).collect();
        loop {
            // A change that was lost with its leader is asked for again.
            let adding = tend::add(&*network, &known, (*id, address));
            match time::timeout(OPERATOR_PATIENCE, adding).await {
                Ok(Ok(_)) => break,
                Ok(Err(error)) => {
                    self.trace.note(format_args!("voter {host} is not taken in: {error}"));
                }
                Err(_) => self.trace.note(format_args!("voter {host} is not taken in in time")),
            }
            time::sleep(WATCH).await;
        }
        self.trace.note(format_args!("voter {host} is taken in"));
        self.is_wiping.store(false, Ordering::Relaxed);
    }
}

impl Machine {
    fn replace_disk(&mut self, crash: Crash) {
        self.disk = self.disk.after(crash);
        self.set_full(self.is_full);
    }

    fn set_full(&mut self, is_full: bool) {
        self.is_full = is_full;
        self.disk.set_capacity(if is_full { 0 } else { DISK_BYTES });
    }
}
