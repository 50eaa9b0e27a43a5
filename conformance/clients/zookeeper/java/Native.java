import static org.apache.zookeeper.ZooDefs.Ids.OPEN_ACL_UNSAFE;
import static org.apache.zookeeper.ZooDefs.Ids.READ_ACL_UNSAFE;

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import org.apache.zookeeper.AddWatchMode;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.Op;
import org.apache.zookeeper.Watcher.Event.KeeperState;
import org.apache.zookeeper.Watcher.WatcherType;
import org.apache.zookeeper.ZooDefs.Ids;
import org.apache.zookeeper.ZooDefs.Perms;
import org.apache.zookeeper.ZooKeeper;
import org.apache.zookeeper.admin.ZooKeeperAdmin;
import org.apache.zookeeper.data.ACL;
import org.apache.zookeeper.data.ClientInfo;
import org.apache.zookeeper.data.Id;
import org.apache.zookeeper.data.Stat;

/**
 * ZooKeeper's own client: every request that it has, and the watches.
 *
 * <pre>Native HOST:PORT</pre>
 */
final class Native {
    private final String address;
    private final Transcript.Events events = new Transcript.Events();
    private final ZooKeeper zk;

    private Native(String address) throws Exception {
        this.address = address;
        zk = new ZooKeeper(address, 30_000, events);
        Transcript.say("connect", events::next);
        Transcript.session(zk.getSessionId());
    }

    public static void main(String[] args) throws Exception {
        Transcript.section("native");
        Native script = new Native(args[0]);
        script.creates();
        script.reads();
        script.writes();
        script.multis();
        script.multiReads();
        script.accessLists();
        script.authentication();
        script.oneShotWatches();
        script.watchesTellZxids();
        script.standingWatches();
        script.removedWatches();
        script.watchesOfTheForbidden();
        script.rest();
        script.zk.close();
        sizes(args[0]);
    }

    private String create(String path, String data, CreateMode mode) throws Exception {
        return zk.create(path, Transcript.bytes(data), OPEN_ACL_UNSAFE, mode);
    }

    private void creates() {
        Transcript.section("create");
        for (CreateMode mode : CreateMode.values()) {
            String path = "/" + mode.name().toLowerCase().replace('_', '-');
            long ttl = mode.isTTL() ? 100_000 : -1;
            for (int round = 0; round < 2; round++) {
                Stat stat = new Stat();
                Transcript.say(mode + " " + path,
                        () -> zk.create(path, Transcript.bytes("x"), OPEN_ACL_UNSAFE, mode, stat, ttl));
                Transcript.say("its stat", () -> stat);
            }
            String first = mode.isSequential() ? path + "0000000000" : path;
            Transcript.say("a child of " + mode, () -> create(path + "/child", "", CreateMode.PERSISTENT));
            Transcript.say("get " + first, () -> zk.exists(first, false));
        }
        Transcript.say("children", () -> Transcript.sorted(zk.getChildren("/", false)));
        Transcript.say("without a parent", () -> create("/none/child", "", CreateMode.PERSISTENT));
        Transcript.say("the root", () -> create("/", "", CreateMode.PERSISTENT));
        Transcript.say("in /zookeeper", () -> create("/zookeeper/x", "", CreateMode.PERSISTENT));
        Transcript.say("delete it", () -> {
            zk.delete("/zookeeper/x", -1);
            return "done";
        });
        Transcript.say("null data", () -> zk.create("/null", null, OPEN_ACL_UNSAFE, CreateMode.PERSISTENT));
        Transcript.say("null data again", () -> zk.getData("/null", false, null));
        Transcript.say("a name of many scripts", () -> create("/ключ-鍵", "ü", CreateMode.PERSISTENT));
        Transcript.say("its data", () -> zk.getData("/ключ-鍵", false, null));
        Transcript.say("a time to live of 0", () -> zk.create("/ttl", null, OPEN_ACL_UNSAFE,
                CreateMode.PERSISTENT_WITH_TTL, null, 0));
        Transcript.say("too long a life", () -> zk.create("/ttl", null, OPEN_ACL_UNSAFE,
                CreateMode.PERSISTENT_WITH_TTL, null, 0x1_0000_0000_00L));
        Transcript.say("the longest life", () -> zk.create("/ttl", null, OPEN_ACL_UNSAFE,
                CreateMode.PERSISTENT_WITH_TTL, null, 0xff_ffff_ffffL));
        for (String path : List.of("relative", "/end/", "/a//b", "/a/../b", "/a\u0000")) {
            Transcript.say("path " + path, () -> create(path, "", CreateMode.PERSISTENT));
        }
        Transcript.say("1 MiB less 1,000", () -> zk.create("/large", new byte[(1 << 20) - 1_000], OPEN_ACL_UNSAFE,
                CreateMode.PERSISTENT));
        Transcript.say("it", () -> zk.getData("/large", false, null));
    }

