//! The contract of [`Tree`], on the keeper in this process and over ZooKeeper's protocol.

use std::sync::Arc;

use ottla_keeper::Password;
use ottla_metadata::tree::{SessionState, TreeError};
use ottla_metadata::{BuiltIn, Tree};

use super::contract::{CASES, Open};
use super::ensemble::{Ensemble, simulate};
use super::{Node, run};

#[test]
fn the_built_in_keeper_keeps_the_contract() {
    for (name, case) in CASES {
        eprintln!("{name}");
        run(async {
            let node = Node::new().await;
            let keeper = Arc::clone(&node.keeper);
            let open: Open = Arc::new(move || {
                let keeper = Arc::clone(&keeper);
                Box::pin(async move {
                    let session = BuiltIn::connect(keeper, Password([1; 16]), None).await.unwrap();
                    Arc::new(session) as Arc<dyn Tree>
                })
            });
            case(open).await;
        });
    }
}

#[test]
fn zookeepers_protocol_keeps_the_contract() {
    for (name, case) in CASES {
        eprintln!("{name}");
        simulate(async {
            let ensemble = Arc::new(Ensemble::start(1));
            let open: Open = Arc::new(move || {
                let ensemble = Arc::clone(&ensemble);
                Box::pin(async move { ensemble.session().await as Arc<dyn Tree> })
            });
            case(open).await;
        });
    }
}

#[test]
fn a_disk_that_fails_makes_the_tree_unavailable() {
    run(async {
        let node = Node::new().await;
        let mut state = node.tree.state();
        node.disk.fail_after(0);
        let failed = node.tree.create("/a", None).await;
        assert!(matches!(failed, Err(TreeError::Unavailable { .. })), "{failed:?}");
        assert_eq!(node.tree.exists("/a").await, Ok(None));
        state.wait_for(|state| *state == SessionState::Disconnected).await.unwrap();
    });
}
