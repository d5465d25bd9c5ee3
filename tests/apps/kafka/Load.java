// A producer that sends as much as goes: BROKER TOPIC BYTES, the size of a record. `ready`, then for each
// line with a number a new producer sends for that many seconds, and what came of it is printed: records,
// requests, seconds.

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.ByteArraySerializer;

public class Load {
    static volatile Exception failed;

    public static void main(String[] args) throws Exception {
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", args[0]))) {
            admin.createTopics(List.of(new NewTopic(args[1], 3, (short) 1))).all().get();
        }
        byte[] value = new byte[Integer.parseInt(args[2])];
        System.out.println("ready");
        var lines = new BufferedReader(new InputStreamReader(System.in));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            System.out.println(send(args[0], args[1], value, Double.parseDouble(line)));
        }
    }

    static String send(String broker, String topic, byte[] value, double seconds) throws Exception {
        var config = Map.<String, Object>of("bootstrap.servers", broker, "client.id", "load");
        var bytes = new ByteArraySerializer();
        try (var producer = new KafkaProducer<byte[], byte[]>(config, bytes, bytes)) {
            producer.partitionsFor(topic);
            long records = 0;
            long begun = System.nanoTime();
            while (System.nanoTime() - begun < seconds * 1e9) {
                var record = new ProducerRecord<byte[], byte[]>(topic, value);
                producer.send(record, (place, error) -> failed = error == null ? failed : error);
                records++;
            }
            producer.flush();
            double took = (System.nanoTime() - begun) / 1e9;
            if (failed != null) {
                throw failed;
            }
            double requests = 0;
            for (var metric : producer.metrics().values()) {
                var name = metric.metricName();
                if (name.name().equals("request-total") && name.group().equals("producer-metrics")) {
                    requests = (double) metric.metricValue();
                }
            }
            return records + " " + requests + " " + took;
        }
    }
}
