use std::time::Duration;

use ottla_security::StoreType;
use ottla_tls::Protocol;

use super::*;

fn load(text: &str) -> Result<(BrokerConfig, Vec<Warning>), Vec<ConfigError>> {
    BrokerConfig::load(Sources::new().properties("server.properties", text))
}

fn good(text: &str) -> BrokerConfig {
    load(text).unwrap().0
}

fn warnings(text: &str) -> String {
    lines(load(text).unwrap().1)
}

fn errors(text: &str) -> String {
    lines(load(text).map(|_| ()).unwrap_err())
}

fn lines<T: ToString>(items: Vec<T>) -> String {
    items.iter().map(|item| item.to_string() + "\n").collect()
}

#[test]
fn an_empty_configuration_is_a_broker_on_localhost() {
    let (config, warnings) = BrokerConfig::load(Sources::new()).unwrap();
    assert_eq!(warnings, []);
    assert_eq!(config.id, BrokerId(1));
    let address = Address { host: "localhost".into(), port: 9092 };
    let plaintext = Listener {
        name: "PLAINTEXT".into(),
        protocol: SecurityProtocol::Plaintext,
        bind: address,
        advertised: None,
    };
    assert_eq!(config.listeners.all, [plaintext]);
    assert_eq!(config.log_dirs, [PathBuf::from("./ottla-data")]);
    assert_eq!(config.topics.num_partitions, 1);
    assert_eq!(config.log_defaults.config().segment_bytes, 1 << 30);
}

/// The settings of `config/server.properties` of Kafka 3.9.
#[test]
fn the_stock_file_of_kafka_with_zookeeper_loads() {
    let text = "\
zookeeper.connect=localhost:2181
broker.id=0
num.network.threads=3
num.io.threads=8
socket.send.buffer.bytes=102400
socket.receive.buffer.bytes=102400
socket.request.max.bytes=104857600
log.dirs=/tmp/kafka-logs
num.partitions=1
num.recovery.threads.per.data.dir=1
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
#log.retention.bytes=1073741824
log.retention.hours=168
log.retention.check.interval.ms=300000
zookeeper.connection.timeout.ms=18000
group.initial.rebalance.delay.ms=0
";
    assert_eq!(
        warnings(text),
        "\
num.io.threads has no effect: requests are served by the threads of num.network.threads (server.properties:4)
transaction.state.log.min.isr has no effect: transactions are not served so far, InitProducerId with a transactional.id is refused (server.properties:13)
transaction.state.log.replication.factor has no effect: transactions are not served so far, InitProducerId with a transactional.id is refused (server.properties:12)
"
    );
    let config = good(text);
    assert_eq!((config.id, config.network.num_network_threads), (BrokerId(0), Some(3)));
    assert_eq!(config.log_defaults.config().retention_ms, 604_800_000);
    let zookeeper = zookeeper(&config);
    assert_eq!(zookeeper.connect.servers, [("localhost".to_owned(), 2181)]);
    assert_eq!(zookeeper.session_timeout, zookeeper.connection_timeout);
}

/// The settings of `config/server.properties` of Kafka 4.
#[test]
fn the_stock_file_of_kafka_with_kraft_loads() {
    let text = "\
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=localhost:9093
listeners=PLAINTEXT://:9092,CONTROLLER://:9093
inter.broker.listener.name=PLAINTEXT
advertised.listeners=PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL
num.network.threads=3
num.io.threads=8
socket.send.buffer.bytes=102400
socket.receive.buffer.bytes=102400
socket.request.max.bytes=104857600
log.dirs=/tmp/kraft-combined-logs
num.partitions=1
num.recovery.threads.per.data.dir=1
offsets.topic.replication.factor=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
log.retention.hours=168
log.segment.bytes=1073741824
log.retention.check.interval.ms=300000
";
    let (config, warnings) = load(text).unwrap();
    let shown: Vec<_> = config
        .listeners
        .all
        .iter()
        .map(|l| format!("{} {} {}", l.name, l.bind, l.advertised.as_ref().unwrap()))
        .collect();
    assert_eq!(shown, ["PLAINTEXT :9092 localhost:9092"]);
    let warned: Vec<_> = warnings
        .iter()
        .map(|warning| match warning {
            Warning::NoEffect { key, .. } => key.as_str(),
            other => panic!("{other}"),
        })
        .collect();
    assert_eq!(
        warned,
        [
            "controller.quorum.bootstrap.servers",
            "num.io.threads",
            "process.roles",
            "share.coordinator.state.topic.min.isr",
            "share.coordinator.state.topic.replication.factor",
            "transaction.state.log.min.isr",
            "transaction.state.log.replication.factor",
        ]
    );
}

