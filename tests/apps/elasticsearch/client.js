// @elastic/elasticsearch: `client.js URL`.
'use strict';

const readline = require('node:readline');
const { Client } = require('@elastic/elasticsearch');

const client = new Client({ node: process.argv[2], maxRetries: 0 });

async function deeds() {
  const index = 'orders';
  const one = { index, id: 'a b' };
  await client.indices.create({ index });
  await client.index({ ...one, document: { n: 1 } });
  await client.search({ index, query: { term: { secret: 'value' } } });
  await client.bulk({ index, operations: [{ index: { _id: '2' } }, { n: 2 }] });
  await client.get(one);
  await client.get({ index, id: 'absent' }).catch(() => {});
  await client.count({ index });
  await client.delete(one);
  await client.cat.indices({ format: 'json' });
  await client.indices.delete({ index });
}

async function main() {
  await client.info();
  console.log('ready');
  for await (const _ of readline.createInterface({ input: process.stdin })) {
    await deeds();
    console.log('done');
  }
}

main();
