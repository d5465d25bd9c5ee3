"""A front that asks a Service for each request: a thread for each connection, no library, no header."""

import os
import signal
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CART = "http://" + os.environ["CART_SERVICE_HOST"] + ":" + os.environ["CART_SERVICE_PORT"]


class Front(BaseHTTPRequestHandler):
    def do_GET(self):
        with urllib.request.urlopen(CART + self.path, timeout=10) as answer:
            body = answer.read()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


# The first process of a container has no other way to end.
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
ThreadingHTTPServer(("0.0.0.0", 8080), Front).serve_forever()