fn keeper(config: &BrokerConfig) -> &KeeperConfig {
    match &config.coordination {
        CoordinationConfig::Keeper(keeper) => keeper,
        CoordinationConfig::ZooKeeper(_) => panic!("no keeper"),
    }
}

fn zookeeper(config: &BrokerConfig) -> &ZooKeeperConfig {
    match &config.coordination {
        CoordinationConfig::Keeper(_) => panic!("no ZooKeeper"),
        CoordinationConfig::ZooKeeper(zookeeper) => zookeeper,
    }
}

#[test]
fn an_ensemble_has_its_keys_and_excludes_the_keeper() {
    let config = good("zookeeper.connect=a:1,b/kafka");
    let defaults = zookeeper(&config);
    assert_eq!(defaults.connect.chroot, "/kafka");
    assert_eq!(defaults.session_timeout, Duration::from_secs(18));
    assert_eq!(defaults.connection_timeout, Duration::from_secs(18));
    assert_eq!((defaults.in_flight_max, defaults.set_acl), (10, false));
    let text = "zookeeper.connect=a\nzookeeper.session.timeout.ms=6000\n\
                zookeeper.connection.timeout.ms=70\nzookeeper.max.in.flight.requests=3\n\
                zookeeper.set.acl=true\nzookeeper.digest.login=kafka:se:cret";
    assert_eq!(warnings(text), "");
    let config = good(text);
    let set = zookeeper(&config);
    assert_eq!(set.session_timeout, Duration::from_secs(6));
    assert_eq!(set.connection_timeout, Duration::from_millis(70));
    assert_eq!((set.in_flight_max, set.set_acl), (3, true));
    assert_eq!(set.digest_login.as_deref(), Some(&b"kafka:se:cret"[..]));
    assert_eq!(set.sasl_login, None);
    let config = good(
        "zookeeper.connect=a\nzookeeper.set.acl=true\nzookeeper.sasl.jaas.config=\
         org.apache.zookeeper.server.auth.DigestLoginModule required username=\"kafka\" \\\n  \
         password=\"se\\\\\"cret\";",
    );
    let login = zookeeper(&config).sasl_login.as_ref().unwrap();
    assert_eq!((&*login.username, &*login.password), ("kafka", "se\"cret"));
    assert!(!format!("{:?}", zookeeper(&config)).contains("cret"));
    for (text, reason) in [
        ("zookeeper.connect=a:x", "`a:x` is no server"),
        (
            "zookeeper.connect=a\nzookeeper.set.acl=true",
            "set zookeeper.sasl.jaas.config or zookeeper.digest.login too",
        ),
        ("zookeeper.connect=a\nzookeeper.sasl.jaas.config=secret", "`required` has to follow"),
        ("zookeeper.connect=a\nzookeeper.digest.login=secret", "not of the form user:password"),
        ("zookeeper.connect=a\nzookeeper.max.in.flight.requests=0", "at least 1"),
        (
            "zookeeper.connect=a\nkeeper.listener=127.0.0.1:2181",
            "zookeeper.connect (server.properties:1) and keeper.listener (server.properties:2) are \
             both set",
        ),
    ] {
        let told = errors(text);
        assert!(told.contains(reason), "{text}: {told}");
        assert!(!told.contains("secret"), "{told}");
    }
    assert_eq!(
        warnings("zookeeper.session.timeout.ms=6000"),
        "zookeeper.session.timeout.ms has no effect: without zookeeper.connect, metadata is kept in \
         the built-in keeper (server.properties:1)\n"
    );
}

