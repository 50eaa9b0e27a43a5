//! The text of each znode, written and read.

use std::collections::{BTreeMap, BTreeSet};

use ottla_metadata::znodes::*;
use ottla_record::{BrokerId, LeaderEpoch, PartitionId, ProducerId, Uuid};

/// `value` is written as `text`, and `text` and each of `others` are read as `value`.
fn check<T: PartialEq + std::fmt::Debug>(
    value: T,
    text: &str,
    others: &[&str],
    encode: impl Fn(&T) -> Vec<u8>,
    decode: impl Fn(&[u8]) -> Result<T, Malformed>,
) {
    assert_eq!(String::from_utf8(encode(&value)).unwrap(), text);
    for text in others.iter().chain([&text]) {
        assert_eq!(decode(text.as_bytes()).as_ref(), Ok(&value), "{text}");
    }
}

fn config(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
    entries.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

#[test]
fn cluster_id() {
    check(
        "AAAAAAAAAAAAAAAAAAAAAQ".to_owned(),
        r#"{"version":"1","id":"AAAAAAAAAAAAAAAAAAAAAQ"}"#,
        &[r#"{"new":[], "id":"AAAAAAAAAAAAAAAAAAAAAQ","version":"1"}"#],
        |id| encode_cluster_id(id),
        decode_cluster_id,
    );
    assert!(decode_cluster_id(br#"{"version":"1"}"#).is_err());
}

#[test]
fn controller() {
    check(
        ControllerZnode { broker: BrokerId(1), timestamp_ms: 1_700_000_000_000 },
        r#"{"version":2,"brokerid":1,"timestamp":"1700000000000","kraftControllerEpoch":-1}"#,
        &[r#"{"timestamp":"1700000000000","version":1,"brokerid":1}"#],
        ControllerZnode::encode,
        ControllerZnode::decode,
    );
    check(7, "7", &[], |epoch| encode_controller_epoch(*epoch), decode_controller_epoch);
    assert!(decode_controller_epoch(b"").is_err());
    assert!(decode_controller_epoch(b"seven").is_err());
}

fn endpoint(listener: &str, security_protocol: SecurityProtocol, host: &str) -> Endpoint {
    Endpoint { listener: listener.to_owned(), security_protocol, host: host.to_owned(), port: 9092 }
}

#[test]
fn broker() {
    let plain = BrokerRegistration {
        endpoints: vec![endpoint("PLAINTEXT", SecurityProtocol::Plaintext, "h")],
        rack: Some("r1".to_owned()),
        jmx_port: -1,
        timestamp_ms: 1_700_000_000_000,
        features: BTreeMap::from([(
            "feat".to_owned(),
            SupportedVersions { min_version: 1, max_version: 3 },
        )]),
        log_dirs: vec![Uuid::parse("AAAAAAAAAAAAAAAAAAAAAQ").unwrap()],
    };
    check(
        plain.clone(),
        concat!(
            r#"{"version":5,"host":"h","port":9092,"jmx_port":-1,"timestamp":"1700000000000","#,
            r#""endpoints":["PLAINTEXT://h:9092"],"rack":"r1","#,
            r#""listener_security_protocol_map":{"PLAINTEXT":"PLAINTEXT"},"#,
            r#""features":{"feat":{"min_version":1,"max_version":3}},"#,
            r#""log_dirs":["AAAAAAAAAAAAAAAAAAAAAQ"]}"#
        ),
        &[concat!(
            r#"{"features":{"feat":{"max_version":3,"min_version":1}},"x":1,"#,
            r#""log_dirs":["AAAAAAAAAAAAAAAAAAAAAQ"],"#,
            r#""listener_security_protocol_map":{"PLAINTEXT":"PLAINTEXT"},"rack":"r1","#,
            r#""endpoints":["PLAINTEXT://h:9092"],"timestamp":"1700000000000","jmx_port":-1,"#,
            r#""port":9092,"host":"h","version":5}"#
        )],
        BrokerRegistration::encode,
        BrokerRegistration::decode,
    );
    // Without a PLAINTEXT endpoint there is nothing for clients that know only host and port.
    check(
        BrokerRegistration {
            endpoints: vec![
                endpoint("OUT", SecurityProtocol::SaslSsl, "::1"),
                endpoint("IN", SecurityProtocol::Ssl, "b.example"),
            ],
            rack: None,
            features: BTreeMap::new(),
            log_dirs: Vec::new(),
            ..plain
        },
        concat!(
            r#"{"version":5,"host":null,"port":-1,"jmx_port":-1,"timestamp":"1700000000000","#,
            r#""endpoints":["OUT://[::1]:9092","IN://b.example:9092"],"#,
            r#""listener_security_protocol_map":{"IN":"SSL","OUT":"SASL_SSL"},"features":{}}"#
        ),
        &[],
        BrokerRegistration::encode,
        BrokerRegistration::decode,
    );
}

#[test]
fn broker_of_older_versions() {
    let older = BrokerRegistration {
        endpoints: vec![endpoint("PLAINTEXT", SecurityProtocol::Plaintext, "h")],
        rack: None,
        jmx_port: -1,
        timestamp_ms: 1_700_000_000_000,
        features: BTreeMap::new(),
        log_dirs: Vec::new(),
    };
    for text in [
        r#"{"version":1,"host":"h","port":9092,"jmx_port":-1,"timestamp":"1700000000000"}"#,
        r#"{"version":2,"host":"h","port":9092,"jmx_port":-1,"timestamp":"1700000000000",
            "endpoints":["PLAINTEXT://h:9092"]}"#,
        r#"{"version":3,"host":"h","port":9092,"jmx_port":-1,"timestamp":"1700000000000",
            "endpoints":["PLAINTEXT://h:9092"],"rack":null}"#,
        r#"{"version":4,"host":"h","port":9092,"jmx_port":-1,"timestamp":"1700000000000",
            "endpoints":["PLAINTEXT://h:9092"],
            "listener_security_protocol_map":{"PLAINTEXT":"PLAINTEXT"}}"#,
    ] {
        assert_eq!(BrokerRegistration::decode(text.as_bytes()).as_ref(), Ok(&older), "{text}");
    }
    for bad in [
        r#"{"version":0,"endpoints":[]}"#,
        r#"{"version":5}"#,
        r#"{"version":5,"endpoints":["PLAINTEXT//h:9092"]}"#,
        r#"{"version":5,"endpoints":["PLAINTEXT://h:99999"]}"#,
        r#"{"version":5,"endpoints":["MINE://h:9092"]}"#,
        r#"{"version":5,"endpoints":["PLAINTEXT://h:9092"],"log_dirs":["short"]}"#,
        "",
    ] {
        assert!(BrokerRegistration::decode(bad.as_bytes()).is_err(), "{bad}");
    }
}

#[test]
fn topic() {
    let replicas = |p: i32, brokers: &[i32]| {
        BTreeMap::from([(PartitionId(p), brokers.iter().map(|b| BrokerId(*b)).collect())])
    };
    check(
        TopicAssignment {
            topic_id: Some(Uuid::parse("AAAAAAAAAAAAAAAAAAAAAQ").unwrap()),
            partitions: replicas(0, &[1, 2, 3, 4]),
            adding_replicas: replicas(0, &[4]),
            removing_replicas: replicas(0, &[1]),
        },
        concat!(
            r#"{"version":3,"topic_id":"AAAAAAAAAAAAAAAAAAAAAQ","partitions":{"0":[1,2,3,4]},"#,
            r#""adding_replicas":{"0":[4]},"removing_replicas":{"0":[1]}}"#
        ),
        &[concat!(
            r#"{"removing_replicas":{"0":[1]},"partitions":{"0":[1,2,3,4]},"z":null,"#,
            r#""topic_id":"AAAAAAAAAAAAAAAAAAAAAQ","adding_replicas":{"0":[4]},"version":3}"#
        )],
        TopicAssignment::encode,
        TopicAssignment::decode,
    );
    // Partitions stand in the order of their numbers, not of their texts.
    let many = TopicAssignment {
        partitions: (0..11).map(|p| (PartitionId(p), vec![BrokerId(p)])).collect(),
        ..TopicAssignment::default()
    };
    let text = String::from_utf8(many.encode()).unwrap();
    assert!(text.contains(r#""9":[9],"10":[10]}"#), "{text}");
    let version_1 = br#"{"version":1,"partitions":{"0":[1,2,3,4]}}"#;
    let decoded = TopicAssignment::decode(version_1).unwrap();
    assert_eq!((decoded.topic_id, decoded.adding_replicas.len()), (None, 0));
    let bad_id = br#"{"version":3,"topic_id":"short","partitions":{}}"#;
    assert!(TopicAssignment::decode(bad_id).is_err());
}

#[test]
fn partition_state() {
    let state = PartitionState {
        leader: BrokerId(1),
        leader_epoch: LeaderEpoch(0),
        controller_epoch: 5,
        isr: vec![BrokerId(1), BrokerId(2)],
        recovering: false,
    };
    check(
        state.clone(),
        r#"{"version":1,"leader":1,"leader_epoch":0,"controller_epoch":5,"isr":[1,2]}"#,
        &[
            r#"{"controller_epoch":5,"leader":1,"version":1,"leader_epoch":0,"isr":[1,2]}"#,
            r#"{"version":1,"leader":1,"leader_epoch":0,"controller_epoch":5,"isr":[1,2],
                "leader_recovery_state":0}"#,
        ],
        PartitionState::encode,
        PartitionState::decode,
    );
    check(
        PartitionState { leader: BrokerId::NONE, recovering: true, ..state },
        concat!(
            r#"{"version":1,"leader":-1,"leader_epoch":0,"controller_epoch":5,"isr":[1,2],"#,
            r#""leader_recovery_state":1}"#
        ),
        &[],
        PartitionState::encode,
        PartitionState::decode,
    );
}

#[test]
fn producer_id_block() {
    let block =
        ProducerIdBlock { broker: BrokerId(1), first: ProducerId(0), last: ProducerId(999) };
    check(
        block,
        r#"{"version":1,"broker":1,"block_start":"0","block_end":"999"}"#,
        &[r#"{"block_end":"999","block_start":"0","broker":1,"version":1}"#],
        ProducerIdBlock::encode,
        ProducerIdBlock::decode,
    );
    assert_eq!(ProducerIdBlock::next(None, BrokerId(1)), Some(block));
    let next = ProducerIdBlock::next(Some(block), BrokerId(2)).unwrap();
    assert_eq!((next.broker.0, next.first.0, next.last.0), (2, 1000, 1999));
    let at_end = ProducerIdBlock { last: ProducerId(i64::MAX - 999), ..block };
    assert_eq!(ProducerIdBlock::next(Some(at_end), BrokerId(1)), None);
    for bad in [
        r#"{"version":1,"broker":1,"block_start":"5","block_end":"4"}"#,
        r#"{"version":1,"broker":1,"block_start":"-1","block_end":"4"}"#,
        r#"{"version":1,"broker":1,"block_start":"x","block_end":"4"}"#,
    ] {
        assert!(ProducerIdBlock::decode(bad.as_bytes()).is_err(), "{bad}");
    }
}

#[test]
fn features() {
    let features = Features {
        status: FeatureStatus::Enabled,
        max_version_levels: BTreeMap::from([("f".to_owned(), 3)]),
    };
    check(
        features,
        r#"{"version":2,"status":1,"features":{"f":{"max_version_level":3}}}"#,
        &[
            r#"{"status":1,"version":1,"features":{"f":{"min_version_level":1,"max_version_level":3}}}"#,
        ],
        Features::encode,
        Features::decode,
    );
    check(
        Features { status: FeatureStatus::Disabled, max_version_levels: BTreeMap::new() },
        r#"{"version":2,"status":0,"features":{}}"#,
        &[r#"{"version":2,"status":0}"#],
        Features::encode,
        Features::decode,
    );
    assert!(Features::decode(br#"{"version":2,"status":2}"#).is_err());
}

#[test]
fn configs_and_their_changes() {
    check(
        config(&[("key", "value")]),
        r#"{"version":1,"config":{"key":"value"}}"#,
        &[r#"{"config":{"key":"value"},"version":1,"later":true}"#],
        encode_config,
        |data| decode_config(Some(data)),
    );
    assert_eq!(decode_config(None), Ok(config(&[])));
    assert!(decode_config(Some(br#"{"version":2,"config":{}}"#)).is_err());

    check(
        ConfigChange { entity: ConfigEntity::Topic("foo".to_owned()) },
        r#"{"version":2,"entity_path":"topics/foo"}"#,
        &[r#"{"entity_type":"topics","version":1,"entity_name":"foo"}"#],
        ConfigChange::encode,
        ConfigChange::decode,
    );
}

#[test]
fn entities_lie_where_kafka_puts_them() {
    let name = |name: &str| Some(name.to_owned());
    let cases = [
        (ConfigEntity::Topic("a.b".to_owned()), "topics/a.b"),
        (ConfigEntity::Broker(Some(BrokerId(5))), "brokers/5"),
        (ConfigEntity::Broker(None), "brokers/<default>"),
        (ConfigEntity::Client(name("my app*")), "clients/my%20app%2A"),
        (ConfigEntity::Client(None), "clients/<default>"),
        (ConfigEntity::User(name("CN=ö,O=x/y")), "users/CN%3D%C3%B6%2CO%3Dx%2Fy"),
        (
            ConfigEntity::UserClient { user: name("<default>"), client: None },
            "users/%3Cdefault%3E/clients/<default>",
        ),
        (ConfigEntity::Ip(name("::1")), "ips/::1"),
        (ConfigEntity::Ip(None), "ips/<default>"),
    ];
    for (entity, path) in cases {
        assert_eq!(entity.entity_path(), path);
        assert_eq!(entity.path(), format!("/config/{path}"));
        assert_eq!(ConfigEntity::parse(path), Ok(entity));
    }
    for bad in ["", "topics", "topics/", "brokers/x", "users/a/b/c", "users/%4", "a/b", "users/%FF"]
    {
        assert!(ConfigEntity::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn access_rules() {
    let entry = |principal: &str, operation: &str| AclEntry {
        principal: principal.to_owned(),
        permission_type: "Allow".to_owned(),
        operation: operation.to_owned(),
        host: "*".to_owned(),
    };
    check(
        BTreeSet::from([entry("User:ann", "Read"), entry("User:ann", "Describe")]),
        concat!(
            r#"{"version":1,"acls":[{"principal":"User:ann","permissionType":"Allow","#,
            r#""operation":"Describe","host":"*"},{"principal":"User:ann","#,
            r#""permissionType":"Allow","operation":"Read","host":"*"}]}"#
        ),
        // As Kafka 3.9 wrote it.
        &[concat!(
            r#"{"version":1,"acls":[{"principal":"User:ann","permissionType":"Allow","#,
            r#""operation":"Read","host":"*"},{"principal":"User:ann","#,
            r#""permissionType":"Allow","operation":"Describe","host":"*"}]}"#
        )],
        encode_acls,
        decode_acls,
    );
    assert!(decode_acls(br#"{"version":2,"acls":[]}"#).is_err());
    let resource = |is_prefix| {
        AclResource { resource_type: "Topic", name: "changes.".to_owned(), is_prefix }.path()
    };
    assert_eq!(resource(false), "/kafka-acl/Topic/changes.");
    assert_eq!(resource(true), "/kafka-acl-extended/prefixed/Topic/changes.");
}

#[test]
fn scram_credential() {
    let bytes = |text: &str| text.as_bytes().to_vec();
    check(
        ScramCredential {
            salt: bytes("salt"),
            stored_key: bytes("stored"),
            server_key: bytes("server key"),
            iterations: 4096,
        },
        "salt=c2FsdA==,stored_key=c3RvcmVk,server_key=c2VydmVyIGtleQ==,iterations=4096",
        &["iterations=4096,server_key=c2VydmVyIGtleQ==,salt=c2FsdA==,stored_key=c3RvcmVk"],
        |credential| credential.encode().into_bytes(),
        |text| ScramCredential::decode(std::str::from_utf8(text).unwrap()),
    );
    for bad in ["", "salt=c2FsdA==", "salt=!,stored_key=,server_key=,iterations=1"] {
        assert!(ScramCredential::decode(bad).is_err(), "{bad}");
    }
}
