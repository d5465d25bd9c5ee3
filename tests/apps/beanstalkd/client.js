// jackd: one connection that puts jobs, one that waits for them.
const Jackd = require("jackd");
const lines = require("readline").createInterface({ input: process.stdin })[Symbol.asyncIterator]();

async function main() {
  const where = { host: "127.0.0.1", port: Number(process.argv[2]) };
  const [puts, takes] = [new Jackd(), new Jackd()];
  await puts.connect(where);
  await takes.connect(where);
  await puts.use("mails");
  await takes.watch("mails");
  await takes.ignore("default");
  console.log("ready");
  await lines.next();
  const waits = takes.reserve();
  // Asked before the first is answered.
  const asked = [puts.put("one"), puts.put("two"), puts.stats()];
  const { id } = await waits;
  await Promise.all(asked);
  await takes.delete(id);
  const other = await takes.reserveWithTimeout(5);
  await takes.bury(other.id);
  await puts.kickJob(other.id);
  await takes.reserveJob(other.id);
  await takes.release(other.id);
  await takes.peek(99).then(
    () => console.log("there is one"),
    () => {},
  );
  console.log("done");
  await lines.next();
  process.exit(0);
}

main();
