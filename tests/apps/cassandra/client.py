"""The DataStax driver: connects, does its list once a line is read. What is `warm` was prepared before."""
import sys

from cassandra import InvalidRequest
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile
from cassandra.policies import RoundRobinPolicy
from cassandra.query import BatchStatement, SimpleStatement

port, words = int(sys.argv[1]), sys.argv[2:]
profile = ExecutionProfile(load_balancing_policy=RoundRobinPolicy(), request_timeout=30)
cluster = Cluster(
    ["127.0.0.1"],
    port=port,
    protocol_version=5,
    compression="lz4" if "lz4" in words else False,
    execution_profiles={EXEC_PROFILE_DEFAULT: profile},
    schema_metadata_enabled=False,
    token_metadata_enabled=False,
)
session = cluster.connect() if "schema" in words else cluster.connect("shop")
if "schema" in words:
    session.execute(
        "CREATE KEYSPACE shop WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}"
    )
    session.execute("CREATE TABLE shop.items (id int PRIMARY KEY, name text)")
    cluster.shutdown()
    raise SystemExit
session.default_fetch_size = 100
early = session.prepare("SELECT name FROM shop.items WHERE id = ?")
print("ready", flush=True)
input()

session.execute("INSERT INTO items (id, name) VALUES (1, 'secret')")
session.execute(SimpleStatement("SELECT * FROM items WHERE id = 1", fetch_size=7))
session.execute(early, [1])
insert = session.prepare("INSERT INTO shop.items (id, name) VALUES (?, ?)")
session.execute(insert, [2, "two"])
batch = BatchStatement()
batch.add(insert, [3, "three"])
batch.add(insert, [4, "four"])
session.execute(batch)
batch = BatchStatement()
batch.add(insert, [5, "five"])
batch.add(SimpleStatement("DELETE FROM items WHERE id = 9"))
session.execute(batch)
try:
    session.execute("SELECT * FROM nothere")
    raise SystemExit("an error was expected")
except InvalidRequest:
    pass
select = session.prepare("SELECT id FROM shop.items WHERE id = ?")
answers = [session.execute_async(select, [n]) for n in range(20)]
for answer in answers:
    answer.result()
session.execute(insert, [100, "x" * 300_000])
session.execute("SELECT name FROM shop.items WHERE id = 100")
print("done", flush=True)
input()
