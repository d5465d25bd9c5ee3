// ioredis: connects to a port, does its list once a line is read.
const { Redis } = require("ioredis");

const client = new Redis({ port: Number(process.argv[2]), lazyConnect: true });

async function list() {
  await client.set("k", "v");
  await client.get("k");
  await client.get("none");
  await client.hset("h", "field", "x".repeat(200000));
  await client.hgetall("h");
  await client.incr("k").catch(() => {});
  await client.pipeline().set("a", 1).get("a").del("a").exec();
  await client.multi().set("a", 1).incrby("a", 1).exec();
  console.log("done");
}

client.connect().then(() => client.ping()).then(() => {
  console.log("ready");
  process.stdin.once("data", list);
});
