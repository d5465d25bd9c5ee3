"""memcached's clients for Python: connects to a port or a socket, does its list once a line is read."""
import sys

library, where = sys.argv[1:]
unix = where.startswith("/")


def ready():
    print("ready", flush=True)
    input()


if library == "pymemcache":
    from pymemcache.client.base import Client

    place = where if unix else ("127.0.0.1", int(where))
    client = Client(place, default_noreply=False, no_delay=True)
    client.version()
    ready()
    client.set("k", b"v" * 200_000)
    client.get("k")
    client.get("none")
    client.get_many(["k", "none", "other"])
    client.gets("k")
    client.set("n", b"1", noreply=True)
    client.incr("n", 1)
    client.delete("k")
    try:
        client.set("k", b"x" * 2_000_000)
    except Exception:
        pass
    client.touch("none", 1)
    client.stats()
elif library == "bmemcached":
    import bmemcached

    client = bmemcached.Client(("127.0.0.1:" + where,))
    client.get("none")
    ready()
    client.set("k", "v")
    client.get("k")
    client.get("none")
    client.set_multi({"a": "1", "b": "2"})
    client.get_multi(["a", "b", "none"])
    client.delete("k")
else:
    import pylibmc

    client = pylibmc.Client(["127.0.0.1:" + where], binary=library == "pylibmc-binary")
    client.get("none")
    ready()
    client.set("k", "v")
    client.get("k")
    client.get("none")
    client.get_multi(["k", "none"])
    client.delete("k")
print("done", flush=True)
input()
