// node-postgres: HOST PORT.
const { Client } = require("pg");
const readline = require("node:readline");

const [host, port] = process.argv.slice(2);
const db = new Client({ host, port: Number(port), user: "app", database: "shop" });
const lines = readline.createInterface({ input: process.stdin });

async function go() {
  await db.query("INSERT INTO items (id, name) VALUES ($1, $2)", [101, "secret"]);
  for (const number of [101, 102]) {
    await db.query({ name: "by-id", text: "SELECT name FROM items WHERE id = $1", values: [number] });
  }
  await db.query("SELECT * FROM nowhere WHERE a = $1", [1]).catch(() => {});
  await db.query("BEGIN");
  await db.query("UPDATE items SET name = $1 WHERE id = $2", ["secret", 101]);
  await db.query("COMMIT");
  const { rows } = await db.query("SELECT repeat('x', 200) FROM generate_series(1, 3000)");
  if (rows.length !== 3000) throw new Error("rows");
  await db.query("DELETE FROM items WHERE id = 101; SELECT 1 FROM items LIMIT 3");
  console.log("done");
}

db.connect().then(() => {
  console.log("ready");
  lines.once("line", () => go().catch((error) => console.log(String(error))));
});
