"""asyncpg: HOST PORT; HOST may be a folder with a socket in it."""

import asyncio
import sys

import asyncpg


async def main():
    host, port = sys.argv[1:]
    db = await asyncpg.connect(host=host, port=port, user="app", database="shop", ssl=False)
    print("ready", flush=True)
    sys.stdin.readline()
    await db.execute("INSERT INTO items (id, name) VALUES ($1, $2)", 101, "secret")
    for number in (101, 102):
        await db.fetch("SELECT name FROM items WHERE id = $1", number)
    try:
        await db.fetch("SELECT * FROM nowhere WHERE a = $1", 1)
    except asyncpg.PostgresError:
        pass
    async with db.transaction():
        await db.execute("UPDATE items SET name = $1 WHERE id = $2", "secret", 101)
    rows = await db.fetch("SELECT repeat('x', 200) FROM generate_series(1, 3000)")
    assert len(rows) == 3000
    await db.execute("DELETE FROM items WHERE id = 101; SELECT 1 FROM items LIMIT 3")
    await db.executemany("UPDATE items SET name = $1 WHERE id = $2", [("a", 1), ("b", 2)])
    async with db.transaction():
        async for _ in db.cursor("SELECT id FROM items WHERE id < $1", 6, prefetch=3):
            pass
    print("done", flush=True)
    sys.stdin.readline()


asyncio.run(main())
