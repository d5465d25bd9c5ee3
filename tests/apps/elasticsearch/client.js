// @elastic/elasticsearch and @opensearch-project/opensearch: `client.js URL elasticsearch|opensearch`.
'use strict';

const readline = require('node:readline');

const [url, system] = process.argv.slice(2);
const own = system === 'elasticsearch';
const { Client } = require(own ? '@elastic/elasticsearch' : '@opensearch-project/opensearch');
const client = new Client({ node: url, maxRetries: 0 });

async function deeds() {
  const index = 'orders';
  const one = { index, id: 'a b' };
  const document = { n: 1 };
  const query = { term: { secret: 'value' } };
  const operations = [{ index: { _id: '2' } }, { n: 2 }];
  await client.indices.create({ index });
  await client.index({ ...one, ...(own ? { document } : { body: document }) });
  await client.search({ index, ...(own ? { query } : { body: { query } }) });
  await client.bulk({ index, ...(own ? { operations } : { body: operations }) });
  await client.get(one);
  await client.get({ index, id: 'absent' }).catch((error) => {
    if (error.statusCode !== 404) throw error;
  });
  await client.count({ index });
  await client.delete(one);
  await client.cat.indices({ format: 'json' });
  await client.indices.delete({ index });
}

async function main() {
  // What says who it is is no part of Elasticsearch's jars.
  await (own ? client.cluster.health() : client.info());
  console.log('ready');
  for await (const _ of readline.createInterface({ input: process.stdin })) {
    await deeds();
    console.log('done');
  }
}

main();
