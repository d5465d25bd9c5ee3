"""Answers with the heads of Elasticsearch or of OpenSearch, and with as little as their clients accept:
`stand_in.py PORT elasticsearch|opensearch`."""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

port, system = int(sys.argv[1]), sys.argv[2]
VERSION = {"number": "9.1.0", "build_flavor": "default"}
if system == "opensearch":
    VERSION = {"number": "3.3.0", "distribution": "opensearch"}
HITS = {"total": {"value": 0, "relation": "eq"}, "hits": []}
BODY = {
    "version": VERSION,
    "tagline": "You Know, for Search",
    "acknowledged": True,
    "count": 1,
    "errors": False,
    "found": True,
    "hits": HITS,
    "items": [],
    "result": "created",
    "_source": {},
}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        body = [] if self.path.startswith("/_cat/") else BODY
        text = json.dumps(body).encode()
        self.send_response(404 if self.path.startswith("/orders/_doc/absent") else 200)
        if system == "opensearch":
            self.send_header("X-OpenSearch-Version", "OpenSearch/3.3.0 (opensearch)")
            self.send_header("content-type", "application/json; charset=UTF-8")
        else:
            self.send_header("X-elastic-product", "Elasticsearch")
            accepts = self.headers.get("accept", "")
            compatible = accepts.startswith("application/vnd.elasticsearch+json")
            self.send_header("content-type", accepts if compatible else "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = answer

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True


Server(("127.0.0.1", port), Handler).serve_forever()
