use super::*;

fn map(pairs: &[(&str, &str)]) -> Overrides {
    pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
}

fn defaults(broker: &[(&str, &str)]) -> BrokerLogDefaults {
    BrokerLogDefaults::new(Layers::of_static(map(broker))).unwrap()
}

fn error_of(overrides: &[(&str, &str)]) -> String {
    LogConfig::from_overrides(&defaults(&[]), &map(overrides)).unwrap_err().to_string()
}

#[test]
fn every_declared_default_is_valid_and_printed_as_declared() {
    for key in topic_keys().copied().chain(broker_log_keys()) {
        if let Some(text) = key.default {
            assert_eq!(key.canonical(text).as_deref(), Some(text), "{}", key.name);
        }
        assert!(!key.doc.is_empty(), "{}", key.name);
    }
}

#[test]
fn no_two_keys_share_a_name() {
    for names in [
        topic_keys().map(|key| key.name).collect::<Vec<_>>(),
        broker_log_keys().map(|key| key.name).collect(),
    ] {
        for (index, name) in names.iter().enumerate() {
            assert!(!names[..index].contains(name), "{name}");
        }
    }
}

#[test]
fn the_broker_gives_the_default_and_the_topic_overrides_it() {
    let broker = defaults(&[("log.segment.bytes", "2048"), ("log.cleanup.policy", "compact")]);
    assert_eq!(broker.config().segment_bytes, 2048);
    let overrides = map(&[("segment.bytes", " 4096 "), ("min.insync.replicas", "2")]);
    let config = LogConfig::from_overrides(&broker, &overrides).unwrap();
    assert_eq!((config.segment_bytes, config.min_insync_replicas), (4096, 2));
    assert_eq!(config.cleanup_policy, CleanupPolicy { delete: false, compact: true });
    assert_eq!(config.retention_ms, 604_800_000);
}

#[test]
fn the_first_synonym_wins_whatever_its_unit() {
    let retention = |broker: &[(&str, &str)]| defaults(broker).config().retention_ms;
    let hours = ("log.retention.hours", "2");
    let minutes = ("log.retention.minutes", "3");
    assert_eq!(retention(&[hours]), 7_200_000);
    assert_eq!(retention(&[hours, minutes]), 180_000);
    assert_eq!(retention(&[hours, minutes, ("log.retention.ms", "5")]), 5);
    assert_eq!(retention(&[("log.retention.hours", "-1")]), -1);
    assert_eq!(retention(&[("log.retention.ms", "-7")]), -1);
    let roll = defaults(&[("log.roll.hours", "1"), ("log.roll.jitter.hours", "2")]);
    assert_eq!((roll.config().segment_ms, roll.config().segment_jitter_ms), (HOUR_MS, 2 * HOUR_MS));
    let flush = defaults(&[("log.flush.scheduler.interval.ms", "9")]);
    assert_eq!(flush.config().flush_ms, 9);
}

#[test]
fn the_deprecated_timestamp_limit_stands_in_for_both() {
    let config = |overrides: &[(&str, &str)]| {
        let config = LogConfig::from_overrides(&defaults(&[]), &map(overrides)).unwrap();
        (config.message_timestamp_before_max_ms, config.message_timestamp_after_max_ms)
    };
    let difference = ("message.timestamp.difference.max.ms", "7");
    assert_eq!(config(&[]), (i64::MAX, HOUR_MS));
    assert_eq!(config(&[difference]), (7, 7));
    assert_eq!(config(&[difference, ("message.timestamp.after.max.ms", "9")]), (7, 9));
}

