//! The start of a node, its election, its producer ids.

use ottla_metadata::admin::{
    self, AdminError, Controller, CreateTopicError, Election, NewTopic, RegisterError,
};
use ottla_metadata::tree::Error;
use ottla_metadata::znodes::TOP_LEVEL;
use ottla_record::{BrokerId, Uuid};

use super::topics::new_topic;
use super::{ME, NOW_MS, Node, registration, run, session};

#[test]
fn a_start_makes_what_is_missing_and_keeps_what_is_there() {
    run(async {
        let node = Node::new().await;
        for _ in 0..2 {
            admin::create_top_level_paths(&*node.tree).await.unwrap();
            assert!(TOP_LEVEL.iter().all(|path| node.exists(path)));
        }
        let data = node.keeper.read(|tree| tree.get("/latest_producer_id_block").unwrap().data);
        assert_eq!(data, None);

        let first = Uuid([3; 16]);
        let id = admin::get_or_create_cluster_id(&*node.tree, first).await.unwrap();
        assert_eq!(id, first.to_string());
        let id = admin::get_or_create_cluster_id(&*node.tree, Uuid([4; 16])).await.unwrap();
        assert_eq!(id, first.to_string());
        assert_eq!(node.text("/cluster/id"), format!(r#"{{"version":"1","id":"{first}"}}"#));

        for expected in [1001, 1002] {
            let id = admin::next_broker_id(&*node.tree, 1000).await.unwrap();
            assert_eq!(id, BrokerId(expected));
        }
    });
}

#[test]
fn the_broker_epoch_is_the_czxid_of_the_registration() {
    run(async {
        let node = Node::started().await;
        let czxid = node.keeper.read(|tree| tree.exists("/brokers/ids/1").unwrap().czxid);
        // A retry in the same session finds its own registration.
        let again = admin::register_broker(&*node.tree, ME, &registration()).await;
        assert_eq!(again, Ok(czxid));
        let other = session(&node.keeper).await;
        let refused = admin::register_broker(&*other, ME, &registration()).await;
        assert_eq!(refused, Err(RegisterError::IdInUse(ME)));
        let second = admin::register_broker(&*other, BrokerId(2), &registration()).await.unwrap();
        assert!(second > czxid);
        assert_eq!(node.text("/brokers/ids/1").as_bytes(), registration().encode());
    });
}

#[test]
fn one_broker_is_elected_and_counts_the_epoch_on() {
    run(async {
        let node = Node::started().await;
        let controller = node.elected().await;
        assert_eq!((controller.broker(), controller.epoch()), (ME, 1));
        assert_eq!(node.text("/controller_epoch"), "1");
        assert!(node.text("/controller").starts_with(r#"{"version":2,"brokerid":1,"#));
        // The answer was lost: the same session has still won, in the same epoch.
        assert_eq!(node.elected().await.epoch(), 1);
        let other =
            Controller::elect(session(&node.keeper).await, BrokerId(2), NOW_MS).await.unwrap();
        assert!(matches!(other, Election::Lost(ME)), "{other:?}");
        assert!(other.won().is_none());

        controller.set_up_features().await.unwrap();
        controller.set_up_features().await.unwrap();
        assert_eq!(node.text("/feature"), r#"{"version":2,"status":1,"features":{}}"#);
    });
}

#[test]
fn a_controller_that_was_deposed_writes_nothing() {
    run(async {
        let node = Node::started().await;
        let old = node.elected().await;
        // Its znode goes as if its session had expired on the other side of a partition.
        node.tree.delete("/controller", 0).await.unwrap();
        let tree = session(&node.keeper).await;
        let new = Controller::elect(tree, BrokerId(2), NOW_MS).await.unwrap().won().unwrap();
        assert_eq!(new.epoch(), 2);

        let topic: NewTopic = new_topic("t", 1);
        let refused = old.create_topic(&topic, &[ME]).await;
        assert_eq!(refused, Err(CreateTopicError::Admin(AdminError::ControllerMoved)));
        assert!(!node.exists("/config/topics/t") && !node.exists("/brokers/topics/t"));
        assert_eq!(old.set_up_features().await, Err(AdminError::ControllerMoved));
        new.create_topic(&topic, &[ME]).await.unwrap();
        assert_eq!(old.mark_for_deletion("t").await, Err(AdminError::ControllerMoved));
        assert_eq!(old.complete_deletion("t").await, Err(AdminError::ControllerMoved));
    });
}

#[test]
fn an_expired_session_is_told_and_nothing_is_tried_for_ever() {
    run(async {
        let node = Node::started().await;
        let controller = node.elected().await;
        super::end_sessions(&node.keeper).await;
        let is_expired = |error: &AdminError| matches!(error, AdminError::Tree(error) if error.is(Error::SessionExpired));
        match controller.create_topic(&new_topic("t", 1), &[ME]).await {
            Err(CreateTopicError::Admin(error)) if is_expired(&error) => {}
            other => panic!("{other:?}"),
        }
        assert!(is_expired(&admin::allocate_producer_ids(&*node.tree, ME).await.unwrap_err()));
        let entity = ottla_metadata::znodes::ConfigEntity::Broker(None);
        let update = admin::update_config(&*node.tree, &entity, |_| {}).await;
        assert!(is_expired(&update.unwrap_err()));
    });
}

#[test]
fn no_producer_id_is_in_two_blocks() {
    run(async {
        let node = Node::started().await;
        let block = admin::allocate_producer_ids(&*node.tree, ME).await.unwrap();
        assert_eq!((block.first.0, block.last.0), (0, 999));
        let node = node.restarted().await;
        let block = admin::allocate_producer_ids(&*node.tree, ME).await.unwrap();
        assert_eq!((block.first.0, block.last.0), (1000, 1999));
        assert_eq!(
            node.text("/latest_producer_id_block"),
            r#"{"version":1,"broker":1,"block_start":"1000","block_end":"1999"}"#
        );
        let last = format!(
            r#"{{"version":1,"broker":1,"block_start":"0","block_end":"{}"}}"#,
            i64::MAX - 500
        );
        node.tree.set("/latest_producer_id_block", last.into_bytes(), -1).await.unwrap();
        let none = admin::allocate_producer_ids(&*node.tree, ME).await;
        assert_eq!(none, Err(AdminError::ProducerIdsExhausted));
    });
}

#[test]
fn a_restart_keeps_all_but_the_ephemeral_nodes() {
    run(async {
        let node = Node::new().await;
        let first_epoch = node.start().await;
        let controller = node.elected().await;
        controller.create_topic(&new_topic("t", 2), &[ME]).await.unwrap();
        let before = admin::load(&*node.tree).await.unwrap();
        assert_eq!(before.broker(ME).unwrap().epoch, first_epoch);

        let node = node.restarted().await;
        assert!(!node.exists("/brokers/ids/1") && !node.exists("/controller"));
        let second_epoch = node.start().await;
        assert!(second_epoch > first_epoch);
        assert_eq!(node.elected().await.epoch(), 2);
        let after = admin::load(&*node.tree).await.unwrap();
        assert_eq!(after.cluster_id(), before.cluster_id());
        assert_eq!(after.topic("t"), before.topic("t"));
        assert_eq!((after.controller(), after.controller_epoch()), (Some(ME), 2));
        assert_eq!(after.broker(ME).unwrap().epoch, second_epoch);
    });
}

#[test]
fn calls_can_be_tasks() {
    fn is_send<T: Send>(future: T) -> T {
        future
    }
    run(async {
        let node = Node::started().await;
        let controller = is_send(Controller::elect(node.tree.clone(), ME, NOW_MS)).await.unwrap();
        let controller = controller.won().unwrap();
        is_send(controller.create_topic(&new_topic("t", 1), &[ME])).await.unwrap();
        is_send(admin::load(&*node.tree)).await.unwrap();
    });
}
