"""What a server of ZooKeeper's protocol answers to requests drawn from a seed, as text.

    zookeeper.py HOST:PORT SEED REQUESTS

Three clients ask in turn, and after each request every client asks for a pong: what was told of the
change comes before it. Session ids, times and passwords differ from server to server: sessions are
numbered instead, and times told as set or not. All else is printed as it came.
"""

import random
import socket
import struct
import sys
import time

CREATE, DELETE, EXISTS, GET, SET, GET_ACL, SET_ACL, CHILDREN, SYNC = range(1, 10)
PING, CHILDREN2, CHECK, MULTI, CREATE2 = 11, 12, 13, 14, 15
CHECK_WATCHES, REMOVE_WATCHES, CONTAINER, TTL, MULTI_READ = 17, 18, 19, 21, 22
AUTH, SET_WATCHES, EPHEMERALS, DESCENDANTS, SET_WATCHES2 = 100, 101, 103, 104, 105
ADD_WATCH, WHO_AM_I, CLOSE = 106, 107, -11

OPEN = [(31, "world", "anyone")]
ACLS = [
    OPEN, OPEN, OPEN, OPEN,
    [(1, "world", "anyone"), (31, "auth", "")],
    [(31, "digest", "bob:x")],
    [(15, "ip", "127.0.0.0/8")],
    [(31, "world", "bob")],
    [],
]
PATHS = ["/a", "/b", "/a/a", "/a/b", "/b/c", "/a/a/a", "/", "/a/", "a", "/none/a", "/a//b", "/b/.."]


def text(value):
    data = value.encode()
    return struct.pack(">i", len(data)) + data


def buffer(value):
    return struct.pack(">i", -1) if value is None else struct.pack(">i", len(value)) + value


def acl(entries):
    packed = [struct.pack(">i", perms) + text(scheme) + text(name) for perms, scheme, name in entries]
    return struct.pack(">i", len(packed)) + b"".join(packed)


def texts(values):
    return struct.pack(">i", len(values)) + b"".join(map(text, values))


class Body:
    """Takes values off an answer."""

    def __init__(self, data, sessions):
        self.data, self.sessions = data, sessions

    def take(self, form):
        size = struct.calcsize(form)
        values = struct.unpack(form, self.data[:size])
        self.data = self.data[size:]
        return values[0] if len(values) == 1 else values

    def buffer(self):
        size = self.take(">i")
        if size < 0:
            return None
        value, self.data = self.data[:size], self.data[size:]
        return value

    def text(self):
        return self.buffer().decode()

    def texts(self):
        return sorted(self.text() for _ in range(self.take(">i")))

    def stat(self):
        czxid, mzxid, ctime, mtime, version, cversion, aversion, owner, size, count, pzxid = self.take(
            ">qqqqiiiqiiq"
        )
        if owner in self.sessions:
            owner = f"session {self.sessions[owner]}"
        return [czxid, mzxid, pzxid, ctime > 0, mtime > 0, version, cversion, aversion, owner, size, count]

    def acl(self):
        return sorted((self.take(">i"), self.text(), self.text()) for _ in range(self.take(">i")))

    def multi(self, result):
        results = []
        while True:
            kind, done, error = self.take(">i?i")
            if done:
                return results
            results.append((kind, error, result(self, kind)))


def created(body, kind):
    path = body.text()
    return path if kind == CREATE else (path, body.stat())


def write_result(body, kind):
    if kind == -1:
        return body.take(">i")
    if kind in (CREATE, CREATE2, CONTAINER, TTL):
        return created(body, kind)
    return body.stat() if kind == SET else None


def read_result(body, kind):
    if kind == -1:
        return body.take(">i")
    return (body.buffer(), body.stat()) if kind == GET else body.texts()


RESULTS = {
    EXISTS: lambda body: body.stat(),
    GET: lambda body: (body.buffer(), body.stat()),
    SET: lambda body: body.stat(),
    GET_ACL: lambda body: (body.acl(), body.stat()),
    SET_ACL: lambda body: body.stat(),
    CHILDREN: lambda body: body.texts(),
    CHILDREN2: lambda body: (body.texts(), body.stat()),
    SYNC: lambda body: body.text(),
    MULTI: lambda body: body.multi(write_result),
    MULTI_READ: lambda body: body.multi(read_result),
    EPHEMERALS: lambda body: body.texts(),
    DESCENDANTS: lambda body: body.take(">i"),
    ADD_WATCH: lambda body: body.take(">i"),
    WHO_AM_I: lambda body: sorted((body.text(), body.text()) for _ in range(body.take(">i"))),
}


