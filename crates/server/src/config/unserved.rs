//! The keys of Kafka that this broker recognises and does not serve, each with a line that says
//! what happens instead. A key is refused where going on without it would lose, expose or divide
//! what its owner wanted kept; else its user is warned.

use std::fmt::Write;

use ottla_config::{Unserved, Verdict, split_list};

const KEEPER: &str = "metadata is kept by this broker itself, in the built-in keeper";
const ALONE: &str = "this broker is the only one, nothing is replicated";
const PLAIN: &str = "only PLAINTEXT listeners are served so far";
const JVM: &str = "there is no JVM to load a class into";
const TRANSACTIONS: &str = "transactions are not served so far, InitProducerId with a \
    transactional.id is refused";
const QUOTAS: &str = "quotas are not served so far";
const TIERED: &str = "there is no tiered storage";
const CLASSIC: &str = "only the classic group protocol is served so far";

/// Exact names before families: the first line that covers a key counts.
const UNSERVED: &[Unserved] = &[
    // Coordination
    Unserved::judged(
        "zookeeper.clientCnxnSocket",
        unless_netty,
        "there is no JVM to load a class into: zookeeper.ssl.client.enable alone decides",
    ),
    Unserved::judged(
        "zookeeper.metadata.migration.enable",
        unless_true,
        "metadata stays in ZooKeeper: there is no KRaft quorum that it could move to",
    ),
    Unserved::ignored("zookeeper.*", "no such setting of ZooKeeper's Java client is read"),
    Unserved::judged(
        "process.roles",
        both_roles,
        "every Ottla broker is its own controller and cannot join a KRaft quorum; \
         only broker,controller is right",
    ),
    Unserved::judged("controller.quorum.voters", one_voter, ONE_VOTER),
    Unserved::judged("controller.quorum.bootstrap.servers", one_voter, ONE_VOTER),
    Unserved::ignored("controller.quorum.*", KEEPER),
    Unserved::ignored("controller.socket.timeout.ms", KEEPER),
    Unserved::ignored("controller.performance.*", KEEPER),
    Unserved::ignored("control.plane.listener.name", "there is no listener for controllers alone"),
    Unserved::ignored("early.start.listeners", "all listeners are opened at once"),
    Unserved::ignored("metadata.*", KEEPER),
    Unserved::ignored("broker.heartbeat.interval.ms", KEEPER),
    Unserved::ignored("broker.session.timeout.ms", KEEPER),
    Unserved::ignored("initial.broker.registration.timeout.ms", KEEPER),
    Unserved::ignored("server.max.startup.time.ms", "the start is not limited in time"),
    Unserved::ignored("broker.id.generation.enable", "ids are not drawn, the default is 1"),
    Unserved::ignored("reserved.broker.max.id", "ids are not drawn, any id can be given"),
    Unserved::ignored("inter.broker.protocol.version", "there is one version of each file format"),
    // Replication
    Unserved::ignored("replica.selector.class", ALONE),
    Unserved::ignored("replica.*", ALONE),
    Unserved::ignored("num.replica.*", ALONE),
    Unserved::ignored("auto.leader.rebalance.enable", ALONE),
    Unserved::ignored("leader.*", ALONE),
    Unserved::ignored("follower.*", ALONE),
    Unserved::ignored("unclean.leader.election.interval.ms", ALONE),
    Unserved::ignored("controlled.shutdown.*", ALONE),
    Unserved::ignored("eligible.leader.replicas.*", ALONE),
    // Threads, queues and timeouts
    Unserved::ignored(
        "num.io.threads",
        "requests are served by the threads of num.network.threads",
    ),
    Unserved::ignored("background.threads", "each task in the background has its own thread"),
    Unserved::ignored(
        "queued.max.requests",
        "queued.max.request.bytes bounds the requests in work",
    ),
    Unserved::ignored("request.timeout.ms", ALONE),
    Unserved::ignored("max.connection.creation.rate", QUOTAS),
    Unserved::ignored("connection.failed.authentication.delay.ms", PLAIN),
    Unserved::ignored("connections.max.reauth.ms", PLAIN),
    Unserved::ignored("fetch.purgatory.purge.interval.requests", NO_PURGATORY),
    Unserved::ignored("producer.purgatory.purge.interval.requests", NO_PURGATORY),
    Unserved::ignored("delete.records.purgatory.purge.interval.requests", NO_PURGATORY),
    Unserved::ignored("listener.name.*", "the broker's own value is that of every listener"),
    // Logs
    Unserved::ignored("log.cleaner.*", "the log cleaner reads no such setting"),
    Unserved::ignored("log.dir.failure.timeout.ms", "the broker stops when its last log dir fails"),
    Unserved::ignored("log.segment.delete.check.interval.ms", "file.delete.delay.ms alone counts"),
    Unserved::ignored("offsets.commit.required.acks", "a commit waits for all in-sync replicas"),
    Unserved::judged("remote.log.storage.system.enable", unless_true, TIERED),
    Unserved::ignored("remote.*", TIERED),
    // Groups and transactions
    Unserved::ignored("group.coordinator.*", CLASSIC),
    Unserved::ignored("group.consumer.*", CLASSIC),
    Unserved::ignored("group.share.*", CLASSIC),
    Unserved::ignored("group.streams.*", CLASSIC),
    Unserved::ignored("share.coordinator.*", CLASSIC),
    Unserved::ignored("transaction.*", TRANSACTIONS),
    Unserved::ignored("transactional.id.expiration.ms", TRANSACTIONS),
    Unserved::ignored("add.partitions.to.txn.*", TRANSACTIONS),
    // Security
    Unserved::refused(
        "authorizer.class.name",
        "there are no access rules so far: everybody who can connect may do everything; \
         remove the key to accept that",
    ),
    Unserved::ignored("super.users", "there are no access rules so far"),
    Unserved::ignored("allow.everyone.if.no.acl.found", "there are no access rules so far"),
    Unserved::ignored("principal.builder.class", JVM),
    Unserved::ignored("ssl.*", PLAIN),
    Unserved::ignored("sasl.*", PLAIN),
    Unserved::ignored("security.providers", JVM),
    Unserved::ignored("delegation.token.*", PLAIN),
    Unserved::ignored("password.encoder.*", "no secrets are stored"),
    // Policies, quotas, metrics, plug-ins
    Unserved::refused("create.topic.policy.class.name", POLICY),
    Unserved::refused("alter.config.policy.class.name", POLICY),
    Unserved::refused(
        "config.providers",
        "values are taken as they stand, ${provider:key} is not resolved; write the values, \
         or set them in the environment",
    ),
    Unserved::ignored("config.providers.*", "values are taken as they stand"),
    Unserved::ignored("quota.*", QUOTAS),
    Unserved::ignored("replication.quota.*", QUOTAS),
    Unserved::ignored("controller.quota.*", QUOTAS),
    Unserved::ignored("alter.log.dirs.replication.quota.*", QUOTAS),
    Unserved::ignored("client.quota.callback.class", JVM),
    Unserved::ignored("metric.reporters", JVM),
    Unserved::ignored("metrics.*", "metrics have no windows, they are read as they are"),
    Unserved::ignored("kafka.metrics.*", JVM),
    Unserved::ignored("auto.include.jmx.reporter", JVM),
    Unserved::ignored("telemetry.max.bytes", "clients' own metrics are not collected"),
    Unserved::ignored("confluent.*", "it is a key of Confluent Server, not of Kafka"),
];

