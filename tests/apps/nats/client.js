// Who answers and who asks, on nats.js, each with a connection of its own.
const { connect, headers } = require("nats");
const lines = require("readline").createInterface({ input: process.stdin })[Symbol.asyncIterator]();

async function main() {
  const servers = process.argv[2];
  const answers = await connect({ servers });
  const asks = await connect({ servers });
  let all;
  const came = new Promise((done) => (all = done));
  let number = 0;
  answers.subscribe("live.orders.*", {
    queue: "workers",
    callback: (error, message) => {
      if (error) throw error;
      if (message.reply) setTimeout(() => message.respond("fine"), 20);
      if (++number === 4) all();
    },
  });
  await answers.flush();
  console.log("ready");
  await lines.next();
  asks.publish("live.orders.new", "one");
  const context = headers();
  context.set("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
  asks.publish("live.orders.traced", "two", { headers: context });
  await asks.request("live.orders.asked", "three", { timeout: 5000 });
  await asks.request("live.nobody", "", { timeout: 5000 }).then(
    () => console.log("somebody answered"),
    (error) => error.code === "503" || console.log(error.code),
  );
  asks.publish("live.orders.big", new Uint8Array(200_000));
  await came;
  await asks.flush();
  await answers.flush();
  console.log("done");
  await lines.next();
  process.exit(0);
}

main();
