import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** Writes one session of the golden logs: {@code Produce <bootstrap server> <session 1, 2 or 3>}. */
public class Produce {
    static final long BASE = 1_700_000_000_000L;
    static final long MINUTE = 60_000L;

    static KafkaProducer<byte[], byte[]> producer(String server, boolean idempotent, String codec) {
        Properties p = new Properties();
        p.put("bootstrap.servers", server);
        p.put("key.serializer", ByteArraySerializer.class.getName());
        p.put("value.serializer", ByteArraySerializer.class.getName());
        p.put("enable.idempotence", String.valueOf(idempotent));
        p.put("acks", "all");
        p.put("compression.type", codec);
        // One flush is one batch.
        p.put("linger.ms", "60000");
        p.put("batch.size", "65536");
        return new KafkaProducer<>(p);
    }

    static byte[] bytes(int seed, int length) {
        byte[] bytes = new byte[length];
        for (int i = 0; i < length; i++) bytes[i] = (byte) ('a' + (seed * 31 + i * i + i / 7) % 26);
        return bytes;
    }

    public static void main(String[] args) throws Exception {
        String server = args[0];
        int session = Integer.parseInt(args[1]);
        if (session == 1) createTopics(server);
        boolean idempotent = session < 3;
        List<KafkaProducer<byte[], byte[]>> producers = new ArrayList<>();
        for (String codec : new String[] {"none", "gzip", "none", "lz4"}) {
            // The first and the third get producer ids, in this order.
            boolean hasId = idempotent && codec.equals("none");
            var producer = producer(server, hasId, codec);
            if (hasId) producer.partitionsFor("flights");
            producers.add(producer);
        }
        int first = new int[] {0, 48, 60}[session - 1];
        int end = new int[] {48, 60, 71}[session - 1];
        for (int i = first; i < end; i++) {
            var producer = producers.get(i % 4);
            long time = BASE + i * MINUTE;
            if (i % 5 == 4) time -= 90_000;
            if (i >= 20) time += 120 * MINUTE;
            if (i >= 33) time += 120 * MINUTE;
            for (int n = 0; n <= (i * 7) % 5; n++) {
                byte[] key = n % 3 == 2 ? null : bytes(i, 4);
                byte[] value = n % 4 == 3 ? null : bytes(i + n, (i * 37 + n * 11) % 120);
                producer.send(new ProducerRecord<>("flights", 0, time + n * 10 - (n % 2) * 25, key, value));
            }
            producer.flush();
        }
        for (int i = 0; i < (session == 1 ? 14 : 3); i++) {
            producers.get(0).send(new ProducerRecord<>("ticks", 0, null, null, bytes(i, 20)));
            producers.get(0).flush();
            Thread.sleep(i % 3);
        }
        for (var producer : producers) producer.close();
    }

    static void createTopics(String server) throws Exception {
        Properties p = new Properties();
        p.put("bootstrap.servers", server);
        try (Admin admin = Admin.create(p)) {
            var flights = new NewTopic("flights", 1, (short) 1).configs(Map.of(
                "segment.bytes", "2000", "segment.ms", "3600000", "index.interval.bytes", "300",
                "segment.index.bytes", "480", "retention.ms", "-1"));
            var ticks = new NewTopic("ticks", 1, (short) 1).configs(Map.of(
                "message.timestamp.type", "LogAppendTime", "index.interval.bytes", "0",
                "segment.index.bytes", "60", "retention.ms", "-1"));
            admin.createTopics(List.of(flights, ticks)).all().get();
        }
    }
}
