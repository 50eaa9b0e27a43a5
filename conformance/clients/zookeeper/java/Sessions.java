import static org.apache.zookeeper.ZooDefs.Ids.OPEN_ACL_UNSAFE;

import java.util.List;
import org.apache.zookeeper.AddWatchMode;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.Watcher.Event.KeeperState;
import org.apache.zookeeper.ZooDefs.Ids;
import org.apache.zookeeper.ZooKeeper;

/**
 * ZooKeeper's own client: sessions that go on, move, expire and end, and what becomes of their nodes and watches.
 *
 * <pre>Sessions HOST:PORT [fleeting]</pre>
 *
 * With {@code fleeting} also nodes that end by themselves, which takes a server two minutes.
 */
final class Sessions {
    private static final int LONG_MS = 30_000;
    private static final int SHORT_MS = 2_000;

    private final String address;
    private final Transcript.Events told = new Transcript.Events();
    private final ZooKeeper watcher;

    private Sessions(String address) throws Exception {
        this.address = address;
        watcher = new ZooKeeper(address, LONG_MS, told);
        told.await(KeeperState.SyncConnected);
    }

    public static void main(String[] args) throws Exception {
        Sessions script = new Sessions(args[0]);
        script.timeouts();
        script.closing();
        script.reattaching();
        script.wrongPassword();
        script.moving();
        script.expiring();
        script.watchesThatGoOn();
        script.accessThatGoesOn();
        if (args.length > 1) {
            script.fleeting();
        }
        script.watcher.close();
    }

    private static String ephemeral(ZooKeeper client, String path) throws Exception {
        return client.create(path, null, OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL);
    }

    private void timeouts() throws Exception {
        Transcript.section("timeout");
        for (int timeoutMs : List.of(900, 1_000, 5_000, 40_000, 100_000)) {
            Transcript.Events events = new Transcript.Events();
            ZooKeeper client = new ZooKeeper(address, timeoutMs, events);
            Transcript.say("ask for " + timeoutMs, events::next);
            Transcript.say("granted", client::getSessionTimeout);
            client.close();
        }
    }

    private void closing() throws Exception {
        Transcript.section("close");
        Transcript.Events events = new Transcript.Events();
        ZooKeeper client = new ZooKeeper(address, LONG_MS, events);
        ephemeral(client, "/closing");
        watcher.exists("/closing", told);
        client.close();
        Transcript.say("another is told", told::next);
        Transcript.say("gone", () -> watcher.exists("/closing", false));
        Transcript.say("its last event", () -> events.await(KeeperState.Closed));
        Transcript.say("after the end", () -> client.exists("/", false));
        ZooKeeper again = new ZooKeeper(address, LONG_MS, events, client.getSessionId(), client.getSessionPasswd());
        Transcript.say("go on after the end", () -> events.await(KeeperState.Expired));
        Transcript.say("its state", again::getState);
        again.close();
    }

    private void reattaching() throws Exception {
        Transcript.section("reattach");
        Relay relay = new Relay(address);
        Transcript.Events events = new Transcript.Events();
        ZooKeeper client = new ZooKeeper(relay.address(), LONG_MS, events);
        Transcript.say("connect", events::next);
        Transcript.say("an ephemeral", () -> ephemeral(client, "/kept"));
        relay.cut();
        Transcript.say("cut off", events::next);
        relay.mend();
        Transcript.say("goes on", events::next);
        Transcript.say("its own", () -> client.getEphemerals());
        relay.cut();
        Transcript.say("cut off", events::next);
        Transcript.Events taken = new Transcript.Events();
        ZooKeeper heir = new ZooKeeper(address, LONG_MS, taken, client.getSessionId(), client.getSessionPasswd());
        Transcript.say("another client goes on", taken::next);
        Transcript.say("the same session", () -> heir.getSessionId() == client.getSessionId());
        Transcript.say("the same password",
                () -> java.util.Arrays.equals(heir.getSessionPasswd(), client.getSessionPasswd()));
        Transcript.say("its timeout", heir::getSessionTimeout);
        Transcript.say("owns", () -> heir.getEphemerals());
        Transcript.tell("deletes", () -> heir.delete("/kept", -1));
        Transcript.say("an ephemeral", () -> ephemeral(heir, "/inherited"));
        heir.close();
        Transcript.say("gone with the session", () -> watcher.exists("/inherited", false));
        relay.mend();
        Transcript.say("the first client", () -> events.await(KeeperState.Expired));
        client.close();
        relay.close();
    }

