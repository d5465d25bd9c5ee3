// DataStax's driver: connects, does its list once a line is read.
const { Client } = require("cassandra-driver");

const client = new Client({
  contactPoints: [`127.0.0.1:${process.argv[2]}`],
  localDataCenter: "datacenter1",
  keyspace: "shop",
  isMetadataSyncEnabled: false,
});
const prepare = { prepare: true };

async function list() {
  const insert = "INSERT INTO shop.items (id, name) VALUES (?, ?)";
  await client.execute("INSERT INTO items (id, name) VALUES (1, 'secret')");
  await client.execute("SELECT * FROM items WHERE id = 1", [], { fetchSize: 7 });
  await client.execute(insert, [2, "two"], prepare);
  await client.execute(insert, [6, "six"], prepare);
  const two = [3, 4].map((n) => ({ query: insert, params: [n, "n"] }));
  await client.batch(two, prepare);
  await client.execute("SELECT * FROM nothere").catch(() => {});
  const select = "SELECT id FROM shop.items WHERE id = 1";
  await Promise.all(Array.from({ length: 20 }, () => client.execute(select)));
  await client.execute(insert, [8, "x".repeat(300000)], prepare);
  await client.execute("SELECT name FROM shop.items WHERE id = 8");
  console.log("done");
}

client.connect().then(() => {
  console.log("ready");
  process.stdin.once("data", list);
});
