//! The keys of a broker, beside those that give the defaults of topics (`ottla_log`).
//!
//! Names, ranges and defaults are those of Apache Kafka 3.9 where the doc of a key does not say
//! otherwise. Every key here is read by some part of the server; the keys of Kafka that are not
//! are in [`super::unserved`].

use ottla_config::{Password, keys};

use super::SecurityProtocol;

keys! {
    /// Who the broker is and where it listens, as given.
    pub struct NodeKeys {
        /// The id of this broker, the same as `node.id`. Kafka's default, -1, draws an id; here -1
        /// is the same as unset, which is 1.
        broker_id: i32 = Key::broker("broker.id").default("1").check(Check::AtLeast(-1));
        /// The id of this broker, the same as `broker.id`.
        node_id: i32 = Key::broker("node.id").default("1").check(Check::AtLeast(-1));
        /// The rack of this broker, for consumers that read from the nearest replica.
        broker_rack: Option<String> = Key::broker("broker.rack");
        /// Where the broker listens: `name://host:port`, separated by commas. An empty host is
        /// every interface, port 0 is any free port. Kafka's default is every interface.
        listeners: String = Key::broker("listeners").default("PLAINTEXT://localhost:9092")
            .check(Check::NotEmpty).update(Update::PerBroker);
        /// What clients are told to connect to, by listener. Unset: the address that the client
        /// itself has dialled (Kafka: the value of `listeners`).
        advertised_listeners: Option<String> = Key::broker("advertised.listeners")
            .update(Update::PerBroker);
        /// The security protocol of each listener name: `name:protocol`, separated by commas.
        listener_security_protocol_map: String = Key::broker("listener.security.protocol.map")
            .default("SASL_SSL:SASL_SSL,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT")
            .update(Update::PerBroker);
        /// The listener for connections between brokers. Not together with
        /// `security.inter.broker.protocol`.
        inter_broker_listener_name: Option<String> = Key::broker("inter.broker.listener.name");
        /// The security protocol, and so the listener, for connections between brokers.
        security_inter_broker_protocol: SecurityProtocol =
            Key::broker("security.inter.broker.protocol").default("PLAINTEXT");
        /// The listeners that Kafka keeps for controllers. There is no such listener here: those
        /// that are named are not opened.
        controller_listener_names: Vec<String> = Key::broker("controller.listener.names")
            .default("");
    }
}

keys! {
    /// The built-in keeper, as given.
    pub struct KeeperKeys {
        /// Ottla's own: where ZooKeeper's clients reach the keeper of this broker. Port 0 is any free
        /// port.
        keeper_listener: String = Key::broker("keeper.listener").default("127.0.0.1:0")
            .check(Check::NotEmpty);
        /// Ottla's own: the keepers of the quorum, each with the id of its broker and where it listens
        /// for the others, this one among them: `id@host:port`, separated by commas. Unset: this
        /// broker's keeper is alone. Several wait on new directories until `ottla keeper found`.
        keeper_quorum_voters: Option<String> = Key::broker("keeper.quorum.voters");
    }
}

