"""kazoo and its recipes on a server of ZooKeeper's protocol, as text.

    recipes.py HOST:PORT

Each step is a line, with its answer or its error. What depends on the turns of threads is told by its outcome.
"""

import sys
import threading
import time

from kazoo.client import KazooClient, TransactionRequest
from kazoo.exceptions import KazooException
from kazoo.protocol.states import ZnodeStat
from kazoo.recipe.barrier import DoubleBarrier
from kazoo.recipe.cache import TreeCache
from kazoo.recipe.partitioner import PartitionState
from kazoo.security import OPEN_ACL_UNSAFE, make_acl, make_digest_acl

PATIENCE_S = 20
PARTIES = 3


class Script:
    def __init__(self, address):
        self.address, self.section, self.steps, self.sessions = address, "", 0, {}
        self.clients = [self.client() for _ in range(PARTIES)]
        self.zk = self.clients[0]

    def client(self, **options):
        client = KazooClient(self.address, timeout=30, **options)
        client.start(timeout=PATIENCE_S)
        self.sessions.setdefault(client.client_id[0], len(self.sessions) + 1)
        return client

    def begin(self, section):
        self.section, self.steps = f"kazoo {section}", 0

    def say(self, step, answer):
        try:
            answer = self.show(answer())
        except KazooException as error:
            answer = f"{type(error).__name__} {self.show(error.args)}"
        self.steps += 1
        print(self.section, self.steps, step, "=>", answer)

    def show(self, value):
        if isinstance(value, ZnodeStat):
            owner = value.ephemeralOwner
            owner = f"session {self.sessions.get(owner, '?')}" if owner > 0 else owner
            zxids = f"c{value.czxid} m{value.mzxid} p{value.pzxid} v{value.version},{value.cversion},{value.aversion}"
            return f"[{zxids} owner {owner} size {value.dataLength} children {value.numChildren}]"
        if isinstance(value, KazooException):
            return type(value).__name__
        if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
            return "[" + ", ".join(map(self.show, value)) + "]"
        return str(value)

    def all(self, party):
        """Every client in a thread of its own; how they failed, if they did."""
        failures = []

        def run(number):
            try:
                party(self.clients[number], number)
            except Exception as error:  # What it is belongs to the transcript.
                failures.append(f"{number}: {error!r}")

        threads = [threading.Thread(target=run, args=(number,)) for number in range(PARTIES)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return sorted(failures)


def until(condition):
    """Waits for what is true in the end; says so if it does not become true."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            return "never"
        time.sleep(0.005)
    return "yes"


def basics(script):
    script.begin("basics")
    zk, say = script.zk, script.say
    say("create", lambda: zk.create("/a", b"1", include_data=True))
    say("again", lambda: zk.create("/a"))
    say("with its parents", lambda: zk.create("/a/b/c", b"c", makepath=True))
    say("ephemeral", lambda: zk.create("/a/e", ephemeral=True, include_data=True))
    say("sequential", lambda: [zk.create("/a/s-", sequence=True) for _ in range(2)])
    say("both", lambda: zk.create("/a/es-", ephemeral=True, sequence=True))
    say("ensure", lambda: (zk.ensure_path("/x/y/z"), zk.ensure_path("/x/y/z")))
    say("get", lambda: zk.get("/a"))
    say("get nothing", lambda: zk.get("/none"))
    say("set", lambda: zk.set("/a", b"2", version=0))
    say("set a stale version", lambda: zk.set("/a", b"3", version=0))
    say("exists", lambda: zk.exists("/a/e"))
    say("exists not", lambda: zk.exists("/none"))
    say("children", lambda: sorted(zk.get_children("/a")))
    say("with its stat", lambda: zk.get_children("/a", include_data=True)[1])
    say("delete what has children", lambda: zk.delete("/a"))
    say("delete below an ephemeral", lambda: zk.create("/a/e/x"))
    say("sync", lambda: zk.sync("/a"))
    say("delete all of it", lambda: zk.delete("/a", recursive=True))
    say("what is left", lambda: sorted(zk.get_children("/")))
    say("below a root of one's own", lambda: chrooted(script))
    say("srvr", lambda: [line for line in zk.command(b"srvr").splitlines() if line.startswith("Mode")])


def chrooted(script):
    client = KazooClient(f"{script.address}/x", timeout=30)
    client.start(timeout=PATIENCE_S)
    try:
        return client.get_children("/"), client.create("/in"), script.zk.exists("/x/in") is not None
    finally:
        client.stop()
        client.close()


def transactions(script):
    script.begin("transaction")

    def commit(build):
        transaction: TransactionRequest = script.zk.transaction()
        build(transaction)
        return transaction.commit()

    def good(t):
        t.create("/t", b"1")
        t.create("/t/e", ephemeral=True)
        t.create("/t/s-", sequence=True)
        t.set_data("/t", b"2", version=0)
        t.check("/t", 1)
        t.delete("/t/e")

    def bad(t):
        t.create("/t/x")
        t.check("/t", 7)
        t.delete("/t/x")

    script.say("all of it", lambda: commit(good))
    script.say("none of it", lambda: commit(bad))
    script.say("nothing", lambda: commit(lambda t: None))
    script.say("left", lambda: (script.zk.get("/t"), sorted(script.zk.get_children("/t"))))


def access(script):
    script.begin("access")
    bob = script.client(auth_data=[("digest", "bob:secret")])
    own = [make_digest_acl("bob", "secret", all=True)]
    script.say("bob's", lambda: bob.create("/bob", b"b", acl=own))
    script.say("its list", lambda: bob.get_acls("/bob"))
    script.say("another", lambda: script.zk.get("/bob"))
    script.say("another sets the list", lambda: script.zk.set_acls("/bob", OPEN_ACL_UNSAFE))
    script.say("opened to read", lambda: bob.set_acls("/bob", own + [make_acl("world", "anyone", read=True)]))
    script.say("another reads", lambda: script.zk.get("/bob")[0])
    script.say("and sees the list", lambda: script.zk.get_acls("/bob")[0])
    script.say("but cannot write", lambda: script.zk.set("/bob", b"x"))
    script.say("a scheme that is not there", lambda: script.client().add_auth("unknown", "x"))
    bob.stop()
    bob.close()


def watches(script):
    script.begin("watch")
    zk, told = script.zk, []
    tell = lambda event: told.append(f"{event.type} {event.path}")
    script.say("exists", lambda: zk.exists("/w", watch=tell))
    zk.create("/w", b"1")
    script.say("told", lambda: (until(lambda: len(told) == 1), told))
    zk.get("/w", watch=tell)
    zk.get_children("/w", watch=tell)
    zk.create("/w/a")
    script.say("told", lambda: (until(lambda: len(told) == 2), told))
    zk.set("/w", b"2")
    script.say("told", lambda: (until(lambda: len(told) == 3), told))
    seen, names = [], []
    zk.DataWatch("/w", lambda data, stat: seen.append((data, stat and stat.version)))
    zk.ChildrenWatch("/w", lambda children: names.append(sorted(children)))
    for data in (b"3", b"4"):
        count = len(seen)
        zk.set("/w", data)
        script.say("data watch", lambda: (until(lambda: len(seen) > count), seen))
    for change in (lambda: zk.create("/w/b"), lambda: zk.delete("/w/a")):
        count = len(names)
        change()
        script.say("children watch", lambda: (until(lambda: len(names) > count), names))
    zk.delete("/w", recursive=True)
    script.say("deleted", lambda: (until(lambda: seen[-1] == (None, None)), seen[-1]))
    script.say("created again", lambda: (zk.create("/w", b"5"), until(lambda: seen[-1] == (b"5", 0))))


def tree_cache(script):
    script.begin("tree cache")
    zk, told = script.zk, []
    cache = TreeCache(script.clients[1], "/tree")
    cache.listen(lambda event: told.append(f"{event.event_type} {event.event_data and event.event_data.path}"))
    cache.start()
    script.say("starts", lambda: (until(lambda: len(told) == 2), told))
    changes = [
        lambda: zk.set("/tree", b"1"), lambda: zk.create("/tree/a", b"1"), lambda: zk.create("/tree/a/b"),
        lambda: zk.set("/tree/a", b"2"), lambda: zk.delete("/tree/a/b"), lambda: zk.delete("/tree/a"),
    ]
    for change in changes:
        count = len(told)
        change()
        script.say("told", lambda: (until(lambda: len(told) > count), told[count:]))
    script.say("has", lambda: (cache.get_data("/tree").data, cache.get_children("/tree"), cache.get_data("/tree/a")))
    cache.close()


def locks(script):
    script.begin("lock")

    def exclusive(make):
        inside, most, turns = [], [], []

        def party(client, number):
            lock = make(client, number)
            for _ in range(5):
                with lock:
                    inside.append(number)
                    most.append(len(inside))
                    turns.append(number)
                    inside.pop()

        failures = script.all(party)
        return f"{len(turns)} turns, at most {max(most)} inside", failures

    script.say("one at a time", lambda: exclusive(lambda client, number: client.Lock("/lock", f"party {number}")))
    script.say("one writer at a time", lambda: exclusive(lambda client, number: client.WriteLock("/rw", "w")))
    first, second = script.zk.Lock("/held", "one"), script.clients[1].Lock("/held", "two")
    script.say("held", lambda: (first.acquire(), second.acquire(blocking=False), first.contenders()))
    script.say("waited for", lambda: timed_out(second))
    script.say("released", lambda: (first.release(), second.acquire(timeout=PATIENCE_S), second.release()))
    readers = [client.ReadLock("/rw-2", "r") for client in script.clients[:2]]
    writer = script.clients[2].WriteLock("/rw-2", "w")
    script.say("readers together", lambda: [reader.acquire(timeout=PATIENCE_S) for reader in readers])
    script.say("no writer", lambda: writer.acquire(blocking=False))
    script.say("in the end", lambda: ([reader.release() for reader in readers], writer.acquire(timeout=PATIENCE_S)))
    writer.release()
    semaphores = [client.Semaphore("/semaphore", f"party {at}", max_leases=2) for at, client in enumerate(script.clients)]
    script.say("two of three", lambda: [semaphore.acquire(blocking=False) for semaphore in semaphores])
    script.say("lease holders", lambda: sorted(semaphores[0].lease_holders()))
    script.say("the third", lambda: (semaphores[0].release(), semaphores[2].acquire(timeout=PATIENCE_S)))
    brief = script.client()
    brief.Lock("/brief", "brief").acquire()
    brief.stop()
    brief.close()
    script.say("ends with its session", lambda: script.zk.Lock("/brief", "next").acquire(timeout=PATIENCE_S))


def timed_out(lock):
    return lock.acquire(timeout=0.2)


def elections(script):
    script.begin("election")
    led, leaders, most = [], [], []

    def lead(number):
        leaders.append(number)
        most.append(len(leaders))
        led.append(number)
        leaders.pop()

    def party(client, number):
        client.Election("/election", f"party {number}").run(lead, number)

    script.say("each leads once", lambda: (script.all(party), sorted(led), f"at most {max(most)} at a time"))
    parties = [client.Party("/party", f"member {at}") for at, client in enumerate(script.clients)]
    script.say("a party", lambda: ([party.join() for party in parties], sorted(parties[0]), len(parties[0])))
    script.say("one leaves", lambda: (parties[1].leave(), sorted(parties[0])))
    shallow = script.zk.ShallowParty("/shallow", "one")
    script.say("a shallow one", lambda: (shallow.join(), [name.split("-")[-1] for name in shallow]))


def barriers(script):
    script.begin("barrier")
    barrier, through = script.zk.Barrier("/barrier"), []
    script.say("stands", lambda: (barrier.create(), script.clients[1].Barrier("/barrier").wait(0.1)))

    def party(client, number):
        if number == 0:
            barrier.remove()
        elif client.Barrier("/barrier").wait(PATIENCE_S):
            through.append(number)

    script.say("lifted", lambda: (script.all(party), sorted(through)))
    entered, left = [], []

    def twice(client, number):
        double: DoubleBarrier = client.DoubleBarrier("/double", PARTIES, f"party {number}")
        double.enter()
        entered.append(number)
        double.leave()
        left.append(len(entered))

    script.say("entered and left together", lambda: (script.all(twice), sorted(entered), left))


def counters(script):
    script.begin("counter")

    def party(client, number):
        counter = client.Counter("/counter")
        for _ in range(10):
            counter += number + 1

    script.say("by three", lambda: (script.all(party), script.zk.Counter("/counter").value))
    script.say("of floats", lambda: count_floats(script.zk))


def count_floats(zk):
    counter = zk.Counter("/floats", default=1.5)
    counter += 2.0
    counter -= 1.0
    return counter.value, counter.pre_value, counter.post_value


def queues(script):
    script.begin("queue")
    queue = script.zk.Queue("/queue")
    for priority, item in ((100, b"late"), (100, b"later"), (50, b"early")):
        queue.put(item, priority=priority)
    script.say("by priority", lambda: (len(queue), [queue.get() for _ in range(4)]))
    locking = script.zk.LockingQueue("/locking")
    locking.put_all([b"1", b"2", b"3"])
    script.say("locked", lambda: (locking.get(), locking.get(), locking.holds_lock(), locking.consume(), len(locking)))
    script.say("released", lambda: (locking.get(), locking.release(), locking.get(), locking.consume()))
    taken = []

    def party(client, number):
        mine = client.LockingQueue("/shared")
        mine.put_all([f"{number}-{item}".encode() for item in range(5)])
        for _ in range(5):
            taken.append(mine.get(PATIENCE_S))
            mine.consume()

    script.say("all taken, once", lambda: (script.all(party), len(taken), len(set(taken))))


def partitioners(script):
    script.begin("partitioner")
    made = [client.SetPartitioner("/parts", set(range(7)), time_boundary=0.2, identifier=f"party {at}")
            for at, client in enumerate(script.clients)]

    def settle():
        for partitioner in made:
            if partitioner.state == PartitionState.RELEASE:
                partitioner.release_set()
        return all(partitioner.acquired for partitioner in made) and len(shared()) == 7

    def shared():
        return sorted(part for partitioner in made for part in partitioner)

    script.say("all shared, once", lambda: (until(settle), shared(), [len(list(each)) for each in made]))
    for partitioner in made:
        partitioner.finish()


def sessions(script):
    script.begin("session")
    # A client that came back would take the session from its heir again.
    client = script.client(connection_retry={"max_tries": 0})
    owner = client.client_id
    client.create("/mine", ephemeral=True)
    heir = script.client(client_id=owner)
    script.say("the same session", lambda: heir.client_id == owner)
    script.say("the first is let go", lambda: until(lambda: not client.connected))
    script.say("its node", lambda: heir.exists("/mine") is not None)
    heir.stop()
    script.say("gone with the session", lambda: script.zk.exists("/mine"))
    again = script.client(client_id=owner)
    script.say("cannot go on", lambda: until(lambda: again.client_id not in (owner, None)))
    for each in (client, heir, again):
        each.stop()
        each.close()


def main():
    script = Script(sys.argv[1])
    basics(script)
    transactions(script)
    access(script)
    watches(script)
    tree_cache(script)
    locks(script)
    elections(script)
    barriers(script)
    counters(script)
    queues(script)
    partitioners(script)
    sessions(script)
    for client in script.clients:
        client.stop()
        client.close()


main()
