// The Node.js driver: connects to a port, does its list once a line is read.
const { MongoClient } = require("mongodb");

const address = `mongodb://127.0.0.1:${process.argv[2]}/?directConnection=true&maxPoolSize=1`;
const client = new MongoClient(address);
const shop = client.db("shop");
const orders = shop.collection("orders");

async function fails(what) {
  if (await what.then(() => true, () => false)) throw new Error("an error was expected");
}

async function list() {
  const note = "x".repeat(1000);
  await orders.insertOne({ _id: 0, note: "secret" });
  await orders.insertMany(Array.from({ length: 299 }, (_, n) => ({ _id: n + 1, note })));
  await orders.find({}, { batchSize: 200 }).toArray();
  await orders.findOne({ _id: 7 });
  await orders.updateOne({ _id: 7 }, { $set: { note: "secret" } });
  const paid = [1, 2, 3].map((_id) => ({ filter: { _id }, update: { $set: { paid: true } } }));
  await orders.bulkWrite(paid.map((updateOne) => ({ updateOne })));
  await orders.findOneAndUpdate({ _id: 8 }, { $set: { paid: true } });
  await orders.aggregate([{ $match: { paid: true } }]).toArray();
  await orders.distinct("paid");
  await orders.countDocuments({});
  await orders.bulkWrite([1, 2].map((_id) => ({ deleteOne: { filter: { _id } } })));
  await orders.deleteMany({ paid: true });
  await fails(orders.insertOne({ _id: 0 }));
  await fails(shop.command({ noSuchCommand: 1 }));
  const cursor = orders.find({}, { batchSize: 2 });
  await cursor.next();
  await cursor.close();
  await shop.listCollections({}, { nameOnly: true }).toArray();
  await orders.drop();
  console.log("done");
}

client.connect().then(() => client.db("admin").command({ ping: 1 })).then(() => {
  console.log("ready");
  process.stdin.once("data", list);
});
