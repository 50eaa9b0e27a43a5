//! Sessions with the tree that end, and brokers that share an ensemble.
//!
//! The ensemble is the keeper of a node of its own: it speaks ZooKeeper's protocol.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ottla_metadata::tree::{CreateMode, Op, Watch};
use ottla_metadata::{Tree, ZooKeeper, ZooKeeperOptions};
use ottla_protocol::messages::MetadataRequest;
use ottla_runtime::World;
use ottla_runtime::net::ListenOptions;
use ottla_runtime::task::block_on;
use ottla_runtime::time::timeout;
use ottla_server::{ClaimError, Node, StartError};

use crate::broker::{Scratch, address, start, try_start};
use crate::client::{append, batch, create_topic, read_all};
use crate::peer::Peer;

/// How long anything may take before the test fails. Nothing waits for it to pass.
const DEADLINE: Duration = Duration::from_secs(60);

const REGISTRATION: &str = "/brokers/ids/1";
const CONTROLLER: &str = "/controller";

/// A node whose keeper is the ensemble of others, and where that is.
async fn ensemble(dir: &Path) -> (Node, String) {
    let network = World::system().network;
    let options = ListenOptions { backlog: 1, send_buffer: None, receive_buffer: None };
    let free = network.resolve("127.0.0.1", 0).and_then(|any| network.listen(any, options));
    let free = free.and_then(|socket| socket.local_addr()).expect("a free port");
    let node = start(dir, &[&format!("keeper.listener={free}")]).await;
    (node, free.to_string())
}

async fn session(connect: &str, file: Option<&Path>) -> Arc<dyn Tree> {
    let mut options = ZooKeeperOptions::new(connect.parse().expect("a list of servers"));
    options.session_file = file.map(Path::to_owned);
    Arc::new(ZooKeeper::connect(&World::system(), options).await.expect("a session"))
}

/// Ends the session that a node keeps in `file`: to the node it is as if its time had run out.
async fn expire(scratch: &Scratch, connect: &str, file: &Path) {
    let copy = scratch.join("session-to-be-ended");
    fs::copy(file, &copy).expect("the node keeps its session there");
    session(connect, Some(&copy)).await.close().await.expect("closes");
}

/// Waits until the node that was registered with `czxid` is registered again, and the controller.
async fn registered_again(tree: &dyn Tree, czxid: i64) {
    let watched = [REGISTRATION, CONTROLLER].map(|path| Watch::Node(path.to_owned()));
    let mut changes = tree.watch(watched.to_vec()).await.expect("watches");
    loop {
        let nodes = tree.get_all(vec![REGISTRATION.to_owned(), CONTROLLER.to_owned()]).await;
        if let [Some(registration), Some(controller)] = &nodes.expect("answers")[..]
            && registration.stat.czxid > czxid
            && registration.stat.ephemeral_owner == controller.stat.ephemeral_owner
        {
            return;
        }
        changes.next().await.expect("the observer's session goes on");
    }
}

async fn czxid(tree: &dyn Tree) -> i64 {
    let stat = tree.exists(REGISTRATION).await.expect("answers");
    stat.expect("the node is registered").czxid
}

/// Waits until clients are told that broker 1 is the controller.
async fn acts_as_controller(peer: &mut Peer) {
    let request = MetadataRequest { topics: Some(Vec::new()), ..Default::default() };
    while peer.ask(12, &request).await.controller_id != 1 {}
}

/// A session of `node` ends: it serves on, registers again, and is the controller again.
async fn outlives_its_session(scratch: &Scratch, node: &Node, connect: &str, file: &Path) {
    let mut peer = Peer::dial(address(node)).await;
    create_topic(&mut peer, "before", 1, &[]).await;
    append(&mut peer, "before", 0, batch(&["first"])).await;
    let observer = session(connect, None).await;
    for round in 0..2 {
        let before = czxid(&*observer).await;
        expire(scratch, connect.split('/').next().unwrap_or_default(), file).await;
        append(&mut peer, "before", 0, batch(&["served without a session"])).await;
        let again = timeout(DEADLINE, registered_again(&*observer, before)).await;
        again.expect("it registers again");
        timeout(DEADLINE, acts_as_controller(&mut peer)).await.expect("it is the controller again");
        let topic = format!("after-{round}");
        create_topic(&mut peer, &topic, 1, &[]).await;
        append(&mut peer, &topic, 0, batch(&["x"])).await;
    }
    assert!(!read_all(&mut peer, "before", 0, 0).await.is_empty());
}

#[test]
fn a_broker_outlives_its_session_with_its_own_keeper() {
    let done = block_on(async {
        let scratch = Scratch::new("own-session");
        let (node, connect) = ensemble(&scratch.join("1")).await;
        let file = scratch.join("1/__cluster_metadata-1/session");
        outlives_its_session(&scratch, &node, &connect, &file).await;
        node.stop().await.expect("stops");
    });
    done.expect("a runtime");
}

#[test]
fn a_broker_outlives_its_session_with_an_ensemble() {
    let done = block_on(async {
        let scratch = Scratch::new("session");
        let (keeper, connect) = ensemble(&scratch.join("keeper")).await;
        let connect = format!("{connect}/made/when missing");
        let key = format!("zookeeper.connect={connect}");
        let dir = scratch.join("1");
        let node = start(&dir, &[&key]).await;
        let file = dir.join("zookeeper-session");
        outlives_its_session(&scratch, &node, &connect, &file).await;

        // It ends its session when it stops, and finds everything again.
        assert!(!dir.join("__cluster_metadata-1").exists(), "it opened a keeper of its own");
        node.stop().await.expect("stops");
        let observer = session(&connect, None).await;
        assert_eq!(observer.exists(REGISTRATION).await, Ok(None));
        assert!(!file.exists());
        let node = start(&dir, &[&key]).await;
        assert_eq!(node.topic_count(), 3);
        node.stop().await.expect("stops");
        keeper.stop().await.expect("stops");
    });
    done.expect("a runtime");
}