    private void wrongPassword() throws Exception {
        Transcript.section("password");
        Relay relay = new Relay(address);
        Transcript.Events events = new Transcript.Events();
        ZooKeeper client = new ZooKeeper(relay.address(), LONG_MS, events);
        Transcript.say("an ephemeral", () -> ephemeral(client, "/mine"));
        relay.admitNoMore();
        for (byte[] password : List.of(new byte[16], new byte[3], new byte[0])) {
            Transcript.Events refused = new Transcript.Events();
            ZooKeeper thief = new ZooKeeper(address, LONG_MS, refused, client.getSessionId(), password);
            Transcript.say("a password of " + password.length + " bytes", () -> refused.await(KeeperState.Expired));
            thief.close();
        }
        Transcript.Events refused = new Transcript.Events();
        ZooKeeper guesser = new ZooKeeper(address, LONG_MS, refused, 12345, client.getSessionPasswd());
        Transcript.say("a session that never was", () -> refused.await(KeeperState.Expired));
        guesser.close();
        Transcript.say("the node is still there", () -> watcher.exists("/mine", false) != null);
        Transcript.say("and its session undisturbed", () -> client.getEphemerals());
        relay.mend();
        Transcript.say("or there again", () -> Transcript.until(() -> client.getState().isConnected()));
        Transcript.say("with its node", () -> client.getEphemerals());
        client.close();
        relay.close();
    }

    private void moving() throws Exception {
        Transcript.section("move");
        Relay relay = new Relay(address);
        Transcript.Events events = new Transcript.Events();
        ZooKeeper client = new ZooKeeper(relay.address(), LONG_MS, events);
        Transcript.say("connect", events::next);
        ephemeral(client, "/moving");
        // Else both would take the session from each other in turn.
        relay.admitNoMore();
        Transcript.Events moved = new Transcript.Events();
        ZooKeeper heir = new ZooKeeper(address, LONG_MS, moved, client.getSessionId(), client.getSessionPasswd());
        Transcript.say("another goes on with it", moved::next);
        Transcript.say("the first is dropped", events::next);
        Transcript.say("and cannot go on", () -> client.exists("/moving", false));
        Transcript.say("the other can", () -> heir.setData("/moving", Transcript.bytes("x"), 0).getVersion());
        Transcript.say("and was told of nothing else", () -> moved.soFar(heir));
        heir.close();
        relay.mend();
        Transcript.say("the first at last", () -> events.await(KeeperState.Expired));
        client.close();
        relay.close();
    }

    private void expiring() throws Exception {
        Transcript.section("expire");
        Transcript.Events quiet = new Transcript.Events();
        ZooKeeper idle = new ZooKeeper(address, SHORT_MS, quiet);
        ephemeral(idle, "/idle");
        long end = System.nanoTime() + 2L * SHORT_MS * 1_000_000;
        Relay relay = new Relay(address);
        Transcript.Events events = new Transcript.Events();
        ZooKeeper client = new ZooKeeper(relay.address(), SHORT_MS, events);
        Transcript.say("connect", events::next);
        Transcript.say("an ephemeral", () -> ephemeral(client, "/expiring"));
        Transcript.say("a watch", () -> client.exists("/none", events));
        watcher.exists("/expiring", told);
        relay.cut();
        Transcript.say("cut off", events::next);
        Transcript.say("another is told", told::next);
        relay.mend();
        Transcript.say("expired", () -> events.await(KeeperState.Expired));
        Transcript.say("a request after that", () -> client.exists("/", false));
        Transcript.say("its state", client::getState);
        client.close();
        relay.close();
        Transcript.say("two timeouts pass", () -> Transcript.until(() -> System.nanoTime() > end));
        Transcript.say("who only pinged has its node", () -> idle.getEphemerals());
        Transcript.say("and was told", () -> quiet.soFar(idle));
        idle.close();
    }

