"""client_httpx.py BASE [h2]: one request per line read, on one httpx client."""
import sys

import httpx

two = sys.argv[2:] == ['h2']


def pieces(body):
    yield body


with httpx.Client(http1=not two, http2=two) as client:
    print('ready', flush=True)
    for line in sys.stdin:
        method, target, size, *rest = line.rstrip('\n').split('\t')
        headers = dict(word.split(': ', 1) for word in rest if ': ' in word)
        if 'close' in rest:
            headers['Connection'] = 'close'
        body = None if size == '-' else b'x' * int(size)
        if 'chunked' in rest:
            body = pieces(body)
        try:
            answer = client.request(method, sys.argv[1] + target, content=body, headers=headers)
            print(answer.status_code, len(answer.content), flush=True)
        except httpx.HTTPError as error:
            print('error', error, flush=True)
