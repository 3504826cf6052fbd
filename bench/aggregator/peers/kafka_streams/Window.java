import java.nio.ByteBuffer;
import java.util.LinkedHashMap;
import java.util.Map;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;

/** Count, sum and extremes of durations; changed in place. */
final class Window {
    private static final int BYTES = 4 * 8;

    private long n, sum, min = Long.MAX_VALUE, max = Long.MIN_VALUE;

    Window add(Event event) {
        n++;
        sum += event.duration;
        if (event.duration < min) min = event.duration;
        if (event.duration > max) max = event.duration;
        return this;
    }

    Window merge(Window other) {
        n += other.n;
        sum += other.sum;
        min = Math.min(min, other.min);
        max = Math.max(max, other.max);
        return this;
    }

    long count() {
        return n;
    }

    /** As the protocol's GroupTotal; `group` is "type|variant". */
    Map<String, Object> total(String group) {
        String[] names = group.split("\\|");
        Map<String, Object> total = new LinkedHashMap<>();
        total.put("event_type", names[0]);
        total.put("variant", names[1]);
        total.put("durations", Map.of("n", n, "sum", sum, "min", min, "max", max));
        return total;
    }

    static Serde<Window> serde() {
        return Serdes.serdeFrom((topic, window) -> window.bytes(), (topic, bytes) -> read(bytes));
    }

    private byte[] bytes() {
        return ByteBuffer.allocate(BYTES).putLong(n).putLong(sum).putLong(min).putLong(max).array();
    }

    private static Window read(byte[] bytes) {
        if (bytes == null) return null;
        ByteBuffer buffer = ByteBuffer.wrap(bytes);
        Window window = new Window();
        window.n = buffer.getLong();
        window.sum = buffer.getLong();
        window.min = buffer.getLong();
        window.max = buffer.getLong();
        return window;
    }
}
