//! Where Ottla writes otherwise than Kafka, and why that is right.

use std::collections::BTreeSet;

use super::look::{self, Look};

/// A key that differs.
struct Known {
    path: &'static str,
    key: &'static str,
}

const KNOWN: [Known; 1] = [
    // The ids of the log directories, so that a controller can tell which ones a broker has lost. Kafka
    // tells them to its KRaft controllers, under this name (KIP-858), and ignores what it does not know
    // in a registration: as the controller it takes in a broker that registers so.
    Known { path: "/brokers/ids/1", key: "data.log_dirs.0" },
];

/// What was found that nobody had said.
#[derive(Default)]
pub(super) struct Unexpected {
    /// Which of [`KNOWN`] were seen.
    seen: BTreeSet<usize>,
    count: usize,
}

impl Unexpected {
    /// The differences of two looks after the same step that have no reason.
    pub(super) fn compare(&mut self, kafka: &Look, ottla: &Look) -> Vec<String> {
        let mut unexpected = Vec::new();
        for difference in look::differences(&kafka.tree, &ottla.tree) {
            let is_it =
                |known: &Known| (known.path, known.key) == (difference.path, difference.key);
            match KNOWN.iter().position(is_it) {
                Some(at) => drop(self.seen.insert(at)),
                None => {
                    let [kafka, ottla] = difference.values.map(|value| value.unwrap_or("nothing"));
                    let (path, key) = (difference.path, difference.key);
                    unexpected.push(format!("{path} {key}\n  Kafka: {kafka}\n  Ottla: {ottla}"));
                }
            }
        }
        self.count += unexpected.len();
        unexpected
    }

    /// How many were told.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// What is said to differ and was the same each time.
    pub(super) fn absent(&self) -> Vec<String> {
        let absent = KNOWN.iter().enumerate().filter(|(at, _)| !self.seen.contains(at));
        absent.map(|(_, known)| format!("{} {}", known.path, known.key)).collect()
    }
}