#[test]
fn errors_say_what_to_write() {
    let cases: &[(&[(&str, &str)], &str)] = &[
        (
            &[("retention.mss", "1")],
            "Unknown topic config name: retention.mss, did you mean retention.ms?",
        ),
        (&[("colour", "1")], "Unknown topic config name: colour"),
        (
            &[("retention.ms", "-2")],
            "Invalid value -2 for configuration retention.ms: Value must be at least -1",
        ),
        (
            &[("cleanup.policy", "remove")],
            "Invalid value remove for configuration cleanup.policy: String must be one of: compact, delete",
        ),
        (
            &[("compression.type", "none")],
            "Invalid value none for configuration compression.type: String must be one of: \
             uncompressed, zstd, lz4, snappy, gzip, producer",
        ),
        (
            &[("min.cleanable.dirty.ratio", "1.5")],
            "Invalid value 1.5 for configuration min.cleanable.dirty.ratio: \
             Value must be at least 0 and no more than 1",
        ),
        (
            &[("min.compaction.lag.ms", "5"), ("max.compaction.lag.ms", "4")],
            "conflict topic config setting min.compaction.lag.ms (5) > max.compaction.lag.ms (4)",
        ),
        (
            &[("remote.storage.enable", "true")],
            "remote.storage.enable cannot be used: there is no tiered storage, \
             the topic's records stay on the broker",
        ),
    ];
    for (overrides, expected) in cases {
        assert_eq!(&error_of(overrides), expected);
    }
    let errors = BrokerLogDefaults::new(Layers::of_static(map(&[
        ("log.retention.hours", "0"),
        ("log.segment.bytes", "13"),
    ])));
    let errors: Vec<_> = errors.unwrap_err().iter().map(ToString::to_string).collect();
    assert_eq!(
        errors,
        [
            "Invalid value 0 for configuration log.retention.hours: Value must be -1 (unlimited) or at least 1",
            "Invalid value 13 for configuration log.segment.bytes: Value must be at least 14",
        ]
    );
}

#[test]
fn stored_overrides_that_went_bad_are_dropped_one_by_one() {
    let stored = map(&[("segment.bytes", "1"), ("gone.key", "x"), ("retention.ms", "5")]);
    let (config, errors) = LogConfig::from_stored(&defaults(&[]), &stored);
    assert_eq!((config.retention_ms, config.segment_bytes, errors.len()), (5, 1 << 30, 2));
}

#[test]
fn describe_gives_what_kafka_gives() {
    let broker = defaults(&[("log.retention.hours", "1"), ("log.segment.bytes", "2048")]);
    let throttled = "leader.replication.throttled.replicas";
    let overrides = map(&[("retention.ms", "5"), (throttled, "*")]);
    let entries = LogConfig::describe(&broker, &overrides);
    let shown = |name: &str| {
        let entry = entries.iter().find(|entry| entry.name == name).unwrap();
        let synonyms: Vec<_> = entry
            .synonyms
            .iter()
            .map(|s| format!("{}:{}={}", s.source.code(), s.name, s.value.as_deref().unwrap()))
            .collect();
        let value = entry.value.as_deref().unwrap();
        format!("{value} {} {} [{}]", entry.source.code(), entry.type_code, synonyms.join(" "))
    };
    assert_eq!(
        shown("retention.ms"),
        "5 1 5 [1:retention.ms=5]",
        "the hours are behind log.retention.ms, which is not set"
    );
    assert_eq!(
        shown("segment.bytes"),
        "2048 4 3 [4:log.segment.bytes=2048 5:log.segment.bytes=1073741824]"
    );
    assert_eq!(shown("segment.ms"), "604800000 5 5 []");
    assert_eq!(
        shown("min.cleanable.dirty.ratio"),
        "0.5 5 6 [5:log.cleaner.min.cleanable.ratio=0.5]"
    );
    assert_eq!(shown("cleanup.policy"), "delete 5 7 [5:log.cleanup.policy=delete]");
    assert_eq!(shown(throttled), format!("* 1 7 [1:{throttled}=*]"));
    assert_eq!(shown("remote.storage.enable"), "false 5 1 []");
    assert!(entries.iter().all(|entry| !entry.read_only && !entry.documentation.is_empty()));
}