    private void reads() {
        Transcript.section("read");
        for (String path : List.of("/", "/persistent", "/zookeeper", "/zookeeper/quota", "/zookeeper/config", "/none")) {
            Stat stat = new Stat();
            Transcript.say("exists " + path, () -> zk.exists(path, false));
            Transcript.say("get " + path, () -> zk.getData(path, false, stat));
            Transcript.say("its stat", () -> stat);
            Transcript.say("children " + path, () -> Transcript.sorted(zk.getChildren(path, false, stat)));
            Transcript.say("acl " + path, () -> zk.getACL(path, stat));
            Transcript.say("descendants of " + path, () -> zk.getAllChildrenNumber(path));
            Transcript.say("ephemerals below " + path, () -> Transcript.sorted(zk.getEphemerals(path)));
            Transcript.tell("sync " + path, () -> zk.sync(path));
        }
        Transcript.say("all ephemerals", () -> Transcript.sorted(zk.getEphemerals()));
        Transcript.say("ephemerals of a prefix", () -> Transcript.sorted(zk.getEphemerals("/ephemeral-seq")));
        Transcript.say("the configuration", () -> zk.getConfig(false, new Stat()));
    }

    private void writes() throws Exception {
        Transcript.section("write");
        create("/w", "0", CreateMode.PERSISTENT);
        create("/w/child", "", CreateMode.PERSISTENT);
        for (int version : List.of(1, 0, -1, 1, 2, -2)) {
            Transcript.say("set at version " + version, () -> zk.setData("/w", Transcript.bytes("v" + version), version));
        }
        Transcript.say("set null", () -> zk.setData("/w", null, -1));
        Transcript.say("get", () -> zk.getData("/w", false, null));
        Transcript.say("set nothing", () -> zk.setData("/none", null, -1));
        Transcript.say("set the root", () -> zk.setData("/", Transcript.bytes("root"), -1));
        Transcript.tell("delete what has children", () -> zk.delete("/w", -1));
        Transcript.tell("delete at another version", () -> zk.delete("/w/child", 7));
        Transcript.tell("delete", () -> zk.delete("/w/child", 0));
        Transcript.tell("delete it again", () -> zk.delete("/w/child", 0));
        Transcript.tell("delete the root", () -> zk.delete("/", -1));
        Transcript.tell("delete /zookeeper", () -> zk.delete("/zookeeper", -1));
        Transcript.say("the parent", () -> zk.exists("/w", false));
        for (int round = 0; round < 3; round++) {
            Transcript.say("sequential", () -> create("/w/n-", "", CreateMode.PERSISTENT_SEQUENTIAL));
            Transcript.tell("delete one", () -> zk.delete("/w/" + zk.getChildren("/w", false).get(0), -1));
        }
        Transcript.say("sequential, without a name", () -> create("/w/", "", CreateMode.EPHEMERAL_SEQUENTIAL));
        Transcript.say("the parent's stat", () -> zk.exists("/w", false));
    }

