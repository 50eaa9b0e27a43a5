import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.curator.RetryPolicy;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.api.transaction.CuratorOp;
import org.apache.curator.framework.api.transaction.CuratorTransactionResult;
import org.apache.curator.framework.recipes.atomic.AtomicValue;
import org.apache.curator.framework.recipes.atomic.DistributedAtomicLong;
import org.apache.curator.framework.recipes.atomic.PromotedToLock;
import org.apache.curator.framework.recipes.barriers.DistributedBarrier;
import org.apache.curator.framework.recipes.barriers.DistributedDoubleBarrier;
import org.apache.curator.framework.recipes.cache.CuratorCache;
import org.apache.curator.framework.recipes.cache.CuratorCacheListener;
import org.apache.curator.framework.recipes.cache.PathChildrenCache;
import org.apache.curator.framework.recipes.cache.TreeCache;
import org.apache.curator.framework.recipes.leader.LeaderLatch;
import org.apache.curator.framework.recipes.leader.LeaderSelector;
import org.apache.curator.framework.recipes.leader.LeaderSelectorListenerAdapter;
import org.apache.curator.framework.recipes.locks.InterProcessLock;
import org.apache.curator.framework.recipes.locks.InterProcessMutex;
import org.apache.curator.framework.recipes.locks.InterProcessReadWriteLock;
import org.apache.curator.framework.recipes.locks.InterProcessSemaphoreV2;
import org.apache.curator.framework.recipes.locks.Lease;
import org.apache.curator.framework.recipes.nodes.GroupMember;
import org.apache.curator.framework.recipes.nodes.PersistentNode;
import org.apache.curator.framework.recipes.nodes.PersistentTtlNode;
import org.apache.curator.framework.recipes.queue.SimpleDistributedQueue;
import org.apache.curator.framework.recipes.shared.SharedCount;
import org.apache.curator.framework.recipes.watch.PersistentWatcher;
import org.apache.curator.retry.RetryOneTime;
import org.apache.curator.retry.RetryNTimes;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.ZooDefs;

/**
 * Apache Curator's recipes, each by three clients where it is about several. What depends on the turns of threads is
 * told by its outcome.
 *
 * <pre>Recipes HOST:PORT</pre>
 */
final class Recipes {
    private static final int PARTIES = 3;
    private static final RetryPolicy RETRY = new RetryNTimes(50, 20);

    private final String address;
    private final List<CuratorFramework> clients = new ArrayList<>();
    private final CuratorFramework client;

    private Recipes(String address) {
        this.address = address;
        for (int i = 0; i < PARTIES; i++) {
            CuratorFramework each = CuratorFrameworkFactory.newClient(address, 30_000, 15_000, new RetryOneTime(100));
            each.start();
            clients.add(each);
        }
        client = clients.get(0);
    }

    public static void main(String[] args) throws Exception {
        Recipes script = new Recipes(args[0]);
        script.nodes();
        script.transactions();
        script.locks();
        script.semaphores();
        script.latches();
        script.selectors();
        script.caches();
        script.counters();
        script.barriers();
        script.lastingNodes();
        script.queues();
        script.access();
        script.clients.forEach(CuratorFramework::close);
    }

    private interface Party {
        void run(CuratorFramework client, int number) throws Exception;
    }

    /** Every client in a thread of its own; how they failed, if they did. */
    private List<String> all(Party party) throws InterruptedException {
        List<String> failures = Collections.synchronizedList(new ArrayList<>());
        List<Thread> threads = new ArrayList<>();
        for (int i = 0; i < PARTIES; i++) {
            int number = i;
            threads.add(new Thread(() -> {
                try {
                    party.run(clients.get(number), number);
                } catch (Exception e) {
                    failures.add(number + ": " + e);
                }
            }));
        }
        threads.forEach(Thread::start);
        for (Thread thread : threads) {
            thread.join();
        }
        return Transcript.sorted(failures);
    }

