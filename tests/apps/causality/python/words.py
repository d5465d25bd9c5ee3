"""What the fronts in Python have in common: their words, and how a call says for whom it is made."""
import sys

# How many connections a small pool has.
POOL = 4


def words():
    """MODE PORT LEAF REDIS POSTGRES."""
    return sys.argv[1], *map(int, sys.argv[2:6])


def leaf(port):
    """What URLs of the leaf begin with, and with TLS."""
    return f'http://127.0.0.1:{port}/leaf/', f'https://127.0.0.1:{port}/leaf/'


def call(number, which=0):
    return f'call-{number}-{which}'
