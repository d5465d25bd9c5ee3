"""http.server with a thread for each connection, and urllib3."""
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import urllib3

from words import CAUSE, behind, gives, host, port, secret

urllib3.disable_warnings()
client = urllib3.PoolManager(maxsize=64, cert_reqs='CERT_NONE')
pool = ThreadPoolExecutor(32)


def ask(cause):
    return client.request('GET', behind, headers={CAUSE: cause})


class Handler(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    # One send for an answer.
    wbufsize = -1

    def do_GET(self):
        cause = self.headers[CAUSE]
        came = pool.submit(ask, cause).result() if gives else ask(cause)
        self.send_response(came.status)
        self.send_header('Content-Length', '4')
        self.end_headers()
        self.wfile.write(b'hop\n')

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 128


server = Server((host, port), Handler)
context = secret()
if context:
    # The handshake is the connection's thread's.
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
server.serve_forever()
