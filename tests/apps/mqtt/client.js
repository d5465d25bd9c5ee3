// Who takes messages and who publishes them, on MQTT.js with MQTT 3.1.1, each with a connection of its own.
const mqtt = require("mqtt");
const lines = require("readline").createInterface({ input: process.stdin })[Symbol.asyncIterator]();

async function main() {
  const url = `mqtt://127.0.0.1:${process.argv[3]}`;
  const takes = await mqtt.connectAsync(url, { clientId: "live-takes", protocolVersion: 4 });
  const asks = await mqtt.connectAsync(url, { clientId: "live-asks", protocolVersion: 4 });
  let all;
  const came = new Promise((done) => (all = done));
  let number = 0;
  takes.on("message", () => ++number === 4 && all());
  await takes.subscribeAsync("live/+/up", { qos: 2 });
  console.log("ready");
  await lines.next();
  for (const client of [takes, asks]) await client.subscribeAsync("live/none");
  for (const [qos, topic] of ["live/zero/up", "live/4711/up", "live/two/up"].entries()) {
    await asks.publishAsync(topic, "x", { qos });
  }
  await asks.publishAsync("live/traced/up", Buffer.alloc(100_000), { qos: 1 });
  await came;
  setTimeout(() => console.log("done"), 200);
  await lines.next();
  process.exit(0);
}

main();