keys! {
    /// An external ZooKeeper, as given.
    pub struct ZooKeeperKeys {
        /// The ensemble that keeps the metadata, in the place of the built-in keeper:
        /// `host:port,host:port`, with the path below which the cluster lives (`/kafka`) at the end
        /// if that is not the root. ZooKeeper 3.6 or later.
        zookeeper_connect: Option<String> = Key::broker("zookeeper.connect");
        /// After how long a silence the ensemble ends this broker's session, and with it its
        /// registration, in milliseconds. A change of metadata that is not answered for so long fails.
        zookeeper_session_timeout_ms: i32 = Key::broker("zookeeper.session.timeout.ms")
            .default("18000").check(Check::AtLeast(1));
        /// How long a start waits for a session, in milliseconds. Unset: the session's timeout.
        zookeeper_connection_timeout_ms: Option<i32> =
            Key::broker("zookeeper.connection.timeout.ms").check(Check::AtLeast(1));
        /// How many requests to the ensemble are under way unanswered.
        zookeeper_max_in_flight_requests: i32 = Key::broker("zookeeper.max.in.flight.requests")
            .default("10").check(Check::AtLeast(1));
        /// Whether created nodes may be changed by this broker's login or certificate alone, and read
        /// by everyone unless they hold secrets.
        zookeeper_set_acl: bool = Key::broker("zookeeper.set.acl").default("false");
        /// Ottla's own: whom each connection shows to be, by ZooKeeper's scheme `digest`:
        /// `user:password`.
        zookeeper_digest_login: Option<Password> = Key::broker("zookeeper.digest.login");
        /// Ottla's own: whom each connection shows to be by SASL, mechanism DIGEST-MD5, in the form of
        /// `sasl.jaas.config`: `org.apache.zookeeper.server.auth.DigestLoginModule required
        /// username="user" password="password";`. With Kafka this is the section `Client` of the JAAS file
        /// that its JVM is given; no such file is read here, and Kerberos is not served. For
        /// `zookeeper.set.acl` the servers need
        /// `authProvider.1=org.apache.zookeeper.server.auth.SASLAuthenticationProvider`.
        zookeeper_sasl_jaas_config: Option<Password> = Key::broker("zookeeper.sasl.jaas.config");
    }
}

keys! {
    /// Encrypted connections with an external ZooKeeper, as given.
    pub struct ZooKeeperTlsKeys {
        /// Whether connections with the ensemble are encrypted. `zookeeper.connect` then names the
        /// servers' `secureClientPort`.
        zookeeper_ssl_client_enable: bool = Key::broker("zookeeper.ssl.client.enable")
            .default("false");
        /// The file with the private key and the certificates that are shown to the servers. Unset:
        /// none are, which servers refuse unless their `ssl.clientAuth` says otherwise.
        zookeeper_ssl_keystore_location: Option<String> =
            Key::broker("zookeeper.ssl.keystore.location");
        /// The password of that file, and of the private key in it.
        zookeeper_ssl_keystore_password: Option<Password> =
            Key::broker("zookeeper.ssl.keystore.password");
        /// What that file is: JKS, PKCS12 or PEM. Unset: what it looks like. JKS and PKCS12 are told
        /// apart by what the file holds, whichever of them is set, as in Java.
        zookeeper_ssl_keystore_type: Option<String> = Key::broker("zookeeper.ssl.keystore.type");
        /// The file with the certificates that are trusted. It must be set where connections are
        /// encrypted (Kafka: else those that Java trusts).
        zookeeper_ssl_truststore_location: Option<String> =
            Key::broker("zookeeper.ssl.truststore.location");
        /// The password of that file.
        zookeeper_ssl_truststore_password: Option<Password> =
            Key::broker("zookeeper.ssl.truststore.password");
        /// What that file is, as of the other one.
        zookeeper_ssl_truststore_type: Option<String> =
            Key::broker("zookeeper.ssl.truststore.type");
        /// The version of TLS that is spoken, where `zookeeper.ssl.enabled.protocols` is unset:
        /// TLSv1.2 or TLSv1.3.
        zookeeper_ssl_protocol: String = Key::broker("zookeeper.ssl.protocol").default("TLSv1.2");
        /// The versions of TLS that may be spoken, separated by commas. Those before TLSv1.2 are
        /// passed over.
        zookeeper_ssl_enabled_protocols: Option<Vec<String>> =
            Key::broker("zookeeper.ssl.enabled.protocols");
        /// The cipher suites that are offered, by Java's names. Those that are not safe, or not known,
        /// are passed over. Unset: all others.
        zookeeper_ssl_cipher_suites: Option<Vec<String>> =
            Key::broker("zookeeper.ssl.cipher.suites");
        /// HTTPS: a server's certificate must name the host that `zookeeper.connect` names. Empty:
        /// names are not compared, certificates are verified all the same.
        zookeeper_ssl_endpoint_identification_algorithm: String =
            Key::broker("zookeeper.ssl.endpoint.identification.algorithm").default("HTTPS");
        /// Whether lists of revoked certificates are looked up. Only `false` is served.
        zookeeper_ssl_crl_enable: bool = Key::broker("zookeeper.ssl.crl.enable").default("false");
        /// Whether issuers are asked if a certificate was revoked. Only `false` is served.
        zookeeper_ssl_ocsp_enable: bool = Key::broker("zookeeper.ssl.ocsp.enable").default("false");
    }
}

