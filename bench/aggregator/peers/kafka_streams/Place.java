import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;

/** A minute of a group; `minute` is in minutes since the epoch. */
record Place(long minute, String type, String variant) {
    static Place of(Event event) {
        return new Place(event.time / Event.MINUTE, event.type, event.variant);
    }

    String group() {
        return type + "|" + variant;
    }

    static Serde<Place> serde() {
        return Serdes.serdeFrom((topic, place) -> place.bytes(), (topic, bytes) -> read(bytes));
    }

    private byte[] bytes() {
        byte[] group = group().getBytes(StandardCharsets.US_ASCII);
        return ByteBuffer.allocate(8 + group.length).putLong(minute).put(group).array();
    }

    private static Place read(byte[] bytes) {
        String[] names = new String(bytes, 8, bytes.length - 8, StandardCharsets.US_ASCII).split("\\|");
        return new Place(ByteBuffer.wrap(bytes).getLong(), names[0], names[1]);
    }
}
