// A server and a client on ws: `peer.js server PORT`, `peer.js client PORT`.
'use strict';

const readline = require('node:readline');
const { WebSocket, WebSocketServer } = require('ws');

const [role, port] = process.argv.slice(2);

function server() {
  const all = new WebSocketServer({ host: '127.0.0.1', port, perMessageDeflate: true });
  all.on('connection', (socket, request) => {
    socket.on('error', () => {});
    socket.on('message', (data, binary) => {
      if (request.url === '/fails') socket.close(1011, 'no');
      else if (request.url === '/cut') socket.terminate();
      else socket.send(data, { binary });
    });
  });
}

/** An open socket, and a way to wait for so many messages and for its end. */
async function open(path) {
  const socket = new WebSocket(`ws://127.0.0.1:${port}${path}`);
  socket.on('error', () => {});
  let got = 0;
  let wake = () => {};
  socket.on('message', () => { got += 1; wake(); });
  const ended = new Promise((done) => socket.on('close', done));
  await new Promise((done) => socket.on('open', done));
  const messages = async (count) => {
    while (got < count) await new Promise((done) => { wake = done; });
  };
  return { socket, messages, ended };
}

async function echo(one) {
  one.socket.send('one');
  one.socket.send('in ', { fin: false });
  one.socket.send('parts', { fin: true });
  one.socket.ping('alive');
  one.socket.send(Buffer.alloc(200000));
  await one.messages(3);
  one.socket.close(1000);
  await one.ended;
}

async function client() {
  const first = await open('/first');
  first.socket.send('before');
  await first.messages(1);
  console.log('ready');
  for await (const _ of readline.createInterface({ input: process.stdin })) {
    await new Promise((done) => setTimeout(done, 300));
    first.socket.send('after');
    await first.messages(2);
    first.socket.close();
    await first.ended;
    await echo(await open('/echo'));
    for (const path of ['/fails', '/cut']) {
      const one = await open(path);
      one.socket.send('go');
      await one.ended;
    }
    console.log('done');
  }
}

if (role === 'server') server();
else client();
