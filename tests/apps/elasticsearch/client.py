"""elasticsearch and opensearch-py: `client.py URL elasticsearch|opensearch`."""

import sys

url, system = sys.argv[1], sys.argv[2]

if system == "elasticsearch":
    from elasticsearch import Elasticsearch as Client
    from elasticsearch import NotFoundError

    client = Client(url, max_retries=0)
else:
    from opensearchpy import NotFoundError
    from opensearchpy import OpenSearch as Client

    client = Client(url, max_retries=0)


def deeds():
    operations = [{"index": {"_id": "2"}}, {"n": 2}]
    client.indices.create(index="orders")
    if system == "elasticsearch":
        client.index(index="orders", id="a b", document={"n": 1})
        client.search(index="orders", query={"term": {"secret": "value"}})
        client.bulk(index="orders", operations=operations)
    else:
        client.index(index="orders", id="a b", body={"n": 1})
        client.search(index="orders", body={"query": {"term": {"secret": "value"}}})
        client.bulk(index="orders", body=operations)
    client.get(index="orders", id="a b")
    try:
        client.get(index="orders", id="absent")
    except NotFoundError:
        pass
    client.count(index="orders")
    client.delete(index="orders", id="a b")
    client.cat.indices(format="json")
    client.indices.delete(index="orders")


# What says who it is is no part of Elasticsearch's jars.
client.cluster.health() if system == "elasticsearch" else client.info()
print("ready", flush=True)
sys.stdin.readline()
deeds()
print("done", flush=True)
sys.stdin.readline()
