"""confluent-kafka, on librdkafka: BROKER TOPIC [warm]; `ready`, then a list of deeds for each
line, `done` after each; once before, if it is to be warm."""

import sys
import time

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

broker, topic, *warm = sys.argv[1:]
common = {"bootstrap.servers": broker, "socket.nagle.disable": True}
admin = AdminClient(common)
for future in admin.create_topics([NewTopic(topic, 3, 1)]).values():
    future.result()


def producer(compression, name):
    settings = {"compression.type": compression, "linger.ms": 100, "message.max.bytes": 1_000_000}
    return Producer(common | settings | {"client.id": name})


def send(producer, partition, numbers, value):
    errors = []
    for n in numbers:
        context = f"00-{n:032x}-{n:016x}-01"
        headers = [("kind", b"test"), ("traceparent", context.encode())]
        told = lambda error, _: error and errors.append(error)
        producer.produce(topic, value, "key", partition, headers=headers, on_delivery=told)
    producer.flush()
    return errors


plain, gzip = producer("none", "rd-plain"), producer("gzip", "rd-gzip")
consumer = Consumer(
    common
    | {
        "client.id": "rd-consumer",
        "group.id": "readers",
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
    }
)
for client in (plain, gzip, consumer):
    client.list_topics(topic, timeout=10)
# Returns once the coordinator of the group has loaded, which a broker that just came up may refuse.
for tries in reversed(range(20)):
    try:
        consumer.committed([TopicPartition(topic, 1)], timeout=20)
        break
    except KafkaException as refused:
        if not tries or refused.args[0].code() != KafkaError.NOT_COORDINATOR:
            raise
        time.sleep(0.5)


def deeds(round):
    assert not send(plain, 0, [1], b"one")
    assert not send(plain, 1, [2, 3, 4], b"some")
    assert not send(gzip, 2, [5, 6, 7], b"small" * 100)
    assert send(plain, 0, [10], bytes(200_000))
    consumer.assign([TopicPartition(topic, 1, 3 * round)])
    left = 3
    while left:
        left -= len(consumer.consume(left, timeout=10))
    consumer.commit(offsets=[TopicPartition(topic, 1, 3 * round + 3)], asynchronous=False)
    consumer.unassign()


round = 0
if warm:
    deeds(round)
    round += 1
print("ready", flush=True)
for _ in sys.stdin:
    deeds(round)
    round += 1
    print("done", flush=True)
consumer.close()
