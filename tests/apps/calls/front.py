"""front.py PORT LEAF: answers a request once the leaf has answered a call that is made for it, in a task."""
import asyncio
import re
import sys

port, leaf = map(int, sys.argv[1:])
free = []


async def call():
    reader, writer = free.pop() if free else await asyncio.open_connection('127.0.0.1', leaf)
    writer.write(b'GET /leaf/call-1-0 HTTP/1.1\r\nHost: leaf\r\n\r\n')
    head = await reader.readuntil(b'\r\n\r\n')
    await reader.readexactly(int(re.search(rb'(?i)\ncontent-length: *(\d+)', head)[1]))
    free.append((reader, writer))


async def serve(reader, writer):
    try:
        while True:
            await reader.readuntil(b'\r\n\r\n')
            await asyncio.create_task(call())
            writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nfront\n')
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def main():
    server = await asyncio.start_server(serve, '127.0.0.1', port, backlog=128)
    await server.serve_forever()

asyncio.run(main())
