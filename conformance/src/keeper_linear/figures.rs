//! What faults cost those who used the keepers.
//!
//! Owns: silences, and the table of them. Must not know: how a fault is made.

use std::collections::BTreeMap;
use std::time::Duration;

use super::history::{History, Time};
use super::nemesis::{Fault, KINDS};

/// What a fault costs is seen until so long after it.
const AFTER: Duration = Duration::from_millis(200);

/// Of each kind of fault, for each fault that was alone: the longest silence that one client met, and the
/// longest in which nobody was answered.
#[derive(Default)]
pub(super) struct Figures {
    silences: BTreeMap<&'static str, Vec<(Duration, Duration)>>,
    faults: BTreeMap<&'static str, usize>,
}

impl Figures {
    pub(super) fn add(&mut self, faults: &[Fault], history: &History, clients: usize) {
        let mut answers: Vec<Vec<Time>> = vec![Vec::new(); clients];
        for call in &history.calls {
            if let Some(times) = answers.get_mut(call.client) {
                times.extend(call.answered());
            }
        }
        let mut all: Vec<Time> = answers.concat();
        all.sort_unstable();
        for fault in faults {
            *self.faults.entry(fault.name).or_default() += 1;
            if !fault.is_alone {
                continue;
            }
            let window = (fault.begun, fault.over + AFTER);
            let of_one = answers.iter().map(|times| silence(times, window)).max();
            let silences = (of_one.unwrap_or_default(), silence(&all, window));
            self.silences.entry(fault.name).or_default().push(silences);
        }
    }

    pub(super) fn print(&self) {
        println!(
            "\n{:<28} {:>6} {:>6} | {:>7} {:>7} | {:>7} {:>7}",
            "ms without an answer", "", "", "of one", "client", "of all", "clients"
        );
        println!(
            "{:<28} {:>6} {:>6} | {:>7} {:>7} | {:>7} {:>7}",
            "fault", "times", "alone", "median", "worst", "median", "worst"
        );
        for kind in KINDS {
            let Some(times) = self.faults.get(kind.name) else { continue };
            let silences = self.silences.get(kind.name).map(Vec::as_slice).unwrap_or_default();
            let (one, all): (Vec<_>, Vec<_>) = silences.iter().copied().unzip();
            println!(
                "{:<28} {times:>6} {:>6} | {} | {}",
                kind.name,
                silences.len(),
                middle_and_worst(one),
                middle_and_worst(all)
            );
        }
    }
}

fn middle_and_worst(mut silences: Vec<Duration>) -> String {
    silences.sort_unstable();
    match silences.last() {
        Some(worst) => {
            let middle = silences[(silences.len() - 1) / 2];
            format!("{:>7} {:>7}", middle.as_millis(), worst.as_millis())
        }
        None => format!("{:>7} {:>7}", "", ""),
    }
}

/// The longest time between two answers, of those that touch the window. The times are in order.
fn silence(times: &[Time], (from, to): (Time, Time)) -> Duration {
    let first = times.partition_point(|time| *time < from).saturating_sub(1);
    let pairs = times[first..].windows(2).take_while(|pair| pair[0] < to);
    pairs.map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silence_is_the_longest_that_touches_the_window() {
        let times = [0, 100, 110, 400, 410, 1_000].map(Time::from_millis);
        let of = |from, to| {
            silence(&times, (Time::from_millis(from), Time::from_millis(to))).as_millis()
        };
        assert_eq!(of(105, 120), 290, "it began in the window");
        assert_eq!(of(200, 405), 290, "and before it");
        assert_eq!(of(405, 411), 590);
        assert_eq!(of(50, 60), 100);
        assert_eq!(of(1_100, 1_200), 0, "nobody was asked any more");
    }
}
