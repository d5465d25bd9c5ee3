"""client_aiohttp.py BASE: one request per line read, on one aiohttp session."""
import asyncio
import sys

import aiohttp


async def pieces(body):
    yield body


async def ask(session, line):
    method, target, size, *rest = line.rstrip('\n').split('\t')
    headers = dict(word.split(': ', 1) for word in rest if ': ' in word)
    if 'close' in rest:
        headers['Connection'] = 'close'
    body = None if size == '-' else b'x' * int(size)
    if 'chunked' in rest:
        body = pieces(body)
    async with session.request(method, sys.argv[1] + target, data=body, headers=headers, allow_redirects=False) as answer:
        return f'{answer.status} {len(await answer.read())}'


async def main():
    loop = asyncio.get_running_loop()
    async with aiohttp.ClientSession() as session:
        print('ready', flush=True)
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            try:
                print(await ask(session, line), flush=True)
            except aiohttp.ClientError as error:
                print('error', error, flush=True)


asyncio.run(main())