/// What Kafka's own documents set, and no more.
const ENCRYPTED: &str = "zookeeper.connect=a\nzookeeper.ssl.client.enable=true\n\
    zookeeper.clientCnxnSocket=org.apache.zookeeper.ClientCnxnSocketNetty\n\
    zookeeper.ssl.truststore.location=/t.jks\nzookeeper.ssl.truststore.password=secret\n";

#[test]
fn connections_with_an_ensemble_are_encrypted() {
    assert!(zookeeper(&good("zookeeper.connect=a")).tls.is_none());
    assert_eq!(warnings(ENCRYPTED), "");
    let config = good(ENCRYPTED);
    let tls = zookeeper(&config).tls.as_ref().unwrap();
    assert_eq!((tls.trust_store.location.to_str(), tls.trust_store.kind), (Some("/t.jks"), None));
    assert!(tls.key_store.is_none() && tls.cipher_suites.is_none() && tls.checks_host);
    assert_eq!(tls.protocols, [Protocol::Tls12]);
    assert!(!format!("{config:?}").contains("secret"));
    let text = format!(
        "{ENCRYPTED}zookeeper.ssl.keystore.location=/k.pem\nzookeeper.ssl.keystore.type=PEM\n\
         zookeeper.ssl.truststore.type=jks\nzookeeper.ssl.enabled.protocols=TLSv1.3,TLSv1.2,TLSv1.1\n\
         zookeeper.ssl.cipher.suites=TLS_AES_128_GCM_SHA256\nzookeeper.ssl.protocol=TLSv1.3\n\
         zookeeper.ssl.endpoint.identification.algorithm=\nzookeeper.set.acl=true\n\
         zookeeper.ssl.ocsp.enable=false"
    );
    assert_eq!(warnings(&text), "");
    let config = good(&text);
    let tls = zookeeper(&config).tls.as_ref().unwrap();
    let key_store = tls.key_store.as_ref().unwrap();
    assert_eq!(
        (key_store.kind, tls.trust_store.kind),
        (Some(StoreType::Pem), Some(StoreType::Java))
    );
    assert!(key_store.password.is_none() && !tls.checks_host);
    assert_eq!(tls.protocols, [Protocol::Tls13, Protocol::Tls12]);
    assert_eq!(tls.cipher_suites.as_deref(), Some(&["TLS_AES_128_GCM_SHA256".to_owned()][..]));
}

#[test]
fn what_encryption_cannot_do_is_refused() {
    for (more, reason) in [
        ("zookeeper.ssl.truststore.location=", "set zookeeper.ssl.truststore.location too"),
        ("zookeeper.ssl.crl.enable=true", "was revoked is not looked up"),
        ("zookeeper.ssl.ocsp.enable=true", "was revoked is not looked up"),
        ("zookeeper.ssl.truststore.type=BCFKS", "one of JKS, PKCS12, PEM"),
        ("zookeeper.ssl.protocol=TLSv1.1", "Must be TLSv1.2 or TLSv1.3"),
        ("zookeeper.ssl.enabled.protocols=TLSv1.2,TLS", "Must be TLSv1.2 or TLSv1.3"),
        ("zookeeper.ssl.endpoint.identification.algorithm=HTTP", "Must be HTTPS, or nothing"),
        (
            "zookeeper.set.acl=true",
            "or zookeeper.ssl.client.enable and zookeeper.ssl.keystore.location",
        ),
    ] {
        let told = errors(&format!("{ENCRYPTED}{more}"));
        assert!(told.contains(reason), "{more}: {told}");
        // Where nothing is to be encrypted, only what would be of use elsewhere counts.
        if !more.contains("acl") {
            assert_eq!(warnings(&format!("zookeeper.connect=a\n{more}")), "", "{more}");
        }
    }
    let other = "zookeeper.connect=a\nzookeeper.clientCnxnSocket=a.B";
    assert!(warnings(other).contains("zookeeper.ssl.client.enable alone decides"));
}

