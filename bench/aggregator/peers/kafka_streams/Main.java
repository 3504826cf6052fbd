import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Properties;
import java.util.UUID;
import java.util.concurrent.CountDownLatch;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;

/**
 * Kafka Streams under measurement: `Main STATE dsl|papi|papi-dedup GUARANTEE KAFKA TOPIC PARTITIONS EVENTS`, GUARANTEE
 * a processing.guarantee. Says on standard output what the protocol of the other peers says.
 *
 * <p>Two passes: the cold one is over the first events that this JVM ever folds, a million at most; then the warm one
 * over all, as an application of another name in the same JVM.
 */
public final class Main {
    private static final long COLD = 1_000_000;
    private static final int MIB = 1024 * 1024;
    private static final ObjectMapper JSON = new ObjectMapper();

    public static void main(String[] arguments) throws Exception {
        long events = Long.parseLong(arguments[6]);
        run(arguments, Math.min(events, COLD), true).close();
        run(arguments, events, false);
        new CountDownLatch(1).await();
    }

    /** One pass, `again` if another one follows; what has run goes on running. */
    private static KafkaStreams run(String[] arguments, long events, boolean again) throws InterruptedException {
        var meter = new Meter(events);
        Pipeline pipeline = switch (arguments[1]) {
            case "dsl" -> new Dsl(meter);
            case "papi" -> new Papi(meter, false);
            case "papi-dedup" -> new Papi(meter, true);
            default -> throw new IllegalArgumentException(arguments[1]);
        };
        var streams = new KafkaStreams(pipeline.topology(arguments[4]), settings(arguments));
        streams.setUncaughtExceptionHandler(error -> {
            error.printStackTrace();
            Runtime.getRuntime().halt(1);
            return StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
        });
        streams.start();
        double seconds = meter.await();
        var totals = pipeline.totals(streams).entrySet().stream();
        var told = totals.map(entry -> entry.getValue().total(entry.getKey())).toList();
        tell("done", "events", events, "seconds", seconds, "totals", told, "again", again);
        return streams;
    }

    /** As one would set it for throughput: large fetches, compressed batches, a commit a second, one thread. */
    private static Properties settings(String[] arguments) {
        var settings = new Properties();
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, "bench-" + arguments[1] + "-" + UUID.randomUUID());
        settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, arguments[2]);
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, arguments[3]);
        settings.put(StreamsConfig.STATE_DIR_CONFIG, arguments[0]);
        settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 1);
        settings.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, 1);
        settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 1_000);
        settings.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 64 * MIB);
        settings.put(StreamsConfig.BUFFERED_RECORDS_PER_PARTITION_CONFIG, 10_000);
        settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG), "earliest");
        settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.MAX_POLL_RECORDS_CONFIG), 10_000);
        settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.MAX_PARTITION_FETCH_BYTES_CONFIG), 4 * MIB);
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.LINGER_MS_CONFIG), 100);
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.BATCH_SIZE_CONFIG), MIB / 4);
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.COMPRESSION_TYPE_CONFIG), "lz4");
        return settings;
    }

    /** One line of the protocol: its type, then names and values. */
    static synchronized void tell(String type, Object... fields) {
        Map<String, Object> line = new LinkedHashMap<>();
        line.put("type", type);
        for (int i = 0; i < fields.length; i += 2) line.put((String) fields[i], fields[i + 1]);
        try {
            System.out.println(JSON.writeValueAsString(line));
        } catch (JsonProcessingException error) {
            throw new IllegalStateException(error);
        }
        System.out.flush();
    }
}