    private void watchesThatGoOn() throws Exception {
        Transcript.section("watches go on");
        Relay relay = new Relay(address);
        Transcript.Events events = new Transcript.Events();
        Transcript.Events standing = new Transcript.Events();
        Transcript.Events recursive = new Transcript.Events();
        for (String path : List.of("/go", "/go/changed", "/go/deleted", "/go/same", "/go/same/child", "/go/standing")) {
            watcher.create(path, null, OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        }
        ZooKeeper client = new ZooKeeper(relay.address(), LONG_MS, event -> {});
        for (String path : List.of("/go/changed", "/go/deleted", "/go/same")) {
            client.getData(path, events, null);
            client.getChildren(path, events);
        }
        client.exists("/go/created", events);
        client.addWatch("/go/standing", standing, AddWatchMode.PERSISTENT);
        client.addWatch("/go/recursive", recursive, AddWatchMode.PERSISTENT_RECURSIVE);
        relay.cut();
        Transcript.say("cut off", events::next);
        Transcript.say("changed", () -> watcher.setData("/go/changed", null, -1).getVersion());
        Transcript.tell("deleted", () -> watcher.delete("/go/deleted", -1));
        Transcript.say("created", () -> ephemeral(watcher, "/go/created"));
        Transcript.say("a child", () -> ephemeral(watcher, "/go/changed/child"));
        Transcript.say("of the standing", () -> watcher.setData("/go/standing", null, -1).getVersion());
        Transcript.say("of the recursive",
                () -> watcher.create("/go/recursive", null, OPEN_ACL_UNSAFE, CreateMode.PERSISTENT));
        relay.mend();
        Transcript.say("goes on", () -> events.await(KeeperState.SyncConnected));
        Transcript.say("told what it missed", () -> told(events, client));
        Transcript.say("the standing", () -> standing.soFar(client));
        Transcript.say("the recursive", () -> recursive.soFar(client));
        Transcript.say("another change", () -> watcher.setData("/go/same", null, -1).getVersion());
        Transcript.say("and of the standing", () -> watcher.setData("/go/standing", null, -1).getVersion());
        Transcript.say("and of the recursive", () -> ephemeral(watcher, "/go/recursive/child"));
        Transcript.say("told", () -> told(events, client));
        Transcript.say("the standing", () -> standing.soFar(client));
        Transcript.say("the recursive", () -> recursive.soFar(client));
        client.close();
        relay.close();
    }

    /** Events upon going on come in the order of the client's hash tables. */
    private static List<String> told(Transcript.Events events, ZooKeeper client) throws Exception {
        String text = events.soFar(client);
        return Transcript.sorted(List.of(text.substring(1, text.length() - 1).split(", ")));
    }

    private void accessThatGoesOn() throws Exception {
        Transcript.section("access goes on");
        Relay relay = new Relay(address);
        Transcript.Events events = new Transcript.Events();
        ZooKeeper client = new ZooKeeper(relay.address(), LONG_MS, events);
        client.addAuthInfo("digest", Transcript.bytes("bob:secret"));
        Transcript.say("connect", events::next);
        Transcript.say("a node of its own",
                () -> client.create("/own", Transcript.bytes("x"), Ids.CREATOR_ALL_ACL, CreateMode.EPHEMERAL));
        relay.cut();
        Transcript.say("cut off", events::next);
        relay.mend();
        Transcript.say("goes on", events::next);
        Transcript.say("reads it", () -> client.getData("/own", false, null));
        client.close();
        relay.close();
    }

    private void fleeting() throws Exception {
        Transcript.section("fleeting");
        watcher.create("/box", null, OPEN_ACL_UNSAFE, CreateMode.CONTAINER);
        watcher.create("/box/child", null, OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        watcher.create("/unused", null, OPEN_ACL_UNSAFE, CreateMode.CONTAINER);
        watcher.create("/brief", null, OPEN_ACL_UNSAFE, CreateMode.PERSISTENT_WITH_TTL, null, 1_000);
        watcher.create("/parent", null, OPEN_ACL_UNSAFE, CreateMode.PERSISTENT_WITH_TTL, null, 1_000);
        watcher.create("/parent/child", null, OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        watcher.create("/lasting", null, OPEN_ACL_UNSAFE, CreateMode.PERSISTENT_WITH_TTL, null, 10_000_000);
        watcher.delete("/box/child", -1);
        // Containers are looked for once a minute.
        for (String path : List.of("/box", "/brief")) {
            long end = System.nanoTime() + 150_000_000_000L;
            while (watcher.exists(path, false) != null && System.nanoTime() < end) {
                Thread.sleep(100);
            }
        }
        Transcript.say("what is left", () -> Transcript.sorted(watcher.getChildren("/", false)));
    }
}
