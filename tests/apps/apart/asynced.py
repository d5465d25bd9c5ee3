"""aiohttp, server and client, on asyncio's own loop."""
import asyncio

import aiohttp
from aiohttp import web

from words import CAUSE, behind, gives, host, port, secret


async def ask(request):
    async with request.app['client'].get(behind, headers={CAUSE: request.headers[CAUSE]}) as came:
        await came.read()
        return came.status


async def answer(request):
    asked = ask(request)
    status = await (asyncio.create_task(asked) if gives else asked)
    return web.Response(status=status, text='hop\n')


async def living(app):
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, ssl=False)) as client:
        app['client'] = client
        yield


app = web.Application()
app.router.add_get('/', answer)
app.cleanup_ctx.append(living)
web.run_app(app, host=host, port=port, ssl_context=secret(), print=None, access_log=None)