const ONE_VOTER: &str = "metadata is kept in the built-in keeper, which is no KRaft quorum; its \
    voters are named in keeper.quorum.voters";
const NO_PURGATORY: &str = "a request that waits is woken by what it waits for";
const POLICY: &str = "there is no JVM to load a class into, so the policy would not be enforced";

fn both_roles(roles: &str) -> Verdict {
    let roles = split_list(roles);
    let has = |role: &str| roles.iter().any(|other| other == role);
    match roles.len() {
        0 => Verdict::Fine,
        2 if has("broker") && has("controller") => Verdict::NoEffect,
        _ => Verdict::Refused,
    }
}

fn one_voter(voters: &str) -> Verdict {
    match voters.contains(',') {
        true => Verdict::Refused,
        false => Verdict::NoEffect,
    }
}

/// Kafka has to be told of the one class with which ZooKeeper's client can encrypt.
fn unless_netty(class: &str) -> Verdict {
    match class.trim() {
        "org.apache.zookeeper.ClientCnxnSocketNetty" => Verdict::Fine,
        _ => Verdict::NoEffect,
    }
}

fn unless_true(value: &str) -> Verdict {
    match value.trim().eq_ignore_ascii_case("true") {
        true => Verdict::Refused,
        false => Verdict::Fine,
    }
}

/// The line about a key.
pub(super) fn find(key: &str) -> Option<&'static Unserved> {
    UNSERVED.iter().find(|line| line.covers(key))
}

/// The names of single keys, for the matching of environment variables and of typing errors.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    UNSERVED.iter().map(|line| line.name).filter(|name| !name.ends_with('*'))
}

/// The lines as a Markdown table.
pub(super) fn table() -> String {
    let mut table = String::from("| Key | Instead |\n|---|---|\n");
    for line in UNSERVED {
        // Writing to a String cannot fail.
        let _ = writeln!(table, "| `{}` | {} |", line.name, line.note);
    }
    table
}