#[test]
fn what_another_session_has_changed_is_seen_by_the_next_controller() {
    let done = block_on(async {
        let scratch = Scratch::new("changed");
        let (node, connect) = ensemble(&scratch.join("1")).await;
        let mut peer = Peer::dial(address(&node)).await;
        create_topic(&mut peer, "goes", 1, &[]).await;
        create_topic(&mut peer, "stays", 1, &[]).await;
        let observer = session(&connect, None).await;
        // Another controller had marked it.
        observer.create("/admin/delete_topics/goes", None).await.expect("creates");
        let before = czxid(&*observer).await;
        let file = scratch.join("1/__cluster_metadata-1/session");
        expire(&scratch, &connect, &file).await;
        timeout(DEADLINE, registered_again(&*observer, before)).await.expect("registers again");
        timeout(DEADLINE, acts_as_controller(&mut peer)).await.expect("it is the controller again");
        assert_eq!(node.topic_count(), 1);
        assert_eq!(observer.exists("/brokers/topics/goes").await, Ok(None));
        assert!(!scratch.join("1/goes-0").exists(), "its log is deleted");
        append(&mut peer, "stays", 0, batch(&["x"])).await;
        node.stop().await.expect("stops");
    });
    done.expect("a runtime");
}

#[test]
fn an_id_that_answers_is_refused_and_so_is_a_second_broker() {
    let done = block_on(async {
        let scratch = Scratch::new("taken");
        let (keeper, connect) = ensemble(&scratch.join("keeper")).await;
        let key = format!("zookeeper.connect={connect}/taken");
        let node = start(&scratch.join("1"), &[&key]).await;
        let refused = try_start(&scratch.join("other"), &[&key]).await.err().expect("refused");
        let at = address(&node).to_string();
        assert!(
            matches!(&refused, StartError::Claim(ClaimError::Answers { address, .. }) if *address == at),
            "{refused}"
        );
        assert!(refused.to_string().contains("registered 0 s ago"), "{refused}");

        let refused = try_start(&scratch.join("2"), &[&key, "broker.id=2"]).await.err();
        let refused = refused.expect("refused").to_string();
        assert!(refused.contains("broker 1 is a member of this cluster"), "{refused}");

        // Neither has done the first one any harm.
        let mut peer = Peer::dial(address(&node)).await;
        create_topic(&mut peer, "on", 1, &[]).await;
        node.stop().await.expect("stops");
        keeper.stop().await.expect("stops");
    });
    done.expect("a runtime");
}

/// Whoever is registered does not answer: a port that nobody listens on, or a broker of another
/// cluster.
#[test]
fn an_id_that_does_not_answer_is_free_when_its_session_ends() {
    let done = block_on(async {
        let scratch = Scratch::new("silent");
        let (keeper, connect) = ensemble(&scratch.join("keeper")).await;
        for (name, endpoint) in
            [("nobody", "127.0.0.1:1".to_owned()), ("stranger", address(&keeper).to_string())]
        {
            let connect = format!("{connect}/{name}");
            let ghost = session(&connect, None).await;
            for path in ["/brokers", "/brokers/ids"] {
                ghost.create(path, None).await.expect("creates");
            }
            ghost.multi(vec![registration(&endpoint)]).await.expect("registers");
            let key = format!("zookeeper.connect={connect}");
            let dir = scratch.join(name);
            let settings = [&*key];
            let starting = try_start(&dir, &settings);
            // Its end comes when the start has set the watch that the end is told by, or before it looks.
            let ending = async {
                let observer = session(&connect, None).await;
                let mut changes = observer
                    .watch(vec![Watch::Node("/cluster/id".to_owned())])
                    .await
                    .expect("watches");
                while observer.exists("/cluster/id").await.expect("answers").is_none() {
                    changes.next().await;
                }
                assert!(observer.exists(REGISTRATION).await.expect("answers").is_some());
                ghost.close().await.expect("closes");
            };
            let (node, ()) = tokio::join!(starting, ending);
            let node = node.expect("starts when the session has ended");
            node.stop().await.expect("stops");
        }
        // One that does not end is named, after twice the timeout of a session.
        let connect = format!("{connect}/nobody");
        let ghost = session(&connect, None).await;
        ghost.multi(vec![registration("127.0.0.1:1")]).await.expect("registers");
        let key = format!("zookeeper.connect={connect}");
        let short = [&*key, "zookeeper.session.timeout.ms=2000"];
        let refused = try_start(&scratch.join("nobody"), &short).await.err().expect("refused");
        assert!(refused.to_string().contains("nobody answers at 127.0.0.1:1"), "{refused}");
        drop(ghost);
        keeper.stop().await.expect("stops");
    });
    done.expect("a runtime");
}

fn registration(endpoint: &str) -> Op {
    let text = format!(
        r#"{{"version":5,"host":"127.0.0.1","port":1,"jmx_port":-1,"timestamp":"1","endpoints":["PLAINTEXT://{endpoint}"],"listener_security_protocol_map":{{"PLAINTEXT":"PLAINTEXT"}},"features":{{}}}}"#
    );
    Op::create_as(REGISTRATION, Some(text.into_bytes()), CreateMode::Ephemeral)
}
