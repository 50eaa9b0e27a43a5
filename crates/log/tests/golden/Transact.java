import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** Writes the topic with transactions, and a group's offsets: {@code Transact <bootstrap server>}. */
public class Transact {
    static final long BASE = 1_700_000_000_000L;

    static KafkaProducer<byte[], byte[]> producer(String server, String id, String codec) {
        Properties p = new Properties();
        p.put("bootstrap.servers", server);
        p.put("key.serializer", ByteArraySerializer.class.getName());
        p.put("value.serializer", ByteArraySerializer.class.getName());
        p.put("compression.type", codec);
        p.put("linger.ms", "60000");
        if (id != null) p.put("transactional.id", id);
        return new KafkaProducer<>(p);
    }

    static int next = 0;

    static void send(KafkaProducer<byte[], byte[]> producer, int count) {
        for (int i = 0; i < count; i++) {
            int n = next++;
            byte[] key = n % 5 == 0 ? null : ("k" + n).getBytes();
            byte[] value = n % 7 == 0 ? null : ("v" + "x".repeat(n % 40)).getBytes();
            var record = new ProducerRecord<>("payments", 0, BASE + n * 1000L, key, value);
            if (n % 3 == 0) record.headers().add("trace", new byte[] {1}).add("empty", null);
            producer.send(record);
        }
        producer.flush();
    }

    public static void main(String[] args) throws Exception {
        String server = args[0];
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", server))) {
            var configs = Map.of("segment.bytes", "4096", "index.interval.bytes", "200");
            admin.createTopics(List.of(new NewTopic("payments", 1, (short) 1).configs(configs))).all().get();
        }
        var a = producer(server, "a", "none");
        var b = producer(server, "b", "zstd");
        var plain = producer(server, null, "snappy");
        a.initTransactions();
        b.initTransactions();
        for (int round = 0; round < 12; round++) {
            a.beginTransaction();
            send(a, 3);
            send(plain, 4);
            b.beginTransaction();
            send(b, 5);
            if (round % 3 == 1) a.abortTransaction(); else a.commitTransaction();
            send(b, 2);
            if (round % 2 == 0) b.abortTransaction(); else b.commitTransaction();
        }
        Properties c = new Properties();
        c.put("bootstrap.servers", server);
        c.put("group.id", "readers");
        c.put("auto.offset.reset", "earliest");
        c.put("enable.auto.commit", "false");
        c.put("key.deserializer", ByteArrayDeserializer.class.getName());
        c.put("value.deserializer", ByteArrayDeserializer.class.getName());
        try (var consumer = new KafkaConsumer<byte[], byte[]>(c)) {
            consumer.subscribe(List.of("payments"));
            int seen = 0;
            while (seen < 30) seen += consumer.poll(Duration.ofSeconds(1)).count();
            consumer.commitSync();
        }
        // One transaction stays open.
        a.beginTransaction();
        send(a, 2);
        plain.close();
        System.exit(0);
    }
}
