"""HOST PORT NEXT [CERTIFICATE KEY], as main.go says."""
import os
import ssl
import sys

CAUSE = 'X-Cause'

# Whether what is asked is asked by somebody else: a task, a pool's thread, a goroutine.
gives = bool(os.environ.get('HOP_GIVES'))
host, port, behind = sys.argv[1], int(sys.argv[2]), sys.argv[3]


def secret():
    """For a server, if it is to speak TLS."""
    if not sys.argv[4:]:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*sys.argv[4:6])
    return context