    private void nodes() {
        Transcript.section("curator");
        Transcript.say("with its parents", () -> client.create().creatingParentsIfNeeded().forPath("/a/b/c", Transcript.bytes("c")));
        Transcript.say("in containers", () -> client.create().creatingParentContainersIfNeeded().forPath("/box/in/x"));
        Transcript.say("or set", () -> client.create().orSetData().forPath("/a/b/c", Transcript.bytes("d")));
        Transcript.say("get", () -> client.getData().forPath("/a/b/c"));
        Transcript.say("protected", () -> client.create().withProtection().withMode(CreateMode.EPHEMERAL_SEQUENTIAL)
                .forPath("/a/p-").replaceAll("_c_[-0-9a-f]{36}", "_c_"));
        Transcript.say("idempotent", () -> client.create().idempotent().forPath("/a/once"));
        Transcript.say("and again", () -> client.create().idempotent().forPath("/a/once"));
        Transcript.say("with a time to live", () -> client.create().withTtl(100_000)
                .withMode(CreateMode.PERSISTENT_WITH_TTL).forPath("/a/ttl"));
        Transcript.say("compressed", () -> client.setData().compressed().forPath("/a/once", new byte[10_000]).getVersion());
        Transcript.say("and back", () -> client.getData().decompressed().forPath("/a/once"));
        Transcript.say("children", () -> client.getChildren().forPath("/a").size());
        Transcript.say("set at a version", () -> client.setData().withVersion(9).forPath("/a", null));
        Transcript.say("deep delete", () -> {
            client.delete().deletingChildrenIfNeeded().forPath("/a");
            return client.checkExists().forPath("/a");
        });
        Transcript.say("quiet delete", () -> client.delete().quietly().forPath("/a"));
        Transcript.say("below a namespace", () -> client.usingNamespace("space").create().forPath("/x"));
        Transcript.say("is in it", () -> client.getChildren().forPath("/space"));
        CountDownLatch done = new CountDownLatch(1);
        Transcript.say("in the background", () -> {
            client.create().inBackground((of, event) -> done.countDown()).forPath("/background");
            return done.await(Transcript.PATIENCE_MS, TimeUnit.MILLISECONDS);
        });
        Transcript.say("what there is", () -> Transcript.sorted(client.getChildren().forPath("/")));
    }

    private void transactions() {
        Transcript.section("transaction");
        Transcript.say("all of it", () -> outcome(
                client.transactionOp().create().forPath("/tx", Transcript.bytes("1")),
                client.transactionOp().setData().withVersion(0).forPath("/tx", Transcript.bytes("2")),
                client.transactionOp().check().withVersion(1).forPath("/tx"),
                client.transactionOp().create().withMode(CreateMode.EPHEMERAL).forPath("/tx/e"),
                client.transactionOp().delete().forPath("/tx/e")));
        Transcript.say("none of it", () -> outcome(
                client.transactionOp().setData().forPath("/tx", Transcript.bytes("3")),
                client.transactionOp().check().withVersion(1).forPath("/tx")));
        Transcript.say("left", () -> client.getData().forPath("/tx"));
    }

    private List<String> outcome(CuratorOp... operations) throws Exception {
        return client.transaction().forOperations(operations).stream().map(Recipes::outcome).toList();
    }

    private static String outcome(CuratorTransactionResult result) {
        return result.getType() + " " + result.getForPath() + " " + result.getResultPath() + " "
                + (result.getResultStat() == null ? "" : "v" + result.getResultStat().getVersion());
    }

    private void locks() {
        Transcript.section("lock");
        Transcript.say("one at a time", () -> exclusive(of -> new InterProcessMutex(of, "/mutex")));
        Transcript.say("one writer at a time", () -> exclusive(of -> new InterProcessReadWriteLock(of, "/rw").writeLock()));
        Transcript.say("is reentrant", () -> {
            InterProcessMutex mutex = new InterProcessMutex(client, "/again");
            mutex.acquire();
            mutex.acquire();
            mutex.release();
            boolean still = mutex.isAcquiredInThisProcess();
            boolean other = new InterProcessMutex(clients.get(1), "/again").acquire(100, TimeUnit.MILLISECONDS);
            mutex.release();
            return still + ", another meanwhile " + other + ", left " + client.getChildren().forPath("/again");
        });
        Transcript.say("readers together, no writer", () -> {
            InterProcessLock first = new InterProcessReadWriteLock(client, "/readers").readLock();
            InterProcessLock second = new InterProcessReadWriteLock(clients.get(1), "/readers").readLock();
            InterProcessLock writer = new InterProcessReadWriteLock(clients.get(2), "/readers").writeLock();
            first.acquire();
            String got = second.acquire(5, TimeUnit.SECONDS) + " " + writer.acquire(100, TimeUnit.MILLISECONDS);
            second.release();
            first.release();
            got += " " + writer.acquire(5, TimeUnit.SECONDS);
            writer.release();
            return got;
        });
        Transcript.say("ends with its session", () -> {
            CuratorFramework brief = CuratorFrameworkFactory.newClient(address, 30_000, 15_000, new RetryOneTime(100));
            brief.start();
            new InterProcessMutex(brief, "/brief").acquire();
            InterProcessMutex next = new InterProcessMutex(client, "/brief");
            boolean before = next.acquire(100, TimeUnit.MILLISECONDS);
            brief.close();
            boolean after = next.acquire(5, TimeUnit.SECONDS);
            next.release();
            return before + ", then " + after;
        });
    }