keys! {
    /// Connections and requests.
    pub struct NetworkConfig {
        /// The threads that serve connections, from reading the request to writing the answer.
        /// Unset: one for each core (Kafka: 3, beside its `num.io.threads`).
        num_network_threads: Option<i32> = Key::broker("num.network.threads")
            .check(Check::AtLeast(1));
        /// The send buffer of a socket (`SO_SNDBUF`), in bytes; -1: the system's own, which grows
        /// with the connection. Kafka's default is 102400, which stops that growth.
        socket_send_buffer_bytes: i32 = Key::broker("socket.send.buffer.bytes").default("-1")
            .check(Check::AtLeast(-1));
        /// The receive buffer of a socket (`SO_RCVBUF`), in bytes; -1: the system's own, which grows
        /// with the connection. Kafka's default is 102400, which stops that growth.
        socket_receive_buffer_bytes: i32 = Key::broker("socket.receive.buffer.bytes")
            .default("-1").check(Check::AtLeast(-1));
        /// How many connections may wait to be accepted.
        socket_listen_backlog_size: i32 = Key::broker("socket.listen.backlog.size").default("50")
            .check(Check::AtLeast(1));
        /// The largest request, in bytes; a larger one closes its connection.
        socket_request_max_bytes: i32 = Key::broker("socket.request.max.bytes")
            .default("104857600").check(Check::AtLeast(1));
        /// The bytes of requests that may be in work at once; 0 or less: no limit. Beyond it no
        /// further request is read. Kafka's default is -1.
        queued_max_request_bytes: i64 = Key::broker("queued.max.request.bytes")
            .default("268435456");
        /// How many connections the broker holds at once; at the limit it accepts no further one.
        max_connections: i32 = Key::broker("max.connections").default("2147483647")
            .check(Check::AtLeast(0)).update(Update::ClusterWide);
        /// How many connections one address may hold at once.
        max_connections_per_ip: i32 = Key::broker("max.connections.per.ip").default("2147483647")
            .check(Check::AtLeast(0)).update(Update::ClusterWide);
        /// Other limits for single addresses: `address:count`, separated by commas. Addresses are
        /// numeric (Kafka takes host names too).
        max_connections_per_ip_overrides: String = Key::broker("max.connections.per.ip.overrides")
            .default("").update(Update::ClusterWide);
        /// After how long without a request a connection is closed, in milliseconds.
        connections_max_idle_ms: i64 = Key::broker("connections.max.idle.ms").default("600000");
        /// The most bytes of records that one fetch returns, whatever the client asks for.
        fetch_max_bytes: i32 = Key::broker("fetch.max.bytes").default("57671680")
            .check(Check::AtLeast(1024));
        /// How many incremental fetch sessions are kept.
        max_incremental_fetch_session_cache_slots: i32 =
            Key::broker("max.incremental.fetch.session.cache.slots").default("1000")
            .check(Check::AtLeast(0));
        /// The most partitions in one answer to `DescribeTopicPartitions`.
        max_request_partition_size_limit: i32 = Key::broker("max.request.partition.size.limit")
            .default("2000").check(Check::AtLeast(1));
    }
}

