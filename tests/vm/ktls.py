"""HTTP through the kernel's TLS (Documentation/networking/tls.rst): `ktls.py server PORT`, and `ktls.py
client PORT REQUESTS`, which writes a status for each request. Both ends have the same keys from the
start, without a handshake, as on a connection that was handed to the kernel before the agent came."""

import http.client
import http.server
import socket
import struct
import sys

SOL_TLS, TLS_TX, TLS_RX, TLS_1_2, AES_GCM_128 = 282, 1, 2, 0x0303, 51


def protect(connection):
    """Both directions with one key: struct tls12_crypto_info_aes_gcm_128 (include/uapi/linux/tls.h)."""
    connection.setsockopt(socket.IPPROTO_TCP, 31, b"tls")  # TCP_ULP
    keys = struct.pack("HH8s16s4s8s", TLS_1_2, AES_GCM_128, bytes(8), bytes(range(16)), bytes(4), bytes(8))
    connection.setsockopt(SOL_TLS, TLS_TX, keys)
    connection.setsockopt(SOL_TLS, TLS_RX, keys)
    return connection


class Server(http.server.ThreadingHTTPServer):
    def get_request(self):
        connection, peer = self.socket.accept()
        return protect(connection), peer


class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "3")
        self.end_headers()
        self.wfile.write(b"yes")


def client(port, requests):
    asking = http.client.HTTPConnection("127.0.0.1", port)
    asking.connect()
    protect(asking.sock)
    for number in range(requests):
        asking.request("GET", f"/{number}")
        answer = asking.getresponse()
        answer.read()
        print(answer.status)


if sys.argv[1] == "server":
    Server(("127.0.0.1", int(sys.argv[2])), Answer).serve_forever()
else:
    client(int(sys.argv[2]), int(sys.argv[3]))
