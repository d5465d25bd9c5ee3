"""kafka-python: BROKER TOPIC; `ready`, then a list of deeds for each line, `done` after each."""

import sys

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic
from kafka.errors import KafkaError

broker, topic = sys.argv[1:]
admin = KafkaAdminClient(bootstrap_servers=broker)
admin.create_topics([NewTopic(topic, 3, 1)])
admin.close()


def producer(compression, name, **more):
    return KafkaProducer(
        bootstrap_servers=broker,
        client_id=name,
        compression_type=compression,
        linger_ms=100,
        max_request_size=1_000_000,
        **more,
    )


def send(producer, partition, numbers, value):
    futures = []
    for n in numbers:
        context = f"00-{n:032x}-{n:016x}-01"
        headers = [("kind", b"test"), ("traceparent", context.encode())]
        futures.append(producer.send(topic, value, b"key", headers, partition))
    producer.flush()
    for future in futures:
        future.get(10)


plain, gzip = producer(None, "py-plain"), producer("gzip", "py-gzip")
careless = producer(None, "py-careless", acks=0, enable_idempotence=False)
consumer = KafkaConsumer(
    bootstrap_servers=broker,
    client_id="py-consumer",
    group_id="readers",
    enable_auto_commit=False,
    auto_offset_reset="earliest",
)
for client in (plain, gzip, careless):
    client.partitions_for(topic)
consumer.partitions_for_topic(topic)
# Returns once the coordinator of the group has loaded.
consumer.committed(TopicPartition(topic, 1))
print("ready", flush=True)
for _ in sys.stdin:
    send(plain, 0, [1], b"one")
    send(plain, 1, [2, 3, 4], b"some")
    send(gzip, 2, [5, 6, 7], b"small" * 100)
    send(careless, 2, [11], b"whatever")
    try:
        send(plain, 0, [10], bytes(200_000))
        raise SystemExit("too large, and taken")
    except KafkaError:
        pass
    one = TopicPartition(topic, 1)
    consumer.assign([one])
    consumer.seek_to_beginning(one)
    left = 3
    while left:
        left -= sum(map(len, consumer.poll(500).values()))
    consumer.commit()
    print("done", flush=True)
consumer.close()
