"""redis-py: connects to a port or a socket, does its list once a line is read."""
import sys

import redis

where, protocol, extra = sys.argv[1], int(sys.argv[2]), sys.argv[3]
place = {"unix_socket_path": where} if where.startswith("/") else {"port": int(where)}
client = redis.Redis(protocol=protocol, driver_info=None, **place)
client.ping()
print("ready", flush=True)
input()


def fails(what, *arguments):
    try:
        what(*arguments)
    except redis.RedisError:
        return
    raise SystemExit("an error was expected")


if extra == "cluster":
    fails(client.get, "foo")
    fails(client.get, "bar")
    client.cluster("KEYSLOT", "foo")
    print("done", flush=True)
    input()

client.set("k", "v")
client.get("k")
client.get("none")
client.hset("h", "field", "x" * 200_000)
client.hgetall("h")
fails(client.execute_command, "INCR", "k")
pipeline = client.pipeline(transaction=False)
pipeline.set("a", 1).get("a").delete("a")
pipeline.execute()
pipeline = client.pipeline()
pipeline.set("a", 1).incrby("a", 1)
pipeline.execute()
if extra == "more":
    script = client.script_load("return ARGV[1]")
    client.evalsha(script, 1, "k", "secret")
    client.blpop(["nothing"], 0.1)
    client.config_set("requirepass", "")
    listener = client.pubsub()
    listener.subscribe("news")
    listener.get_message(timeout=5)
    client.publish("news", "hello")
    listener.get_message(timeout=5)
print("done", flush=True)
input()
