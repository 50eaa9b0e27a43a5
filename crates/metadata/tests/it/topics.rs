//! Topics in the tree.

use std::collections::BTreeMap;

use ottla_fake::Crash;
use ottla_metadata::admin::{self, AddPartitionsError, AdminError, CreateTopicError, NewTopic};
use ottla_metadata::tree::Error;
use ottla_metadata::znodes::{ConfigEntity, PartitionState, partition_state_path};
use ottla_record::{BrokerId, LeaderEpoch, PartitionId, Uuid};

use super::{ME, Node, run};

pub(super) fn new_topic(name: &str, partitions: i32) -> NewTopic {
    NewTopic {
        name: name.to_owned(),
        id: Uuid([9; 16]),
        replicas: (0..partitions).map(|p| (PartitionId(p), vec![ME])).collect(),
        config: BTreeMap::from([("retention.ms".to_owned(), "5".to_owned())]),
    }
}

#[test]
fn a_topic_is_written_as_kafka_writes_it() {
    run(async {
        let node = Node::started().await;
        let controller = node.elected().await;
        let mut new = new_topic("t", 2);
        // The replica on broker 2 is not alive; partition 1 has none that is.
        new.replicas.insert(PartitionId(0), vec![BrokerId(2), ME]);
        new.replicas.insert(PartitionId(1), vec![BrokerId(2)]);
        let topic = controller.create_topic(&new, &[ME]).await.unwrap();

        let id = new.id;
        assert_eq!(
            node.text("/brokers/topics/t"),
            format!(r#"{{"version":3,"topic_id":"{id}","partitions":{{"0":[2,1],"1":[2]}},"#)
                + r#""adding_replicas":{},"removing_replicas":{}}"#
        );
        assert_eq!(node.text("/config/topics/t"), r#"{"version":1,"config":{"retention.ms":"5"}}"#);
        assert_eq!(
            node.text("/brokers/topics/t/partitions/0/state"),
            r#"{"version":1,"leader":1,"leader_epoch":0,"controller_epoch":1,"isr":[1]}"#
        );
        assert_eq!(node.children("/brokers/topics/t/partitions"), ["0"]);

        let [led, leaderless] = &topic.partitions[..] else { panic!("{topic:?}") };
        assert_eq!((led.leader(), led.leader_epoch(), led.isr()), (ME, LeaderEpoch(0), &[ME][..]));
        assert_eq!((led.partition_epoch, leaderless.leader()), (0, BrokerId::NONE));
        assert_eq!((topic.id, &*topic.config), (id, &new.config));
        // What was returned is what is read.
        assert_eq!(admin::load_topic(&*node.tree, "t").await.unwrap(), Some(topic.clone()));

        // The broker comes back: what had no leader gets one.
        let live = [ME, BrokerId(2)];
        let elected = controller.elect_leaders(&topic, &live).await.unwrap().unwrap();
        assert_eq!(elected.partitions[1].leader(), BrokerId(2));
        assert_eq!(elected.partitions[0], topic.partitions[0]);
        assert_eq!(controller.elect_leaders(&elected, &live).await, Ok(None));
    });
}

#[test]
fn a_lost_leader_is_replaced_in_the_next_epoch() {
    run(async {
        let node = Node::started().await;
        let topic = node.elected().await.create_topic(&new_topic("t", 1), &[ME]).await.unwrap();
        // As Kafka leaves it where a log directory fails.
        let path = partition_state_path("t", PartitionId(0));
        let state = topic.partitions[0].state.clone().unwrap();
        let lost = PartitionState { leader: BrokerId::NONE, leader_epoch: LeaderEpoch(1), ..state };
        node.tree.set(&path, lost.encode(), 0).await.unwrap();

        let node = node.restarted().await;
        node.start().await;
        let controller = node.elected().await;
        let lost = admin::load_topic(&*node.tree, "t").await.unwrap().unwrap();
        assert_eq!(controller.elect_leaders(&lost, &[]).await, Ok(None));
        let led = controller.elect_leaders(&lost, &[ME]).await.unwrap().unwrap();
        assert_eq!(
            node.text(&path),
            r#"{"version":1,"leader":1,"leader_epoch":2,"controller_epoch":2,"isr":[1]}"#
        );
        assert_eq!((led.partitions[0].leader(), led.partitions[0].partition_epoch), (ME, 2));
        // The picture that this was decided on is old by now.
        let stale = controller.elect_leaders(&lost, &[ME]).await;
        assert!(matches!(stale, Err(AdminError::Tree(error)) if error.is(Error::BadVersion)));
    });
}

#[test]
fn what_cannot_be_created_is_not() {
    run(async {
        let node = Node::started().await;
        let controller = node.elected().await;
        controller.create_topic(&new_topic("t", 1), &[ME]).await.unwrap();
        let again = NewTopic { config: BTreeMap::new(), ..new_topic("t", 3) };
        let before = node.text("/config/topics/t");
        assert_eq!(controller.create_topic(&again, &[ME]).await, Err(CreateTopicError::Exists));
        assert_eq!(node.text("/config/topics/t"), before);
        assert_eq!(node.children("/brokers/topics/t/partitions"), ["0"]);

        let bad = controller.create_topic(&new_topic("a/b", 1), &[ME]).await;
        assert!(matches!(bad, Err(CreateTopicError::InvalidName(_))), "{bad:?}");
        let mut gap = new_topic("g", 3);
        gap.replicas.remove(&PartitionId(1));
        let mut empty = new_topic("g", 1);
        empty.replicas.insert(PartitionId(0), vec![]);
        for bad in [gap, empty, new_topic("g", 0)] {
            let refused = controller.create_topic(&bad, &[ME]).await;
            assert_eq!(refused, Err(CreateTopicError::InvalidReplicas));
        }
        assert!(!node.exists("/config/topics/g"));
    });
}

#[test]
fn a_config_that_was_left_over_is_replaced() {
    run(async {
        let node = Node::started().await;
        let controller = node.elected().await;
        let left = ConfigEntity::Topic("t".to_owned());
        let set = |config: &mut BTreeMap<_, _>| {
            config.insert("cleanup.policy".to_owned(), "compact".to_owned());
        };
        admin::update_config(&*node.tree, &left, set).await.unwrap();
        let topic = controller.create_topic(&new_topic("t", 1), &[ME]).await.unwrap();
        assert_eq!(admin::load_topic(&*node.tree, "t").await.unwrap(), Some(topic));
        assert_eq!(node.text("/config/topics/t"), r#"{"version":1,"config":{"retention.ms":"5"}}"#);
    });
}

#[test]
fn a_topic_gets_more_partitions() {
    run(async {
        let node = Node::started().await;
        let controller = node.elected().await;
        controller.create_topic(&new_topic("t", 2), &[ME]).await.unwrap();
        let added = |ids: std::ops::Range<i32>| -> BTreeMap<PartitionId, Vec<BrokerId>> {
            ids.map(|p| (PartitionId(p), vec![ME])).collect()
        };
        let topic = controller.add_partitions("t", &added(2..5), &[ME]).await.unwrap();
        assert_eq!(topic.partitions.len(), 5);
        assert!(topic.partitions.iter().all(|partition| partition.leader() == ME));
        assert_eq!(topic.id, new_topic("t", 2).id);
        for wrong in [2..5, 6..7, 5..5] {
            let refused = controller.add_partitions("t", &added(wrong), &[ME]).await;
            assert_eq!(refused, Err(AddPartitionsError::InvalidReplicas));
        }
        let unknown = controller.add_partitions("u", &added(0..1), &[ME]).await;
        assert_eq!(unknown, Err(AddPartitionsError::UnknownTopic));
    });
}

#[test]
fn a_deletion_is_marked_then_completed_across_a_restart() {
    run(async {
        let node = Node::started().await;
        let controller = node.elected().await;
        controller.create_topic(&new_topic("t", 3), &[ME]).await.unwrap();
        controller.create_topic(&new_topic("kept", 1), &[ME]).await.unwrap();
        assert_eq!(controller.mark_for_deletion("none").await, Ok(false));
        for _ in 0..2 {
            assert_eq!(controller.mark_for_deletion("t").await, Ok(true));
        }
        assert_eq!(admin::load_topic(&*node.tree, "t").await, Ok(None));
        let exists = controller.create_topic(&new_topic("t", 1), &[ME]).await;
        assert_eq!(exists, Err(CreateTopicError::Exists));

        let node = node.restarted().await;
        node.start().await;
        let controller = node.elected().await;
        assert_eq!(controller.marked_for_deletion().await.unwrap(), ["t"]);
        let cluster = admin::load(&*node.tree).await.unwrap();
        assert_eq!(cluster.topics().map(|t| &*t.name).collect::<Vec<_>>(), ["kept"]);
        for _ in 0..2 {
            controller.complete_deletion("t").await.unwrap();
        }
        assert!(!node.exists("/brokers/topics/t") && !node.exists("/config/topics/t"));
        assert!(controller.marked_for_deletion().await.unwrap().is_empty());
        controller.create_topic(&new_topic("t", 1), &[ME]).await.unwrap();
        assert!(node.exists("/config/topics/kept"));
    });
}

/// A topic too large for one multi: a crash at each change of the disk leaves nothing of it, or
/// something that the next controller completes.
#[test]
fn a_crash_amid_a_large_creation_is_completed_by_the_next_controller() {
    run(async {
        let partitions = 1200;
        let mut partial = 0;
        for changes in 0.. {
            let node = Node::started().await;
            let controller = node.elected().await;
            node.disk.fail_after(changes);
            let created = controller.create_topic(&new_topic("t", partitions), &[ME]).await;
            let after = Node::on(node.disk.after(Crash::Power { seed: changes })).await;
            after.start().await;
            let controller = after.elected().await;
            let found = admin::load_topic(&*after.tree, "t").await.unwrap();
            if let Some(topic) = found {
                let leaderless = topic.partitions.iter().filter(|p| p.state.is_none()).count();
                partial += usize::from(leaderless > 0);
                let completed = controller.elect_leaders(&topic, &[ME]).await.unwrap();
                let topic = completed.unwrap_or(topic);
                assert!(topic.partitions.iter().all(|p| p.leader() == ME));
                let last = partition_state_path("t", PartitionId(partitions - 1));
                assert!(after.exists(&last));
            } else {
                assert!(created.is_err() && !after.exists("/config/topics/t"));
            }
            if created.is_ok() {
                break;
            }
        }
        assert!(partial > 0);
    });
}