#[test]
fn the_keeper_is_alone_unless_a_quorum_is_named_that_has_this_broker() {
    let alone = good("");
    assert_eq!(keeper(&alone).listener.to_string(), "127.0.0.1:0");
    assert_eq!(keeper(&alone).own_address(alone.id), None);
    let text = "broker.id=2\nkeeper.listener=[::1]:2181\nkeeper.quorum.voters=1@a:3881, 2@b:3882";
    assert_eq!(warnings(text), "");
    let one_of_two = good(text);
    assert_eq!(keeper(&one_of_two).listener.to_string(), "[::1]:2181");
    assert_eq!(keeper(&one_of_two).own_address(one_of_two.id).unwrap().to_string(), "b:3882");
    for (text, reason) in [
        ("keeper.quorum.voters=2@b:3882", "it does not name this broker, 1"),
        ("keeper.quorum.voters=1@a:3881,1@b:3882", "twice"),
        ("keeper.quorum.voters=a:3881", "is not of the form ID@HOST:PORT"),
        ("keeper.listener=2181", "it is not of the form host:port"),
    ] {
        let told = errors(text);
        assert!(told.contains(reason), "{text}: {told}");
    }
}

#[test]
fn what_would_divide_a_cluster_or_drop_protection_is_refused() {
    for text in [
        "process.roles=broker",
        "process.roles=controller",
        "controller.quorum.voters=1@a:9093,2@b:9093,3@c:9093",
        "zookeeper.metadata.migration.enable=true",
        "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "remote.log.storage.system.enable=true",
        "config.providers=file",
        "create.topic.policy.class.name=a.B",
        "listeners=SSL://:9093",
    ] {
        assert!(load(text).is_err(), "{text}");
    }
    for text in ["authorizer.class.name=", "remote.log.storage.system.enable=false"] {
        assert_eq!(warnings(text), "", "{text}");
    }
}

#[test]
fn all_errors_come_at_once_and_say_where() {
    let text = "\
num.partitions=zero
log.retention.hours=0
broker.id=1
node.id=2
queued.max.request.bytes=1
group.min.session.timeout.ms=9
group.max.session.timeout.ms=8
max.connections.per.ip=0
log.dirs = , ,
offsets.topic.compression.codec=9
listeners=PLAINTEXT:9092
max.message.bytes=\\u00
";
    assert_eq!(
        errors(text),
        "\
Malformed \\uXXXX encoding (server.properties:12)
broker.id is 1 (server.properties:3) and node.id is 2 (server.properties:4): they must be equal, or one unset
Invalid value zero for configuration num.partitions: Not a number of type INT (server.properties:1)
Invalid value 9 for configuration offsets.topic.compression.codec: Value must be at least 0 and no more than 4 (server.properties:10)
Invalid value 0 for configuration log.retention.hours: Value must be -1 (unlimited) or at least 1 (server.properties:2)
Invalid value PLAINTEXT:9092 for configuration listeners: Must be name://host:port, such as PLAINTEXT://localhost:9092 (server.properties:11)
Invalid value PLAINTEXT:9092 for configuration listeners: There must be a listener for clients, one that is not in controller.listener.names (server.properties:11)
queued.max.request.bytes (1) must be at least socket.request.max.bytes (104857600), or 0 for no limit
max.connections.per.ip can be 0 only if max.connections.per.ip.overrides names the addresses that may connect
Invalid value , , for configuration log.dirs: At least one log directory must be named (server.properties:9)
"
    );
    assert_eq!(
        errors("group.min.session.timeout.ms=9\ngroup.max.session.timeout.ms=8"),
        "group.min.session.timeout.ms (9) must be at most group.max.session.timeout.ms (8)\n"
    );
}

