"""psycopg 3: HOST PORT; HOST may be a folder with a socket in it."""

import sys

import psycopg

host, port = sys.argv[1:]
db = psycopg.connect(host=host, port=port, user="app", dbname="shop", sslmode="disable", autocommit=True)
print("ready", flush=True)
sys.stdin.readline()
db.execute("INSERT INTO items (id, name) VALUES (%s, %s)", (101, "secret"))
for number in (101, 102):
    db.execute("SELECT name FROM items WHERE id = %s", (number,), prepare=True).fetchall()
try:
    db.execute("SELECT * FROM nowhere WHERE a = %s", (1,))
except psycopg.Error:
    pass
with db.transaction():
    db.execute("UPDATE items SET name = %s WHERE id = %s", ("secret", 101))
rows = db.execute("SELECT repeat('x', 200) FROM generate_series(1, 3000)").fetchall()
assert len(rows) == 3000
db.execute("DELETE FROM items WHERE id = 101; SELECT 1 FROM items LIMIT 3")
with db.cursor() as cursor:
    with cursor.copy("COPY copies (id, name) FROM STDIN") as copy:
        for number in range(20000):
            copy.write_row((number, "secret" * 20))
    with cursor.copy("COPY copies TO STDOUT") as copy:
        for _ in copy:
            pass
with db.pipeline() as pipeline:
    cursors = [db.execute("SELECT id FROM items WHERE id = %s", (n,)) for n in (1, 2)]
    pipeline.sync()
    assert all(cursor.fetchall() for cursor in cursors)
rows = db.execute("SELECT i, 'row' FROM generate_series(1, 100000) i").fetchall()
assert len(rows) == 100000
try:
    db.execute("SELECT 1 / (90000 - i) FROM generate_series(1, 100000) i")
except psycopg.Error:
    pass
try:
    with db.pipeline():
        db.execute("SELECT 1/%s::int", (0,))
        db.execute("SELECT 3 FROM items")
except psycopg.Error:
    pass
print("done", flush=True)
sys.stdin.readline()