keys! {
    /// The log directories and what is done to them from time to time.
    pub struct StorageConfig {
        /// The directory of the logs, where `log.dirs` is not set. Kafka's default is
        /// `/tmp/kafka-logs`, which a reboot may empty.
        log_dir: String = Key::broker("log.dir").default("./ottla-data").check(Check::NotEmpty);
        /// The directories of the logs, separated by commas.
        log_dirs: Option<String> = Key::broker("log.dirs");
        /// Where Kafka kept its metadata log, if not in one of the log directories. It is read once,
        /// at the first start over directories that Kafka wrote.
        metadata_log_dir: Option<String> = Key::broker("metadata.log.dir");
        /// The free space of a log directory, in bytes, below which produce is refused, so that
        /// deletions, offset commits and a clean stop still have room. -1: the larger of 1 GiB and
        /// 2 % of the disk; 0: none is kept. A key of Ottla.
        log_dir_min_free_bytes: i64 = Key::broker("log.dir.min.free.bytes").default("-1")
            .check(Check::AtLeast(-1));
        /// The logs of one directory that are opened, and recovered, at a time. The default is that
        /// of Kafka 4.
        num_recovery_threads_per_data_dir: i32 = Key::broker("num.recovery.threads.per.data.dir")
            .default("2").check(Check::AtLeast(1)).update(Update::ClusterWide);
        /// The logs that are copied to other directories at a time. Unset: as many as there are
        /// directories.
        num_replica_alter_log_dirs_threads: Option<i32> =
            Key::broker("num.replica.alter.log.dirs.threads").check(Check::AtLeast(1));
        /// The most bytes that all copies of logs to other directories read in a second. In Kafka
        /// it is only ever set by `kafka-configs`.
        replica_alter_log_dirs_io_max_bytes_per_second: i64 =
            Key::broker("replica.alter.log.dirs.io.max.bytes.per.second")
            .default("9223372036854775807").check(Check::AtLeast(1));
        /// How often logs are looked at for segments to delete, in milliseconds.
        log_retention_check_interval_ms: i64 = Key::broker("log.retention.check.interval.ms")
            .default("300000").check(Check::AtLeast(1));
        /// How often the offsets up to which logs are on disk are written to a file, in
        /// milliseconds.
        log_flush_offset_checkpoint_interval_ms: i32 =
            Key::broker("log.flush.offset.checkpoint.interval.ms").default("60000")
            .check(Check::AtLeast(0));
        /// How often the log start offsets are written to a file, in milliseconds.
        log_flush_start_offset_checkpoint_interval_ms: i32 =
            Key::broker("log.flush.start.offset.checkpoint.interval.ms").default("60000")
            .check(Check::AtLeast(0));
        /// How long the state of an idle producer is kept, in milliseconds.
        producer_id_expiration_ms: i32 = Key::broker("producer.id.expiration.ms")
            .default("86400000").check(Check::AtLeast(1)).update(Update::ClusterWide);
    }
}

keys! {
    /// The log cleaner, which compacts logs.
    pub struct CleanerConfig {
        /// Whether logs with `cleanup.policy=compact` are compacted. `false` lets them grow.
        log_cleaner_enable: bool = Key::broker("log.cleaner.enable").default("true");
        /// How many logs are compacted at once.
        log_cleaner_threads: i32 = Key::broker("log.cleaner.threads").default("1")
            .check(Check::AtLeast(0)).update(Update::ClusterWide);
        /// The memory for the keys of the logs that are being compacted, of all threads together, in
        /// bytes. A key takes 24 bytes. A thread takes what its log needs, for as long as it does.
        log_cleaner_dedupe_buffer_size: i64 = Key::broker("log.cleaner.dedupe.buffer.size")
            .default("134217728").update(Update::ClusterWide);
        /// The memory for reading and writing, of all threads together, in bytes. A larger batch gets
        /// as much as it needs.
        log_cleaner_io_buffer_size: i32 = Key::broker("log.cleaner.io.buffer.size")
            .default("524288").check(Check::AtLeast(0)).update(Update::ClusterWide);
        /// How full the memory for keys may be, as a share of 1. More takes in more keys at once, and
        /// takes longer to find one.
        log_cleaner_io_buffer_load_factor: f64 = Key::broker("log.cleaner.io.buffer.load.factor")
            .default("0.9").update(Update::ClusterWide);
        /// How many bytes all threads together read and write per second at most.
        log_cleaner_io_max_bytes_per_second: f64 =
            Key::broker("log.cleaner.io.max.bytes.per.second").default("1.7976931348623157E308")
            .update(Update::ClusterWide);
        /// How long a thread waits when there was nothing to compact, in milliseconds.
        log_cleaner_backoff_ms: i64 = Key::broker("log.cleaner.backoff.ms").default("15000")
            .check(Check::AtLeast(0)).update(Update::ClusterWide);
    }
}

