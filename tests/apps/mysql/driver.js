// mysql2, told where the server listens.
'use strict';

const mysql = require('mysql2/promise');
const lines = require('readline').createInterface({ input: process.stdin });
const line = () => new Promise((resolve) => lines.once('line', resolve));
const place = /^\d+$/.test(process.argv[2])
  ? { host: '127.0.0.1', port: Number(process.argv[2]) }
  : { socketPath: process.argv[2] };

async function main() {
  const link = await mysql.createConnection({ ...place, user: 'app', password: 'secret', database: 'shop' });
  const go = line();
  console.log('ready');
  await go;
  await link.query('SELECT id, name FROM items WHERE id < ? AND name <> ?', [100, "it's"]);
  for (const id of [1, 2]) {
    await link.execute('SELECT name FROM items WHERE id = ?', [id]);
  }
  await link.execute('INSERT INTO items(name) VALUES (?)', ['bought']);
  for (const ask of ['query', 'execute']) {
    const error = await link[ask]('SELECT * FROM missing WHERE id = 4711').catch((e) => e);
    if (error.errno !== 1146) throw error;
  }
  await link.query("SELECT seq, REPEAT('x', 20) FROM seq_1_to_1000");
  link.unprepare('SELECT name FROM items WHERE id = ?');
  await link.ping();
  await link.beginTransaction();
  await link.query("UPDATE items SET name = 'new' WHERE id IN (1, 2)");
  await link.commit();
  await link.changeUser({ user: 'app', password: 'secret', database: 'other' });
  await link.query("SELECT 'text' AS a");
  await link.query('USE shop');
  await link.execute('CALL three(?)', [7]);
  console.log('done');
  await line();
  process.exit();
}

main();
