"""http.server with a thread for each connection, and urllib3."""
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import urllib3

from words import CAUSE, behind, host, port, secret

urllib3.disable_warnings()
client = urllib3.PoolManager(maxsize=64, cert_reqs='CERT_NONE')


class Handler(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    # One send for an answer.
    wbufsize = -1

    def do_GET(self):
        came = client.request('GET', behind, headers={CAUSE: self.headers[CAUSE]})
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
