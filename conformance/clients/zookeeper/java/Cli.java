import java.io.ByteArrayOutputStream;
import java.io.OutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import org.apache.zookeeper.ZooKeeperMain;

/**
 * What zkCli.sh prints: its own class executes each line, and what the line printed is a step of the transcript.
 *
 * <pre>Cli HOST:PORT</pre>
 */
final class Cli {
    private static final ByteArrayOutputStream printed = new ByteArrayOutputStream();
    private static final ByteArrayOutputStream told = new ByteArrayOutputStream();
    private static final Thread script = Thread.currentThread();

    private static final List<String> LINES = List.of("ls /", "ls -s /zookeeper", "ls -R /", "create /a", "create /a data",
            "create /a/b data", "create -e /a/e x", "create -s /a/s- x", "create -s /a/s- x", "create -e -s /a/es- x",
            "create -c /a/c x", "create -t 100000 /a/t x", "create -t 100000 -s /a/ts- x", "create -e -c /a/x",
            "create /none/x y", "create /a/e/x y", "create /r x world:anyone:r", "create /bad x nonsense", "ls /a",
            "ls -s /a", "ls -R /a", "ls -w /a", "create /a/told x", "ls /none", "ls relative", "get /a", "get -s /a/b",
            "get -w /a/b", "set /a/b new", "get -w /a/b", "set -s /a/b newer", "set -v 0 /a/b stale", "set -v 2 /a/b fresh",
            "set /none x", "stat /a/b", "stat -w /a/b", "delete -v 7 /a/b", "delete -v 3 /a/b", "delete /a/b", "delete /a",
            "getAcl /", "getAcl -s /a", "getAcl /r", "setAcl /a/c world:anyone:cdrw", "getAcl /a/c",
            "setAcl -v 9 /a/c world:anyone:r", "setAcl /a/c ip:127.0.0.1:cdrwa", "setAcl -R /a/t world:anyone:r", "getAcl /a/t",
            "whoami", "addauth digest bob:secret", "whoami", "create /own x auth::cdrwa", "getAcl /own",
            "create /given x digest:bob:fyVmFCwVbTJYrznoSu1koqYEYF0=:r", "get /given", "set /given y", "getEphemerals",
            "getEphemerals /a/es", "getAllChildrenNumber /", "getAllChildrenNumber /none", "sync /a", "sync /none",
            "addWatch /watched", "create /watched x", "set /watched y", "addWatch -m PERSISTENT /plain", "create /plain x",
            "create /plain/x y", "create /watched/x y", "removewatches /plain", "removewatches -l /watched", "removewatches /none",
            "removewatches -d /a", "setquota -n 2 /watched", "listquota /watched", "create /watched/y", "create /watched/z",
            "listquota /watched", "setquota -b 1000 /watched", "setquota -N 5 -B 2000 /watched", "listquota /watched",
            "set /watched 0123456789", "listquota /watched", "setquota -n 1 /watched/x", "setquota -n 1 /none", "delquota -n /watched",
            "listquota /watched", "delquota /watched", "listquota /watched", "delquota /none", "ls -R /zookeeper", "config",
            "config -c", "reconfig -add server.2=a:1:2;3", "version", "redo 4", "history", "printwatches off", "printwatches",
            "nonsense", "create", "get", "deleteall /a",
            "deleteall -b 2 /watched", "deleteall /none", "ls /");

    private Cli() {}

    private static final class Shell extends ZooKeeperMain {
        Shell(String address) throws Exception {
            super(new String[] {"-server", address, "-timeout", "30000"});
            printWatches = true;
            Transcript.session(zk.getSessionId());
        }

        void execute(int number, String line) throws Exception {
            addToHistory(number, line);
            executeLine(line);
            settle();
        }

        /** Waits for the events that came before now: they are printed by another thread. */
        void settle() throws Exception {
            CountDownLatch answered = new CountDownLatch(1);
            zk.sync("/", (code, path, context) -> answered.countDown(), null);
            if (!answered.await(Transcript.PATIENCE_MS, TimeUnit.MILLISECONDS)) {
                throw new IllegalStateException("no answer");
            }
        }
    }

    public static void main(String[] args) throws Exception {
        // Before the class that keeps them is there.
        PrintStream out = System.out;
        System.setOut(split());
        System.setErr(System.out);
        Shell shell = new Shell(args[0]);
        shell.settle();
        take(printed);
        take(told);
        int number = 0;
        for (String line : LINES) {
            number++;
            shell.execute(number, line);
            out.printf("cli %d %s => %s%s%n", number, line, take(printed), take(told));
        }
        shell.executeLine("quit");
    }

    /** What the thread of the script prints, and apart from it what others do. */
    private static PrintStream split() {
        return new PrintStream(new OutputStream() {
            @Override
            public void write(int one) {
                write(new byte[] {(byte) one}, 0, 1);
            }

            @Override
            public void write(byte[] data, int from, int count) {
                ByteArrayOutputStream of = Thread.currentThread() == script ? printed : told;
                of.write(data, from, count);
            }
        }, true, StandardCharsets.UTF_8);
    }

    /** Takes what was printed, without times, session ids and orders that a server is free to choose. */
    private static String take(ByteArrayOutputStream of) {
        String text = of.toString(StandardCharsets.UTF_8);
        of.reset();
        if (text.startsWith("Auth scheme")) {
            text = text.lines().sorted().collect(Collectors.joining("\n"));
        }
        return Pattern.compile("\\[(.*)\\]").matcher(text)
                .replaceAll(list -> Transcript.sorted(List.of(list.group(1).split(", "))).toString())
                .replaceAll("((?:c|m)time = ).*", "$1a time")
                .replaceAll("zxid: .*", "zxid: -")
                .replaceAll("(ephemeralOwner = 0x)[1-9a-f]\\w*", "$1session")
                .replaceAll("\n", "\\\\n");
    }
}
