"""What suite znodes does to a broker, by confluent-kafka (librdkafka): each step changes the tree of znodes, or must not.

    znodes.py STEP BOOTSTRAP [ARGUMENT...]
"""

import sys
import time

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    ResourceType,
)

PATIENCE_S = 60
PAUSE_S = 0.1
BROKER = 1


def admin(bootstrap):
    return AdminClient({"bootstrap.servers": bootstrap})


def done(futures):
    for future in futures.values():
        future.result(PATIENCE_S)


def refused(call, what):
    """What is wrong leaves no trace in the tree."""
    try:
        done(call())
    except (KafkaException, ValueError):
        return
    sys.exit(f"{what}: not refused")


def led(bootstrap):
    """Until each partition has a leader."""
    client = admin(bootstrap)
    deadline = time.monotonic() + PATIENCE_S
    while any(
        partition.leader < 0
        for topic in client.list_topics(timeout=PATIENCE_S).topics.values()
        for partition in topic.partitions.values()
    ):
        if time.monotonic() > deadline:
            sys.exit("some partitions have no leader")
        time.sleep(PAUSE_S)


def create(bootstrap):
    client = admin(bootstrap)
    # One by one: what comes first in the tree is to be the same.
    for topic in [
        NewTopic("counted", 3, 1),
        NewTopic("defaults"),
        NewTopic("assigned", 2, replica_assignment=[[BROKER], [BROKER]]),
        NewTopic("configured", 1, 1, config={"retention.ms": "86400000", "cleanup.policy": "delete"}),
        NewTopic("with.dots_and-all", 1, 1),
    ]:
        done(client.create_topics([topic]))
    done(client.create_topics([NewTopic("validated", 1, 1)], validate_only=True))
    for topic in [
        NewTopic("counted", 1, 1),
        NewTopic("with_dots.and-all", 1, 1),
        NewTopic("too-many-replicas", 1, 2),
        NewTopic("misconfigured", 1, 1, config={"retention.ms": "soon"}),
        NewTopic("not a name", 1, 1),
    ]:
        refused(lambda topic=topic: client.create_topics([topic]), topic.topic)


def grow(bootstrap):
    client = admin(bootstrap)
    done(client.create_partitions([NewPartitions("counted", 5)]))
    done(client.create_partitions([NewPartitions("assigned", 3, replica_assignment=[[BROKER]])]))
    done(client.create_partitions([NewPartitions("assigned", 9)], validate_only=True))
    refused(lambda: client.create_partitions([NewPartitions("counted", 2)]), "fewer partitions")


def alter(bootstrap):
    client = admin(bootstrap)

    def change(topic, *changes):
        entries = [ConfigEntry(name, value, incremental_operation=how) for name, how, value in changes]
        resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)
        return client.incremental_alter_configs([resource])

    SET, DELETE = AlterConfigOpType.SET, AlterConfigOpType.DELETE
    APPEND, SUBTRACT = AlterConfigOpType.APPEND, AlterConfigOpType.SUBTRACT
    done(change("counted", ("retention.ms", SET, "1000000"), ("segment.bytes", SET, "1048576")))
    done(change("counted", ("retention.ms", DELETE, None)))
    done(change("counted", ("segment.bytes", SET, "1048576")))
    done(change("counted", ("cleanup.policy", APPEND, "compact")))
    done(change("counted", ("cleanup.policy", SUBTRACT, "delete")))
    # The last key of a topic goes, its node stays.
    done(change("assigned", ("compression.type", SET, "zstd")))
    done(change("assigned", ("compression.type", DELETE, None)))
    done(change("configured", ("min.insync.replicas", DELETE, None)))
    refused(lambda: change("counted", ("retention.ms", SET, "soon")), "a bad value")
    refused(lambda: change("nobody", ("retention.ms", SET, "1")), "a topic that is not there")


def delete(bootstrap):
    client = admin(bootstrap)
    done(client.delete_topics(["configured", "defaults"]))
    refused(lambda: client.delete_topics(["nobody"]), "a topic that is not there")


def recreate(bootstrap):
    client = admin(bootstrap)
    done(client.create_topics([NewTopic("configured", 2, 1)]))


def produce(bootstrap, topic, *values):
    producer = Producer({"bootstrap.servers": bootstrap})
    write(producer, topic, values)


def number(bootstrap, topic, *values):
    """As an idempotent producer, which is given an id."""
    producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True})
    write(producer, topic, values)


def write(producer, topic, values):
    failures = []
    for value in values:
        producer.produce(topic, value, on_delivery=lambda error, _: error and failures.append(error))
    if producer.flush(PATIENCE_S) or failures:
        sys.exit(f"not acknowledged: {failures}")


def group(bootstrap, topic):
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "group", "auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    deadline = time.monotonic() + PATIENCE_S
    while (message := consumer.poll(1)) is None or message.error() is not None:
        if time.monotonic() > deadline:
            sys.exit("the group reads nothing")
    consumer.commit(message, asynchronous=False)
    consumer.close()
    client = admin(bootstrap)
    done(client.delete_consumer_groups(["group"]))


def read(bootstrap, topic, count):
    """Prints the values of the first partition, `count` of them."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "unused", "enable.auto.commit": False})
    consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
    deadline = time.monotonic() + PATIENCE_S
    for _ in range(int(count)):
        while (message := consumer.poll(1)) is None or message.error() is not None:
            if time.monotonic() > deadline:
                sys.exit("there are fewer records")
        print(message.value().decode())
    consumer.close()


STEPS = {step.__name__: step for step in [led, create, grow, alter, delete, recreate, produce, number, group, read]}

if __name__ == "__main__":
    STEPS[sys.argv[1]](*sys.argv[2:])
