import java.time.Duration;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.state.StoreBuilder;
import org.apache.kafka.streams.state.Stores;
import org.apache.kafka.streams.state.WindowStore;

/**
 * The ids of one task's partition: an id is a duplicate if it was seen at most 36 minutes of record time ago, as for
 * our worker.
 *
 * <p>The usual way, a window store from id to the time when it was last seen, in memory and with a changelog. But its
 * windows are as long as ids are kept, not a millisecond each: the in-memory store has a map per window and looks at
 * each, so that here two suffice. Not cached: hardly an id comes twice, so a cache would only put writing off.
 */
final class SeenIds {
    static final String STORE = "ids";
    private static final long KEPT_MS = Duration.ofMinutes(36).toMillis();

    private final WindowStore<byte[], Long> times;

    SeenIds(WindowStore<byte[], Long> times) {
        this.times = times;
    }

    static StoreBuilder<WindowStore<byte[], Long>> store() {
        var window = Duration.ofMillis(KEPT_MS);
        var supplier = Stores.inMemoryWindowStore(STORE, window.multipliedBy(2), window, false);
        return Stores.windowStoreBuilder(supplier, Serdes.ByteArray(), Serdes.Long());
    }

    /** Whether the id was seen lately; marks it as seen at `now`, in milliseconds. */
    boolean addAndTellWhetherSeen(byte[] id, long now) {
        long window = now - now % KEPT_MS;
        Long last = times.fetch(id, window);
        if (last == null) last = times.fetch(id, window - KEPT_MS);
        times.put(id, now, window);
        return last != null && now - last <= KEPT_MS;
    }
}
