"""Requests as Python's libraries write them, on sockets that do not block; PORT, once told to begin."""
import asyncio
import http.client
import socket
import sys

port = int(sys.argv[1])
sys.stdin.readline()
LOOKALIKE = b"GET /inner HTTP/1.1\r\nHost: inner\r\n\r\n"


def ask(connection, method, path, body=None, headers={}, **options):
    connection.request(method, path, body, headers, **options)
    connection.getresponse().read()


def fresh():
    # A timeout is what makes Python's sockets non-blocking.
    return http.client.HTTPConnection("127.0.0.1", port, timeout=10)


ask(fresh(), "GET", "/get")
ask(fresh(), "POST", "/lookalike", LOOKALIKE)
ask(fresh(), "POST", "/chunked", iter([LOOKALIKE, b"x" * 5000, b"GET / HTTP/1.1"]), encode_chunked=True,
    headers={"Transfer-Encoding": "chunked"})
ask(fresh(), "POST", "/large", bytes(range(256)) * 40960)
ask(fresh(), "GET", "/own", headers={"TraceParent": "00-" + "1" * 32 + "-" + "2" * 16 + "-01"})
ask(fresh(), "GET", "/long", headers={"Cookie": "c" * 1500})
ask(fresh(), "GET", "/too-long", headers={"Cookie": "c" * 3000})
kept = fresh()
for turn in range(5):
    ask(kept, "POST", f"/kept/{turn}", LOOKALIKE * turn)


async def raw(*parts):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for part in parts:
        writer.write(part)
        await writer.drain()
        await asyncio.sleep(0.01)
    writer.write_eof()
    await reader.read()
    writer.close()


get = b"GET /raw HTTP/1.1\r\nHost: a\r\n\r\n"
post = b"POST /raw HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n"
asyncio.run(raw(get * 3))
asyncio.run(raw(get[:20], get[20:]))
asyncio.run(raw(post + b"b" * 9000, b"b" * 91000))
asyncio.run(raw(post + b"b" * 100000))
asyncio.run(raw(b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", get))
asyncio.run(raw(b"\x16\x03\x01\x02\x00\x01" + get, get))

# One that blocks.
with socket.create_connection(("127.0.0.1", port)) as blocks:
    blocks.sendall(get)
    blocks.shutdown(socket.SHUT_WR)
    blocks.recv(1000)
