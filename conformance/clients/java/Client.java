import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedOutputStream;
import java.io.PrintStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** The official Java client under the client contract of conformance/README.md; one source for every version. */
public final class Client {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final Duration PATIENCE = Duration.ofSeconds(30);
    private static final PrintStream OUT = new PrintStream(new BufferedOutputStream(System.out, 1 << 16), false);

    public static void main(String[] args) throws Exception {
        switch (args[0]) {
            case "write" -> write(args[1], args[2], Path.of(args[3]));
            case "read" -> read(args[1], Integer.parseInt(args[2]), Arrays.asList(args).subList(3, args.length));
            default -> throw new IllegalArgumentException(args[0]);
        }
        OUT.flush();
    }

    private static void write(String bootstrap, String topic, Path input) throws Exception {
        String codec = null;
        KafkaProducer<byte[], byte[]> producer = null;
        List<Future<RecordMetadata>> placed = new ArrayList<>();
        for (String line : Files.readAllLines(input)) {
            JsonNode record = JSON.readTree(line);
            if (!record.get("codec").asText().equals(codec)) {
                if (producer != null) producer.close();
                codec = record.get("codec").asText();
                producer = new KafkaProducer<>(
                        Map.of("bootstrap.servers", bootstrap, "acks", "all", "compression.type", codec),
                        new ByteArraySerializer(), new ByteArraySerializer());
            }
            List<Header> headers = new ArrayList<>();
            for (JsonNode header : record.get("headers")) {
                headers.add(new RecordHeader(header.get(0).asText(), header.get(1).binaryValue()));
            }
            placed.add(producer.send(new ProducerRecord<>(topic, record.get("partition").asInt(),
                    record.get("timestamp").asLong(), record.get("key").binaryValue(),
                    record.get("value").binaryValue(), headers)));
        }
        if (producer != null) producer.close();
        for (Future<RecordMetadata> future : placed) {
            RecordMetadata metadata = future.get(PATIENCE.toSeconds(), TimeUnit.SECONDS);
            OUT.println(JSON.createObjectNode().put("partition", metadata.partition()).put("offset", metadata.offset()));
        }
    }

    private static void read(String bootstrap, int count, List<String> topics) {
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(
                Map.of("bootstrap.servers", bootstrap), new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            List<TopicPartition> partitions = topics.stream().flatMap(topic -> consumer.partitionsFor(topic).stream())
                    .map(info -> new TopicPartition(info.topic(), info.partition())).toList();
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            long deadline = System.nanoTime() + PATIENCE.toNanos();
            int seen = 0;
            while (seen < count && System.nanoTime() < deadline) {
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofSeconds(1))) {
                    OUT.println(toJson(record));
                    seen += 1;
                    deadline = System.nanoTime() + PATIENCE.toNanos();
                }
            }
            if (seen < count) throw new IllegalStateException("only " + seen + " of " + count + " records came");
        }
    }

    private static ObjectNode toJson(ConsumerRecord<byte[], byte[]> record) {
        ObjectNode json = JSON.createObjectNode().put("topic", record.topic()).put("partition", record.partition())
                .put("offset", record.offset()).put("key", record.key()).put("value", record.value())
                .put("timestamp", record.timestamp());
        ArrayNode headers = json.putArray("headers");
        for (Header header : record.headers()) headers.addArray().add(header.key()).add(header.value());
        return json;
    }
}
