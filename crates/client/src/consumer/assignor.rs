//! The `range` assignor of consumer groups: per topic, the members that subscribe to it get
//! consecutive partitions, the first ones one more if it does not divide.
//!
//! Owns: that rule. Must not know: how members and partitions were found out.

use std::collections::BTreeMap;

use ottla_record::PartitionId;

/// The name under which members offer this assignor in JoinGroup (`partition.assignment.strategy`).
pub(crate) const RANGE: &str = "range";

/// What a member got: topic → partitions, both ascending.
pub(crate) type Assignment = BTreeMap<String, Vec<PartitionId>>;

/// Assigns every partition of every subscribed topic to exactly one member.
///
/// `members` maps a member id to its topics; `partitions` counts a topic's partitions (topics that
/// do not exist are absent). Members are ordered by id, so that every leader decides the same.
pub(crate) fn assign_range(
    members: &BTreeMap<String, Vec<String>>,
    partitions: &BTreeMap<String, u32>,
) -> BTreeMap<String, Assignment> {
    let mut assignments: BTreeMap<_, _> =
        members.keys().map(|member| (member.clone(), Assignment::new())).collect();
    for (topic, &count) in partitions {
        let subscribers: Vec<_> =
            members.iter().filter(|(_, topics)| topics.contains(topic)).map(|(id, _)| id).collect();
        if subscribers.is_empty() {
            continue;
        }
        let (each, extra) = (count / subscribers.len() as u32, count % subscribers.len() as u32);
        let mut next = 0;
        for (index, member) in subscribers.into_iter().enumerate() {
            let end = next + each + u32::from((index as u32) < extra);
            if next < end {
                let range = (next..end).map(|partition| PartitionId(partition as i32)).collect();
                assignments.entry(member.clone()).or_default().insert(topic.clone(), range);
            }
            next = end;
        }
    }
    assignments
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `members` as "id:topic,topic", `partitions` as "topic:count", the result as
    /// "id=topic:0,1 topic:2".
    fn check(members: &[&str], partitions: &[&str], expected: &[&str]) {
        let members = members.iter().map(|member| {
            let (id, topics) = member.split_once(':').unwrap();
            (id.to_owned(), topics.split(',').map(str::to_owned).collect())
        });
        let partitions = partitions.iter().map(|topic| {
            let (name, count) = topic.split_once(':').unwrap();
            (name.to_owned(), count.parse().unwrap())
        });
        let assigned = assign_range(&members.collect(), &partitions.collect());
        let text: Vec<_> = assigned
            .iter()
            .map(|(member, topics)| {
                let topics = topics.iter().map(|(topic, partitions)| {
                    let list: Vec<_> = partitions.iter().map(ToString::to_string).collect();
                    format!("{topic}:{}", list.join(","))
                });
                format!("{member}={}", topics.collect::<Vec<_>>().join(" "))
            })
            .collect();
        assert_eq!(text, expected);
    }

    #[test]
    fn ranges_are_kafkas() {
        check(&["a:t"], &["t:3"], &["a=t:0,1,2"]);
        check(&["a:t", "b:t"], &["t:3"], &["a=t:0,1", "b=t:2"]);
        check(&["a:t", "b:t", "c:t"], &["t:2"], &["a=t:0", "b=t:1", "c="]);
        // Each topic starts again with the first member: the known unevenness of this assignor.
        check(&["a:t,u", "b:t,u"], &["t:3", "u:3"], &["a=t:0,1 u:0,1", "b=t:2 u:2"]);
        check(&["a:t", "b:u", "c:t,u"], &["t:2", "u:1"], &["a=t:0", "b=u:0", "c=t:1"]);
        check(&["a:missing"], &[], &["a="]);
        check(&["a:t"], &["nobody:4", "t:1"], &["a=t:0"]);
    }
}