    private interface LockOf {
        InterProcessLock make(CuratorFramework client);
    }

    private String exclusive(LockOf lockOf) throws Exception {
        AtomicInteger inside = new AtomicInteger();
        AtomicInteger most = new AtomicInteger();
        AtomicInteger turns = new AtomicInteger();
        List<String> failures = all((of, number) -> {
            InterProcessLock lock = lockOf.make(of);
            for (int i = 0; i < 10; i++) {
                lock.acquire();
                most.accumulateAndGet(inside.incrementAndGet(), Math::max);
                turns.incrementAndGet();
                inside.decrementAndGet();
                lock.release();
            }
        });
        return turns + " turns, at most " + most + " inside, failed " + failures;
    }

    private void semaphores() {
        Transcript.section("semaphore");
        Transcript.say("two of three", () -> {
            InterProcessSemaphoreV2 semaphore = new InterProcessSemaphoreV2(client, "/semaphore", 2);
            Lease first = semaphore.acquire();
            Lease second = semaphore.acquire();
            Lease third = semaphore.acquire(100, TimeUnit.MILLISECONDS);
            semaphore.returnLease(first);
            Lease fourth = new InterProcessSemaphoreV2(clients.get(1), "/semaphore", 2).acquire(5, TimeUnit.SECONDS);
            String got = (third != null) + " " + (fourth != null);
            semaphore.returnLease(second);
            semaphore.returnLease(fourth);
            return got + ", left " + semaphore.getParticipantNodes();
        });
    }

    private void latches() {
        Transcript.section("leader latch");
        Transcript.say("one after the other", () -> {
            List<LeaderLatch> latches = new ArrayList<>();
            List<String> leaders = new ArrayList<>();
            for (int i = 0; i < PARTIES; i++) {
                LeaderLatch latch = new LeaderLatch(clients.get(i), "/latch", "party " + i);
                latch.start();
                latches.add(latch);
                int count = i + 1;
                Transcript.until(() -> latch.getParticipants().size() == count);
            }
            for (LeaderLatch latch : latches) {
                boolean leads = latch.await(5, TimeUnit.SECONDS);
                leaders.add(leads + " " + latch.getLeader() + " of " + latch.getParticipants());
                latch.close();
            }
            return leaders;
        });
    }

    private void selectors() {
        Transcript.section("leader selector");
        Transcript.say("each leads once", () -> {
            AtomicInteger leaders = new AtomicInteger();
            AtomicInteger most = new AtomicInteger();
            CountDownLatch led = new CountDownLatch(PARTIES);
            List<LeaderSelector> selectors = new ArrayList<>();
            for (CuratorFramework each : clients) {
                LeaderSelector selector = new LeaderSelector(each, "/selector", new LeaderSelectorListenerAdapter() {
                    @Override
                    public void takeLeadership(CuratorFramework of) {
                        most.accumulateAndGet(leaders.incrementAndGet(), Math::max);
                        leaders.decrementAndGet();
                        led.countDown();
                    }
                });
                selectors.add(selector);
                selector.start();
            }
            boolean all = led.await(Transcript.PATIENCE_MS, TimeUnit.MILLISECONDS);
            selectors.forEach(LeaderSelector::close);
            return all + ", at most " + most + " at a time";
        });
    }

