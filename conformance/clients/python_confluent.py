"""confluent-kafka (librdkafka) under the client contract of conformance/README.md."""

import base64
import itertools
import json
import sys

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

PATIENCE_S = 30


def pack(data):
    return None if data is None else base64.b64encode(data).decode()


def unpack(text):
    return None if text is None else base64.b64decode(text)


def write(bootstrap, topic, path):
    with open(path) as lines:
        records = [json.loads(line) for line in lines]
    for codec, group in itertools.groupby(records, key=lambda record: record["codec"]):
        producer = Producer({"bootstrap.servers": bootstrap, "acks": "all", "compression.type": codec})
        group = list(group)
        placed = [None] * len(group)

        def delivered(index):
            def report(error, message):
                if error is not None:
                    raise KafkaException(error)
                placed[index] = {"partition": message.partition(), "offset": message.offset()}

            return report

        for index, record in enumerate(group):
            producer.produce(
                topic,
                partition=record["partition"],
                key=unpack(record["key"]),
                value=unpack(record["value"]),
                headers=[(name, unpack(value)) for name, value in record["headers"]],
                timestamp=record["timestamp"],
                on_delivery=delivered(index),
            )
        if producer.flush(PATIENCE_S) > 0:
            sys.exit(f"some records of {codec} were never acknowledged")
        for place in placed:
            print(json.dumps(place))


def read(bootstrap, count, *topics):
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "conformance-unused", "enable.auto.commit": False}
    )
    known = consumer.list_topics(timeout=PATIENCE_S).topics
    consumer.assign(
        [TopicPartition(t, partition, OFFSET_BEGINNING) for t in topics for partition in known[t].partitions]
    )
    for seen in range(int(count)):
        message = consumer.poll(PATIENCE_S)
        if message is None:
            sys.exit(f"only {seen} of {count} records came")
        if message.error():
            raise KafkaException(message.error())
        print(
            json.dumps(
                {
                    "topic": message.topic(),
                    "partition": message.partition(),
                    "offset": message.offset(),
                    "key": pack(message.key()),
                    "value": pack(message.value()),
                    "headers": [[name, pack(value)] for name, value in message.headers() or []],
                    "timestamp": message.timestamp()[1],
                }
            )
        )
    consumer.close()


def topics(bootstrap, partitions, *names):
    """Beyond the contract: the harness makes its topics with this client."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    wanted = [NewTopic(name, num_partitions=int(partitions), replication_factor=1) for name in names]
    for future in admin.create_topics(wanted).values():
        future.result(PATIENCE_S)


if __name__ == "__main__":
    {"write": write, "read": read, "topics": topics}[sys.argv[1]](*sys.argv[2:])
