//! The machine of groups, as a runner sees it.

use std::error::Error;

use ottla_group::{GroupMachine, Request, Response, Token};

use crate::machine::{Failure, Machine, Now, Output};

impl Machine for GroupMachine {
    type Request<'a> = Request<'a>;
    type Response = Response;

    fn handle(&mut self, now: Now, token: u64, request: Request<'_>) -> Output<Response> {
        output(self.handle(moment(now), Token(token), request))
    }

    fn next_deadline_ms(&self) -> Option<u64> {
        self.next_deadline_ms()
    }

    fn handle_timer(&mut self, now: Now) -> Option<Output<Response>> {
        self.handle_timer(moment(now)).map(output)
    }

    fn replay(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), Box<dyn Error>> {
        Ok(self.replay(key, value)?)
    }

    fn handle_loaded(&mut self, now: Now) -> Output<Response> {
        output(self.handle_loaded(moment(now)))
    }

    fn unload(self) -> Vec<(u64, Response)> {
        self.unload().into_iter().map(|(token, response)| (token.0, response)).collect()
    }

    fn fail(response: &mut Response, failure: Failure) {
        response.fail(match failure {
            Failure::TimedOut => ottla_group::Failure::TimedOut,
            Failure::NotCoordinator => ottla_group::Failure::NotCoordinator,
        });
    }
}

fn moment(now: Now) -> ottla_group::Now {
    let Now { elapsed_ms, wall_ms, batch_bytes_max } = now;
    ottla_group::Now { elapsed_ms, wall_ms, batch_bytes_max }
}

fn output(output: ottla_group::Output) -> Output<Response> {
    Output {
        records: output.records.into_iter().map(|record| (record.key, record.value)).collect(),
        answers: output.answers.into_iter().map(|(token, answer)| (token.0, answer)).collect(),
        reads: output.reads,
        notes: output.notes,
    }
}