    private void caches() {
        Transcript.section("cache");
        Transcript.say("a tree", () -> {
            List<String> told = Collections.synchronizedList(new ArrayList<>());
            try (CuratorCache cache = CuratorCache.build(clients.get(1), "/tree")) {
                cache.listenable().addListener(CuratorCacheListener.builder().forAll((type, before, after) -> told
                        .add(type + " " + (after == null ? before : after).getPath())).build());
                cache.start();
                return changes("/tree", told) + " " + told;
            }
        });
        Transcript.say("children", () -> {
            List<String> told = Collections.synchronizedList(new ArrayList<>());
            client.create().forPath("/children");
            try (PathChildrenCache cache = new PathChildrenCache(clients.get(1), "/children", true)) {
                cache.getListenable().addListener((of, event) -> told
                        .add(event.getType() + " " + (event.getData() == null ? "" : event.getData().getPath())));
                cache.start(PathChildrenCache.StartMode.BUILD_INITIAL_CACHE);
                client.create().forPath("/children/a", Transcript.bytes("1"));
                String added = Transcript.until(() -> told.contains("CHILD_ADDED /children/a"));
                client.setData().forPath("/children/a", Transcript.bytes("2"));
                String set = Transcript.until(() -> told.contains("CHILD_UPDATED /children/a"));
                client.delete().forPath("/children/a");
                String deleted = Transcript.until(() -> told.contains("CHILD_REMOVED /children/a"));
                return added + " " + set + " " + deleted + " " + Transcript.sorted(told);
            }
        });
        Transcript.say("a tree, as it was cached before", () -> {
            try (TreeCache cache = new TreeCache(clients.get(1), "/tree")) {
                cache.start();
                client.create().creatingParentsIfNeeded().forPath("/tree/x/y", Transcript.bytes("y"));
                String seen = Transcript.until(() -> cache.getCurrentData("/tree/x/y") != null);
                client.delete().deletingChildrenIfNeeded().forPath("/tree");
                return seen + " " + Transcript.until(() -> cache.getCurrentData("/tree") == null);
            }
        });
        Transcript.say("a persistent watcher", () -> {
            List<String> told = Collections.synchronizedList(new ArrayList<>());
            try (PersistentWatcher watcher = new PersistentWatcher(clients.get(1), "/watched", true)) {
                CountDownLatch set = new CountDownLatch(1);
                watcher.getResetListenable().addListener(set::countDown);
                watcher.getListenable().addListener(event -> told.add(event.getType() + " " + event.getPath()));
                watcher.start();
                set.await();
                return changes("/watched", told) + " " + told;
            }
        });
    }

    /** Seven changes of a tree, and whether {@code told} had one more after each: who is slower sees less. */
    private List<String> changes(String path, List<String> told) throws Exception {
        List<Transcript.Step> changes = List.of(() -> client.create().forPath(path, Transcript.bytes("1")),
                () -> client.create().forPath(path + "/a", Transcript.bytes("1")),
                () -> client.create().forPath(path + "/a/b", Transcript.bytes("1")),
                () -> client.setData().forPath(path + "/a/b", Transcript.bytes("2")),
                () -> client.delete().forPath(path + "/a/b"), () -> client.delete().forPath(path + "/a"),
                () -> client.delete().forPath(path));
        List<String> seen = new ArrayList<>();
        for (Transcript.Step change : changes) {
            int before = told.size();
            change.run();
            seen.add(Transcript.until(() -> told.size() > before));
        }
        return seen;
    }

    private void counters() {
        Transcript.section("counter");
        Transcript.say("shared", () -> {
            SharedCount first = new SharedCount(client, "/count", 7);
            SharedCount second = new SharedCount(clients.get(1), "/count", 9);
            first.start();
            second.start();
            first.setCount(8);
            String seen = Transcript.until(() -> second.getCount() == 8);
            boolean tried = second.trySetCount(second.getVersionedValue(), 10);
            seen += " " + tried + " " + Transcript.until(() -> first.getCount() == 10);
            first.close();
            second.close();
            return seen;
        });
        Transcript.say("by attempts", () -> added(null));
        Transcript.say("by a lock", () -> added(
                PromotedToLock.builder().lockPath("/long-lock").timeout(20, TimeUnit.SECONDS).retryPolicy(RETRY).build()));
    }

    private String added(PromotedToLock lock) throws Exception {
        String path = lock == null ? "/long" : "/long-locked";
        new DistributedAtomicLong(client, path, RETRY).initialize(0L);
        List<String> failures = all((of, number) -> {
            DistributedAtomicLong value = new DistributedAtomicLong(of, path, RETRY, lock);
            for (int i = 0; i < 10; i++) {
                AtomicValue<Long> added = value.add((long) number + 1);
                if (!added.succeeded()) {
                    throw new IllegalStateException("not added");
                }
            }
        });
        return new DistributedAtomicLong(client, path, RETRY).get().postValue() + ", failed " + failures;
    }

