# Who takes messages and who publishes them, on paho-mqtt with MQTT 5, each with a connection of its own.
import queue
import sys

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

way, place = sys.argv[1:3]
said = queue.Queue()


def start(name):
    transport = "unix" if way == "unix" else "tcp"
    client = mqtt.Client(
        mqtt.CallbackAPIVersion.VERSION2,
        client_id=name,
        protocol=mqtt.MQTTv5,
        transport=transport,
    )
    client.on_connect = lambda *_: said.put("connected")
    client.on_subscribe = lambda *_: said.put("subscribed")
    client.on_publish = lambda *_: said.put("published")
    client.on_message = lambda *_: said.put("came")
    if way == "unix":
        client.connect(place)
    else:
        client.connect("127.0.0.1", int(place))
    client.loop_start()
    assert said.get(timeout=10) == "connected"
    return client


def await_all(*words):
    left = list(words)
    while left:
        left.remove(said.get(timeout=10))


takes, asks = start("live-takes"), start("live-asks")
takes.subscribe("live/+/up", qos=2)
await_all("subscribed")
print("ready", flush=True)
sys.stdin.readline()
# Nothing else tells, of a connection that is older than who looks at it, who asks on it.
for client in takes, asks:
    client.subscribe("live/none")
    await_all("subscribed")
for quality, topic in enumerate(["live/zero/up", "live/4711/up", "live/two/up"]):
    asks.publish(topic, b"x", qos=quality)
    await_all("published", "came")
context = Properties(PacketTypes.PUBLISH)
context.UserProperty = ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
asks.publish("live/traced/up", bytes(100_000), qos=1, properties=context)
await_all("published", "came")
print("done", flush=True)
sys.stdin.readline()
