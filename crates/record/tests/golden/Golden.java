import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.record.*;
import org.apache.kafka.common.record.Record;

/** `write DIR` makes the golden files with Kafka's own builder; `read FILE…` prints what Kafka reads of others. */
public class Golden {
    static final long TIME = 1_700_000_000_000L;
    static final int RECORDS = 100;
    static final int LARGE = 1000;

    static byte[] key(int i) {
        return i % 7 == 0 ? null : ("key-" + i).getBytes(StandardCharsets.UTF_8);
    }

    static byte[] value(int i) {
        return i % 11 == 0 ? null : ("value-" + i + " ").repeat(i * 13 % 40).getBytes(StandardCharsets.UTF_8);
    }

    static long timestamp(int i) {
        return TIME + i * 37L - i % 5 * 1000L;
    }

    static Header[] headers(int i, byte magic) {
        if (magic < 2 || i % 3 != 0) return Record.EMPTY_HEADERS;
        return new Header[] {new RecordHeader("trace", new byte[] {(byte) i, 0, -1}), new RecordHeader("", null)};
    }

    static byte[] bytes(MemoryRecords records) {
        ByteBuffer buffer = records.buffer();
        byte[] bytes = new byte[buffer.remaining()];
        buffer.get(bytes);
        return bytes;
    }

    static byte[] batch(byte magic, CompressionType codec, TimestampType type, long base, long pid, int epoch, int sequence, boolean txn, int records) {
        MemoryRecordsBuilder builder = MemoryRecords.builder(ByteBuffer.allocate(1 << 20), magic, Compression.of(codec).build(),
            type, base, TIME, pid, (short) epoch, sequence, txn, false, magic < 2 ? -1 : 5);
        for (int i = 0; i < records; i++) {
            byte[] key = key(i), value = value(i);
            builder.append(timestamp(i), key == null ? null : ByteBuffer.wrap(key), value == null ? null : ByteBuffer.wrap(value), headers(i, magic));
        }
        return bytes(builder.build());
    }

    static void write(Path dir) throws Exception {
        for (byte magic = 0; magic <= 2; magic++)
            for (CompressionType codec : CompressionType.values()) {
                if (codec == CompressionType.ZSTD && magic < 2) continue;
                Files.write(dir.resolve("java-v" + magic + "-" + codec.name + ".bin"),
                    batch(magic, codec, TimestampType.CREATE_TIME, magic < 2 ? 1000 : 0, -1, -1, -1, false, RECORDS));
                if (codec != CompressionType.NONE && magic == 2)
                    Files.write(dir.resolve("java-v2-" + codec.name + "-large.bin"), batch(magic, codec, TimestampType.CREATE_TIME, 0, -1, -1, -1, false, LARGE));
            }
        Files.write(dir.resolve("java-v1-gzip-logappend.bin"), batch((byte) 1, CompressionType.GZIP, TimestampType.LOG_APPEND_TIME, 1000, -1, -1, -1, false, RECORDS));
        Files.write(dir.resolve("java-v2-none-logappend.bin"), batch((byte) 2, CompressionType.NONE, TimestampType.LOG_APPEND_TIME, 0, -1, -1, -1, false, RECORDS));
        Files.write(dir.resolve("java-v2-none-transactional.bin"), batch((byte) 2, CompressionType.NONE, TimestampType.CREATE_TIME, 0, 4242, 3, Integer.MAX_VALUE - 7, true, RECORDS));
        for (ControlRecordType type : new ControlRecordType[] {ControlRecordType.ABORT, ControlRecordType.COMMIT})
            Files.write(dir.resolve("java-v2-marker-" + type.name().toLowerCase() + ".bin"),
                bytes(MemoryRecords.withEndTransactionMarker(0, TIME, 5, 4242, (short) 3, new EndTransactionMarker(type, 17))));
    }

    static void read(Path file) throws Exception {
        int batches = 0, records = 0;
        for (MutableRecordBatch batch : MemoryRecords.readableRecords(ByteBuffer.wrap(Files.readAllBytes(file))).batches()) {
            batch.ensureValid();
            batches++;
            if (batch.isControlBatch()) {
                Record record = batch.iterator().next();
                EndTransactionMarker marker = EndTransactionMarker.deserialize(record);
                if (marker.coordinatorEpoch() != 17) throw new AssertionError(file + ": coordinator epoch " + marker.coordinatorEpoch());
                System.out.println(file.getFileName() + ": " + marker.controlType() + " of " + batch.producerId() + "/" + batch.producerEpoch());
                continue;
            }
            boolean append = batch.timestampType() == TimestampType.LOG_APPEND_TIME;
            for (Record record : batch) {
                int i = records++;
                ByteBuffer key = record.key(), value = record.value();
                boolean same = record.offset() == batch.baseOffset() + i
                    && record.timestamp() == (append ? TIME : timestamp(i))
                    && Arrays.equals(array(key), key(i)) && Arrays.equals(array(value), value(i))
                    && Arrays.equals(record.headers(), headers(i, (byte) 2))
                    && (!batch.hasProducerId() || record.sequence() == DefaultRecordBatch.incrementSequence(batch.baseSequence(), i));
                if (!same) throw new AssertionError(file + ": record " + i + " is " + record);
            }
            if (records != RECORDS && records != LARGE) throw new AssertionError(file + ": " + records + " records");
            System.out.println(file.getFileName() + ": " + records + " records, " + batch.compressionType() + ", producer " + batch.producerId());
        }
        if (batches != 1) throw new AssertionError(file + ": " + batches + " batches");
    }

    static byte[] array(ByteBuffer buffer) {
        if (buffer == null) return null;
        byte[] bytes = new byte[buffer.remaining()];
        buffer.get(bytes);
        return bytes;
    }

    public static void main(String[] args) throws Exception {
        if (args[0].equals("write")) write(Path.of(args[1]));
        else for (int i = 1; i < args.length; i++) read(Path.of(args[i]));
    }
}
