//! What will go wrong, and when: drawn from the seed before anything runs.
//!
//! A fault brings its own end with it, so that any of them can be left out: what is left is a plan
//! again. That is what makes shrinking simple.

use std::fmt;
use std::time::Duration;

use ottla_fake::{Dice, HostId};

/// Faults begin within this time.
pub(crate) const STORM: Duration = Duration::from_secs(20);

/// Where clients live. Hosts of servers count from 1.
pub(crate) const CLIENTS: HostId = 100;

/// What will happen in one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What everything that is not written here is drawn from.
    pub(crate) seed: u64,
    /// How many servers there are.
    pub(crate) nodes: HostId,
    /// By their time.
    pub(crate) faults: Vec<(Duration, Fault)>,
}

/// Something that goes wrong, until it does no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The process is killed (SIGKILL), and begins anew after `down`.
    Kill { host: HostId, down: Duration },
    /// The disk takes `changes` more, then the process is killed.
    KillAt { host: HostId, changes: u64, down: Duration },
    /// The machine loses power, and with it what the disk was not told to keep.
    PowerCut { host: HostId, down: Duration },
    /// The disk takes `changes` more, then the machine loses power.
    PowerCutAt { host: HostId, changes: u64, down: Duration },
    /// All machines lose power at once.
    Blackout { down: Duration },
    /// The process is told to stop (SIGTERM), and begins anew after `down`.
    Restart { host: HostId, down: Duration },
    /// The process stands still (SIGSTOP).
    Pause { host: HostId, lasting: Duration },
    /// Nothing passes from one host to another.
    Cut { from: HostId, to: HostId, lasting: Duration },
    /// Nothing passes between a host and all others.
    CutOff { host: HostId, lasting: Duration },
    /// All connections of a host are reset.
    Reset { host: HostId },
    /// The wall clock of a machine is set.
    Jump { host: HostId, ms: i64 },
    /// There is no more room on a disk.
    Full { host: HostId, lasting: Duration },
    /// What waits for the disk, or for a thread, waits long.
    Slow { host: HostId, lasting: Duration },
    /// The disk takes `changes` more, and no more until it is healed; then the process begins anew.
    Broken { host: HostId, changes: u64, lasting: Duration },
    /// The next sync loses what it was to write, though readers see it until they look at the disk; the
    /// process begins anew after `down`.
    LoseSync { host: HostId, down: Duration },
    /// A keeper's disk is replaced by an empty one.
    Wipe { host: HostId, down: Duration },
}

impl Fault {
    /// Whether it is still felt that long after its beginning.
    pub(crate) fn lasts(&self) -> Duration {
        match *self {
            Self::Kill { down, .. }
            | Self::KillAt { down, .. }
            | Self::PowerCut { down, .. }
            | Self::PowerCutAt { down, .. }
            | Self::Blackout { down }
            | Self::Restart { down, .. }
            | Self::LoseSync { down, .. }
            | Self::Wipe { down, .. } => down,
            Self::Pause { lasting, .. }
            | Self::Cut { lasting, .. }
            | Self::CutOff { lasting, .. }
            | Self::Full { lasting, .. }
            | Self::Slow { lasting, .. }
            | Self::Broken { lasting, .. } => lasting,
            Self::Reset { .. } | Self::Jump { .. } => Duration::ZERO,
        }
    }
}

impl Plan {
    /// The plan of a seed.
    #[must_use]
    pub fn draw(seed: u64, nodes: HostId) -> Self {
        let mut dice = Dice::new(seed ^ 0x7073_6175_6c74_7300);
        // Some runs are calm, some are a storm of restarts.
        let count = [0, 3, 8, 8, 20, 40][dice.roll(6) as usize];
        let mut faults: Vec<_> = (0..count)
            .map(|_| {
                let at = Duration::from_millis(dice.roll(STORM.as_millis() as u64));
                (at, draw(&mut dice, nodes))
            })
            .collect();
        faults.sort_by_key(|&(at, _)| at);
        Self { seed, nodes, faults }
    }

    /// The plan without some of its faults.
    pub(crate) fn without(&self, gone: std::ops::Range<usize>) -> Self {
        let kept = |&(at, _): &(usize, &(Duration, Fault))| !gone.contains(&at);
        let faults = self.faults.iter().enumerate().filter(kept).map(|(_, &fault)| fault);
        Self { faults: faults.collect(), ..*self }
    }
}

fn draw(dice: &mut Dice, nodes: HostId) -> Fault {
    let mut host = 1 + dice.roll(u64::from(nodes)) as HostId;
    let mut up_to = |ms: u64| Duration::from_millis(1 + dice.roll(ms));
    let (short, long) = (up_to(1_000), up_to(6_000));
    let changes = dice.roll(60);
    match dice.roll(34) {
        0..3 => Fault::Kill { host, down: short },
        3..6 => Fault::KillAt { host, changes, down: short },
        6..9 => Fault::PowerCut { host, down: short },
        9..14 => Fault::PowerCutAt { host, changes, down: short },
        14 => Fault::Blackout { down: short },
        15 | 16 => Fault::Restart { host, down: short },
        17 | 18 => Fault::Pause { host, lasting: long },
        // Pauses that no session outlives.
        19 => Fault::Pause { host, lasting: 5 * long },
        20..23 => {
            let mut any = || match dice.roll(u64::from(nodes) + 1) as HostId {
                0 => CLIENTS,
                host => host,
            };
            Fault::Cut { from: any(), to: any(), lasting: long }
        }
        23 => Fault::CutOff { host, lasting: long },
        24 | 25 => Fault::Reset { host },
        26 => Fault::Jump { host, ms: dice.roll(7_200_000) as i64 - 3_600_000 },
        27 => Fault::Full { host, lasting: long },
        28 | 29 => Fault::Slow { host, lasting: long },
        30 => Fault::Broken { host, changes, lasting: long },
        31 | 32 => Fault::LoseSync { host, down: short },
        _ if nodes >= 3 => {
            // The first one is the broker, and nobody else has what it has.
            host = 2 + dice.roll(u64::from(nodes) - 1) as HostId;
            Fault::Wipe { host, down: short }
        }
        _ => Fault::Kill { host, down: short },
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, fault) in &self.faults {
            writeln!(f, "{:>9.3} s  {fault:?}", at.as_secs_f64())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_has_one_plan_and_others_have_others() {
        for seed in 0..100 {
            assert_eq!(Plan::draw(seed, 3), Plan::draw(seed, 3));
        }
        assert_ne!(Plan::draw(2, 3).faults, Plan::draw(3, 3).faults);
    }

    #[test]
    fn every_kind_of_fault_is_drawn() {
        let plans = (0..200).map(|seed| Plan::draw(seed, 3));
        let mut kinds: Vec<String> = plans
            .flat_map(|plan| plan.faults)
            .map(|(_, fault)| format!("{fault:?}").split(' ').next().unwrap_or_default().to_owned())
            .collect();
        kinds.sort();
        kinds.dedup();
        assert_eq!(kinds.len(), 16, "{kinds:?}");
    }
}
