// node client.js http|fetch BASE: one request per line read, on kept connections.
const http = require('http')
const readline = require('readline')
const [kind, base] = process.argv.slice(2)
const agent = new http.Agent({ keepAlive: true, maxSockets: 1 })

function parse(line) {
  const [method, target, size, ...rest] = line.split('\t')
  const headers = {}
  for (const word of rest) {
    const at = word.indexOf(': ')
    if (at > 0) headers[word.slice(0, at)] = word.slice(at + 2)
  }
  const body = size === '-' ? undefined : 'x'.repeat(Number(size))
  return { method, target, body, headers, chunked: rest.includes('chunked'), close: rest.includes('close') }
}

function byHttp(ask) {
  return new Promise((resolve, reject) => {
    const headers = { ...ask.headers }
    if (ask.body !== undefined && !ask.chunked) headers['content-length'] = ask.body.length
    if (ask.close) headers.connection = 'close'
    const request = http.request(base + ask.target, { method: ask.method, headers, agent }, (answer) => {
      let count = 0
      answer.on('data', (piece) => { count += piece.length })
      answer.on('end', () => resolve(`${answer.statusCode} ${count}`))
    })
    request.on('error', reject)
    if (ask.chunked) {
      request.write(ask.body)
      request.end()
    } else request.end(ask.body)
  })
}

async function byFetch(ask) {
  const options = { method: ask.method, headers: ask.headers, redirect: 'manual', body: ask.body }
  if (ask.chunked) {
    options.body = new Blob([ask.body]).stream()
    options.duplex = 'half'
  }
  if (ask.close) options.headers.connection = 'close'
  const answer = await fetch(base + ask.target, options)
  return `${answer.status} ${(await answer.arrayBuffer()).byteLength}`
}

async function main() {
  console.log('ready')
  for await (const line of readline.createInterface({ input: process.stdin })) {
    try {
      console.log(await (kind === 'fetch' ? byFetch : byHttp)(parse(line)))
    } catch (error) {
      console.log(`error ${error} ${error.cause || ''}`)
    }
  }
  process.exit(0)
}

main()
