import java.util.Map;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.Topology;

/** One way to do W1. */
interface Pipeline {
    Topology topology(String topic, Meter meter);

    /** Adds what the windows hold to `totals` by group, once the last event is folded. */
    void addTotals(KafkaStreams streams, Map<String, Window> totals);
}
