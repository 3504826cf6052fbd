import java.time.Duration;
import java.util.Map;
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

    @Override
    public Topology topology(String topic, Meter meter) {
        var builder = new StreamsBuilder();
        var fromJson = Serdes.serdeFrom((String name, Event event) -> null, new Event.FromJson());
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
                meter.folded();
                return window.add(event);
            }, Materialized.<String, Window>as(stored)
                .withKeySerde(Serdes.String()).withValueSerde(Window.serde()).withCachingEnabled());
        return builder.build();
    }

    @Override
    public void addTotals(KafkaStreams streams, Map<String, Window> totals) {
        var query = StoreQueryParameters.fromNameAndType(STORE, QueryableStoreTypes.<String, Window>windowStore());
        try (KeyValueIterator<Windowed<String>, Window> all = streams.store(query).all()) {
            while (all.hasNext()) {
                KeyValue<Windowed<String>, Window> entry = all.next();
                totals.computeIfAbsent(entry.key.key(), group -> new Window()).merge(entry.value);
            }
        }
    }
}
