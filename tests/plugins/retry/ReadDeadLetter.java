import java.nio.ByteBuffer;
import java.time.Duration;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.springframework.kafka.support.KafkaHeaders;

/** Reads one dead letter, and prints each of Spring's headers as a service in Java reads it. */
class ReadDeadLetter {
    private static final Map<String, String> TYPES = new LinkedHashMap<>();

    static {
        TYPES.put(KafkaHeaders.DLT_ORIGINAL_TOPIC, "string");
        TYPES.put(KafkaHeaders.DLT_ORIGINAL_PARTITION, "int");
        TYPES.put(KafkaHeaders.DLT_ORIGINAL_OFFSET, "long");
        TYPES.put(KafkaHeaders.DLT_ORIGINAL_TIMESTAMP, "long");
        TYPES.put(KafkaHeaders.DLT_ORIGINAL_TIMESTAMP_TYPE, "string");
        TYPES.put(KafkaHeaders.DLT_ORIGINAL_CONSUMER_GROUP, "string");
        TYPES.put(KafkaHeaders.DLT_EXCEPTION_FQCN, "string");
        TYPES.put(KafkaHeaders.DLT_EXCEPTION_CAUSE_FQCN, "string");
        TYPES.put(KafkaHeaders.DLT_EXCEPTION_MESSAGE, "string");
        TYPES.put(KafkaHeaders.DLT_EXCEPTION_STACKTRACE, "string");
        TYPES.put(KafkaHeaders.DELIVERY_ATTEMPT, "int");
    }

    public static void main(String[] arguments) {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", arguments[0]);
        properties.put("auto.offset.reset", "earliest");
        properties.put("enable.auto.commit", "false");
        var bytes = new ByteArrayDeserializer();
        try (var consumer = new KafkaConsumer<>(properties, bytes, bytes)) {
            var partition = new TopicPartition(arguments[1], Integer.parseInt(arguments[2]));
            consumer.assign(List.of(partition));
            for (int turn = 0; turn < 40; turn++) {
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(500))) {
                    print(record);
                    return;
                }
            }
        }
        throw new IllegalStateException("no dead letter in 20 seconds");
    }

    private static void print(ConsumerRecord<byte[], byte[]> record) {
        TYPES.forEach((name, type) -> {
            Header header = record.headers().lastHeader(name);
            String text = header == null ? "missing" : read(ByteBuffer.wrap(header.value()), type);
            System.out.println(name + "=" + text.replace("\\", "\\\\").replace("\n", "\\n"));
        });
    }

    private static String read(ByteBuffer value, String type) {
        String text = switch (type) {
            case "int" -> "int " + value.getInt();
            case "long" -> "long " + value.getLong();
            default -> "string " + java.nio.charset.StandardCharsets.UTF_8.decode(value);
        };
        return value.hasRemaining() ? "more bytes than a" + text : text;
    }
}
