// c-ares, as Node.js has it: cares.js SERVER [DEAD]: what DEAD is asked is never answered.
const { Resolver } = require('dns').promises
const [server, dead] = process.argv.slice(2)
const resolver = new Resolver({ timeout: 2000, tries: 1 })
resolver.setServers([server])

async function refused(asked) {
  try {
    await asked
  } catch (error) {
    return error.code
  }
  throw new Error('it was answered')
}

async function ask() {
  const check = (got, want) => {
    if (JSON.stringify(got) !== JSON.stringify(want)) throw new Error(JSON.stringify(got))
  }
  if (dead) {
    check(await refused(resolver.resolve4('broken.example.com')), 'ESERVFAIL')
    const silent = new Resolver({ timeout: 300, tries: 1 })
    silent.setServers([dead])
    check(await refused(silent.resolve4('late.test')), 'ETIMEOUT')
    return
  }
  check(await resolver.resolve4('web.test'), ['10.1.2.3'])
  check(await resolver.resolve6('www.test'), ['fd00::3'])
  check((await resolver.resolveSrv('_http._tcp.web.test'))[0].port, 8080)
  check(await resolver.reverse('10.1.2.3'), ['web.test'])
  check(await refused(resolver.resolve4('nope.test')), 'ENOTFOUND')
  // More than a datagram holds: asked again over TCP.
  check((await resolver.resolveTxt('long.test')).length, 20)
}

console.log('ready')
const lines = require('readline').createInterface({ input: process.stdin })
lines.once('line', () => ask().then(() => console.log('done')))
