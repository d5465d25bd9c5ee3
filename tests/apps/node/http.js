// node http.js PORT [PEER] [h2]: a server on Node's own http module, or http2; over TLS where the
// environment has TLS_CERT and TLS_KEY.
const fs = require('fs')
const http = require('http')
const [port, peer, kind] = process.argv.slice(2)

function serve(request, response) {
  const [, word, text] = new URL(request.url, 'http://x').pathname.split('/')
  const number = Number(text)
  if (word === 'bytes') {
    response.setHeader('content-length', number)
    response.end('x'.repeat(number))
  } else if (word === 'chunked') {
    response.write('x'.repeat(Math.ceil(number / 2)))
    setImmediate(() => response.end('x'.repeat(Math.floor(number / 2))))
  } else if (word === 'upload') {
    let count = 0
    request.on('data', (piece) => { count += piece.length })
    request.on('end', () => { response.statusCode = 201; response.end(`received ${count}\n`) })
  } else if (word === 'item') {
    response.statusCode = 204
    response.end()
  } else if (word === 'status') {
    response.statusCode = number
    if (number === 301) response.setHeader('location', '/bytes/0/1')
    response.end(number === 204 ? undefined : `status ${number}\n`)
  } else if (word === 'slow') {
    setTimeout(() => response.end('late\n'), number)
  } else if (word === 'call') {
    http.get(`${peer}/bytes/10/${text}`, (answer) => answer.pipe(response))
  } else {
    response.statusCode = 404
    response.end('no\n')
  }
}

const { TLS_CERT, TLS_KEY } = process.env
const create = {
  http: () => http.createServer(serve),
  h2: () => require('http2').createServer(serve),
  https: (files) => require('https').createServer(files, serve),
  h2s: (files) => require('http2').createSecureServer(files, serve)
}
const files = TLS_CERT && { cert: fs.readFileSync(TLS_CERT), key: fs.readFileSync(TLS_KEY) }
create[(kind || 'http') + (files ? 's' : '')](files).listen(Number(port), '127.0.0.1')
