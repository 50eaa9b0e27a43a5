"""The tree of znodes as kazoo reads it, for suite znodes.

    tree.py look HOST:PORT [PATH...] [-PATH...]   waits until each PATH is there, and gone where it has a minus; then
                                                  prints a line of JSON for each node, all but ZooKeeper's own
    tree.py lose HOST:PORT TOPIC PARTITION        leaves a partition as Kafka does when its last replica goes offline
    tree.py data HOST:PORT PATH                   prints the data of a node
    tree.py join HOST:PORT BOOTSTRAP DATA         registers a second broker, at a port of nobody's, as DATA tells of another;
                                                  waits until clients of BOOTSTRAP are told of it, and takes it away again
"""

import json
import sys
import time

from confluent_kafka.admin import AdminClient
from kazoo.client import KazooClient
from kazoo.exceptions import NoNodeError

PATIENCE_S = 60
PAUSE_S = 0.02


def nodes(zk, path):
    try:
        data, stat = zk.get(path)
        acls, _ = zk.get_acls(path)
        children = sorted(zk.get_children(path))
    except NoNodeError:
        return
    yield {
        "path": path,
        "data": None if data is None else data.decode("utf-8", "backslashreplace"),
        "owner": stat.ephemeralOwner,
        "acl": [f"{acl.id.scheme}:{acl.id.id}={acl.perms}" for acl in acls],
        "version": stat.version,
        "cversion": stat.cversion,
        "aversion": stat.aversion,
        "children": len(children),
        "ctime": stat.ctime,
        "mtime": stat.mtime,
    }
    for child in children:
        child = f"{path.rstrip('/')}/{child}"
        if child != "/zookeeper":
            yield from nodes(zk, child)


def is_so(zk, wanted):
    path = wanted.removeprefix("-")
    return (zk.exists(path) is None) == (path != wanted)


def look(zk, *wanted):
    deadline = time.monotonic() + PATIENCE_S
    while missing := [path for path in wanted if not is_so(zk, path)]:
        if time.monotonic() > deadline:
            sys.exit(f"waited {PATIENCE_S} s for {missing}")
        time.sleep(PAUSE_S)
    for node in nodes(zk, "/"):
        print(json.dumps(node))


def lose(zk, topic, partition):
    path = f"/brokers/topics/{topic}/partitions/{partition}/state"
    data, stat = zk.get(path)
    state = json.loads(data)
    state |= {"leader": -1, "leader_epoch": state["leader_epoch"] + 1}
    zk.set(path, json.dumps(state).encode(), stat.version)


def data(zk, path):
    print(zk.get(path)[0].decode())


def join(zk, bootstrap, registration):
    host, port = "127.0.0.1", 1
    registration = json.loads(registration)
    registration |= {"host": host, "port": port, "endpoints": [f"PLAINTEXT://{host}:{port}"]}
    zk.create("/brokers/ids/2", json.dumps(registration).encode(), ephemeral=True)
    client = AdminClient({"bootstrap.servers": bootstrap})
    deadline = time.monotonic() + PATIENCE_S
    while (joined := client.list_topics(timeout=PATIENCE_S).brokers.get(2)) is None:
        if time.monotonic() > deadline:
            sys.exit(f"clients are not told of {registration}")
        time.sleep(PAUSE_S)
    if (joined.host, joined.port) != (host, port):
        sys.exit(f"clients are told of {joined.host}:{joined.port}")


def main(command, address, *arguments):
    zk = KazooClient(address, timeout=30)
    zk.start(timeout=PATIENCE_S)
    {"look": look, "lose": lose, "data": data, "join": join}[command](zk, *arguments)
    zk.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
