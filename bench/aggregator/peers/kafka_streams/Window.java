import java.nio.ByteBuffer;
import java.util.LinkedHashMap;
import java.util.Map;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;

/** Count, sum and extremes of durations and amounts; changed in place. */
final class Window {
    private static final int BYTES = 8 * 8;

    private long n, sum, min = Long.MAX_VALUE, max = Long.MIN_VALUE;
    private long amounts;
    private double amountSum, amountMin = Double.POSITIVE_INFINITY, amountMax = Double.NEGATIVE_INFINITY;

    Window add(Event event) {
        n++;
        sum += event.duration;
        if (event.duration < min) min = event.duration;
        if (event.duration > max) max = event.duration;
        if (!Double.isNaN(event.amount)) {
            amounts++;
            amountSum += event.amount;
            if (event.amount < amountMin) amountMin = event.amount;
            if (event.amount > amountMax) amountMax = event.amount;
        }
        return this;
    }

    Window merge(Window other) {
        n += other.n;
        sum += other.sum;
        min = Math.min(min, other.min);
        max = Math.max(max, other.max);
        amounts += other.amounts;
        amountSum += other.amountSum;
        amountMin = Math.min(amountMin, other.amountMin);
        amountMax = Math.max(amountMax, other.amountMax);
        return this;
    }

    /** As the protocol's GroupTotal; `group` is "type|variant". */
    Map<String, Object> total(String group) {
        String[] names = group.split("\\|");
        Map<String, Object> total = new LinkedHashMap<>();
        total.put("event_type", names[0]);
        total.put("variant", names[1]);
        total.put("durations", summary(n, sum, min, max));
        total.put("amounts", summary(amounts, amountSum, amountMin, amountMax));
        return total;
    }

    private static Map<String, Object> summary(long n, double sum, double min, double max) {
        return n == 0
            ? Map.of("n", 0, "sum", 0, "min", 0, "max", 0)
            : Map.of("n", n, "sum", sum, "min", min, "max", max);
    }

    static Serde<Window> serde() {
        return Serdes.serdeFrom((topic, window) -> window.bytes(), (topic, bytes) -> read(bytes));
    }

    private byte[] bytes() {
        ByteBuffer buffer = ByteBuffer.allocate(BYTES).putLong(n).putLong(sum).putLong(min).putLong(max);
        return buffer.putLong(amounts).putDouble(amountSum).putDouble(amountMin).putDouble(amountMax).array();
    }

    private static Window read(byte[] bytes) {
        if (bytes == null) return null;
        ByteBuffer buffer = ByteBuffer.wrap(bytes);
        Window window = new Window();
        window.n = buffer.getLong();
        window.sum = buffer.getLong();
        window.min = buffer.getLong();
        window.max = buffer.getLong();
        window.amounts = buffer.getLong();
        window.amountSum = buffer.getDouble();
        window.amountMin = buffer.getDouble();
        window.amountMax = buffer.getDouble();
        return window;
    }
}
