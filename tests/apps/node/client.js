// node client.js http|fetch|h2 BASE[,BASE…]: one request per line read, on kept connections to the
// first; BURST: many at once, at most eight to each.
const readline = require('readline')
const [kind, places] = process.argv.slice(2)
const bases = places.split(',')
const base = bases[0]
const http = require(base.startsWith('https:') ? 'https' : 'http')
const agent = new http.Agent({ keepAlive: true, maxSockets: 8 })

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

function byHttp(ask, base = bases[0]) {
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

const session = kind === 'h2' ? require('http2').connect(base) : undefined

function byHttp2(ask) {
  return new Promise((resolve, reject) => {
    const headers = { ':method': ask.method, ':path': ask.target, ...ask.headers }
    const request = session.request(headers, { endStream: ask.body === undefined })
    let status, count = 0
    request.on('response', (answer) => { status = answer[':status'] })
    request.on('data', (piece) => { count += piece.length })
    request.on('end', () => resolve(`${status} ${count}`))
    request.on('error', reject)
    if (ask.body !== undefined) request.end(ask.body)
  })
}

const makes = { http: byHttp, fetch: byFetch, h2: byHttp2 }

async function make(ask) {
  if (ask.method !== 'BURST') return makes[kind](ask)
  const all = [...ask.body].map((_, at) => makes[kind]({ method: 'GET', target: `${ask.target}/${at}` }, bases[at % bases.length]))
  return `200 ${(await Promise.all(all)).length}`
}

async function main() {
  console.log('ready')
  for await (const line of readline.createInterface({ input: process.stdin })) {
    try {
      console.log(await make(parse(line)))
    } catch (error) {
      console.log(`error ${error} ${error.cause || ''}`)
    }
  }
  process.exit(0)
}

main()
