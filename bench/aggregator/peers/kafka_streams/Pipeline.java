import java.util.Map;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.Topology;

/** One way to do W1. */
interface Pipeline {
    Topology topology(String topic);

    /** What the windows hold by group, once the meter has seen the last event. */
    Map<String, Window> totals(KafkaStreams streams) throws InterruptedException;
}
