"""confluent-kafka as a member of a consumer group. See conformance/README.md.

group.py member BOOTSTRAP GROUP TOPIC             reads and commits until SIGTERM
group.py committed BOOTSTRAP GROUP TOPIC          prints: partition, committed offset
group.py since BOOTSTRAP GROUP TOPIC TIMESTAMP    reads from that time to the end

Records are printed a line each: partition, offset, timestamp, key or nothing, value. A member
prints the partitions that it is given as `assigned 0 1 ...`.
"""

import signal
import sys
import time

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

PATIENCE_S = 30
BATCH = 500
# A commit that crosses a rebalance is refused; what it covered comes again to the next owner.
REBALANCE = {KafkaError.REBALANCE_IN_PROGRESS, KafkaError.ILLEGAL_GENERATION, KafkaError.UNKNOWN_MEMBER_ID}

running = True


def stop(*_):
    global running
    running = False


def connect(bootstrap, group):
    return Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "session.timeout.ms": 6000,
            "heartbeat.interval.ms": 500,
        }
    )


def show(message):
    key = (message.key() or b"").decode()
    print(message.partition(), message.offset(), message.timestamp()[1], key, message.value().decode(), sep="\t")


def records(messages):
    """The records among `messages`; the number of partitions that came to their end."""
    ends = 0
    found = []
    for message in messages:
        if message.error() is None:
            found.append(message)
        elif message.error().code() == KafkaError._PARTITION_EOF:
            ends += 1
        else:
            raise KafkaException(message.error())
    return found, ends


def member(bootstrap, group, topic):
    signal.signal(signal.SIGTERM, stop)
    consumer = connect(bootstrap, group)

    def assigned(_, partitions):
        print("assigned", *sorted(partition.partition for partition in partitions), flush=True)

    consumer.subscribe([topic], on_assign=assigned)
    while running:
        found, _ = records(consumer.consume(BATCH, timeout=0.2))
        for message in found:
            show(message)
        sys.stdout.flush()
        if found:
            try:
                consumer.commit(asynchronous=False)
            except KafkaException as refused:
                if refused.args[0].code() not in REBALANCE:
                    raise
    consumer.close()


def partitions_of(consumer, topic):
    return list(consumer.list_topics(topic, PATIENCE_S).topics[topic].partitions)


def committed(bootstrap, group, topic):
    consumer = connect(bootstrap, group)
    wanted = [TopicPartition(topic, partition) for partition in partitions_of(consumer, topic)]
    for place in consumer.committed(wanted, PATIENCE_S):
        print(place.partition, place.offset)
    consumer.close()


def since(bootstrap, group, topic, timestamp):
    consumer = connect(bootstrap, group)
    wanted = [TopicPartition(topic, partition, int(timestamp)) for partition in partitions_of(consumer, topic)]
    starts = consumer.offsets_for_times(wanted, PATIENCE_S)
    consumer.assign(starts)
    left = len(starts)
    heard = time.monotonic()
    while left > 0:
        found, ends = records(consumer.consume(BATCH, timeout=0.2))
        left -= ends
        if found or ends:
            heard = time.monotonic()
        elif time.monotonic() > heard + PATIENCE_S:
            sys.exit(f"{left} partitions did not come to their end")
        for message in found:
            show(message)
        if found:
            consumer.commit(asynchronous=False)
    consumer.close()


if __name__ == "__main__":
    {"member": member, "committed": committed, "since": since}[sys.argv[1]](*sys.argv[2:])
