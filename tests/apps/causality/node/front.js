// The front in Node.js: PORT LEAF REDIS POSTGRES, as main.go says. All requests share one thread.
const crypto = require("node:crypto");
const fs = require("node:fs/promises");
const http = require("node:http");
const https = require("node:https");
const { setTimeout: sleep } = require("node:timers/promises");

const [port, leaf, cache, database] = process.argv.slice(2).map(Number);

// How many connections a small pool has.
const pool = 4;

const kept = new http.Agent({ keepAlive: true });
const small = new http.Agent({ keepAlive: true, maxSockets: pool });
const secret = new https.Agent({ keepAlive: true, rejectUnauthorized: false });

// How a call says for which request it is made.
const call = (id, which = 0) => `call-${id}-${which}`;

// Reads an answer to its end, then calls back.
function get(agent, base, id, which, done) {
  const client = agent instanceof https.Agent ? https : http;
  const request = client.get(`${base}/${call(id, which)}`, { agent }, (answer) => {
    answer.resume();
    answer.on("end", () => done(null));
  });
  request.on("error", done);
}

const ask = (agent, base, id, which) =>
  new Promise((answered, failed) =>
    get(agent, base, id, which, (error) => (error ? failed(error) : answered())));

const plain = `http://127.0.0.1:${leaf}/leaf`;
const direct = (id, which) => ask(kept, plain, id, which);

async function fetched(id, which = 0) {
  const answer = await fetch(`${plain}/${call(id, which)}`);
  await answer.text();
}

// Leaves the thread to others before each of two calls.
async function slept(id) {
  for (const which of [0, 1]) {
    await sleep(1 + Math.random() * 20);
    await direct(id, which);
  }
}

// A call in a callback of each of the loop's queues, without promises.
const queued = (later) => (id) =>
  new Promise((answered, failed) =>
    later(() => get(kept, plain, id, 0, (error) => (error ? failed(error) : answered()))));

let redis;
async function keys(id) {
  redis ??= new (require("ioredis").Redis)({ port: cache });
  for (const which of [0, 1]) await redis.get(call(id, which));
}

let db;
async function rows(id) {
  db ??= new (require("pg").Pool)({
    host: "127.0.0.1", port: database, user: "app", database: "shop", max: pool,
  });
  await db.query(`SELECT '${call(id)}'`);
}

async function hashed(id) {
  await new Promise((done) => crypto.pbkdf2(id, "salt", 100, 32, "sha256", done));
  await direct(id);
}

const shapes = {
  direct,
  fetch: fetched,
  sleep: slept,
  twice: async (id) => {
    for (const which of [0, 1]) await direct(id, which);
  },
  "small-pool": (id) => ask(small, plain, id),
  "fan-out": (id) => Promise.all([0, 1, 2, 3, 4].map((which) => direct(id, which))),
  redis: keys,
  sql: rows,
  https: (id) => ask(secret, `https://127.0.0.1:${leaf}/leaf`, id),
  dns: (id) => ask(kept, `http://localhost:${leaf}/leaf`, id),
  file: async (id) => {
    await fs.readFile(__filename);
    await direct(id);
  },
  worker: hashed,
  timer: queued((then) => setTimeout(then, 1 + Math.random() * 20)),
  // Half by timers that resolve a promise, half by ones whose callbacks await something else first; many are due at once.
  timers: (id) =>
    Number(id) % 2
      ? sleep(10).then(() => direct(id))
      : new Promise((answered, failed) =>
          setTimeout(async () => {
            await null;
            direct(id).then(answered, failed);
          }, 10)),
  immediate: queued(setImmediate),
  tick: queued(process.nextTick),
  nested: (id) => ask(kept, `http://127.0.0.1:${port}/nested/${id}again`, id),
  // One at a time: who is answered lets the next begin.
  turns: (id) => turn(() => direct(id)),
  // The same of who has read a file, each with one call or two behind that.
  lock: (id) => turn(() => fs.readFile(__filename)).then(() => direct(id)),
  "lock-twice": async (id) => {
    await turn(() => fs.readFile(__filename));
    for (const which of [0, 1]) await direct(id, which);
  },
  // At most so many at once, two calls each.
  limit: async (id) => {
    for (const which of [0, 1]) await limited(() => direct(id, which));
  },
};

let last = Promise.resolve();
function turn(made) {
  last = last.then(made);
  return last;
}

let free = pool;
const waiting = [];
async function limited(made) {
  if (free === 0) await new Promise((go) => waiting.push(go));
  else free -= 1;
  await made();
  const next = waiting.shift();
  if (next) next();
  else free += 1;
}

http.createServer({ keepAliveTimeout: 60000 }, (request, response) => {
  const [, shape, id, inner] = request.url.split("/");
  const answer = () => response.end("front\n");
  const fail = (error) => {
    response.statusCode = 502;
    response.end(String(error));
  };
  if (shape === "late") {
    answer();
    setTimeout(() => direct(id), 20);
    return;
  }
  if (shape === "callbacks") {
    get(kept, plain, id, 0, (error) => (error ? fail(error) : answer()));
    return;
  }
  const made = inner ? direct : shapes[shape];
  made(id).then(answer, fail);
}).listen(port, "127.0.0.1");
