"""What a consumer and a producer do with aio-pika: python deeds_aio.py PORT NAME SIZE."""

import asyncio
import sys

import aio_pika
from aio_pika import Message
from aio_pika.exceptions import ChannelInvalidStateError, ChannelNotFoundEntity, DeliveryError


async def main():
    connection = await aio_pika.connect(f"amqp://guest:guest@127.0.0.1:{sys.argv[1]}/?heartbeat=600")
    plain = await connection.channel(publisher_confirms=False)
    sure = await connection.channel(on_return_raises=True)
    own = sys.argv[2]
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    context = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}

    def message(body):
        return Message(body, headers=context, message_id="m-1", correlation_id="c-1")

    shop = await sure.declare_exchange(f"{own}.shop", aio_pika.ExchangeType.TOPIC)
    orders = await plain.declare_queue(f"{own}.orders")
    await orders.bind(f"{own}.shop", "order.*")
    await (await plain.get_exchange(f"{own}.shop")).publish(message(b"one"), "order.made", mandatory=False)
    await plain.declare_queue(f"{own}.orders", passive=True)
    # Behind more than the copy budget a frame is found where the connection is known by then.
    await asyncio.sleep(0.2)
    await sure.default_exchange.publish(Message(b"x" * int(sys.argv[3])), f"{own}.orders")
    await (await orders.get()).ack()
    await orders.get(no_ack=True)
    await orders.get(fail=False)
    for _ in range(3):
        await shop.publish(message(b"two"), "order.made")
    await plain.set_qos(prefetch_count=1)
    count, over = 0, asyncio.Event()

    async def handle(got):
        nonlocal count
        count += 1
        if count == 2:
            await got.reject(requeue=False)
        elif count == 3:
            await got.nack(requeue=True)
        else:
            await got.ack()
        if count == 4:
            over.set()

    tag = await orders.consume(handle)
    await over.wait()
    await orders.cancel(tag)
    await sure.default_exchange.publish(Message(b"three"), f"{own}.orders")
    over = asyncio.Event()

    async def take(_):
        over.set()

    tag = await orders.consume(take, no_ack=True)
    await over.wait()
    await orders.cancel(tag)
    try:
        await sure.default_exchange.publish(Message(b"four"), f"{own}.nowhere", mandatory=True)
    except DeliveryError:
        pass
    try:
        nope = await sure.get_exchange(f"{own}.nope", ensure=False)
        await nope.publish(Message(b"five"), "k")
    except (ChannelNotFoundEntity, ChannelInvalidStateError):
        pass
    try:
        none = await plain.get_queue(f"{own}.none", ensure=False)
        await none.get()
    except (ChannelNotFoundEntity, ChannelInvalidStateError):
        pass
    print("done", flush=True)
    await asyncio.to_thread(sys.stdin.readline)


asyncio.run(main())
