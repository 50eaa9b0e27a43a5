//! Starting and stopping, as a shell sees them.

use ottla_runtime::task::block_on;

use crate::broker::{Broker, Scratch};
use crate::client::{append, batch, create_topic, read_all, values};
use crate::peer::Peer;

#[test]
fn a_directory_has_one_broker() {
    let scratch = Scratch::new("in-use");
    let first = Broker::start(scratch.path());
    let second = Broker::fail_to_start(scratch.path());
    let told = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(4), "{told}");
    let expected = format!("is in use by process {}; stop it first", first.pid());
    assert!(told.contains(&expected), "{told}");

    let done = block_on(async {
        let mut peer = Peer::dial(first.address).await;
        create_topic(&mut peer, "orders", 1, &[]).await;
        append(&mut peer, "orders", 0, batch(&["the first one is not disturbed"])).await;
    });
    done.expect("a runtime");
    let (status, log) = first.stop();
    assert!(status.success(), "{status}\n{log}");
    assert!(log.contains("\"stopped\""), "{log}");

    let again = Broker::start(scratch.path());
    let done = block_on(async {
        let mut peer = Peer::dial(again.address).await;
        let stored = values(&read_all(&mut peer, "orders", 0, 0).await);
        assert_eq!(stored, [(0, b"the first one is not disturbed".to_vec())]);
    });
    done.expect("a runtime");
}
