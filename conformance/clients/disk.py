"""Suite disk, by confluent-kafka (librdkafka): fills the topics with all that a log can hold, and
tells what a client sees of them.

    disk.py create BOOTSTRAP   the topics, empty
    disk.py fill BOOTSTRAP     transactions, compaction, retention; `records` has a writer of its own
    disk.py grow BOOTSTRAP     more of what a taken-over log must take
    disk.py digest BOOTSTRAP   one line per record and look-up, the same for the same logs
"""

import hashlib
import os
import random
import sys
import time

from confluent_kafka import (
    OFFSET_BEGINNING,
    TIMESTAMP_CREATE_TIME,
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

LOOK_UPS = 20
PATIENCE_S = 60
PAUSE_S = 0.1
HOUR_MS = 3_600_000
CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
# The smallest that Kafka 4 allows.
SEGMENT = {"segment.bytes": str(1 << 20)}
# Partitions and settings.
TOPICS = {
    "records": (3, SEGMENT),
    "append-times": (1, SEGMENT | {"message.timestamp.type": "LogAppendTime"}),
    "times": (1, SEGMENT | {"index.interval.bytes": "512"}),
    "transactions": (1, SEGMENT),
    "compacted": (1, SEGMENT | {"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.01"}),
    "retained": (1, SEGMENT | {"retention.ms": str(HOUR_MS)}),
}
RETAINED = TopicPartition("retained", 0)
# Look-ups by time for each partition, of timestamps spread over its records and those beside them.
TIMES = 24
RANDOM = random.Random(0x6F74746C61)


def partitions():
    return [TopicPartition(topic, p) for topic, (count, _) in TOPICS.items() for p in range(count)]


def eventually(attempt):
    """A broker that has just started may have no leaders yet."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return attempt()
        except KafkaException:
            if time.monotonic() > deadline:
                raise
            time.sleep(PAUSE_S)


def look_up(admin, asked, isolation):
    """`asked` has a spec for each partition; returns (offset, timestamp) for each."""
    def ask():
        futures = admin.list_offsets(asked, isolation_level=isolation, request_timeout=PATIENCE_S)
        return {at: future.result() for at, future in futures.items()}

    found = eventually(ask)
    return {(at.topic, at.partition): (result.offset, result.timestamp) for at, result in found.items()}


def look_up_all(admin, asked, isolation):
    """As `look_up`, but what Kafka does not find is asked for again: beside its cleaner, which swaps
    segments, it now and then finds no record at a time that has one."""
    found = look_up(admin, asked, isolation)
    for _ in range(LOOK_UPS):
        missing = {at: spec for at, spec in asked.items() if found[(at.topic, at.partition)][0] < 0}
        if not missing:
            break
        found |= look_up(admin, missing, isolation)
    return found


def create(bootstrap):
    admin = AdminClient({"bootstrap.servers": bootstrap})
    wanted = [
        NewTopic(name, num_partitions=count, replication_factor=1, config=config)
        for name, (count, config) in TOPICS.items()
    ]
    for future in admin.create_topics(wanted).values():
        future.result(PATIENCE_S)
    # What can be asked for its end has its directory.
    look_up(admin, {at: OffsetSpec.latest() for at in partitions()}, IsolationLevel.READ_UNCOMMITTED)


def producer(bootstrap, codec="none", **more):
    config = {"bootstrap.servers": bootstrap, "acks": "all", "compression.type": codec, "linger.ms": 5}
    return Producer(config | {name.replace("_", "."): value for name, value in more.items()})


def refused(error, _message):
    if error is not None:
        raise KafkaException(error)


def send(producer, topic, value, key=None, **more):
    producer.produce(topic, partition=0, value=value, key=key, on_delivery=refused, **more)


def settle(producer):
    """All that was sent is acknowledged: the next batch is another one."""
    if producer.flush(PATIENCE_S) > 0:
        sys.exit("some records were never acknowledged")


def append_times(bootstrap):
    for codec in CODECS:
        writer = producer(bootstrap, codec)
        for _ in range(3):
            for number in range(8):
                send(writer, "append-times", b"%d" % number * 500, b"key", headers=[("codec", codec.encode())])
            settle(writer)


def times(bootstrap, idempotent):
    """Timestamps in no order at all, over several segments."""
    now = int(time.time() * 1000)
    for codec in CODECS:
        writer = producer(bootstrap, codec, enable_idempotence=idempotent)
        for _ in range(16):
            for _ in range(RANDOM.randrange(1, 8)):
                send(writer, "times", RANDOM.randbytes(7000), timestamp=now - RANDOM.randrange(6 * HOUR_MS))
            settle(writer)


def transactional(bootstrap, name, **more):
    writer = producer(bootstrap, "lz4", transactional_id=name, **more)
    writer.init_transactions(PATIENCE_S)
    return writer


def transactions(bootstrap):
    """Committed and aborted ones that overlap, records of nobody's between them, and one left open."""
    plain, one, two = producer(bootstrap), transactional(bootstrap, "one"), transactional(bootstrap, "two")

    def write(writer, what):
        for _ in range(2):
            send(writer, "transactions", RANDOM.randbytes(150_000), what)
        settle(writer)

    for number in range(6):
        one.begin_transaction()
        write(one, b"one")
        two.begin_transaction()
        write(two, b"two")
        send(plain, "transactions", b"between", b"plain")
        settle(plain)
        for writer, commits in [(two, number % 3 == 0), (one, number % 2 == 0)]:
            (writer.commit_transaction if commits else writer.abort_transaction)(PATIENCE_S)
    three = transactional(bootstrap, "three", transaction_timeout_ms=900_000)
    three.begin_transaction()
    write(three, b"three")
    for _ in range(3):
        send(plain, "transactions", b"after", b"plain")
    settle(plain)
    # An object that is no more would end its transaction.
    return three


def overwrite(writer, keys):
    for number in keys:
        value = RANDOM.randbytes(40_000)
        send(writer, "compacted", value, b"k%d" % number, headers=[("h", b"v"), ("null", None)])
        settle(writer)


def compacted(bootstrap):
    """Each key again and again, some deleted; transactions among them."""
    for codec in CODECS:
        overwrite(producer(bootstrap, codec), range(20))
    plain, ends = producer(bootstrap, enable_idempotence=True), transactional(bootstrap, "cleaned")
    for number in range(15, 20):
        send(plain, "compacted", None, b"k%d" % number)
    settle(plain)
    for end in [ends.commit_transaction, ends.abort_transaction]:
        ends.begin_transaction()
        overwrite(ends, range(5, 10))
        end(PATIENCE_S)
    # The segment that is written to is not compacted: all of the above must lie in others.
    overwrite(plain, [number % 3 for number in range(30)])


def retained(bootstrap, age_ms):
    now = int(time.time() * 1000)
    writer = producer(bootstrap, "zstd")
    # Kafka takes the offset of the greatest timestamp from the whole segment: it must not lie before
    # the offset that the log is cut to.
    for number, age_ms in enumerate([age_ms] * 30 + [0] * 30):
        send(writer, "retained", RANDOM.randbytes(50_000), timestamp=now + number - age_ms)
        settle(writer)


def start(bootstrap, at):
    admin = AdminClient({"bootstrap.servers": bootstrap})
    found = look_up(admin, {at: OffsetSpec.earliest()}, IsolationLevel.READ_UNCOMMITTED)
    return found[(at.topic, at.partition)][0]


def await_deletion(bootstrap, at, before):
    """Until the partition begins behind `before`."""
    deadline = time.monotonic() + PATIENCE_S
    while start(bootstrap, at) <= before:
        if time.monotonic() > deadline:
            sys.exit(f"{at}: no segment was deleted")
        time.sleep(PAUSE_S)


def delete_records(bootstrap, at, count):
    """The first `count` records, which end in the middle of a segment."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    before = TopicPartition(at.topic, at.partition, start(bootstrap, at) + count)
    for future in admin.delete_records([before]).values():
        future.result()


def limit_size(bootstrap, at):
    """Deletion by size, beside that by age."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    before = start(bootstrap, at)
    limit = ConfigEntry("retention.bytes", str(2 << 20), incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, at.topic, incremental_configs=[limit])
    for future in admin.incremental_alter_configs([resource]).values():
        future.result(PATIENCE_S)
    await_deletion(bootstrap, at, before)


def fill(bootstrap):
    append_times(bootstrap)
    times(bootstrap, True)
    compacted(bootstrap)
    retained(bootstrap, 48 * HOUR_MS)
    await_deletion(bootstrap, RETAINED, 0)
    delete_records(bootstrap, RETAINED, 7)
    left_open = transactions(bootstrap)
    sys.stdout.flush()
    os._exit(0 if left_open else 1)


def grow(bootstrap):
    RANDOM.seed(1)
    append_times(bootstrap)
    times(bootstrap, False)
    plain = producer(bootstrap, "snappy")
    for _ in range(12):
        send(plain, "transactions", RANDOM.randbytes(100_000), b"grown")
        settle(plain)
    overwrite(producer(bootstrap, "zstd"), [number % 13 for number in range(60)])
    retained(bootstrap, 0)
    limit_size(bootstrap, RETAINED)
    delete_records(bootstrap, RETAINED, 7)
    delete_records(bootstrap, TopicPartition("records", 1), 11)


def short(data):
    return "null" if data is None else f"{len(data)}:{hashlib.sha256(data).hexdigest()[:16]}"


def describe(message):
    kind, timestamp = message.timestamp()
    kind = "CreateTime" if kind == TIMESTAMP_CREATE_TIME else "LogAppendTime"
    headers = ",".join(f"{name}={short(value)}" for name, value in message.headers() or [])
    key, value = short(message.key()), short(message.value())
    return f"offset {message.offset()} {kind} {timestamp} key {key} value {value} headers {headers or 'none'}"


def read(bootstrap, isolation):
    """All that there is, as (offset, timestamp, description) in the order of its coming."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "disk-unused",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "check.crcs": True,
            "isolation.level": isolation,
        }
    )
    assigned = partitions()
    eventually(lambda: consumer.list_topics(timeout=PATIENCE_S))
    consumer.assign([TopicPartition(at.topic, at.partition, OFFSET_BEGINNING) for at in assigned])
    found = {(at.topic, at.partition): [] for at in assigned}
    unfinished = set(found)
    while unfinished:
        message = consumer.poll(PATIENCE_S)
        if message is None:
            sys.exit(f"nothing more comes of {unfinished}")
        at = (message.topic(), message.partition())
        if message.error() is None:
            found[at].append((message.offset(), message.timestamp()[1], describe(message)))
        elif message.error().code() == KafkaError._PARTITION_EOF:
            unfinished.discard(at)
        elif message.error().fatal() or not message.error().retriable():
            raise KafkaException(message.error())
    consumer.close()
    return found


def times_of(records):
    """Timestamps to look up: each the same for the same records."""
    known = sorted({timestamp for _, timestamp, _ in records})
    chosen = [known[index * (len(known) - 1) // (TIMES - 1)] for index in range(TIMES)] if known else [0] * TIMES
    return [timestamp + beside for timestamp in chosen for beside in (-1, 0, 1)] + [0, 1 << 60]


def digest(bootstrap):
    admin = AdminClient({"bootstrap.servers": bootstrap})
    times = None
    for isolation in ["read_uncommitted", "read_committed"]:
        found = read(bootstrap, isolation)
        times = times or {at: times_of(records) for at, records in found.items()}
        for (topic, partition), records in found.items():
            offsets = [offset for offset, _, _ in records]
            if offsets != sorted(set(offsets)):
                sys.exit(f"{topic}-{partition}: offsets in disorder")
            for _, _, description in records:
                print(f"{isolation} {topic}-{partition} {description}")
        level = IsolationLevel[isolation.upper()]
        special = {"earliest": OffsetSpec.earliest, "latest": OffsetSpec.latest, "max": OffsetSpec.max_timestamp}
        asked = [(name, {at: spec() for at in partitions()}) for name, spec in special.items()]
        for index in range(len(times[("records", 0)])):
            by_time = {at: times[(at.topic, at.partition)][index] for at in partitions()}
            asked.append((by_time, {at: OffsetSpec.for_timestamp(time) for at, time in by_time.items()}))
        for name, specs in asked:
            for (topic, partition), (offset, timestamp) in look_up_all(admin, specs, level).items():
                wanted = name if isinstance(name, str) else name[TopicPartition(topic, partition)]
                print(f"{isolation} {topic}-{partition} lookup {wanted}: {offset} {timestamp}")


if __name__ == "__main__":
    {"create": create, "fill": fill, "grow": grow, "digest": digest}[sys.argv[1]](sys.argv[2])
