import java.time.Duration;
import java.util.Map;
import java.util.TreeMap;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.StoreQueryParameters;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.kstream.Windowed;
import org.apache.kafka.streams.state.KeyValueIterator;
import org.apache.kafka.streams.state.QueryableStoreTypes;
import org.apache.kafka.streams.state.Stores;

/**
 * W1 as the DSL says it: groupBy, windowedBy, one aggregate for everything. The events' key is the user, so grouping
 * sends each through a repartition topic, with nothing but its duration in it. Windows are in memory, cached, with a
 * changelog; an hour of grace, so that nothing is dropped.
 */
final class Dsl implements Pipeline {
    private static final String STORE = "windows";
    private static final Duration MINUTE = Duration.ofMinutes(1);
    private static final Duration GRACE = Duration.ofHours(1);
    private static final int TRIES = 1_000;

    private final Meter meter;

    Dsl(Meter meter) {
        this.meter = meter;
    }

    @Override
    public Topology topology(String topic) {
        var builder = new StreamsBuilder();
        var fromJson = Serdes.serdeFrom((String name, Event event) -> null, new Event.FromJson(false));
        var consumed = Consumed.with(Serdes.ByteArray(), fromJson)
            .withTimestampExtractor((record, streamTime) -> ((Event) record.value()).time / 1_000);
        var stored = Stores.inMemoryWindowStore(STORE, MINUTE.plus(GRACE), MINUTE, false);
        builder.stream(topic, consumed)
            .groupBy((user, event) -> {
                meter.taken();
                return event.group();
            }, Grouped.with(Serdes.String(), Event.duration()))
            .windowedBy(TimeWindows.ofSizeAndGrace(MINUTE, GRACE))
            .aggregate(Window::new, (group, event, window) -> {
                if (meter.isOver()) return window;
                window.add(event);
                meter.count();
                return window;
            }, Materialized.<String, Window>as(stored)
                .withKeySerde(Serdes.String()).withValueSerde(Window.serde()).withCachingEnabled());
        return builder.build();
    }

    /** The aggregate of the last event is put a moment after the meter was told of it: that is waited for. */
    @Override
    public Map<String, Window> totals(KafkaStreams streams) throws InterruptedException {
        var totals = read(streams);
        for (int i = 0; i < TRIES && totals.values().stream().mapToLong(Window::count).sum() < meter.done(); i++) {
            Thread.sleep(1);
            totals = read(streams);
        }
        return totals;
    }

    private static Map<String, Window> read(KafkaStreams streams) {
        var totals = new TreeMap<String, Window>();
        var query = StoreQueryParameters.fromNameAndType(STORE, QueryableStoreTypes.<String, Window>windowStore());
        try (KeyValueIterator<Windowed<String>, Window> all = streams.store(query).all()) {
            while (all.hasNext()) {
                KeyValue<Windowed<String>, Window> entry = all.next();
                totals.computeIfAbsent(entry.key.key(), group -> new Window()).merge(entry.value);
            }
        }
        return totals;
    }
}