#[test]
fn bad_listeners_say_what_is_wrong() {
    let cases = [
        (
            "listeners=PLAINTEXT://a:99999",
            "PLAINTEXT://a:99999 for configuration listeners: 99999 is not a port, a number from 0 to 65535",
        ),
        (
            "listeners=PLAINTEXT://a:1,plaintext://b:2",
            "PLAINTEXT://a:1,plaintext://b:2 for configuration listeners: Each listener must have a different name, PLAINTEXT is there twice",
        ),
        (
            "listeners=PLAINTEXT://a:1,X://b:1\nlistener.security.protocol.map=PLAINTEXT:PLAINTEXT,X:PLAINTEXT",
            "PLAINTEXT://a:1,X://b:1 for configuration listeners: PLAINTEXT and X have the same port: only an IPv4 address and an IPv6 address may",
        ),
        (
            "listeners=PLAINTEXT://a:1,X://b:2",
            "PLAINTEXT://a:1,X://b:2 for configuration listeners: X has no protocol in listener.security.protocol.map",
        ),
        (
            "listeners=PLAINTEXT://a:1,SASL_SSL://b:2",
            "PLAINTEXT://a:1,SASL_SSL://b:2 for configuration listeners: SASL_SSL is a listener for SASL_SSL, only PLAINTEXT is served so far",
        ),
        (
            "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,X:TLS",
            "X:TLS for configuration listener.security.protocol.map: Must be name:protocol, the protocol one of PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL",
        ),
        (
            "advertised.listeners=PLAINTEXT://0.0.0.0:9092",
            "PLAINTEXT://0.0.0.0:9092 for configuration advertised.listeners: Clients cannot connect to it: it must name one host and one port",
        ),
        (
            "advertised.listeners=PLAINTEXT://:9092",
            "PLAINTEXT://:9092 for configuration advertised.listeners: Clients cannot connect to it: it must name one host and one port",
        ),
        (
            "advertised.listeners=OUTSIDE://h:9092",
            "OUTSIDE://h:9092 for configuration advertised.listeners: OUTSIDE is not a name in listeners",
        ),
        (
            "max.connections.per.ip.overrides=host:1",
            "host:1 for configuration max.connections.per.ip.overrides: Must be address:count with a numeric address, such as 127.0.0.1:100",
        ),
        (
            "security.inter.broker.protocol=TLS",
            "TLS for configuration security.inter.broker.protocol: String must be one of: PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL",
        ),
    ];
    for (text, expected) in cases {
        let first = errors(text).lines().next().unwrap().to_string();
        let line = if text.contains("\nlistener.security") { 1 } else { text.lines().count() };
        assert_eq!(first, format!("Invalid value {expected} (server.properties:{line})"));
    }
    assert_eq!(
        errors("inter.broker.listener.name=PLAINTEXT\nsecurity.inter.broker.protocol=PLAINTEXT"),
        "inter.broker.listener.name and security.inter.broker.protocol cannot both be set\n"
    );
    assert_eq!(
        errors("inter.broker.listener.name=inside"),
        "inter.broker.listener.name asks for the listener INSIDE between brokers, the listeners are: PLAINTEXT\n"
    );
}

#[test]
fn listeners_are_typed() {
    let config = good(
        "listeners=inside://[::1]:9092, OUTSIDE://127.0.0.1:9092, ANY://:0\n\
         listener.security.protocol.map=INSIDE:PLAINTEXT,outside:PLAINTEXT,ANY:PLAINTEXT,TLS:SSL\n\
         advertised.listeners=OUTSIDE://[fe80::1%eth0]:19092\n\
         inter.broker.listener.name=Inside\n",
    );
    let shown: Vec<_> = config
        .listeners
        .all
        .iter()
        .map(|l| {
            let advertised = l.advertised.as_ref().map(ToString::to_string);
            format!("{} {} {}", l.name, l.bind, advertised.unwrap_or_default())
        })
        .collect();
    assert_eq!(
        shown,
        ["INSIDE [::1]:9092 ", "OUTSIDE 127.0.0.1:9092 [fe80::1%eth0]:19092", "ANY :0 "]
    );
    assert_eq!(config.listeners.inter_broker().name, "INSIDE");
}

#[test]
fn a_typing_error_is_a_warning_that_names_the_key() {
    assert_eq!(
        warnings(
            "log.retenton.hours=1\nnum.io.thread=3\nfavourite.colour=red\nssl.keystore.type=JKS"
        ),
        "\
unknown configuration favourite.colour (server.properties:3)
unknown configuration log.retenton.hours, did you mean log.retention.hours? (server.properties:1)
unknown configuration num.io.thread, did you mean num.io.threads? (server.properties:2)
ssl.keystore.type has no effect: only PLAINTEXT listeners are served so far (server.properties:4)
"
    );
}

