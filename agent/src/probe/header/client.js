// Requests as Node.js writes them; PORT, once told to begin.
const http = require('http');
const net = require('net');
const port = Number(process.argv[2]);
const lookalike = 'GET /inner HTTP/1.1\r\nHost: inner\r\n\r\n';

const ask = (options, ...parts) => new Promise((done, failed) => {
  const request = http.request({ port, host: '127.0.0.1', agent: false, ...options }, (answer) => {
    answer.resume().on('end', done);
  });
  request.on('error', failed);
  for (const part of parts.slice(0, -1)) request.write(part);
  request.end(parts.at(-1));
});
const raw = (...parts) => new Promise((done, failed) => {
  const socket = net.connect(port, '127.0.0.1', async () => {
    for (const part of parts) {
      socket.write(part);
      await new Promise((later) => setTimeout(later, 10));
    }
    socket.end();
  });
  socket.resume().on('error', failed).on('close', done);
});

process.stdin.once('data', async () => {
  process.stdin.destroy();
  await ask({ path: '/get' });
  await ask({ method: 'POST', path: '/lookalike', headers: { 'Content-Length': lookalike.length } }, lookalike);
  await ask({ method: 'POST', path: '/chunked' }, lookalike, 'x'.repeat(5000), 'GET / HTTP/1.1');
  await ask({ method: 'PUT', path: '/large', headers: { 'Content-Length': 10485760 } }, Buffer.alloc(10485760, lookalike));
  await ask({ path: '/own', headers: { TRACEPARENT: `00-${'1'.repeat(32)}-${'2'.repeat(16)}-01` } });
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  for (let turn = 0; turn < 5; turn++) {
    const body = lookalike.repeat(turn);
    await ask({ agent, method: 'POST', path: `/kept/${turn}`, headers: { 'Content-Length': body.length } }, body);
  }
  agent.destroy();
  const get = 'GET /raw HTTP/1.1\r\nHost: a\r\n\r\n';
  await raw(get + get + get);
  await raw(get.slice(0, 20), get.slice(20));
});