keys! {
    /// How topics come and go.
    pub struct TopicsConfig {
        /// The partitions of a topic that is created without saying how many.
        num_partitions: i32 = Key::broker("num.partitions").default("1").check(Check::AtLeast(1));
        /// The replicas of a topic that is created without saying how many.
        default_replication_factor: i32 = Key::broker("default.replication.factor").default("1")
            .check(Check::AtLeast(1));
        /// Whether a topic is created when a client asks for its metadata or writes to it.
        auto_create_topics_enable: bool = Key::broker("auto.create.topics.enable").default("true");
        /// Whether topics may be deleted.
        delete_topic_enable: bool = Key::broker("delete.topic.enable").default("true");
    }
}

keys! {
    /// Consumer groups and their offsets.
    pub struct GroupConfig {
        /// The shortest session timeout that a member may ask for, in milliseconds.
        group_min_session_timeout_ms: i32 = Key::broker("group.min.session.timeout.ms")
            .default("6000");
        /// The longest session timeout that a member may ask for, in milliseconds.
        group_max_session_timeout_ms: i32 = Key::broker("group.max.session.timeout.ms")
            .default("1800000");
        /// How long a new group waits for further members, in milliseconds.
        group_initial_rebalance_delay_ms: i32 = Key::broker("group.initial.rebalance.delay.ms")
            .default("3000").check(Check::AtLeast(0));
        /// The most members of a group.
        group_max_size: i32 = Key::broker("group.max.size").default("2147483647")
            .check(Check::AtLeast(1));
        /// The partitions of `__consumer_offsets`. Not to be changed once the topic exists.
        offsets_topic_num_partitions: i32 = Key::broker("offsets.topic.num.partitions")
            .default("50").check(Check::AtLeast(1));
        /// The replicas of `__consumer_offsets`. Kafka's default is 3, with which a single broker
        /// cannot create the topic.
        offsets_topic_replication_factor: i16 = Key::broker("offsets.topic.replication.factor")
            .default("1").check(Check::AtLeast(1));
        /// The segment size of `__consumer_offsets`, in bytes.
        offsets_topic_segment_bytes: i32 = Key::broker("offsets.topic.segment.bytes")
            .default("104857600").check(Check::AtLeast(1));
        /// The codec of `__consumer_offsets`: 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd.
        offsets_topic_compression_codec: i32 = Key::broker("offsets.topic.compression.codec")
            .default("0").check(Check::Between(0, 4));
        /// How long the offsets of an empty group are kept, in minutes.
        offsets_retention_minutes: i32 = Key::broker("offsets.retention.minutes").default("10080")
            .check(Check::AtLeast(1));
        /// How often offsets are looked at for expiry, in milliseconds.
        offsets_retention_check_interval_ms: i64 =
            Key::broker("offsets.retention.check.interval.ms").default("600000")
            .check(Check::AtLeast(1));
        /// The longest text that a client may store with an offset, in bytes.
        offset_metadata_max_bytes: i32 = Key::broker("offset.metadata.max.bytes").default("4096");
        /// How long a commit of offsets may wait for its replicas, in milliseconds.
        offsets_commit_timeout_ms: i32 = Key::broker("offsets.commit.timeout.ms").default("5000")
            .check(Check::AtLeast(1));
        /// How many bytes are read at once when offsets are loaded.
        offsets_load_buffer_size: i32 = Key::broker("offsets.load.buffer.size").default("5242880")
            .check(Check::AtLeast(1));
    }
}
