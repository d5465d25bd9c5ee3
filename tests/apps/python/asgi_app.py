"""An application on bare ASGI, for servers that speak HTTP/2."""


async def app(scope, receive, send):
    if scope['type'] != 'http':
        return
    _, word, number, *_ = scope['path'].split('/')
    count, more = 0, True
    while more:
        event = await receive()
        count, more = count + len(event.get('body', b'')), event.get('more_body', False)
    status, body = 404, b'no\n'
    if word == 'bytes':
        status, body = 200, b'x' * int(number)
    elif word == 'upload':
        status, body = 201, f'received {count}\n'.encode()
    elif word == 'status':
        status = int(number)
        body = b'' if status == 204 else f'status {status}\n'.encode()
    headers = [] if status == 204 else [(b'content-length', str(len(body)).encode())]
    await send({'type': 'http.response.start', 'status': status, 'headers': headers})
    await send({'type': 'http.response.body', 'body': b'' if scope['method'] == 'HEAD' else body})