    private void barriers() {
        Transcript.section("barrier");
        Transcript.say("lifted", () -> {
            DistributedBarrier barrier = new DistributedBarrier(client, "/barrier");
            barrier.setBarrier();
            boolean before = new DistributedBarrier(clients.get(1), "/barrier").waitOnBarrier(100, TimeUnit.MILLISECONDS);
            AtomicInteger through = new AtomicInteger();
            List<String> failures = all((of, number) -> {
                if (number == 0) {
                    barrier.removeBarrier();
                } else if (new DistributedBarrier(of, "/barrier").waitOnBarrier(20, TimeUnit.SECONDS)) {
                    through.incrementAndGet();
                }
            });
            return before + ", then " + through + " through, failed " + failures;
        });
        Transcript.say("entered and left together", () -> {
            AtomicInteger entered = new AtomicInteger();
            AtomicInteger left = new AtomicInteger();
            List<String> failures = all((of, number) -> {
                DistributedDoubleBarrier barrier = new DistributedDoubleBarrier(of, "/double", PARTIES);
                entered.addAndGet(barrier.enter(20, TimeUnit.SECONDS) ? 1 : 0);
                left.addAndGet(barrier.leave(20, TimeUnit.SECONDS) ? 1 : 0);
            });
            return entered + " entered, " + left + " left, failed " + failures;
        });
    }

    private void lastingNodes() {
        Transcript.section("lasting node");
        Transcript.say("comes again", () -> {
            try (PersistentNode node = new PersistentNode(client, CreateMode.EPHEMERAL, false, "/lasting", Transcript.bytes("x"))) {
                node.start();
                boolean made = node.waitForInitialCreate(5, TimeUnit.SECONDS);
                long first = clients.get(1).checkExists().forPath("/lasting").getCzxid();
                clients.get(1).delete().forPath("/lasting");
                return made + ", again " + Transcript.until(() -> {
                    var stat = clients.get(1).checkExists().forPath("/lasting");
                    return stat != null && stat.getCzxid() > first;
                });
            }
        });
        Transcript.say("gone when closed", () -> client.checkExists().forPath("/lasting"));
        Transcript.say("with a time to live", () -> {
            try (PersistentTtlNode node = new PersistentTtlNode(client, "/lasting-ttl", 10_000, new byte[0])) {
                node.start();
                return node.waitForInitialCreate(5, TimeUnit.SECONDS) + " "
                        + Transcript.until(() -> client.checkExists().forPath("/lasting-ttl/touch") != null);
            }
        });
        Transcript.say("members", () -> {
            GroupMember one = new GroupMember(client, "/group", "one", Transcript.bytes("1"));
            GroupMember two = new GroupMember(clients.get(1), "/group", "two", Transcript.bytes("2"));
            one.start();
            two.start();
            String both = Transcript.until(() -> one.getCurrentMembers().size() == 2);
            two.close();
            String alone = Transcript.until(() -> one.getCurrentMembers().size() == 1);
            one.close();
            return both + " " + alone;
        });
    }

    private void queues() {
        Transcript.section("queue");
        Transcript.say("all taken, once", () -> {
            SimpleDistributedQueue queue = new SimpleDistributedQueue(client, "/queue");
            ConcurrentHashMap<String, Integer> taken = new ConcurrentHashMap<>();
            for (int i = 0; i < 30; i++) {
                queue.offer(Transcript.bytes("item " + i));
            }
            List<String> failures = all((of, number) -> {
                SimpleDistributedQueue mine = new SimpleDistributedQueue(of, "/queue");
                for (byte[] item = mine.poll(); item != null; item = mine.poll()) {
                    taken.merge(new String(item), 1, Integer::sum);
                }
            });
            return taken.size() + " items, twice " + taken.values().stream().filter(n -> n > 1).count()
                    + ", failed " + failures;
        });
    }

    private void access() {
        Transcript.section("access");
        try (CuratorFramework bob = CuratorFrameworkFactory.builder().connectString(address)
                .authorization("digest", Transcript.bytes("bob:secret")).retryPolicy(new RetryOneTime(100)).build()) {
            bob.start();
            Transcript.say("the creator's", () -> bob.create().withACL(ZooDefs.Ids.CREATOR_ALL_ACL).forPath("/bob"));
            Transcript.say("another", () -> client.getData().forPath("/bob"));
            Transcript.say("its list", () -> bob.getACL().forPath("/bob"));
            Transcript.say("opened", () -> bob.setACL().withACL(ZooDefs.Ids.OPEN_ACL_UNSAFE).forPath("/bob").getAversion());
            Transcript.tell("another", () -> client.delete().forPath("/bob"));
        }
    }
}
