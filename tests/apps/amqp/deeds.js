// What a consumer and a producer do with amqplib: node deeds.js PORT NAME SIZE.
'use strict'
const amqp = require('amqplib')
const { once } = require('node:events')
const { setTimeout: sleep } = require('node:timers/promises')

const headers = { traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01' }
const own = process.argv[3]
const [shop, orders] = [`${own}.shop`, `${own}.orders`]
const properties = { headers, messageId: 'm-1', correlationId: 'c-1' }

async function main() {
  const connection = await amqp.connect(`amqp://guest:guest@127.0.0.1:${process.argv[2]}/?heartbeat=600`)
  const plain = await connection.createChannel()
  const sure = await connection.createConfirmChannel()
  for (const channel of [plain, sure]) channel.on('error', () => {})
  console.log('ready')
  await once(process.stdin, 'data')
  const send = (exchange, key, body, options) => new Promise((resolve) => {
    sure.once('close', resolve)
    sure.publish(exchange, key, Buffer.from(body), options, () => {
      sure.removeListener('close', resolve)
      resolve()
    })
  })
  await plain.assertExchange(shop, 'topic', { durable: false })
  await plain.assertQueue(orders, { durable: false })
  await plain.bindQueue(orders, shop, 'order.*')
  plain.publish(shop, 'order.made', Buffer.from('one'), properties)
  await plain.checkQueue(orders)
  // Behind more than the copy budget a frame is found where the connection is known by then.
  await sleep(200)
  await send('', orders, 'x'.repeat(Number(process.argv[4])))
  plain.ack(await plain.get(orders))
  await plain.get(orders, { noAck: true })
  await plain.get(orders)
  for (let n = 0; n < 3; n++) await send(shop, 'order.made', 'two', properties)
  await plain.prefetch(1)
  let count = 0
  await new Promise((resolve) => {
    plain.consume(orders, (message) => {
      count++
      if (count === 2) plain.reject(message, false)
      else if (count === 3) plain.nack(message, false, true)
      else plain.ack(message)
      if (count === 4) resolve()
    }, { consumerTag: 'first' })
  })
  await plain.cancel('first')
  await send('', orders, 'three')
  await new Promise((resolve) => plain.consume(orders, resolve, { noAck: true, consumerTag: 'second' }))
  await plain.cancel('second')
  await send('', `${own}.nowhere`, 'four', { mandatory: true })
  await send(`${own}.nope`, 'k', 'five')
  await plain.get(`${own}.none`).catch(() => {})
  console.log('done')
  await once(process.stdin, 'data')
}

main()
