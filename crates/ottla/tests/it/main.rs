//! The binary, as a shell starts it.

mod broker;
#[path = "../../../server/tests/it/client.rs"]
mod client;
mod keeper;
mod kill;
mod log;
#[path = "../../../server/tests/it/peer.rs"]
#[expect(dead_code, reason = "the tests of the server need more of it")]
mod peer;
mod start;
