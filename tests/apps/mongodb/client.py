"""PyMongo, plain or with asyncio: connects to a port or a socket, does its list once a line is read."""
import asyncio
import sys
from urllib.parse import quote_plus

import pymongo
from pymongo import DeleteOne, UpdateOne
from pymongo.errors import PyMongoError

where, way = sys.argv[1], sys.argv[2]
place = quote_plus(where) if where.startswith("/") else f"127.0.0.1:{where}"
address = f"mongodb://{place}/?directConnection=true&maxPoolSize=1"


class Plain:
    """What is awaited is there already."""

    client = pymongo.MongoClient

    @staticmethod
    async def get(value):
        return value

    @staticmethod
    async def all(cursor):
        return list(cursor)


class Aio:
    """What is awaited comes."""

    client = pymongo.AsyncMongoClient

    @staticmethod
    async def get(value):
        return await value

    @staticmethod
    async def all(cursor):
        return await cursor.to_list()


async def fails(what):
    try:
        await what()
    except PyMongoError:
        return
    raise SystemExit("an error was expected")


async def main(using):
    get = using.get
    client = using.client(address)
    await get(client.admin.command("ping"))
    print("ready", flush=True)
    input()
    shop = client.shop
    orders = shop.orders
    await get(orders.insert_one({"_id": 0, "note": "secret"}))
    await get(orders.insert_many([{"_id": n, "note": "x" * 1000} for n in range(1, 300)]))
    await using.all(orders.find({}, batch_size=200))
    await get(orders.find_one({"_id": 7}))
    await get(orders.update_one({"_id": 7}, {"$set": {"note": "secret"}}))
    await get(orders.bulk_write([UpdateOne({"_id": n}, {"$set": {"paid": True}}) for n in (1, 2, 3)]))
    await get(orders.find_one_and_update({"_id": 8}, {"$set": {"paid": True}}))
    await using.all(await get(orders.aggregate([{"$match": {"paid": True}}])))
    await get(orders.distinct("paid"))
    await get(orders.count_documents({}))
    await get(orders.bulk_write([DeleteOne({"_id": n}) for n in (1, 2)]))
    await get(orders.delete_many({"paid": True}))
    await fails(lambda: get(orders.insert_one({"_id": 0})))
    await fails(lambda: get(shop.command("noSuchCommand")))
    cursor = orders.find({}, batch_size=2)
    await get(cursor.next())
    await get(cursor.close())
    await get(shop.list_collection_names())
    await get(orders.drop())
    print("done", flush=True)
    input()


asyncio.run(main(Aio if way == "aio" else Plain))
