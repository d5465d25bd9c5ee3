"""greenstalk: connects to a port or a socket, does its list once a line is read."""
import sys

import greenstalk


def refused(call, *arguments, **more):
    try:
        call(*arguments, **more)
        print("not refused", flush=True)
    except greenstalk.Error:
        pass


where = sys.argv[1]
address = where if where.startswith("/") else ("127.0.0.1", int(where))
client = greenstalk.Client(address, use="orders", watch="orders")
print("ready", flush=True)
input()
client.put("hello")
refused(client.put, "x" * 70_000)
job = client.reserve()
client.touch(job)
client.release(job)
job = client.reserve(timeout=5)
client.bury(job)
client.kick(10)
client.peek_ready()
job = client.reserve()
client.delete(job)
refused(client.delete, 99)
refused(client.reserve, timeout=0)
refused(client.ignore, "orders")
client.stats_tube("orders")
client.tubes()
client.put("y" * 60_000)
client.delete(client.reserve())
print("done", flush=True)
input()
