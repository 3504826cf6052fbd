import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import org.apache.kafka.common.serialization.Deserializer;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;

/** What W1 needs of an event. `time` is in microseconds; `id` is null where nobody asks for it. */
final class Event {
    static final long MINUTE = 60_000_000L;

    final long time;
    final String type;
    final String variant;
    final long duration;
    final byte[] id;

    Event(long time, String type, String variant, long duration, byte[] id) {
        this.time = time;
        this.type = type;
        this.variant = variant;
        this.duration = duration;
        this.id = id;
    }

    String group() {
        return type + "|" + variant;
    }

    /** Jackson's streaming parser: nothing is built but the fields above, everything else is skipped. */
    static final class FromJson implements Deserializer<Event> {
        private final JsonFactory factory = new JsonFactory();
        private final boolean withId;

        FromJson(boolean withId) {
            this.withId = withId;
        }

        @Override
        public Event deserialize(String topic, byte[] json) {
            long time = 0, duration = 0;
            String type = null, variant = null;
            byte[] id = null;
            try (JsonParser parser = factory.createParser(json)) {
                parser.nextToken();
                for (String field; (field = parser.nextFieldName()) != null; ) {
                    parser.nextToken();
                    switch (field) {
                        case "event_type" -> type = parser.getText();
                        case "time" -> time = parser.getLongValue();
                        case "event_id" -> {
                            if (withId) id = parser.getText().getBytes(StandardCharsets.UTF_8);
                        }
                        case "properties" -> {
                            for (String property; (property = parser.nextFieldName()) != null; ) {
                                JsonToken token = parser.nextToken();
                                switch (property) {
                                    case "variant" -> variant = parser.getText();
                                    case "durationMs" -> duration = parser.getLongValue();
                                    default -> {
                                        if (token.isStructStart()) parser.skipChildren();
                                    }
                                }
                            }
                        }
                        default -> parser.skipChildren();
                    }
                }
            } catch (IOException error) {
                throw new IllegalArgumentException(error);
            }
            return new Event(time, type, variant, duration, id);
        }
    }

    /** What goes through the repartition topic: the duration, 8 bytes; the group is the key, the time the record's. */
    static Serde<Event> duration() {
        return Serdes.serdeFrom(
            (topic, event) -> ByteBuffer.allocate(8).putLong(event.duration).array(),
            (topic, bytes) -> new Event(0, null, null, ByteBuffer.wrap(bytes).getLong(), null));
    }
}
