"""An API server as bad as it is told to be: `api.py PORT FILE`, the file holding a word that may change: `well`, a
status to answer with, `garbage`, or `silent`."""

import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlparse

PORT, FILE = int(sys.argv[1]), sys.argv[2]
KINDS = {
    "pods": ("PodList", "v1"),
    "services": ("ServiceList", "v1"),
    "nodes": ("NodeList", "v1"),
    "endpointslices": ("EndpointSliceList", "discovery.k8s.io/v1"),
}


class Api(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def mood(self):
        with open(FILE) as file:
            return file.read().strip()

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        mood = self.mood()
        if mood == "silent":
            time.sleep(600)
        elif mood == "garbage":
            self.answer(200, b'{"type": "ADDED", "object": 7}\n')
        elif mood.isdigit():
            status = {"kind": "Status", "status": "Failure", "code": int(mood), "message": "as it was told", "reason": "Told"}
            self.answer(int(mood), json.dumps(status).encode())
        elif "watch" in parse_qs(urlparse(self.path).query):
            self.watch()
        else:
            name = urlparse(self.path).path.rsplit("/", 1)[-1]
            kind, version = KINDS.get(name, ("Namespace", "v1"))
            whole = {"kind": kind, "apiVersion": version, "metadata": {"resourceVersion": "1"}}
            if name in KINDS:
                whole["items"] = []
            else:
                whole["metadata"] = {"name": name, "uid": "c1"}
            self.answer(200, json.dumps(whole).encode())

    def watch(self):
        """Nothing happens, until it is no longer well."""
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        self.wfile.flush()
        while self.mood() == "well":
            time.sleep(0.05)
        self.close_connection = True

    def log_message(self, *_):
        pass


ThreadingHTTPServer(("127.0.0.1", PORT), Api).serve_forever()
