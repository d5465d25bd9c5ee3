"""aio_server.py PORT [PEER]: a server on aiohttp; over TLS where the environment has TLS_CERT and TLS_KEY."""
import asyncio
import os
import ssl
import sys

import aiohttp
from aiohttp import web


async def give(request):
    return web.Response(body=b'x' * int(request.match_info['size']))


async def chunked(request):
    size = int(request.match_info['size'])
    response = web.StreamResponse()
    response.enable_chunked_encoding()
    await response.prepare(request)
    for piece in (b'x' * (size // 2), b'x' * (size - size // 2)):
        if piece:
            await response.write(piece)
    await response.write_eof()
    return response


async def upload(request):
    count = 0
    async for piece in request.content.iter_chunked(65536):
        count += len(piece)
    return web.Response(status=201, text=f'received {count}\n')


async def item(request):
    return web.Response(status=204)


async def status(request):
    code = int(request.match_info['code'])
    headers = {'Location': '/bytes/0/1'} if code == 301 else None
    return web.Response(status=code, headers=headers, text=None if code == 204 else f'status {code}\n')


async def slow(request):
    await asyncio.sleep(int(request.match_info['delay']) / 1000)
    return web.Response(text='late\n')


async def call(request):
    url = f"{sys.argv[2]}/bytes/10/{request.match_info['tag']}"
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return web.Response(body=await answer.read())


app = web.Application(client_max_size=1 << 26)
app.router.add_get('/bytes/{size}/{tag}', give)
app.router.add_get('/chunked/{size}/{tag}', chunked)
app.router.add_route('*', '/upload/{tag}', upload)
app.router.add_delete('/item/{tag}', item)
app.router.add_get('/status/{code}/{tag}', status)
app.router.add_get('/slow/{delay}/{tag}', slow)
app.router.add_get('/call/{tag}', call)
tls = None
if 'TLS_CERT' in os.environ:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(os.environ['TLS_CERT'], os.environ['TLS_KEY'])
web.run_app(app, host='127.0.0.1', port=int(sys.argv[1]), ssl_context=tls, print=None)
