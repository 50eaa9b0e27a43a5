//! Where the keeper answers otherwise than ZooKeeper: why that is right, or what it lacks.

use std::collections::BTreeSet;

use super::DEBIAN;
use crate::install::ZOOKEEPER;

/// Steps that differ for one reason.
struct Difference {
    versions: &'static [&'static str],
    /// A client, and a step of its script.
    steps: &'static [(&'static str, &'static str)],
}

const BOTH: &[&str] = &[ZOOKEEPER, DEBIAN];

const DIFFERENCES: [Difference; 6] = [
    // ZooKeeper ends the connection of a session before it looks at the password of who wants the
    // session: who knows an id, which is no secret, can disturb its owner. The keeper looks first.
    Difference {
        versions: BOTH,
        steps: &[("java-sessions", "password 7 and its session undisturbed")],
    },
    // The keeper takes packets of 4 MiB, as Apache Kafka's client does; ZooKeeper drops who sends more
    // than 1 MiB. More than 4 MiB both refuse in this way.
    Difference { versions: BOTH, steps: &[("java", "size 1 2 MiB")] },
    // Since 3.9 different modes of watches by one session on one node do not take each other away,
    // and a persistent watch can be removed as such.
    Difference {
        versions: &[DEBIAN],
        steps: &[
            ("java", "standing watch 10 persistent tells"),
            ("java", "standing watch 25 persistent tells"),
            ("java", "standing watch 28 persistent tells"),
            ("java", "removed watch 28 told"),
            ("java", "removed watch 33 remove, of Persistent"),
            ("java", "removed watch 34 told"),
            ("java", "removed watch 51 remove, of PersistentRecursive"),
            ("java", "removed watch 52 told"),
        ],
    },
    // `exists` asks for the right to read since 3.8.4.
    Difference { versions: &[DEBIAN], steps: &[("java", "forbidden watch 7 exists")] },
    // Events carry the zxid of their change since 3.9.
    Difference { versions: &[DEBIAN], steps: &[("java", "zxid of watch 1 is the change's")] },
    // Lacking: the keeper keeps limits below `/zookeeper/quota` as it keeps any node, and counts
    // nothing. ZooKeeper counts, and unless `enforceQuota` is set does no more than log.
    Difference {
        versions: BOTH,
        steps: &[
            ("zkcli", "cli 76 listquota /watched"),
            ("zkcli", "cli 79 listquota /watched"),
            ("zkcli", "cli 80 setquota -b 1000 /watched"),
            ("zkcli", "cli 82 listquota /watched"),
            ("zkcli", "cli 84 listquota /watched"),
            ("zkcli", "cli 88 listquota /watched"),
        ],
    },
];

/// The steps of `client` that differ from what ZooKeeper `version` answers.
pub(super) fn expected(client: &str, version: &str) -> BTreeSet<&'static str> {
    let of_version = DIFFERENCES.iter().filter(|difference| difference.versions.contains(&version));
    let steps = of_version.flat_map(|difference| difference.steps);
    steps.filter(|(of, _)| *of == client).map(|(_, step)| *step).collect()
}
