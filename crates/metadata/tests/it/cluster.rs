//! The picture of the cluster.

use std::collections::BTreeMap;
use std::sync::Arc;

use ottla_metadata::admin::topic_name::{self, InvalidName};
use ottla_metadata::znodes::TopicAssignment;
use ottla_metadata::{Broker, ClusterMetadata, Config, Partition, Topic};
use ottla_record::{BrokerId, LeaderEpoch, PartitionId, Uuid};

use super::registration;

fn topic(name: &str, id: u8) -> Topic {
    let partitions = (0..3).map(|p| (PartitionId(p), vec![BrokerId(1)])).collect();
    let assignment = TopicAssignment {
        topic_id: Some(Uuid([id; 16])),
        partitions,
        ..TopicAssignment::default()
    };
    Topic::new(name, &assignment, vec![None; 3], Config::new()).unwrap()
}

fn names(cluster: &ClusterMetadata) -> Vec<&str> {
    cluster.topics().map(|topic| &*topic.name).collect()
}

#[test]
fn topics_are_found_by_name_and_by_id() {
    let empty = ClusterMetadata::new("c");
    let cluster = empty.with_topic(topic("b", 2)).with_topic(topic("a", 1));
    assert_eq!((cluster.cluster_id(), cluster.topic_count()), ("c", 2));
    assert_eq!(names(&cluster), ["a", "b"]);
    assert_eq!(cluster.topic("a").unwrap().id, Uuid([1; 16]));
    assert_eq!(&*cluster.topic_by_id(Uuid([2; 16])).unwrap().name, "b");
    assert!(cluster.topic("c").is_none() && cluster.topic_by_id(Uuid::ZERO).is_none());
    assert!(cluster.partition("a", PartitionId(2)).is_some());
    for none in [3, -1] {
        assert!(cluster.partition("a", PartitionId(none)).is_none());
    }
    // A topic that was deleted and made again has another id, and the old one finds nothing.
    let again = cluster.with_topic(topic("a", 9));
    assert!(again.topic_by_id(Uuid([1; 16])).is_none());
    assert_eq!(&*again.topic_by_id(Uuid([9; 16])).unwrap().name, "a");
    let without = again.without_topic("a");
    assert_eq!((names(&without), without.topic_by_id(Uuid([9; 16]))), (vec!["b"], None));
    // The earlier pictures are what they were.
    assert_eq!((names(&empty).len(), names(&cluster)), (0, vec!["a", "b"]));
    assert!(cluster.topic_by_id(Uuid([1; 16])).is_some());
}

#[test]
fn a_topic_without_an_id_is_found_by_name_only() {
    let nameless = Topic { id: Uuid::ZERO, ..topic("old", 0) };
    let one = ClusterMetadata::new("c").with_topic(nameless.clone());
    let all = ClusterMetadata::new("c").with_all_topics(vec![nameless, topic("new", 1)]);
    for cluster in [one, all] {
        assert!(cluster.topic("old").is_some());
        assert!(cluster.topic_by_id(Uuid::ZERO).is_none());
    }
}

#[test]
fn a_change_of_one_partition_shares_the_rest() {
    let cluster = ClusterMetadata::new("c").with_topic(topic("a", 1)).with_topic(topic("b", 2));
    let a = cluster.topic("a").unwrap();
    let former = a.partition(PartitionId(1)).unwrap();
    assert_eq!((former.leader(), former.leader_epoch()), (BrokerId::NONE, LeaderEpoch::NONE));
    assert!(former.isr().is_empty());
    let changed = Partition { partition_epoch: 7, ..(**former).clone() };
    let next = cluster.with_topic(a.with_partition(PartitionId(1), changed.clone()).unwrap());
    assert_eq!(**next.partition("a", PartitionId(1)).unwrap(), changed);
    assert!(Arc::ptr_eq(cluster.topic("b").unwrap(), next.topic("b").unwrap()));
    for same in [0, 2].map(PartitionId) {
        let (before, after) = (cluster.partition("a", same), next.partition("a", same));
        assert!(Arc::ptr_eq(before.unwrap(), after.unwrap()));
    }
    assert!(a.with_partition(PartitionId(3), changed).is_none());
}

#[test]
fn partitions_have_no_gaps() {
    let assignment = |ids: &[i32]| TopicAssignment {
        partitions: ids.iter().map(|p| (PartitionId(*p), vec![BrokerId(1)])).collect(),
        ..TopicAssignment::default()
    };
    let make = |ids: &[i32], states| {
        Topic::new("t", &assignment(ids), vec![None; states], BTreeMap::new())
    };
    assert!(make(&[0, 1], 2).is_some());
    for (ids, states) in [(&[0, 2][..], 2), (&[1, 2], 2), (&[-1, 0], 2), (&[0, 1], 1)] {
        assert!(make(ids, states).is_none(), "{ids:?}");
    }
}

#[test]
fn brokers_come_and_go() {
    let broker = |id, epoch| Broker { id: BrokerId(id), epoch, registration: registration() };
    let cluster = ClusterMetadata::new("c")
        .with_broker(broker(2, 10))
        .with_broker(broker(1, 11))
        .with_broker(broker(2, 12))
        .with_controller(Some(BrokerId(2)), 4);
    let ids: Vec<i32> = cluster.brokers().map(|broker| broker.id.0).collect();
    assert_eq!(ids, [1, 2]);
    assert_eq!(cluster.broker(BrokerId(2)).unwrap().epoch, 12);
    assert_eq!((cluster.controller(), cluster.controller_epoch()), (Some(BrokerId(2)), 4));
    assert!(cluster.without_broker(BrokerId(2)).broker(BrokerId(2)).is_none());
}

#[test]
fn names_of_topics_are_kafkas() {
    let longest = "a".repeat(249);
    for good in ["a", "A-Za.z_0", "...", "__consumer_offsets", &longest] {
        assert_eq!(topic_name::validate(good), Ok(()), "{good}");
    }
    let too_long = "a".repeat(250);
    for (bad, why) in [
        ("", InvalidName::Empty),
        (".", InvalidName::Dots),
        ("..", InvalidName::Dots),
        (&*too_long, InvalidName::TooLong),
        ("a b", InvalidName::IllegalCharacter),
        ("a/b", InvalidName::IllegalCharacter),
        ("ö", InvalidName::IllegalCharacter),
        ("a\0", InvalidName::IllegalCharacter),
    ] {
        assert_eq!(topic_name::validate(bad), Err(why), "{bad:?}");
    }
    assert!(topic_name::is_internal("__transaction_state"));
    assert!(!topic_name::is_internal("__other"));
}

#[test]
fn names_that_differ_only_in_dots_and_underscores_collide() {
    let topics = ["a.b", "a_b_c", "ab", "plain", "_x", "a.bcd"];
    let topics = topics.iter().zip(1..).map(|(name, id)| topic(name, id)).collect();
    let cluster = ClusterMetadata::new("c").with_all_topics(topics);
    for (name, other) in [
        ("a_b", Some("a.b")),
        ("a.b", None),
        ("a.b_c", Some("a_b_c")),
        ("a_b.c", Some("a_b_c")),
        (".x", Some("_x")),
        ("a_bc", None),
        ("plain", None),
        ("zz_z", None),
    ] {
        assert_eq!(topic_name::colliding(name, &cluster), other, "{name}");
    }
}
