//! A machine with a log in memory and a clock that is moved by hand.

use std::sync::Arc;

use ottla_group::{GroupConfig, GroupMachine, Now, Output, Record, Request, Response, Token};

/// Wall time when elapsed time is 0.
pub(crate) const EPOCH_MS: i64 = 1_000_000;

pub(crate) struct World {
    pub(crate) config: GroupConfig,
    pub(crate) batch_bytes_max: usize,
    pub(crate) now_ms: u64,
    pub(crate) machine: GroupMachine,
    pub(crate) log: Vec<Record>,
    tokens: u64,
    uuids: u128,
}

impl World {
    pub(crate) fn new(config: GroupConfig) -> Self {
        Self {
            machine: GroupMachine::new(Arc::new(config.clone())),
            config,
            batch_bytes_max: 1_048_588,
            now_ms: 0,
            log: Vec::new(),
            tokens: 0,
            uuids: 0,
        }
    }

    fn now(&self) -> Now {
        Now {
            elapsed_ms: self.now_ms,
            wall_ms: EPOCH_MS + self.now_ms as i64,
            batch_bytes_max: self.batch_bytes_max,
        }
    }

    /// The bytes of the next random id.
    pub(crate) fn fresh(&mut self) -> [u8; 16] {
        self.uuids += 1;
        self.uuids.to_be_bytes()
    }

    pub(crate) fn handle(&mut self, request: Request<'_>) -> (Token, Output) {
        self.tokens += 1;
        let token = Token(self.tokens);
        let output = self.machine.handle(self.now(), token, request);
        self.append(&output);
        (token, output)
    }

    /// Fires one timer that is due.
    pub(crate) fn fire(&mut self) -> Option<Output> {
        let output = self.machine.handle_timer(self.now())?;
        self.append(&output);
        Some(output)
    }

    /// Goes on with a machine made from the log, and returns what the old one left unanswered.
    pub(crate) fn reload(&mut self) -> (Vec<(Token, Response)>, Output) {
        let loaded = self.loaded();
        let old = std::mem::replace(&mut self.machine, loaded);
        let output = self.machine.handle_loaded(self.now());
        self.append(&output);
        (old.unload(), output)
    }

    pub(crate) fn loaded(&self) -> GroupMachine {
        let mut machine = GroupMachine::new(Arc::new(self.config.clone()));
        for record in &self.log {
            machine.replay(&record.key, record.value.as_deref()).expect("our own records");
        }
        machine
    }

    fn append(&mut self, output: &Output) {
        for record in &output.records {
            self.machine.replay(&record.key, record.value.as_deref()).expect("our own records");
            self.log.push(record.clone());
        }
    }
}
