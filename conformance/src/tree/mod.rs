//! The tree of znodes in ensembles of Apache ZooKeeper: one server alone, and three.
//!
//! The contract of crate `metadata`, and what only a real ensemble can do: servers that are killed
//! while they are written to, sessions that end, a chroot, access lists.

#[path = "../../../crates/metadata/tests/it/contract.rs"]
mod contract;
mod kills;
mod sessions;
mod speed;

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};

use ottla_metadata::{Tree, ZooKeeper, ZooKeeperOptions};
use ottla_runtime::{World, task};

use crate::Outcome;
use crate::install::{Tools, ZOOKEEPER};
use crate::zookeeper::{Ensemble, SESSION_TIMEOUT};
use contract::{CASES, Open};

/// Returns how many cases failed.
pub(crate) fn run(tools: &Tools) -> Outcome<usize> {
    let mut failures = 0;
    for servers in [1, 3] {
        let ensemble = Ensemble::start(tools, servers)?;
        let all = ensemble.connect_string();
        let ensemble = Arc::new(Mutex::new(ensemble));
        let name = if servers == 1 { "alone" } else { "three" };
        let mut case = |what: &str, outcome: Outcome<String>| match outcome {
            Ok(told) => println!("ok     tree, ZooKeeper {ZOOKEEPER} {name}: {what}{told}"),
            Err(error) => {
                println!("FAILED tree, ZooKeeper {ZOOKEEPER} {name}: {what}: {error}");
                failures += 1;
            }
        };
        for (what, body) in CASES {
            // Each has a tree of its own.
            let chroot = format!("{all}/{}", what.replace(' ', "-"));
            case(what, guarded(|| keep(body(opening(chroot)))));
        }
        case("a chroot", guarded(|| block_on(sessions::chroot(&all))));
        case("access lists", guarded(|| block_on(sessions::access_lists(&all))));
        case("a session that is ended by another one", guarded(|| block_on(sessions::taken(&all))));
        case("a client that vanishes", guarded(|| block_on(sessions::vanished(&all))));
        case("many nodes", guarded(|| block_on(speed::many_nodes(&all))));
        case("kills", guarded(|| kills::run(&ensemble)));
    }
    Ok(failures)
}

/// A case fails by what it returns or by a panic.
fn guarded(case: impl FnOnce() -> Outcome<String>) -> Outcome<String> {
    std::panic::catch_unwind(AssertUnwindSafe(case))
        .unwrap_or_else(|_| Err("panicked, as told above".into()))
}

fn keep(case: impl Future<Output = ()>) -> Outcome<String> {
    task::block_on(case)?;
    Ok(String::new())
}

fn block_on(case: impl Future<Output = Outcome<String>>) -> Outcome<String> {
    task::block_on(case)?
}

/// Opens sessions below a node.
fn opening(connect: String) -> Open {
    Arc::new(move || {
        let connect = connect.clone();
        Box::pin(async move { open(options(&connect)).await.unwrap() })
    })
}

fn options(connect: &str) -> ZooKeeperOptions {
    let mut options = ZooKeeperOptions::new(connect.parse().unwrap());
    options.session_timeout = SESSION_TIMEOUT;
    options
}

async fn open(options: ZooKeeperOptions) -> Outcome<Arc<dyn Tree>> {
    Ok(Arc::new(ZooKeeper::connect(&World::system(), options).await?))
}