    private void multis() throws Exception {
        Transcript.section("multi");
        create("/m", "", CreateMode.PERSISTENT);
        Transcript.say("nothing", () -> zk.multi(List.of()));
        List<Op> all = new ArrayList<>();
        for (CreateMode mode : CreateMode.values()) {
            all.add(Op.create("/m/" + mode.ordinal(), Transcript.bytes("x"), OPEN_ACL_UNSAFE, mode,
                    mode.isTTL() ? 100_000 : -1));
        }
        all.add(Op.setData("/m", Transcript.bytes("y"), 0));
        all.add(Op.check("/m", 1));
        all.add(Op.delete("/m/0", 0));
        Transcript.say("every kind", () -> zk.multi(all));
        Transcript.say("children", () -> Transcript.sorted(zk.getChildren("/m", false)));
        Transcript.say("the parent", () -> zk.exists("/m", false));
        Op first = Op.create("/m/a", null, OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        List<Op> wrong = List.of(Op.check("/m", 9), Op.check("/none", -1), Op.delete("/m", -1), Op.delete("/none", -1),
                Op.setData("/m", null, 9), Op.setData("/none", null, -1),
                Op.create("/m/1/x", null, OPEN_ACL_UNSAFE, CreateMode.PERSISTENT),
                Op.create("/m/a", null, OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL),
                Op.create("/m/b", null, List.of(), CreateMode.PERSISTENT),
                Op.create("/m/b", null, Ids.CREATOR_ALL_ACL, CreateMode.PERSISTENT));
        for (Op op : wrong) {
            Transcript.say("a failing one, of kind " + op.getType(),
                    () -> zk.multi(List.of(first, op, Op.delete("/m/a", -1))));
        }
        Transcript.say("on what came before",
                () -> zk.multi(List.of(first, Op.create("/m/a/b", null, OPEN_ACL_UNSAFE, CreateMode.PERSISTENT),
                        Op.setData("/m/a", Transcript.bytes("1"), 0), Op.setData("/m/a", Transcript.bytes("2"), 1),
                        Op.delete("/m/a/b", 0), Op.check("/m/a", 2))));
        Transcript.say("the builder", () -> zk.transaction().check("/m/a", 2).delete("/m/a", -1)
                .create("/m/c", Transcript.bytes("c"), OPEN_ACL_UNSAFE, CreateMode.PERSISTENT)
                .setData("/m/c", Transcript.bytes("d"), 0).commit());
        Transcript.say("the parent at last", () -> zk.exists("/m", false));
        Transcript.say("names of many", () -> Transcript.sorted(zk.getChildren("/m", false)));
    }

    private void multiReads() {
        Transcript.section("multi-read");
        Transcript.say("both kinds", () -> zk.multi(List.of(Op.getData("/m/c"), Op.getChildren("/m"))));
        Transcript.say("one that is not there",
                () -> zk.multi(List.of(Op.getData("/m"), Op.getData("/none"), Op.getChildren("/none"), Op.getChildren("/w"))));
        Transcript.say("with a write", () -> zk.multi(List.of(Op.getData("/m"), Op.delete("/m/c", -1))));
    }

    private void accessLists() throws Exception {
        Transcript.section("acl");
        ACL digest = new ACL(Perms.ALL, new Id("digest", "bob:Vn0ifVvhgQCMxpCFMOOq2cQUe5U="));
        List<List<ACL>> lists = List.of(READ_ACL_UNSAFE, List.of(digest), Ids.CREATOR_ALL_ACL, List.of(),
                List.of(new ACL(Perms.ALL, new Id("ip", "127.0.0.1"))),
                List.of(new ACL(Perms.ALL, new Id("ip", "127.0.0.0/8"))),
                List.of(new ACL(Perms.ALL, new Id("ip", "10.0.0.0/8"))),
                List.of(new ACL(Perms.ALL, new Id("ip", "not an address"))),
                List.of(new ACL(Perms.ALL, new Id("world", "somebody"))),
                List.of(new ACL(Perms.ALL, new Id("digest", "no colon"))),
                List.of(new ACL(Perms.ALL, new Id("unknown", "x"))), List.of(new ACL(0, Ids.ANYONE_ID_UNSAFE)),
                List.of(new ACL(Perms.CREATE | Perms.READ, Ids.ANYONE_ID_UNSAFE), digest));
        for (int i = 0; i < lists.size(); i++) {
            List<ACL> acl = lists.get(i);
            String path = "/acl-" + i;
            Transcript.say("create with " + Transcript.show(acl), () -> zk.create(path, null, acl, CreateMode.PERSISTENT));
            Transcript.say("its list", () -> zk.getACL(path, null));
            Transcript.say("get", () -> zk.getData(path, false, null));
            Transcript.say("children", () -> zk.getChildren(path, false));
            Transcript.say("set", () -> zk.setData(path, null, -1));
            Transcript.say("a child", () -> create(path + "/child", "", CreateMode.EPHEMERAL));
            Transcript.say("exists", () -> zk.exists(path, false));
            Transcript.say("set the list", () -> zk.setACL(path, acl, -1));
            Transcript.tell("delete the child", () -> zk.delete(path + "/child", -1));
            Transcript.say("multi", () -> zk.multi(List.of(Op.setData(path, null, -1))));
        }
        create("/acl", "", CreateMode.PERSISTENT);
        Transcript.say("set a list at another version", () -> zk.setACL("/acl", OPEN_ACL_UNSAFE, 3));
        Transcript.say("set a list", () -> zk.setACL("/acl", READ_ACL_UNSAFE, 0));
        Transcript.say("set it back", () -> zk.setACL("/acl", OPEN_ACL_UNSAFE, 1));
        Transcript.say("set the list of nothing", () -> zk.setACL("/none", OPEN_ACL_UNSAFE, -1));
        Transcript.say("set none", () -> zk.setACL("/persistent", List.of(), -1));
    }

    private void authentication() throws Exception {
        Transcript.section("auth");
        Transcript.say("who am I", () -> whoAmI(zk));
        Transcript.Events told = new Transcript.Events();
        ZooKeeper bob = new ZooKeeper(address, 30_000, told);
        Transcript.session(bob.getSessionId());
        told.await(KeeperState.SyncConnected);
        bob.addAuthInfo("digest", Transcript.bytes("bob:secret"));
        bob.addAuthInfo("digest", Transcript.bytes("eve:word"));
        Transcript.say("who is bob", () -> whoAmI(bob));
        Transcript.say("the creator's", () -> bob.create("/bob", Transcript.bytes("b"), Ids.CREATOR_ALL_ACL, CreateMode.PERSISTENT));
        Transcript.say("its list", () -> bob.getACL("/bob", null));
        Transcript.say("another reads it", () -> zk.getData("/bob", false, null));
        Transcript.say("another asks for its list", () -> zk.getACL("/bob", null));
        Transcript.say("bob reads it", () -> bob.getData("/bob", false, null));
        Transcript.say("open it to read", () -> bob.setACL("/bob", List.of(
                new ACL(Perms.READ, Ids.ANYONE_ID_UNSAFE), new ACL(Perms.ALL, Ids.AUTH_IDS)), 0));
        Transcript.say("its list for bob", () -> bob.getACL("/bob", null));
        Transcript.say("its list for another", () -> zk.getACL("/bob", null));
        Transcript.say("another writes it", () -> zk.setData("/bob", null, -1));
        Transcript.say("another creates below it", () -> create("/bob/x", "", CreateMode.PERSISTENT));
        Transcript.say("bob creates below it", () -> bob.create("/bob/x", null, OPEN_ACL_UNSAFE, CreateMode.PERSISTENT));
        Transcript.tell("another deletes what is open", () -> zk.delete("/bob/x", -1));
        Transcript.say("another counts", () -> zk.getAllChildrenNumber("/bob"));
        Transcript.say("another reads many", () -> zk.multi(List.of(Op.getData("/bob"), Op.getChildren("/acl-1"))));
        Transcript.tell("bob deletes it", () -> bob.delete("/bob/x", -1));
        Transcript.say("what bob was told", () -> told.soFar(bob));
        bob.close();
        for (String scheme : List.of("unknown", "world", "ip")) {
            authenticate(scheme, Transcript.bytes("x"));
        }
    }

    private void authenticate(String scheme, byte[] name) throws Exception {
        Transcript.Events told = new Transcript.Events();
        ZooKeeper client = new ZooKeeper(address, 30_000, told);
        Transcript.say("connect", told::next);
        client.addAuthInfo(scheme, name);
        Transcript.say("exists", () -> client.exists("/none", false));
        Transcript.say("a node, as one of " + scheme,
                () -> client.create("/authenticated", null, Ids.CREATOR_ALL_ACL, CreateMode.EPHEMERAL));
        Transcript.say("its list", () -> client.getACL("/authenticated", null));
        Transcript.say("who am I", () -> whoAmI(client));
        Transcript.say("my state", client::getState);
        client.close();
    }

    /** Of a client that failed to authenticate the library has no answer. */
    private static List<String> whoAmI(ZooKeeper client) throws Exception {
        List<ClientInfo> infos = client.whoAmI();
        return infos == null ? null : Transcript.sorted(infos.stream().map(Transcript::show).toList());
    }

    private void oneShotWatches() throws Exception {
        Transcript.section("watch");
        Transcript.Events data = new Transcript.Events();
        Transcript.Events child = new Transcript.Events();
        String[] paths = {"/watch", "/watch/a"};
        create("/watch", "", CreateMode.PERSISTENT);
        for (String path : paths) {
            Transcript.say("exists " + path, () -> zk.exists(path, data));
        }
        Transcript.say("get /watch", () -> zk.getData("/watch", data, null));
        Transcript.say("children of /watch", () -> zk.getChildren("/watch", child));
        Transcript.Step[] changes = {
            () -> create("/watch/a", "", CreateMode.PERSISTENT),
            () -> zk.setData("/watch", Transcript.bytes("1"), -1),
            () -> zk.setData("/watch", Transcript.bytes("2"), -1),
            () -> zk.delete("/watch/a", -1),
            () -> zk.delete("/watch", -1),
        };
        for (Transcript.Step change : changes) {
            Transcript.tell("change", change);
            Transcript.say("data watches tell", () -> data.soFar(zk));
            Transcript.say("child watches tell", () -> child.soFar(zk));
            Transcript.say("watch again", () -> zk.exists("/watch", data));
            Transcript.say("and its children", () -> zk.getChildren("/watch", child));
        }
        Transcript.tell("created at last", () -> create("/watch", "", CreateMode.PERSISTENT));
        Transcript.say("told", () -> data.soFar(zk));
        zk.getData("/watch", data, null);
        zk.getChildren("/watch", child);
        Transcript.say("a multi", () -> zk.multi(List.of(Op.setData("/watch", null, -1), Op.setData("/watch", null, -1),
                Op.create("/watch/x", null, OPEN_ACL_UNSAFE, CreateMode.PERSISTENT), Op.delete("/watch/x", -1),
                Op.delete("/watch", -1))));
        Transcript.say("data watches tell", () -> data.soFar(zk));
        Transcript.say("child watches tell", () -> child.soFar(zk));
    }

    private void watchesTellZxids() throws Exception {
        Transcript.section("zxid of watch");
        CompletableFuture<Long> zxid = new CompletableFuture<>();
        zk.exists("/zxid", event -> zxid.complete(event.getZxid()));
        Stat stat = new Stat();
        zk.create("/zxid", null, OPEN_ACL_UNSAFE, CreateMode.PERSISTENT, stat);
        Transcript.say("is the change's", () -> zxid.get() == stat.getCzxid());
    }

    private void standingWatches() throws Exception {
        Transcript.section("standing watch");
        Transcript.Events plain = new Transcript.Events();
        Transcript.Events recursive = new Transcript.Events();
        Transcript.tell("persistent", () -> zk.addWatch("/stand", plain, AddWatchMode.PERSISTENT));
        Transcript.tell("recursive", () -> zk.addWatch("/stand", recursive, AddWatchMode.PERSISTENT_RECURSIVE));
        Transcript.Step[] changes = {
            () -> create("/stand", "", CreateMode.PERSISTENT),
            () -> zk.setData("/stand", null, -1),
            () -> create("/stand/a", "", CreateMode.PERSISTENT),
            () -> create("/stand/a/b", "", CreateMode.EPHEMERAL),
            () -> zk.setData("/stand/a/b", null, -1),
            () -> zk.setData("/stand/a/b", null, 7),
            () -> zk.setACL("/stand", OPEN_ACL_UNSAFE, -1),
            () -> zk.multi(List.of(Op.delete("/stand/a/b", -1), Op.delete("/stand/a", -1),
                    Op.create("/stand/c", null, OPEN_ACL_UNSAFE, CreateMode.PERSISTENT))),
            () -> zk.delete("/stand/c", -1),
            () -> zk.delete("/stand", -1),
            () -> create("/stander", "", CreateMode.PERSISTENT),
        };
        for (Transcript.Step change : changes) {
            Transcript.tell("change", change);
            Transcript.say("persistent tells", () -> plain.soFar(zk));
            Transcript.say("recursive tells", () -> recursive.soFar(zk));
        }
        Transcript.Events root = new Transcript.Events();
        Transcript.tell("of the root", () -> zk.addWatch("/", root, AddWatchMode.PERSISTENT_RECURSIVE));
        ZooKeeper other = new ZooKeeper(address, 30_000, event -> {});
        Transcript.say("another's node", () -> other.create("/other", null, OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL));
        other.close();
        Transcript.say("told of it and its end", () -> root.soFar(zk));
        zk.removeWatches("/", root, WatcherType.Any, false);
    }

    private void removedWatches() throws Exception {
        Transcript.section("removed watch");
        Transcript.Events watcher = new Transcript.Events();
        create("/rm", "", CreateMode.PERSISTENT);
        for (WatcherType type : WatcherType.values()) {
            Transcript.tell("none there, of " + type, () -> zk.removeAllWatches("/rm", type, false));
            zk.getData("/rm", watcher, null);
            zk.getChildren("/rm", watcher);
            Transcript.tell("one-shot, of " + type, () -> zk.removeWatches("/rm", watcher, type, false));
            Transcript.tell("and again", () -> zk.removeWatches("/rm", watcher, type, false));
            Transcript.say("told", () -> watcher.soFar(zk));
            zk.setData("/rm", null, -1);
            create("/rm/x", "", CreateMode.PERSISTENT);
            zk.delete("/rm/x", -1);
            Transcript.say("changes tell", () -> watcher.soFar(zk));
        }
        for (AddWatchMode mode : AddWatchMode.values()) {
            for (WatcherType type : WatcherType.values()) {
                Transcript.tell("add " + mode, () -> zk.addWatch("/rm", watcher, mode));
                Transcript.tell("remove, of " + type, () -> zk.removeAllWatches("/rm", type, false));
                zk.setData("/rm", null, -1);
                create("/rm/x", "", CreateMode.PERSISTENT);
                zk.delete("/rm/x", -1);
                Transcript.say("told", () -> watcher.soFar(zk));
            }
        }
    }

    private void watchesOfTheForbidden() throws Exception {
        Transcript.section("forbidden watch");
        Transcript.Events told = new Transcript.Events();
        ZooKeeper bob = new ZooKeeper(address, 30_000, event -> {});
        bob.addAuthInfo("digest", Transcript.bytes("bob:secret"));
        Transcript.tell("of nothing yet", () -> zk.addWatch("/secret", told, AddWatchMode.PERSISTENT_RECURSIVE));
        Transcript.say("exists", () -> zk.exists("/secret", told));
        Transcript.say("bob's", () -> bob.create("/secret", null, Ids.CREATOR_ALL_ACL, CreateMode.PERSISTENT));
        Transcript.say("told", () -> told.soFar(zk));
        Transcript.say("bob sets it", () -> bob.setData("/secret", null, -1));
        Transcript.say("told", () -> told.soFar(zk));
        Transcript.say("exists", () -> zk.exists("/secret", false));
        Transcript.tell("bob deletes it", () -> bob.delete("/secret", -1));
        Transcript.say("told", () -> told.soFar(zk));
        bob.close();
    }

    private void rest() throws Exception {
        Transcript.section("rest");
        ZooKeeper chrooted = new ZooKeeper(address + "/persistent", 30_000, event -> {});
        Transcript.say("below a root of its own", () -> chrooted.create("/in", null, OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL));
        Transcript.say("its children", () -> Transcript.sorted(chrooted.getChildren("/", false)));
        Transcript.say("its ephemerals", () -> chrooted.getEphemerals());
        chrooted.close();
        Transcript.say("gone with it", () -> zk.exists("/persistent/in", false));
        try (ZooKeeperAdmin admin = new ZooKeeperAdmin(address, 30_000, event -> {})) {
            Transcript.say("reconfigure", () -> admin.reconfigure("server.2=a:1:2:participant;3", null, null, -1, new Stat()));
        }
        try (ZooKeeper reader = new ZooKeeper(address, 30_000, event -> {}, true)) {
            Transcript.say("that may be read-only", () -> reader.create("/reader", null, OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL));
            Transcript.say("its state", reader::getState);
        }
        authenticate("digest", Transcript.bytes("a:b:c"));
        authenticate("digest", Transcript.bytes("no colon"));
        authenticate("digest", new byte[0]);
        authenticate("digest", new byte[] {'e', 'v', 'e', ':', (byte) 0xff});
        Transcript.say("what is there", () -> Transcript.sorted(zk.getChildren("/", false)));
        Transcript.say("the default watcher was told", () -> events.soFar(zk));
    }

    private static void sizes(String address) throws Exception {
        Transcript.section("size");
        for (int mebibytes : List.of(2, 5)) {
            try (ZooKeeper client = new ZooKeeper(address, 30_000, event -> {})) {
                Transcript.say(mebibytes + " MiB", () -> client.create("/size-" + mebibytes,
                        new byte[mebibytes << 20], OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL));
            }
        }
    }
}
