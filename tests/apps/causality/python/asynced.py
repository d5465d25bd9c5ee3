"""asynced.py LOOP PORT LEAF REDIS POSTGRES: a front on aiohttp, server and client; LOOP is asyncio or uvloop.

A request's path is /SHAPE/NUMBER, and each call made for it says call-NUMBER-WHICH (../main.go)."""
import asyncio
import contextlib
import itertools
import os
import random
import socket
import ssl
import sys
import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import aiohttp
import asyncpg
import redis.asyncio
from aiohttp import web

from words import POOL, call, leaf, words

loop, port, behind, cache, database = words()
base, secret = leaf(behind)
pool, other = ThreadPoolExecutor(4, initializer=lambda: None), ThreadPoolExecutor(4)
trusting = ssl.create_default_context()
trusting.check_hostname = False
trusting.verify_mode = ssl.CERT_NONE


async def ask(session, url):
    async with session.get(url) as answer:
        await answer.read()


async def direct(number):
    await ask(sessions['wide'], base + call(number))


async def sleep(number):
    for which in range(2):
        await asyncio.sleep(random.uniform(0.001, 0.02))
        await ask(sessions['wide'], base + call(number, which))


async def small_pool(number):
    await ask(sessions['small'], base + call(number))


async def fan_out(number):
    await asyncio.gather(*(ask(sessions['wide'], base + call(number, which)) for which in range(5)))


async def keys(number):
    for which in range(2):
        await stores['redis'].get(call(number, which))


async def query(number):
    await stores['sql'].fetchval(f"SELECT '{call(number)}'")


async def https(number):
    await ask(sessions['wide'], secret + call(number))


async def dns(number):
    await ask(sessions['closing'], base.replace('127.0.0.1', 'localhost') + call(number))


async def to_thread(number):
    await asyncio.to_thread(threaded, number)


async def executor(number):
    await asyncio.get_running_loop().run_in_executor(None, threaded, number)


async def executors(number):
    """Five at once, of a pool that has fewer threads than are asked for."""
    loop = asyncio.get_running_loop()
    await asyncio.gather(*(loop.run_in_executor(pool, threaded, number, which) for which in range(5)))


async def submits(number):
    """An item of a pool's work gives another pool two, and waits."""
    def outer():
        list(other.map(lambda which: threaded(number, which), range(2)))

    await asyncio.get_running_loop().run_in_executor(pool, outer)


async def forgotten(number):
    """Nobody waits for it: it may be done before the answer or behind it."""
    asyncio.get_running_loop().run_in_executor(pool, threaded, number)


async def tasks(number):
    """A task starts another, which calls when it has slept."""
    async def inner():
        await asyncio.sleep(0.005)
        await direct(number)

    async def outer():
        await asyncio.create_task(inner())

    await asyncio.create_task(outer())


async def worker(number):
    """One of some tasks that live as long as the program does the call."""
    done = asyncio.get_running_loop().create_future()
    await jobs.put((number, done))
    await done


idle = []


async def grown(number):
    """One of some tasks does the call; who finds none that is idle starts another."""
    async def last(job):
        while True:
            number, done = job
            await direct(number)
            mine = asyncio.get_running_loop().create_future()
            idle.append(mine)
            done.set_result(None)
            job = await mine

    done = asyncio.get_running_loop().create_future()
    if idle:
        idle.pop().set_result((number, done))
    else:
        task = asyncio.create_task(last((number, done)))
        late_ones.add(task)
        task.add_done_callback(late_ones.discard)
    await done


late_ones = set()


class Stream:
    """One connection that all tasks write their requests to, as they come; answers are read in turn."""
    def __init__(self, reader, writer):
        self.reader, self.writer, self.waiting = reader, writer, asyncio.Queue()
        self.task = asyncio.create_task(self.read())

    async def ask(self, number, body=b''):
        done = asyncio.get_running_loop().create_future()
        self.waiting.put_nowait(done)
        head = f'POST /leaf/{call(number)} HTTP/1.1\r\nHost: leaf\r\nContent-Length: {len(body)}\r\n\r\n'
        self.writer.write(head.encode() + body)
        await done

    async def read(self):
        while True:
            done = await self.waiting.get()
            head = await self.reader.readuntil(b'\r\n\r\n')
            if b'chunked' in head:
                await self.reader.readuntil(b'\r\n0\r\n\r\n')
            else:
                await self.reader.readexactly(len(b'leaf\n'))
            done.set_result(None)


