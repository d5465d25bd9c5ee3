"""client_aiohttp.py BASE[,BASE…]: one request per line read, on one aiohttp session, to the first;
BURST: many at once, at most eight to each."""
import asyncio
import sys

import aiohttp

BASES = sys.argv[1].split(',')


async def pieces(body):
    yield body


async def ask(session, line):
    method, target, size, *rest = line.rstrip('\n').split('\t')
    if method == 'BURST':
        return await burst(session, target, int(size))
    headers = dict(word.split(': ', 1) for word in rest if ': ' in word)
    if 'close' in rest:
        headers['Connection'] = 'close'
    body = None if size == '-' else b'x' * int(size)
    if 'chunked' in rest:
        body = pieces(body)
    async with session.request(method, BASES[0] + target, data=body, headers=headers, allow_redirects=False) as answer:
        return f'{answer.status} {len(await answer.read())}'


async def burst(session, target, count):
    async def one(at):
        async with session.get(f'{BASES[at % len(BASES)]}{target}/{at}') as answer:
            await answer.read()
    await asyncio.gather(*map(one, range(count)))
    return f'200 {count}'


async def main():
    loop = asyncio.get_running_loop()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit_per_host=8)) as session:
        print('ready', flush=True)
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            try:
                print(await ask(session, line), flush=True)
            except aiohttp.ClientError as error:
                print('error', error, flush=True)


asyncio.run(main())
