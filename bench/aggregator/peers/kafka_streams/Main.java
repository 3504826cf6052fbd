import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Properties;
import java.util.TreeMap;
import java.util.UUID;
import java.util.concurrent.CountDownLatch;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;

/**
 * Kafka Streams under measurement: `Main STATE dsl|papi GUARANTEE KAFKA TOPIC PARTITIONS EVENTS`, GUARANTEE a
 * processing.guarantee. Says on standard output what the protocol of the other peers says.
 *
 * <p>First a pass over at most a million events that is not timed, for the JIT; then, as an application of another
 * name in the same JVM, the one that is.
 */
public final class Main {
    private static final long WARM_UP = 1_000_000;
    private static final int MIB = 1024 * 1024;
    private static final ObjectMapper JSON = new ObjectMapper();

    public static void main(String[] arguments) throws Exception {
        long events = Long.parseLong(arguments[6]);
        run(arguments, new Meter(Math.min(events, WARM_UP), false)).close();

        var meter = new Meter(events, true);
        var running = run(arguments, meter);
        double seconds = meter.await();
        var totals = new TreeMap<String, Window>();
        running.pipeline.addTotals(running.streams, totals);
        var told = totals.entrySet().stream().map(entry -> entry.getValue().total(entry.getKey())).toList();
        tell("done", "events", events, "seconds", seconds, "totals", told);
        new CountDownLatch(1).await();
    }

    private record Running(Pipeline pipeline, KafkaStreams streams) {
        void close() {
            streams.close();
        }
    }

    /** Starts the pipeline, and returns when the meter has seen the last event. */
    private static Running run(String[] arguments, Meter meter) throws InterruptedException {
        Pipeline pipeline = arguments[1].equals("dsl") ? new Dsl() : new Papi();
        var streams = new KafkaStreams(pipeline.topology(arguments[4], meter), settings(arguments));
        streams.setUncaughtExceptionHandler(error -> {
            error.printStackTrace();
            Runtime.getRuntime().halt(1);
            return StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
        });
        streams.start();
        meter.await();
        return new Running(pipeline, streams);
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
