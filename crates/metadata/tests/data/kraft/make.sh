#!/bin/sh
# Makes the metadata log beside this file with Apache Kafka 4.4.0: KRaft, one node, its own snapshots.
# Run suite `install` of conformance first, and this from the top of the repository.
set -eu
here=$(dirname "$0")
java=target/tools/java
home=$(mktemp -d)
address=127.0.0.1:29392
cat > "$home/server.properties" <<END
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:29393
listeners=PLAINTEXT://$address,CONTROLLER://127.0.0.1:29393
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=$home/data
offsets.topic.replication.factor=1
offsets.topic.num.partitions=2
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
group.initial.rebalance.delay.ms=0
metadata.max.idle.interval.ms=0
metadata.log.max.record.bytes.between.snapshots=2500
END
kafka() { java -Xmx400m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp "$java/4.4.0/libs/*" "$@"; }
kafka kafka.tools.StorageTool format -t b3R0bGEtY29uZm9ybWFuYw -c "$home/server.properties"
kafka kafka.Kafka "$home/server.properties" > "$home/broker.log" 2>&1 &
broker=$!
alter() {
    java -Xmx128m -XX:TieredStopAtLevel=1 -cp "$java/4.3.1/libs/*" kafka.admin.ConfigCommand \
        --bootstrap-server "$address" --alter "$@"
}
target/tools/python/bin/python conformance/clients/adopt.py fill "$address"
alter --entity-type users --entity-name "Ann O'Neill" --entity-type clients --entity-name 'c/1 é' \
    --add-config consumer_byte_rate=1024,request_percentage=12.5,producer_byte_rate=20000000
alter --entity-type users --entity-default --add-config controller_mutation_rate=10000000.25
alter --entity-type users --entity-name "Ann O'Neill" --add-config consumer_byte_rate=7
alter --entity-type ips --entity-name 10.0.0.1 --add-config connection_creation_rate=5
alter --entity-type brokers --entity-default --add-config log.cleaner.backoff.ms=14000
alter --entity-type client-metrics --entity-name watch --add-config interval.ms=1000
kill "$broker"
wait "$broker" || true
rm -f "$here"/*.log "$here"/*.checkpoint
cp "$home"/data/__cluster_metadata-0/*.log "$home"/data/__cluster_metadata-0/*.checkpoint "$here"
chmod u+w "$here"/*.checkpoint
rm -rf "$home"
