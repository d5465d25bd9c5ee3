"""client_requests.py BASE: one request per line read, on one requests session."""
import sys

import requests

session = requests.Session()
print('ready', flush=True)
for line in sys.stdin:
    method, target, size, *rest = line.rstrip('\n').split('\t')
    headers = dict(word.split(': ', 1) for word in rest if ': ' in word)
    if 'close' in rest:
        headers['Connection'] = 'close'
    body = None if size == '-' else b'x' * int(size)
    if 'chunked' in rest:
        body = iter([body])
    try:
        answer = session.request(method, sys.argv[1] + target, data=body, headers=headers, allow_redirects=False)
        print(answer.status_code, len(answer.content), flush=True)
    except requests.RequestException as error:
        print('error', error, flush=True)
