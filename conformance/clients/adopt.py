"""A cluster to be adopted, made and looked at through clients that nobody here wrote.

adopt.py fill ADDRESS           topics, configs, records, a group, a SCRAM user, ACLs, a deleted topic
adopt.py digest ADDRESS         what a client sees of them, one line each
adopt.py go-on ADDRESS          the group goes on where it was, producers write on
adopt.py znodes ADDRESS PATH…   the znodes at and below the paths that hold something
"""

import json
import sys

from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, Producer, TopicCollection
from confluent_kafka import TopicPartition
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ConfigSource,
    NewTopic,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from kazoo.client import KazooClient

PARTITIONS = {"orders": 3, "changes.log": 1, "empty_one": 2}
CONFIGS = {"orders": {"retention.ms": "86400000"}, "changes.log": {"cleanup.policy": "compact"}}
RECORDS = 120
CONSUMED = 40
GROUP = "billing"
TIMEOUT_S = 60


def wait(futures):
    return {key: future.result(TIMEOUT_S) for key, future in futures.items()}


def produce(address, topic, numbers, **settings):
    """Writes numbers as records, spread over the partitions by their keys."""
    failures = []
    producer = Producer({"bootstrap.servers": address, "linger.ms": 0, **settings})
    for number in numbers:
        producer.produce(
            topic,
            key=f"key-{number % 10}",
            value=f"value-{number}",
            headers=[("number", str(number).encode())],
            on_delivery=lambda error, _: failures.append(error) if error else None,
        )
    if producer.flush(TIMEOUT_S) or failures:
        sys.exit(f"not all records of {topic} were written: {failures[:1]}")