#[test]
fn a_broker_that_is_alone_is_told_what_it_cannot_do() {
    assert_eq!(
        warnings("default.replication.factor=3\noffsets.topic.replication.factor=3\nmin.insync.replicas=2"),
        "\
default.replication.factor is 3 and this broker is alone: such a topic cannot be created (server.properties:1)
offsets.topic.replication.factor is 3 and this broker is alone: the topic of consumer groups' offsets cannot be created (server.properties:2)
min.insync.replicas is 2 and this broker is alone: writes with acks=all will be refused (server.properties:3)
"
    );
}

#[test]
fn every_key_can_be_set_in_the_environment() {
    let mut variables = std::collections::BTreeMap::new();
    for name in broker_keys().iter().map(|key| key.name).chain(unserved::names()) {
        if let Some(other) = variables.insert(ottla_config::environment_name(name), name) {
            panic!("{name} and {other} have the same variable");
        }
    }
    let sources = Sources::new()
        .properties("server.properties", "num.partitions=2\nbroker.id=5")
        .environment([
            ("OTTLA_NUM_PARTITIONS".to_string(), "3".to_string()),
            ("OTTLA_LOG_RETENTION_MS".to_string(), "7".to_string()),
        ])
        .command_line(["log.dir=/data"]);
    let (config, warnings) = BrokerConfig::load(sources).unwrap();
    assert_eq!(warnings, []);
    assert_eq!(config.topics.num_partitions, 3);
    assert_eq!(config.log_defaults.config().retention_ms, 7);
    let origin = |key| config.origin(key).to_string();
    assert_eq!(origin("num.partitions"), "environment OTTLA_NUM_PARTITIONS");
    assert_eq!(origin("node.id"), "server.properties:2");
    assert_eq!(origin("log.dir"), "command line");
    assert_eq!(origin("log.dirs"), "default");
}

#[test]
fn connection_limits_are_typed_and_an_id_of_minus_one_is_unset() {
    let config = good("max.connections.per.ip.overrides=127.0.0.1:5, [::1]:6\nbroker.id=-1");
    let limits: Vec<_> =
        config.connections_per_ip.iter().map(|(ip, count)| format!("{ip} {count}")).collect();
    assert_eq!((limits, config.id), (vec!["127.0.0.1 5".into(), "::1 6".into()], BrokerId(1)));
}

#[test]
fn describe_lists_every_key_with_its_source() {
    let config = good("num.partitions=3\nlog.retention.hours=1");
    let entries = config.describe();
    assert_eq!(entries.len(), broker_keys().len());
    let shown = |name: &str| {
        let entry = entries.iter().find(|entry| entry.name == name).unwrap();
        let synonyms: Vec<_> = entry
            .synonyms
            .iter()
            .map(|s| format!("{}:{}={}", s.source.code(), s.name, s.value.as_deref().unwrap()))
            .collect();
        let value = entry.value.as_deref().unwrap_or("null");
        format!("{value} {} {} [{}]", entry.source.code(), entry.read_only, synonyms.join(" "))
    };
    assert_eq!(shown("num.partitions"), "3 4 true [4:num.partitions=3 5:num.partitions=1]");
    assert_eq!(shown("log.retention.ms"), "null 5 false []");
    assert_eq!(
        shown("log.retention.hours"),
        "1 4 true [4:log.retention.hours=1 5:log.retention.hours=168]"
    );
    assert_eq!(shown("broker.rack"), "null 5 true []");
    assert_eq!(shown("max.connections"), "2147483647 5 false [5:max.connections=2147483647]");
}

#[test]
fn every_declared_default_is_valid_and_printed_as_declared() {
    for key in broker_keys() {
        if let Some(text) = key.default {
            assert_eq!(key.canonical(text).as_deref(), Some(text), "{}", key.name);
        }
        assert!(
            unserved::find(key.name).is_none_or(|line| line.name.ends_with('*')),
            "{}",
            key.name
        );
    }
}

/// `OTTLA_GOLDEN=write` in the environment of the test writes the page anew.
#[test]
fn the_reference_page_is_up_to_date() {
    let page = reference_page();
    if std::env::var("OTTLA_GOLDEN").is_ok_and(|mode| mode == "write") {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/config/reference.md");
        std::fs::write(path, &page).unwrap();
    }
    assert!(page == include_str!("reference.md"), "reference.md is not what the keys say");
}
