// HOST PORT NEXT [CERTIFICATE KEY], as main.go says. All requests share one thread.
const fs = require("node:fs");
const http = require("node:http");
const https = require("node:https");

const [host, port, next, certificate, key] = process.argv.slice(2);
const client = next.startsWith("https:") ? https : http;
const agent = new client.Agent({ keepAlive: true, rejectUnauthorized: false });

function answer(request, response) {
  const fail = (why) => {
    response.statusCode = 502;
    response.end(String(why));
  };
  const headers = { "x-cause": request.headers["x-cause"] };
  const asked = client.get(next, { agent, headers }, (came) => {
    came.resume();
    came.on("end", () => (came.statusCode === 200 ? response.end("hop\n") : fail(came.statusCode)));
  });
  asked.on("error", fail);
}

const options = { keepAliveTimeout: 60000 };
const server = certificate
  ? https.createServer({ ...options, cert: fs.readFileSync(certificate), key: fs.readFileSync(key) }, answer)
  : http.createServer(options, answer);
server.listen(port, host);
