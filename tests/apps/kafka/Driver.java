// Kafka's own client: BROKER TOPIC [warm]; `ready`, then a list of deeds for each line, `done` after
// each; once before, if it is to be warm. And the broker, storage and all: FILE with its properties.

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ExecutionException;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

public class Driver {
    static String topic;

    public static void main(String[] args) throws Exception {
        topic = args[1];
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", args[0]))) {
            admin.createTopics(List.of(new NewTopic(topic, 3, (short) 1))).all().get();
            // Returns once the coordinator of the group has loaded.
            admin.listConsumerGroupOffsets("readers").partitionsToOffsetAndMetadata().get();
        }
        var lines = new BufferedReader(new InputStreamReader(System.in));
        try (var plain = producer(args[0], "none", "java-plain");
                var gzip = producer(args[0], "gzip", "java-gzip");
                var consumer = consumer(args[0])) {
            plain.partitionsFor(topic);
            gzip.partitionsFor(topic);
            int round = 0;
            if (args.length > 2) {
                deeds(plain, gzip, consumer, round++);
            }
            System.out.println("ready");
            while (lines.readLine() != null) {
                deeds(plain, gzip, consumer, round++);
                System.out.println("done");
            }
        }
    }

    static void deeds(
            KafkaProducer<byte[], byte[]> plain,
            KafkaProducer<byte[], byte[]> gzip,
            KafkaConsumer<byte[], byte[]> consumer,
            int round)
            throws Exception {
        plain.send(message(0, 1, "one".getBytes())).get();
        for (int i = 2; i <= 4; i++) {
            plain.send(message(1, i, "some".getBytes()));
        }
        plain.flush();
        for (int i = 5; i <= 7; i++) {
            gzip.send(message(2, i, "small".getBytes()));
        }
        gzip.flush();
        // Two partitions by one request.
        plain.send(message(0, 8, "both".getBytes()));
        plain.send(message(2, 8, "both".getBytes()));
        plain.flush();
        try {
            plain.send(message(0, 10, new byte[200_000])).get();
            throw new IllegalStateException("too large, and taken");
        } catch (ExecutionException expected) {
        }
        var one = new TopicPartition(topic, 1);
        consumer.assign(List.of(one));
        consumer.seek(one, 3L * round);
        int left = 3;
        while (left > 0) {
            ConsumerRecords<byte[], byte[]> records = consumer.poll(Duration.ofMillis(500));
            left -= records.count();
        }
        consumer.commitSync();
        consumer.unsubscribe();
    }

    static ProducerRecord<byte[], byte[]> message(int partition, int number, byte[] value) {
        var record = new ProducerRecord<byte[], byte[]>(topic, partition, "key".getBytes(), value);
        String context = String.format("00-%032x-%016x-01", number, number);
        record.headers().add("kind", "test".getBytes());
        record.headers().add("traceparent", context.getBytes(StandardCharsets.US_ASCII));
        return record;
    }

    static KafkaProducer<byte[], byte[]> producer(String broker, String compression, String name) {
        Map<String, Object> settings =
                Map.of(
                        "bootstrap.servers", broker,
                        "client.id", name,
                        "compression.type", compression,
                        "linger.ms", 100,
                        "max.request.size", 1_000_000);
        return new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer());
    }

    static KafkaConsumer<byte[], byte[]> consumer(String broker) {
        Map<String, Object> settings =
                Map.of(
                        "bootstrap.servers", broker,
                        "client.id", "java-consumer",
                        "group.id", "readers",
                        "enable.auto.commit", false,
                        "auto.offset.reset", "earliest");
        return new KafkaConsumer<>(
                settings, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }
}

class Broker {
    public static void main(String[] args) throws Exception {
        String[] format = {"format", "-t", "AAAAAAAAAAAAAAAAAAAAAg", "-c", args[0]};
        kafka.tools.StorageTool.execute(format, System.out);
        kafka.Kafka.main(args);
    }
}
