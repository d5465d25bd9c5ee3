// PORT NEXT: answers each request with what the next port answers to the same, under the OpenTelemetry
// SDK, which exports as the variables say.
const { HttpInstrumentation } = require('@opentelemetry/instrumentation-http');
const { NodeSDK } = require('@opentelemetry/sdk-node');

new NodeSDK({ instrumentations: [new HttpInstrumentation()] }).start();

const http = require('http');
const [port, next] = process.argv.slice(2).map(Number);

http.createServer((request, response) => {
  const asked = http.get({ port: next, path: request.url, agent: false }, (answer) => {
    response.writeHead(answer.statusCode);
    answer.pipe(response);
  });
  asked.on('error', (error) => response.writeHead(502).end(`${error}\n`));
}).listen(port, '127.0.0.1');
