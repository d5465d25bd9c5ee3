"""A driver of Python's, told by `pymysql` or `MySQLdb` and where the server listens."""

import importlib
import sys

driver = importlib.import_module(sys.argv[1])
place = {"unix_socket": sys.argv[2]}
if sys.argv[2].isdigit():
    place = {"host": "127.0.0.1", "port": int(sys.argv[2])}
if len(sys.argv) > 3:
    place["ssl"] = {"ca": sys.argv[3], "check_hostname": False}
link = driver.connect(user="app", password="secret", database="shop", autocommit=True, **place)
cursor = link.cursor()
print("ready", flush=True)
sys.stdin.readline()
cursor.execute("SELECT id, name FROM items WHERE id < %s AND name <> %s", (100, "it's"))
assert len(cursor.fetchall()) == 3
cursor.execute("INSERT INTO items(name) VALUES (%s)", ("bought",))
try:
    cursor.execute("SELECT * FROM missing WHERE id = 4711")
    raise SystemExit("found")
except driver.Error as error:
    assert error.args[0] == 1146, error
cursor.execute("SELECT seq, REPEAT('x', 20) FROM seq_1_to_1000")
assert len(cursor.fetchall()) == 1000
link.ping()
link.begin()
cursor.execute("UPDATE items SET name = 'new' WHERE id IN (1, 2)")
link.commit()
link.select_db("other")
cursor.execute("SELECT 'text' AS a")
cursor.execute("USE shop")
cursor.execute("CALL three(7)")
while cursor.nextset():
    pass
print("done", flush=True)
sys.stdin.readline()
