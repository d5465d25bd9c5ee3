// front.js PORT LEAF: answers a request once the leaf has answered a call that is made for it.
const http = require('http');

const [port, leaf] = process.argv.slice(2).map(Number);
const agent = new http.Agent({ keepAlive: true });

http.createServer((request, response) => {
  http.get({ host: '127.0.0.1', port: leaf, path: '/leaf/call-1-0', agent }, (answer) => {
    answer.on('end', () => response.end('front\n')).resume();
  });
}).listen(port, '127.0.0.1');
