"""asgi.py LOOP PORT LEAF REDIS POSTGRES: a front on uvicorn, Starlette and httpx; LOOP is asyncio or uvloop.

Its shapes are named as asynced.py's; blocking is what Starlette runs in a thread."""
import asyncio
import random

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from words import POOL, call, leaf, words

loop, port, behind, cache, database = words()
base, _ = leaf(behind)


async def direct(number, which=0):
    (await clients['wide'].get(base + call(number, which))).raise_for_status()


async def sleep(number):
    for which in range(2):
        await asyncio.sleep(random.uniform(0.001, 0.02))
        await direct(number, which)


async def small_pool(number):
    await clients['small'].get(base + call(number), timeout=30)


async def fan_out(number):
    await asyncio.gather(*(direct(number, which) for which in range(5)))


shapes = {'direct': direct, 'sleep': sleep, 'small-pool': small_pool, 'fan-out': fan_out}
clients = {
    'wide': httpx.AsyncClient(limits=httpx.Limits(max_connections=None)),
    'small': httpx.AsyncClient(limits=httpx.Limits(max_connections=POOL)),
}
blocked = httpx.Client()


async def answer(request):
    await shapes[request.path_params['shape']](request.path_params['number'])
    return PlainTextResponse('front\n')


async def late(request):
    """Calls when it is answered."""
    async def behind_it():
        await asyncio.sleep(0.02)
        await direct(request.path_params['number'])

    return PlainTextResponse('front\n', background=BackgroundTask(behind_it))


def blocking(request):
    blocked.get(base + call(request.path_params['number'])).raise_for_status()
    return PlainTextResponse('front\n')


app = Starlette(routes=[
    Route('/late/{number}', late),
    Route('/blocking/{number}', blocking),
    Route('/{shape}/{number}', answer),
])
uvicorn.run(app, host='127.0.0.1', port=port, loop=loop, log_level='error', access_log=False, lifespan='off')
