// node calls.js server PORT [CERTIFICATE KEY], or client PORT [AUTHORITY]: a gRPC server and client on
// @grpc/grpc-js. Messages are bytes: no stubs are made. The client reads lines, KIND METHOD [COUNT AT-ONCE],
// and makes these calls on one channel.
const fs = require('fs')
const readline = require('readline')
const grpc = require('@grpc/grpc-js')
const [role, port, ...files] = process.argv.slice(2)
const address = `127.0.0.1:${port}`
const [first, second] = files.map((file) => fs.readFileSync(file))
const bytes = (message) => message
const sleep = (time) => new Promise((resolve) => setTimeout(resolve, time))

// Takes all of a call's messages, then answers; Both answers each as it comes.
async function answer(call, kind) {
  const pieces = []
  call.on('data', (piece) => {
    pieces.push(piece)
    if (kind === 'Both') call.write(piece)
  })
  await new Promise((resolve) => call.on('end', resolve))
  const all = Buffer.concat(pieces)
  if (kind === 'Both') return
  if (kind === 'Fails') throw { code: grpc.status.NOT_FOUND, details: 'no such thing' }
  if (kind === 'Breaks') throw new Error('a bug')
  if (kind === 'Slow') await sleep(500)
  if (kind === 'Scatter') for (let at = 0; at < 4; at++) call.write(all)
  if (kind === 'Lasts') {
    for (let at = 0; at < 3; at++) {
      call.write(all)
      await sleep(100)
    }
    return
  }
  call.write(all)
  if (kind === 'FailsLate') throw { code: grpc.status.UNAVAILABLE, details: 'went away' }
  if (kind === 'Cancels') await new Promise((resolve) => call.on('cancelled', resolve))
}

function serve() {
  const server = new grpc.Server()
  // The library has no handler for any method, but asks this map for each.
  server.handlers.get = (path) => ({
    func: (call) => answer(call, kindOf(path)).then(() => call.end(), (error) => call.emit('error', error)),
    serialize: bytes,
    deserialize: bytes,
    type: 'bidi',
    path
  })
  const security = second ? grpc.ServerCredentials.createSsl(null, [{ cert_chain: first, private_key: second }])
    : grpc.ServerCredentials.createInsecure()
  server.bindAsync(address, security, (error) => { if (error) throw error })
}

const kindOf = (method) => method.split('/').pop().split('_')[0]

function call(client, kind, method) {
  return new Promise((resolve) => {
    const sends = kind === 'Gather' || kind === 'Both'
    const receives = ['Scatter', 'Both', 'FailsLate', 'Lasts', 'Cancels'].includes(kind)
    const done = (error) => resolve(error ? grpc.status[error.code] : 'OK')
    const options = kind === 'Slow' ? { deadline: Date.now() + 200 } : {}
    const words = [method, bytes, bytes]
    if (!sends) words.push(Buffer.from('piece'))
    words.push(options)
    if (!receives) words.push(done)
    const name = `make${sends ? receives ? 'BidiStream' : 'ClientStream' : receives ? 'ServerStream' : 'Unary'}Request`
    const going = client[name](...words)
    if (sends) {
      for (let at = 0; at < 3; at++) going.write(Buffer.from('piece'))
      going.end()
    }
    if (receives) {
      going.on('data', () => { if (kind === 'Cancels') going.cancel() })
      going.on('error', done)
      going.on('end', () => done())
    }
  })
}

async function many(client, kind, method, count, atOnce) {
  let next = 0
  let worst = 'OK'
  const one = async () => {
    while (next < count) {
      const got = await call(client, kind, `${method}_${next++}`)
      if (got !== 'OK') worst = got
    }
  }
  await Promise.all(Array.from({ length: atOnce }, one))
  return worst
}

async function ask() {
  const client = new grpc.Client(address, first ? grpc.credentials.createSsl(first) : grpc.credentials.createInsecure())
  console.log('ready')
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const [kind, method, count, atOnce] = line.split(' ')
    console.log(await (count ? many(client, kind, method, Number(count), Number(atOnce)) : call(client, kind, method)))
  }
  process.exit(0)
}

if (role === 'server') serve()
else ask()
