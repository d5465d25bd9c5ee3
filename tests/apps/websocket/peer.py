"""A server and a client on websockets: `peer.py server PORT`, `peer.py client PORT`."""

import asyncio
import sys
import time

from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

role, port = sys.argv[1], int(sys.argv[2])


async def answer(socket):
    async for message in socket:
        path = socket.request.path
        if path == "/fails":
            await socket.close(1011, "no")
        elif path == "/cut":
            socket.transport.abort()
        else:
            await socket.send(message)


async def server():
    async with serve(answer, "127.0.0.1", port):
        await asyncio.get_running_loop().create_future()


def opened(path):
    return connect(f"ws://127.0.0.1:{port}{path}")


def echo():
    with opened("/echo") as socket:
        socket.send("one")
        socket.send(["in ", "parts"])
        socket.ping("alive")
        socket.send(bytes(200000))
        for _ in range(3):
            socket.recv()


def refused(path):
    with opened(path) as socket:
        socket.send("go")
        try:
            socket.recv()
        except ConnectionClosed:
            pass


def client():
    with opened("/first") as first:
        first.send("before")
        first.recv()
        print("ready", flush=True)
        sys.stdin.readline()
        time.sleep(0.3)
        first.send("after")
        first.recv()
    echo()
    for path in ["/fails", "/cut"]:
        refused(path)
    print("done", flush=True)
    sys.stdin.readline()


if role == "server":
    asyncio.run(server())
else:
    client()
