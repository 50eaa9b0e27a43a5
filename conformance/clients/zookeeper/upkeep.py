"""A Kafka whose tree moves from one service to another: what goes through it, and what its nodes tell.

upkeep.py write BOOTSTRAP FROM     writes 100 numbers from FROM on to topic "kept", and sets a key of it
upkeep.py read BOOTSTRAP           the numbers that are there, one a line, in their order
upkeep.py beside ADDRESS           makes nodes that are nobody's: read by one alone, numbered, deleted
upkeep.py dump ADDRESS             a line per node: path, data, access list, versions, zxids, times
upkeep.py epochs ADDRESS           controller epoch, broker epoch, partition epoch, as Kafka takes them
upkeep.py next ADDRESS             makes the next numbered node, and tells its path
"""

import json
import sys
import time

from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)
from kazoo.client import KazooClient
from kazoo.security import make_digest_acl

PATIENCE_S = 60
NUMBERS = 100
PARTITIONS = 3
TOPIC = "kept"
CREDENTIALS = "keeper:secret"


def write(bootstrap, first):
    first = int(first)
    admin = AdminClient({"bootstrap.servers": bootstrap})
    if TOPIC not in admin.list_topics(timeout=PATIENCE_S).topics:
        admin.create_topics([NewTopic(TOPIC, PARTITIONS, 1)])[TOPIC].result(PATIENCE_S)
    for retention_ms in (first + 1_000_000_000, first + 2_000_000_000):
        entry = ConfigEntry(
            "retention.ms", str(retention_ms), incremental_operation=AlterConfigOpType.SET
        )
        resource = ConfigResource(ResourceType.TOPIC, TOPIC, incremental_configs=[entry])
        admin.incremental_alter_configs([resource])[resource].result(PATIENCE_S)
    producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True})
    missed = []

    def delivered(error, message):
        if error is not None:
            missed.append(f"{message.value().decode()}: {error}")

    for number in range(first, first + NUMBERS):
        value = str(number).encode()
        producer.produce(TOPIC, value, partition=number % PARTITIONS, on_delivery=delivered)
    if producer.flush(PATIENCE_S) > 0 or missed:
        sys.exit(f"not acknowledged: {missed}")


def is_led(consumer):
    topic = consumer.list_topics(TOPIC, timeout=PATIENCE_S).topics[TOPIC]
    leaders = [partition.leader for partition in topic.partitions.values()]
    return len(leaders) == PARTITIONS and -1 not in leaders


def read(bootstrap):
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "upkeep", "enable.auto.commit": False}
    )
    # A broker that has just started listens before it knows its partitions.
    deadline = time.monotonic() + PATIENCE_S
    while not is_led(consumer):
        if time.monotonic() > deadline:
            sys.exit(f"{TOPIC} has partitions without a leader")
        time.sleep(0.1)
    numbers = []
    for partition in range(PARTITIONS):
        place = TopicPartition(TOPIC, partition)
        _, end = consumer.get_watermark_offsets(place, PATIENCE_S)
        consumer.assign([TopicPartition(TOPIC, partition, OFFSET_BEGINNING)])
        deadline = time.monotonic() + PATIENCE_S
        while consumer.position([place])[0].offset < end:
            message = consumer.poll(1)
            if message is not None and message.error() is None:
                numbers.append(int(message.value()))
            if time.monotonic() > deadline:
                sys.exit(f"partition {partition} ends before {end}")
    consumer.close()
    print("\n".join(map(str, sorted(numbers))))


def connect(address):
    client = KazooClient(address, timeout=PATIENCE_S, auth_data=[("digest", CREDENTIALS)])
    client.start(PATIENCE_S)
    return client


def beside(address):
    client = connect(address)
    alone = make_digest_acl(*CREDENTIALS.split(":"), all=True)
    client.create("/beside", b"")
    client.create("/beside/secret", b"for one", acl=[alone])
    client.create("/beside/null", None)
    numbered = [client.create("/beside/number_", b"n", sequence=True) for _ in range(5)]
    # The last one too: its number is not given out again.
    client.delete(numbered[1])
    client.delete(numbered[4])
    for version in range(7):
        client.set("/beside", str(version).encode())
    client.set_acls("/beside/null", [alone])
    client.stop()


def following(address):
    client = connect(address)
    print(client.create("/beside/number_", b"n", sequence=True))
    client.stop()


def dump(address):
    client = connect(address)
    ahead = ["/"]
    while ahead:
        path = ahead.pop()
        data, stat = client.get(path)
        acls, _ = client.get_acls(path)
        node = {
            "path": path,
            "data": None if data is None else data.decode("latin-1"),
            "acl": [[acl.perms, acl.id.scheme, acl.id.id] for acl in acls],
            "versions": [stat.version, stat.cversion, stat.aversion],
            "zxids": [stat.czxid, stat.mzxid, stat.pzxid],
            "times": [stat.ctime, stat.mtime],
        }
        print(json.dumps(node))
        for child in sorted(client.get_children(path), reverse=True):
            if (path, child) != ("/", "zookeeper"):
                ahead.append(f"{path.rstrip('/')}/{child}")
    client.stop()


def epochs(address):
    client = connect(address)
    epoch, stat = client.get("/kafka/controller_epoch")
    _, broker = client.get("/kafka/brokers/ids/1")
    _, partition = client.get(f"/kafka/brokers/topics/{TOPIC}/partitions/0/state")
    print(int(epoch), stat.version, broker.czxid, partition.version)
    client.stop()


if __name__ == "__main__":
    command, *arguments = sys.argv[1:]
    commands = {"write": write, "read": read, "beside": beside, "dump": dump}
    commands |= {"epochs": epochs, "next": following}
    commands[command](*arguments)