class Client:
    """One connection with a session."""

    def __init__(self, address, sessions, known=0, session=(0, bytes(16))):
        self.address, self.sessions, self.xid = address, sessions, 0
        self.socket = socket.create_connection(address, timeout=10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connect = struct.pack(">iqiq", 0, known, 10_000, session[0]) + buffer(session[1]) + b"\0"
        self.send(connect)
        answer = Body(self.receive(), sessions)
        _, self.timeout, self.id = answer.take(">iiq")
        self.password = answer.buffer()
        if self.id:
            sessions.setdefault(self.id, len(sessions))

    def send(self, packet):
        self.socket.sendall(struct.pack(">i", len(packet)) + packet)

    def receive(self):
        size = struct.unpack(">i", self.read(4))[0]
        return self.read(size)

    def read(self, size):
        data = b""
        while len(data) < size:
            more = self.socket.recv(size - len(data))
            if not more:
                raise EOFError
            data += more
        return data

    def answers(self, kind, body, xid=None):
        """Asks, and returns the events that came before the answer, and the answer."""
        self.xid += 1
        xid = self.xid if xid is None else xid
        self.send(struct.pack(">ii", xid, kind) + body)
        events = []
        while True:
            try:
                answer = Body(self.receive(), self.sessions)
            except (EOFError, ConnectionError):
                return events, "closed"
            got, zxid, error = answer.take(">iqi")
            if got == -1:
                event, state = answer.take(">ii")
                events.append((zxid, event, state, answer.text()))
                continue
            assert got == xid, (got, xid)
            if error:
                return events, (zxid, f"error {error}")
            if kind in (CREATE, CREATE2, CONTAINER, TTL):
                result = created(answer, kind)
            else:
                result = RESULTS[kind](answer) if kind in RESULTS else None
            assert kind == CLOSE or not answer.data, (kind, answer.data)
            return events, (zxid, result)


class Draw:
    """Requests from a seed."""

    def __init__(self, seed):
        self.random = random.Random(seed)

    def one(self, values):
        return self.random.choice(values)

    def path(self):
        return self.one(PATHS[:6]) if self.random.random() < 0.93 else self.one(PATHS)

    def data(self):
        return self.one([None, b"", b"x", b"some data"])

    def create(self):
        kind = self.one([CREATE, CREATE, CREATE2, CONTAINER, TTL])
        flags = {CONTAINER: [4], TTL: [5, 6]}.get(kind, [0, 0, 0, 1, 2, 3])
        body = text(self.path()) + buffer(self.data()) + acl(self.one(ACLS)) + struct.pack(">i", self.one(flags))
        return kind, body + (struct.pack(">q", 100_000) if kind == TTL else b"")

    def versioned(self, extra=b""):
        return text(self.path()) + extra + struct.pack(">i", self.one([-1, -1, 0, 1, 2]))

    def write(self):
        kind = self.one([CREATE, CREATE, DELETE, SET, CHECK])
        if kind == CREATE:
            return self.create()
        return kind, self.versioned(buffer(self.data()) if kind == SET else b"")

    def watched(self):
        return text(self.path()) + struct.pack(">?", self.random.random() < 0.5)

    def request(self):
        kind = self.one(
            [CREATE] * 6 + [DELETE] * 3 + [SET] * 3 + [EXISTS, GET, CHILDREN, CHILDREN2] * 2
            + [GET_ACL, SET_ACL, SYNC, MULTI, MULTI, MULTI_READ, CHECK_WATCHES, REMOVE_WATCHES]
            + [EPHEMERALS, DESCENDANTS, SET_WATCHES, SET_WATCHES2, ADD_WATCH, WHO_AM_I, AUTH]
        )
        if kind == CREATE:
            return self.create()
        if kind == DELETE:
            return kind, self.versioned()
        if kind == SET:
            return kind, self.versioned(buffer(self.data()))
        if kind in (EXISTS, GET, CHILDREN, CHILDREN2):
            return kind, self.watched()
        if kind == SET_ACL:
            return kind, self.versioned(acl(self.one(ACLS)))
        if kind in (MULTI, MULTI_READ):
            body = b""
            for _ in range(self.one([0, 1, 2, 3])):
                of, inner = self.write() if kind == MULTI else (self.one([GET, CHILDREN]), text(self.path()) + b"\0")
                body += struct.pack(">i?i", of, False, -1) + inner
            return kind, body + struct.pack(">i?i", -1, True, -1)
        if kind in (CHECK_WATCHES, REMOVE_WATCHES):
            return kind, text(self.path()) + struct.pack(">i", self.one([1, 2, 3]))
        if kind in (SET_WATCHES, SET_WATCHES2):
            lists = [[self.path() for _ in range(self.one([0, 1, 2]))] for _ in range(3 if kind == SET_WATCHES else 5)]
            return kind, struct.pack(">q", self.random.randrange(60)) + b"".join(map(texts, lists))
        if kind == ADD_WATCH:
            return kind, text(self.path()) + struct.pack(">i", self.one([0, 1]))
        if kind == AUTH:
            return kind, struct.pack(">i", 0) + text("digest") + buffer(self.one([b"bob:secret", b"eve:word"]))
        if kind == WHO_AM_I:
            return kind, b""
        return kind, text(self.path())


def first(address, sessions):
    """The first client. A server that has just started listens before it serves."""
    for _ in range(100):
        try:
            return Client(address, sessions)
        except (EOFError, ConnectionError):
            time.sleep(0.1)
    return Client(address, sessions)


def main():
    host, port = sys.argv[1].rsplit(":", 1)
    seed, requests = int(sys.argv[2]), int(sys.argv[3])
    draw, sessions = Draw(seed), {}
    clients = [first((host, int(port)), sessions)]
    clients += [Client((host, int(port)), sessions) for _ in range(2)]
    zxid = 0
    for number in range(requests):
        at = draw.random.randrange(len(clients))
        kind, body = draw.request()
        if draw.random.random() < 0.02:
            # The session goes on upon another connection, and then ends.
            client = clients[at]
            again = Client(client.address, sessions, zxid, (client.id, client.password))
            print(number, "again", at, again.timeout, sessions.get(again.id))
            client.socket.close()
            clients[at] = again
            if draw.random.random() < 0.5:
                print(number, "close", at, again.answers(CLOSE, b"")[1])
                clients[at] = Client(client.address, sessions)
        xid = {AUTH: -4, SET_WATCHES: -8, SET_WATCHES2: -8}.get(kind)
        events, answer = clients[at].answers(kind, body, xid)
        print(number, at, kind, body, "=>", sorted(events), answer)
        if answer == "closed":
            clients[at] = Client((host, int(port)), sessions)
        for other, client in enumerate(clients):
            events, pong = client.answers(PING, b"", -2)
            zxid = max(zxid, pong[0])
            if events:
                # A session that ends takes its nodes with it in no order.
                print(number, "told", other, sorted(events))


main()
