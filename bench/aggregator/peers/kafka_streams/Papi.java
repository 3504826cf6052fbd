import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.concurrent.CopyOnWriteArrayList;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.processor.api.ContextualProcessor;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.ProcessorSupplier;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueIterator;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.StoreBuilder;
import org.apache.kafka.streams.state.Stores;

/**
 * W1 by the Processor API, the friendliest form: each task adds its own partition's events to windows of its own, so
 * that nothing is repartitioned; whoever reads adds the partitions, as with our shards. The windows are in Streams' own
 * in-memory store, cached and with a changelog. Nothing is ever too late. With `once`, duplicates are passed over.
 */
final class Papi implements Pipeline {
    private static final String STORE = "windows";

    private final List<KeyValueStore<Place, Window>> stores = new CopyOnWriteArrayList<>();
    private final Meter meter;
    private final boolean once;

    Papi(Meter meter, boolean once) {
        this.meter = meter;
        this.once = once;
    }

    @Override
    public Topology topology(String topic) {
        var topology = new Topology();
        topology.addSource("events", new ByteArrayDeserializer(), new Event.FromJson(once), topic);
        topology.addProcessor("fold", new ProcessorSupplier<byte[], Event, Void, Void>() {
            @Override
            public Processor<byte[], Event, Void, Void> get() {
                return new Fold();
            }

            @Override
            public Set<StoreBuilder<?>> stores() {
                var supplier = Stores.inMemoryKeyValueStore(STORE);
                var windows =
                    Stores.keyValueStoreBuilder(supplier, Place.serde(), Window.serde()).withCachingEnabled();
                return once ? Set.of(windows, SeenIds.store()) : Set.of(windows);
            }
        }, "events");
        return topology;
    }

    @Override
    public Map<String, Window> totals(KafkaStreams streams) {
        var totals = new TreeMap<String, Window>();
        for (var store : stores) {
            try (KeyValueIterator<Place, Window> all = store.all()) {
                while (all.hasNext()) {
                    KeyValue<Place, Window> entry = all.next();
                    totals.computeIfAbsent(entry.key.group(), group -> new Window()).merge(entry.value);
                }
            }
        }
        return totals;
    }

    private final class Fold extends ContextualProcessor<byte[], Event, Void, Void> {
        private KeyValueStore<Place, Window> windows;
        private SeenIds ids;

        @Override
        public void init(ProcessorContext<Void, Void> context) {
            windows = context.getStateStore(STORE);
            stores.add(windows);
            if (once) ids = new SeenIds(context.getStateStore(SeenIds.STORE));
        }

        @Override
        public void process(Record<byte[], Event> record) {
            if (meter.isOver()) return;
            meter.taken();
            Event event = record.value();
            if (ids == null || !ids.addAndTellWhetherSeen(event.id, record.timestamp())) {
                Place place = Place.of(event);
                Window window = windows.get(place);
                windows.put(place, (window == null ? new Window() : window).add(event));
            }
            meter.count();
        }
    }
}
