import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.Callable;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.OpResult;
import org.apache.zookeeper.WatchedEvent;
import org.apache.zookeeper.Watcher;
import org.apache.zookeeper.ZooKeeper;
import org.apache.zookeeper.data.ACL;
import org.apache.zookeeper.data.ClientInfo;
import org.apache.zookeeper.data.Stat;

/** Prints a script step by step, in words that do not differ from server to server and run to run. */
final class Transcript {
    /** What takes longer than this will not come any more. */
    static final long PATIENCE_MS = 20_000;

    private static final Map<Long, Integer> sessions = new HashMap<>();
    private static String section = "";
    private static int steps;

    private Transcript() {}

    interface Step {
        void run() throws Exception;
    }

    interface Condition {
        boolean holds() throws Exception;
    }

    /** Names what follows; steps are counted anew, so that another section's do not shift. */
    static void section(String name) {
        section = name;
        steps = 0;
    }

    /** One line: the step, and the answer or the error. */
    static void say(String step, Callable<?> answer) {
        String text;
        try {
            text = show(answer.call());
        } catch (KeeperException e) {
            text = "error " + e.code() + (e.getPath() == null ? "" : " " + e.getPath());
            if (e.getResults() != null) {
                text += " " + show(e.getResults());
            }
        } catch (Exception e) {
            text = e.getClass().getSimpleName() + ": " + e.getMessage();
        }
        String line = String.format("%s %d %s => %s", section, ++steps, step, text);
        System.out.println(line.replace("\n", "\\n").replace("\0", "\\0"));
    }

    static void tell(String step, Step run) {
        say(step, () -> {
            run.run();
            return "done";
        });
    }

    /** Waits for what is true in the end; says so if it does not become true. */
    static String until(Condition condition) throws Exception {
        long deadline = System.nanoTime() + PATIENCE_MS * 1_000_000;
        while (!condition.holds()) {
            if (System.nanoTime() > deadline) {
                return "never";
            }
            Thread.sleep(5);
        }
        return "yes";
    }

    static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    /** A session's number in the order in which sessions were seen. */
    static String session(long id) {
        return id == 0 ? "none" : "session " + sessions.computeIfAbsent(id, any -> sessions.size() + 1);
    }

    static String show(Object value) {
        if (value instanceof byte[] data) {
            return data.length > 100 ? data.length + " bytes" : "'" + new String(data, StandardCharsets.UTF_8) + "'";
        }
        if (value instanceof Stat stat) {
            return String.format("[c%d m%d p%d v%d,%d,%d owner %s size %d children %d%s]", stat.getCzxid(),
                    stat.getMzxid(), stat.getPzxid(), stat.getVersion(), stat.getCversion(), stat.getAversion(),
                    owner(stat.getEphemeralOwner()), stat.getDataLength(), stat.getNumChildren(),
                    stat.getCtime() > 0 && stat.getMtime() >= stat.getCtime() ? "" : " without times");
        }
        if (value instanceof List<?> list) {
            return list.stream().map(Transcript::show).toList().toString();
        }
        if (value instanceof ACL acl) {
            return acl.getPerms() + " " + acl.getId().getScheme() + ":" + acl.getId().getId();
        }
        if (value instanceof ClientInfo info) {
            return info.getAuthScheme() + ":" + info.getUser();
        }
        if (value instanceof WatchedEvent event) {
            return event.getType() + " " + event.getState() + " " + event.getPath();
        }
        return value instanceof OpResult result ? show(result) : String.valueOf(value);
    }

    /** Containers and nodes with a time to live have owners that are no session. */
    private static String owner(long id) {
        return id < 0 ? Long.toHexString(id) : session(id);
    }

    private static String show(OpResult result) {
        if (result instanceof OpResult.CreateResult create) {
            String stat = create.getStat() == null ? "" : " " + show(create.getStat());
            return "create " + create.getPath() + stat;
        }
        if (result instanceof OpResult.SetDataResult set) {
            return "set " + show(set.getStat());
        }
        if (result instanceof OpResult.GetDataResult get) {
            return "get " + show(get.getData()) + " " + show(get.getStat());
        }
        if (result instanceof OpResult.GetChildrenResult children) {
            return "children " + sorted(children.getChildren());
        }
        if (result instanceof OpResult.ErrorResult error) {
            return "error " + KeeperException.Code.get(error.getErr());
        }
        return result.getClass().getSimpleName();
    }

    static List<String> sorted(List<String> names) {
        List<String> sorted = new ArrayList<>(names);
        sorted.sort(null);
        return sorted;
    }

    /** A client's events, in their order, with what waits for them. */
    static final class Events implements Watcher {
        private final BlockingQueue<WatchedEvent> queue = new LinkedBlockingQueue<>();

        @Override
        public void process(WatchedEvent event) {
            queue.add(event);
        }

        /** The next event, which may be still to come. */
        String next() throws InterruptedException {
            WatchedEvent event = queue.poll(PATIENCE_MS, TimeUnit.MILLISECONDS);
            return event == null ? "no event" : show(event);
        }

        /** Waits for a state of the session, and forgets what came before it. */
        String await(Event.KeeperState state) throws InterruptedException {
            while (true) {
                WatchedEvent event = queue.poll(PATIENCE_MS, TimeUnit.MILLISECONDS);
                if (event == null || event.getType() == Event.EventType.None && event.getState() == state) {
                    return event == null ? "no event" : show(event);
                }
            }
        }

        /** What the server told {@code client} before it answers now. */
        String soFar(ZooKeeper client) throws InterruptedException {
            // Answers and events go through the client's one event thread in the order of the wire.
            CountDownLatch answered = new CountDownLatch(1);
            client.sync("/", (code, path, context) -> answered.countDown(), null);
            if (!answered.await(PATIENCE_MS, TimeUnit.MILLISECONDS)) {
                return "no answer";
            }
            List<WatchedEvent> events = new ArrayList<>();
            queue.drainTo(events);
            return show(events);
        }
    }
}