async def pipelined(number):
    await stores['stream'].ask(number)


async def clogged(number):
    """The same, with more than the socket takes at once."""
    await stores['stream'].ask(number, bytes(1 << 10))


bell, bell_ends = asyncio.Event(), []


async def ring():
    """Calls on its own as long as others call beside it."""
    for turn in itertools.count():
        await bell.wait()
        await ask(sessions['wide'], base + call(f'own{turn}'))
        await asyncio.sleep(0.003)


async def beside(number):
    """One call, amid those of a task that calls for nobody."""
    bell.set()
    await asyncio.sleep(0.006)
    await direct(number)
    await asyncio.sleep(0.002)
    if bell_ends:
        bell_ends.pop().cancel()
    bell_ends.append(asyncio.get_running_loop().call_later(0.2, bell.clear))


async def teeming(number):
    """The same, when more locks were made than can be looked at."""
    for _ in range(2000):
        threading.Lock()
    await beside(number)


async def late(number):
    """Answers at once, and calls when that is over."""
    async def behind_it():
        await asyncio.sleep(0.02)
        await direct(number)

    task = asyncio.create_task(behind_it())
    late_ones.add(task)
    task.add_done_callback(late_ones.discard)


def threaded(number, which=0):
    with urllib.request.urlopen(base + call(number, which)) as answer:
        answer.read()


async def work():
    while True:
        number, done = await jobs.get()
        await direct(number)
        done.set_result(None)


shapes = {
    'direct': direct, 'sleep': sleep, 'small-pool': small_pool, 'fan-out': fan_out, 'redis': keys,
    'sql': query, 'https': https, 'dns': dns, 'to-thread': to_thread, 'executor': executor, 'tasks': tasks,
    'executors': executors, 'submits': submits, 'forgotten': forgotten, 'worker': worker, 'beside': beside, 'late': late,
    'grown': grown, 'teeming': teeming, 'pipelined': pipelined, 'clogged': clogged,
}
sessions = {}
stores = {}


async def flushed(request):
    """Calls before it answers, and again when all of the answer is sent."""
    number = request.match_info['number']
    await direct(number)
    response = web.StreamResponse(headers={'Content-Length': '6'})
    await response.prepare(request)
    await response.write(b'front\n')
    await ask(sessions['wide'], base + call(number, 1))
    await response.write_eof()
    return response


async def answer(request):
    await shapes[request.match_info['shape']](request.match_info['number'])
    return web.Response(text='front\n')


async def post(request):
    body = await request.read()
    async with sessions['wide'].post(base + call(request.match_info['number']), data=body) as came:
        return web.Response(body=await came.read())


async def living(app):
    global jobs
    jobs = asyncio.Queue()
    async with contextlib.AsyncExitStack() as stack:
        for name, connector in {
            'wide': aiohttp.TCPConnector(limit=0, ssl=trusting),
            'small': aiohttp.TCPConnector(limit=POOL),
            'closing': aiohttp.TCPConnector(limit=0, force_close=True, use_dns_cache=False),
        }.items():
            sessions[name] = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
        if cache:
            stores['redis'] = redis.asyncio.Redis(
                connection_pool=redis.asyncio.BlockingConnectionPool(port=cache, max_connections=POOL)
            )
        if behind:
            one = socket.create_connection(('127.0.0.1', behind))
            one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            stores['stream'] = Stream(*await asyncio.open_connection(sock=one, limit=1 << 20))
        if database:
            stores['sql'] = await asyncpg.create_pool(
                host='127.0.0.1', port=database, user='app', database='shop', ssl=False,
                min_size=POOL, max_size=POOL, statement_cache_size=0,
            )
        workers = [asyncio.create_task(work()) for _ in range(8)] + [asyncio.create_task(ring())]
        yield
        for one in workers:
            one.cancel()


app = web.Application(client_max_size=1 << 26)
app.router.add_get('/flushed/{number}', flushed)
app.router.add_post('/post/{number}', post)
app.router.add_get('/{shape}/{number}', answer)
app.cleanup_ctx.append(living)
if loop == 'uvloop':
    import uvloop
    uvloop.install()
path = os.environ.get('FRONT_SOCKET')
web.run_app(app, host='127.0.0.1', port=port, path=path, print=None, access_log=None)
