# Who answers and who asks, on nats-py, each with a connection of its own.
import asyncio
import sys

import nats


async def line():
    return await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)


async def main():
    answers = await nats.connect(sys.argv[1])
    asks = await nats.connect(sys.argv[1])
    came = asyncio.Queue()

    async def take(message):
        if message.reply:
            await asyncio.sleep(0.02)
            await message.respond(b"fine")
        await came.put(message.subject)

    await answers.subscribe("live.orders.*", queue="workers", cb=take)
    await answers.flush()
    print("ready", flush=True)
    await line()
    await asks.publish("live.orders.new", b"one")
    context = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    await asks.publish("live.orders.traced", b"two", headers={"traceparent": context})
    await asks.request("live.orders.asked", b"three", timeout=5)
    try:
        await asks.request("live.nobody", b"", timeout=5)
        print("somebody answered")
    except nats.errors.NoRespondersError:
        pass
    await asks.publish("live.orders.big", bytes(200_000))
    for _ in range(4):
        await came.get()
    await asks.flush()
    await answers.flush()
    print("done", flush=True)
    await line()


asyncio.run(main())