def consume(address, count, is_rest=False):
    """As a member of the group, reads `count` records of orders, which may have to be the rest."""
    consumer = Consumer(
        {
            "bootstrap.servers": address,
            "group.id": GROUP,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    consumer.subscribe(["orders"])
    seen = []
    while len(seen) < count:
        message = consumer.poll(TIMEOUT_S)
        if message is None or message.error():
            sys.exit(f"the group read {len(seen)} records: {message and message.error()}")
        seen.append(message)
    if is_rest and consumer.poll(2):
        sys.exit("the group did not go on where it was: there is more")
    consumer.commit(asynchronous=False)
    consumer.close()
    return seen


def fill(address):
    admin = AdminClient({"bootstrap.servers": address})
    new = [NewTopic(name, PARTITIONS[name], 1, config=CONFIGS.get(name, {})) for name in PARTITIONS]
    wait(admin.create_topics(new + [NewTopic("gone", 1, 1)]))
    produce(address, "gone", range(10))
    wait(admin.delete_topics(["gone"]))
    produce(address, "orders", range(RECORDS), **{"enable.idempotence": True})
    produce(address, "changes.log", range(RECORDS))
    alter = ConfigResource(
        ConfigResource.Type.TOPIC,
        "orders",
        incremental_configs=[
            ConfigEntry("max.message.bytes", "65536", incremental_operation=AlterConfigOpType.SET)
        ],
    )
    wait(admin.incremental_alter_configs([alter]))
    consume(address, CONSUMED)
    credential = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_256, 4096)
    wait(
        admin.alter_user_scram_credentials(
            [UserScramCredentialUpsertion("Ann O'Neill", credential, b"secret", b"salt of 16 bytes")]
        )
    )
    wait(admin.create_acls(list(acls())))


def acls():
    for kind, name, pattern, principal, operation, permission in [
        ("TOPIC", "orders", "LITERAL", "User:ann", "READ", "ALLOW"),
        ("TOPIC", "orders", "LITERAL", "User:ann", "DESCRIBE", "ALLOW"),
        ("TOPIC", "*", "LITERAL", "User:eve", "ALL", "DENY"),
        ("TOPIC", "changes.", "PREFIXED", "User:bob", "WRITE", "ALLOW"),
        ("GROUP", "billing", "LITERAL", "User:ann", "READ", "ALLOW"),
        ("BROKER", "kafka-cluster", "LITERAL", "User:ops", "ALTER_CONFIGS", "ALLOW"),
        ("TRANSACTIONAL_ID", "pay", "PREFIXED", "User:bob", "DESCRIBE", "ALLOW"),
    ]:
        yield AclBinding(
            getattr(ResourceType, kind),
            name,
            getattr(ResourcePatternType, pattern),
            principal,
            "10.0.0.1" if principal == "User:bob" else "*",
            getattr(AclOperation, operation),
            getattr(AclPermissionType, permission),
        )


def digest(address):
    admin = AdminClient({"bootstrap.servers": address})
    names = sorted(PARTITIONS)
    listed = sorted(name for name in admin.list_topics(timeout=TIMEOUT_S).topics)
    lines = [f"topics {' '.join(name for name in listed if not name.startswith('__'))}"]
    lines.append(f"cluster {admin.describe_cluster().result(TIMEOUT_S).cluster_id}")
    for name, topic in wait(admin.describe_topics(TopicCollection(names))).items():
        lines.append(f"topic {name} {topic.topic_id} {len(topic.partitions)}")
    resources = [ConfigResource(ConfigResource.Type.TOPIC, name) for name in names]
    for resource, config in wait(admin.describe_configs(resources)).items():
        for key, entry in sorted(config.items()):
            if entry.source == ConfigSource.DYNAMIC_TOPIC_CONFIG.value:
                lines.append(f"config {resource.name} {key} {entry.value}")
    lines += records(address, names)
    asked = [ConsumerGroupTopicPartitions(GROUP)]
    for partition in wait(admin.list_consumer_group_offsets(asked))[GROUP].topic_partitions:
        lines.append(f"committed {partition.topic} {partition.partition} {partition.offset}")
    print("\n".join(sorted(lines)))


def records(address, names):
    consumer = Consumer(
        {"bootstrap.servers": address, "group.id": "digest", "enable.auto.commit": False}
    )
    lines = []
    for name in names:
        for number in range(PARTITIONS[name]):
            partition = TopicPartition(name, number)
            low, high = consumer.get_watermark_offsets(partition, timeout=TIMEOUT_S)
            lines.append(f"offsets {name} {number} {low} {high}")
            consumer.assign([TopicPartition(name, number, low)])
            at = low
            while at < high:
                message = consumer.poll(TIMEOUT_S)
                if message is None or message.error():
                    sys.exit(f"{name}-{number} ends at {at}, not at {high}")
                at = message.offset() + 1
                lines.append(
                    f"record {name} {number} {message.offset()} {message.timestamp()[1]} "
                    f"{message.key()} {message.value()} {message.headers()}"
                )
    consumer.close()
    return lines


def go_on(address):
    seen = consume(address, RECORDS - CONSUMED, is_rest=True)
    numbers = {int(dict(message.headers())["number"]) for message in seen}
    if len(numbers) != RECORDS - CONSUMED:
        sys.exit("the group read a record twice")
    for name in PARTITIONS:
        produce(address, name, range(RECORDS, RECORDS + 30), **{"enable.idempotence": True})


def comparable(data):
    """What a znode says, without what another cluster has otherwise. JSON has no order of keys."""
    node = json.loads(data)
    for key in ["topic_id", "leader_epoch", "controller_epoch"]:
        node.pop(key, None)
    if "acls" in node:
        node["acls"].sort(key=lambda acl: sorted(acl.items()))
    return json.dumps(node, sort_keys=True)


def znodes(address, *paths):
    client = KazooClient(hosts=address, timeout=30)
    client.start(TIMEOUT_S)

    def walk(path):
        data, _ = client.get(path)
        if data:
            print(f"{path}\t{comparable(data)}")
        for name in sorted(client.get_children(path)):
            walk(f"{path.rstrip('/')}/{name}")

    for path in paths:
        if client.exists(path):
            walk(path)
    client.stop()


if __name__ == "__main__":
    commands = {"fill": fill, "digest": digest, "go-on": go_on, "znodes": znodes}
    commands[sys.argv[1]](*sys.argv[2:])
