"""kafka-python (pure Python) under the client contract of conformance/README.md."""

import base64
import itertools
import json
import sys

from kafka import KafkaConsumer, KafkaProducer, TopicPartition

PATIENCE_S = 30


def pack(data):
    return None if data is None else base64.b64encode(data).decode()


def unpack(text):
    return None if text is None else base64.b64decode(text)


def write(bootstrap, topic, path):
    with open(path) as lines:
        records = [json.loads(line) for line in lines]
    for codec, group in itertools.groupby(records, key=lambda record: record["codec"]):
        producer = KafkaProducer(
            bootstrap_servers=bootstrap,
            acks="all",
            compression_type=None if codec == "none" else codec,
        )
        futures = [
            producer.send(
                topic,
                partition=record["partition"],
                key=unpack(record["key"]),
                value=unpack(record["value"]),
                headers=[(name, unpack(value)) for name, value in record["headers"]],
                timestamp_ms=record["timestamp"],
            )
            for record in group
        ]
        for future in futures:
            placed = future.get(PATIENCE_S)
            print(json.dumps({"partition": placed.partition, "offset": placed.offset}))
        producer.close()


def read(bootstrap, count, *topics):
    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap,
        group_id=None,
        auto_offset_reset="earliest",
        consumer_timeout_ms=PATIENCE_S * 1000,
    )
    consumer.assign([TopicPartition(t, partition) for t in topics for partition in consumer.partitions_for_topic(t)])
    seen = 0
    for message in itertools.islice(consumer, int(count)):
        seen += 1
        print(
            json.dumps(
                {
                    "topic": message.topic,
                    "partition": message.partition,
                    "offset": message.offset,
                    "key": pack(message.key),
                    "value": pack(message.value),
                    "headers": [[name, pack(value)] for name, value in message.headers],
                    "timestamp": message.timestamp,
                }
            )
        )
    if seen < int(count):
        sys.exit(f"only {seen} of {count} records came")
    consumer.close()


if __name__ == "__main__":
    {"write": write, "read": read}[sys.argv[1]](*sys.argv[2:])
