// graphql-request, jayson, openai and eventsource, each of a server's four protocols: does its list once
// a line is read.
const { GraphQLClient } = require("graphql-request");
const { EventSource } = require("eventsource");
const jayson = require("jayson/promise");
const OpenAI = require("openai");

const port = Number(process.argv[2]);
const place = `http://127.0.0.1:${port}`;
const books = new GraphQLClient(`${place}/graphql`);
const rpc = jayson.Client.http({ host: "127.0.0.1", port, path: "/rpc" });
const tools = jayson.Client.http({ host: "127.0.0.1", port, path: "/rpc", headers: { "Mcp-Session-Id": "1" } });
const model = new OpenAI({ baseURL: `${place}/v1`, apiKey: "none", maxRetries: 0 });

async function fails(promise) {
  const failed = await promise.then(() => false, () => true);
  if (!failed) throw new Error("an error was expected");
}

async function list() {
  await books.request("query Book($id: ID!) { book(id: $id) { title } }", { id: "7" });
  await books.request('mutation Add { add(title: "x") { title } }');
  await fails(books.request("{ breaks }"));

  await rpc.request("sum", [1, 2]);
  await rpc.request("fails", []);
  await rpc.request("nothing", []);
  await rpc.request("sum", [3], null);
  await rpc.request([rpc.request("sum", [1], undefined, false), rpc.request("sum", [2], undefined, false)]);
  await tools.request("tools/call", { name: "weather" });
  await tools.request("tools/call", { name: "broken" });

  const messages = [{ role: "user", content: "say hi" }];
  await model.chat.completions.create({ model: "tiny", messages, max_tokens: 5, temperature: 0.5 });
  const stream_options = { include_usage: true };
  const stream = await model.chat.completions.create({ model: "tiny", messages, stream: true, stream_options });
  for await (const _ of stream);
  const long = [{ role: "user", content: "x".repeat(8192) }];
  await model.chat.completions.create({ model: "long", messages: long });
  await model.embeddings.create({ model: "tiny", input: "hi" });
  await fails(model.chat.completions.create({ model: "none", messages }));

  const seen = [];
  await new Promise((resolve) => {
    const events = new EventSource(`${place}/events`);
    events.onmessage = ({ data }) => seen.push(data);
    events.onerror = () => { events.close(); resolve(); };
  });
  if (seen.join() !== "one,two,three") throw new Error(`events: ${seen}`);
  console.log("done");
}

console.log("ready");
process.stdin.once("data", list);
