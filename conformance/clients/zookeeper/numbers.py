"""Numbered records through Kafka brokers that die: what was acknowledged, and what is there.

numbers.py write BOOTSTRAP TOPIC N   writes N, N+1… until standard input ends; a line per acknowledged number
numbers.py read BOOTSTRAP TOPIC      all that is there: a line "partition offset number" each
numbers.py topic BOOTSTRAP TOPIC    creates it, three partitions on three brokers
"""

import select
import sys
import time

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

PATIENCE_S = 60
# So few that a run of minutes stays small, so many that some are always under way.
A_SECOND = 500


def write(bootstrap, topic, first):
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "enable.idempotence": True,
            "delivery.timeout.ms": PATIENCE_S * 1000,
            "reconnect.backoff.max.ms": 500,
        }
    )

    def delivered(error, message):
        if error is None:
            print(message.value().decode(), flush=True)
        else:
            print(f"not acknowledged: {message.value().decode()}: {error}", file=sys.stderr)

    number = int(first)
    while not select.select([sys.stdin], [], [], 0)[0]:
        producer.produce(topic, str(number).encode(), partition=number % 3, on_delivery=delivered)
        number += 1
        producer.poll(1 / A_SECOND)
        time.sleep(1 / A_SECOND)
    if producer.flush(PATIENCE_S) > 0:
        sys.exit("some records were never acknowledged")


def end_of(consumer, partition):
    """Asked until it is told: a leader that was elected just now, or has just started, does not know yet."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return consumer.get_watermark_offsets(partition, PATIENCE_S)[1]
        except KafkaException:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def read(bootstrap, topic):
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "numbers-unused",
            "enable.auto.commit": False,
            "isolation.level": "read_uncommitted",
        }
    )
    for partition in range(3):
        end = end_of(consumer, TopicPartition(topic, partition))
        consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING)])
        deadline = time.monotonic() + PATIENCE_S
        while consumer.position([TopicPartition(topic, partition)])[0].offset < end:
            message = consumer.poll(1)
            if message is not None and message.error() is None:
                print(partition, message.offset(), message.value().decode())
            if time.monotonic() > deadline:
                sys.exit(f"partition {partition} ends before {end}")
    consumer.close()


def create(bootstrap, topic, replicas):
    admin = AdminClient({"bootstrap.servers": bootstrap})
    config = {"min.insync.replicas": "2" if int(replicas) > 2 else "1"}
    created = admin.create_topics([NewTopic(topic, 3, int(replicas), config=config)])[topic]
    created.result(PATIENCE_S)


if __name__ == "__main__":
    command, *arguments = sys.argv[1:]
    {"write": write, "read": read, "topic": create}[command](*arguments)
