"""What a consumer and a producer do with pika: python deeds_pika.py PORT NAME SIZE."""

import sys
import time

import pika


def main():
    place = pika.ConnectionParameters("127.0.0.1", int(sys.argv[1]), heartbeat=0)
    connection = pika.BlockingConnection(place)
    plain, sure = connection.channel(), connection.channel()
    sure.confirm_delivery()
    own = sys.argv[2]
    shop, orders = f"{own}.shop", f"{own}.orders"
    print("ready", flush=True)
    sys.stdin.readline()
    context = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
    properties = pika.BasicProperties(
        headers=context | {"deep": {"a": [1, {"b": None}]}}, message_id="m-1", correlation_id="c-1"
    )
    plain.exchange_declare(shop, "topic")
    plain.queue_declare(orders)
    plain.queue_bind(orders, shop, "order.*")
    plain.basic_publish(shop, "order.made", b"one", properties)
    # Once the queue has answered, the message is in it.
    plain.queue_declare(orders, passive=True)
    # Behind more than the copy budget a frame is found where the connection is known by then.
    time.sleep(0.2)
    sure.basic_publish("", orders, b"x" * int(sys.argv[3]))
    # A pull of each, then of none.
    method, _, _ = plain.basic_get(orders)
    plain.basic_ack(method.delivery_tag)
    plain.basic_get(orders, auto_ack=True)
    plain.basic_get(orders)
    # Pushed: done, refused, put back, done.
    for _ in range(3):
        sure.basic_publish(shop, "order.made", b"two", properties)
    plain.basic_qos(prefetch_count=1)
    for number, (method, _, _) in enumerate(plain.consume(orders), 1):
        if number == 2:
            plain.basic_reject(method.delivery_tag, requeue=False)
        elif number == 3:
            plain.basic_nack(method.delivery_tag, requeue=True)
        else:
            plain.basic_ack(method.delivery_tag)
        if number == 4:
            break
    plain.cancel()
    # Nothing is acknowledged.
    sure.basic_publish("", orders, b"three")
    for _ in plain.consume(orders, auto_ack=True):
        break
    plain.cancel()
    # Comes back; has nowhere to go; is asked of nobody.
    try:
        sure.basic_publish("", f"{own}.nowhere", b"four", mandatory=True)
    except pika.exceptions.UnroutableError:
        pass
    try:
        sure.basic_publish(f"{own}.nope", "k", b"five")
    except pika.exceptions.ChannelClosedByBroker:
        pass
    try:
        plain.basic_get(f"{own}.none")
    except pika.exceptions.ChannelClosedByBroker:
        pass
    print("done", flush=True)
    sys.stdin.readline()


main()
