// GraphQL by graphql-yoga, JSON-RPC by jayson, events, and what stands in for a language model.
const http = require("node:http");
const { createSchema, createYoga } = require("graphql-yoga");
const jayson = require("jayson");

const yoga = createYoga({
  logging: false,
  schema: createSchema({
    typeDefs: `
      type Book { title: String }
      type Query { book(id: ID!): Book, breaks: Int }
      type Mutation { add(title: String!): Book }
    `,
    resolvers: {
      Query: {
        book: (_, { id }) => ({ title: `book ${id}` }),
        breaks: () => { throw new Error("it breaks"); },
      },
      Mutation: { add: (_, { title }) => ({ title }) },
    },
  }),
});

const rpc = new jayson.Server({
  sum: (numbers, done) => done(null, numbers.reduce((a, b) => a + b, 0)),
  fails: (_, done) => done({ code: -32001, message: "it fails" }),
  "tools/call": ({ name }, done) => done(null, { content: [], isError: name === "broken" }),
});

function json(response, body, status = 200) {
  response.writeHead(status, { "Content-Type": "application/json" });
  response.end(JSON.stringify(body));
}

function stream(response, events) {
  response.writeHead(200, { "Content-Type": "text/event-stream" });
  const next = () => {
    const event = `data: ${events.shift()}\n\n`;
    // Who has read the last event may close at once: the end comes with it.
    if (events.length === 0) return response.end(event);
    response.write(event);
    setTimeout(next, 20);
  };
  next();
}

function chat(ask, response) {
  if (ask.model === "none") {
    const error = { message: "no such model", type: "invalid_request_error", code: "model_not_found" };
    return json(response, { error }, 400);
  }
  const usage = { prompt_tokens: 9, completion_tokens: 2, total_tokens: 11 };
  const answer = (object, more) => ({ id: "chat-1", object, created: 1, model: "tiny-1", ...more });
  if (ask.stream) {
    const chunk = (more) => JSON.stringify(answer("chat.completion.chunk", more));
    return stream(response, [
      chunk({ choices: [{ index: 0, delta: { content: "hi" }, finish_reason: null }] }),
      chunk({ choices: [{ index: 0, delta: {}, finish_reason: "stop" }] }),
      chunk({ choices: [], usage }),
      "[DONE]",
    ]);
  }
  // A long answer takes a model its time.
  const long = ask.model === "long";
  const message = { role: "assistant", content: long ? "y".repeat(8192) : "hi" };
  const choices = [{ index: 0, message, finish_reason: "stop" }];
  const say = () => json(response, answer("chat.completion", { choices, usage }));
  setTimeout(say, long ? 500 : 0);
}

function embeddings(response) {
  const data = [{ object: "embedding", index: 0, embedding: "AAAAAAAAAAA=" }];
  const usage = { prompt_tokens: 3, total_tokens: 3 };
  json(response, { object: "list", data, model: "tiny-1", usage });
}

http.createServer((request, response) => {
  if (request.url === "/graphql") return yoga(request, response);
  if (request.url === "/events") return stream(response, ["one", "two", "three"]);
  let body = "";
  request.on("data", (bytes) => { body += bytes; });
  request.on("end", () => {
    const ask = JSON.parse(body);
    if (request.url === "/v1/chat/completions") return chat(ask, response);
    if (request.url === "/v1/embeddings") return embeddings(response);
    rpc.call(ask, (error, success) => {
      const answer = error ?? success;
      if (answer) return json(response, answer);
      response.writeHead(204);
      response.end();
    });
  });
}).listen(Number(process.argv[2]), "127.0.0.1");
