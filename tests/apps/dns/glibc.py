"""The C library's resolver: what getaddrinfo and getnameinfo ask for. It reads /etc/resolv.conf."""

import socket
import sys

print("ready", flush=True)
sys.stdin.readline()
found = {entry[4][0] for entry in socket.getaddrinfo("web.test", 80, type=socket.SOCK_STREAM)}
assert found == {"10.1.2.3", "fd00::3"}, found
try:
    socket.getaddrinfo("nope.test.", 80, type=socket.SOCK_STREAM)
    raise SystemExit("there is no nope.test")
except socket.gaierror:
    pass
assert socket.getnameinfo(("10.1.2.3", 80), 0)[0] == "web.test"
print("done", flush=True)
sys.stdin.readline()
