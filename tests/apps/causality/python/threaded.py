"""threaded.py SERVER PORT LEAF REDIS POSTGRES: a front that serves each request in one thread.

SERVER is http.server (a thread for each connection) or gthread (gunicorn's pool of threads in each of two
processes). The shapes are the clients that are used (../main.go)."""
import http.client
import os
import queue
import random
import ssl
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import ThreadingUnixStreamServer

import psycopg
import redis
import requests
import urllib3

from words import POOL, call, leaf, words

server, port, behind, cache, database = words()
base, secret = leaf(behind)
own = threading.local()


class Kept:
    """Connections to PostgreSQL, one a thread at a time."""

    def __init__(self):
        self.free = []
        self.room = threading.Semaphore(POOL)

    def ask(self, query):
        with self.room:
            connection = self.free.pop() if self.free else psycopg.connect(
                f'host=127.0.0.1 port={database} user=app dbname=shop sslmode=disable', autocommit=True)
            connection.execute(query).fetchall()
            self.free.append(connection)


pooled = urllib3.PoolManager(maxsize=64)
small = urllib3.HTTPConnectionPool('127.0.0.1', behind, maxsize=POOL, block=True)
session = requests.Session()
store = redis.Redis(connection_pool=redis.BlockingConnectionPool(port=cache, max_connections=POOL, timeout=20))
kept = Kept()
executor, other, crowd = ThreadPoolExecutor(8), ThreadPoolExecutor(4), ThreadPoolExecutor(64)


def direct(number):
    assert pooled.request('GET', base + call(number)).status == 200


def sleep(number):
    for which in range(2):
        time.sleep(random.uniform(0.001, 0.02))
        pooled.request('GET', base + call(number, which))


def small_pool(number):
    small.request('GET', '/leaf/' + call(number))


def by_requests(number):
    session.get(base + call(number)).raise_for_status()


def plain(number):
    if not hasattr(own, 'connection'):
        own.connection = http.client.HTTPConnection('127.0.0.1', behind)
    own.connection.request('GET', '/leaf/' + call(number))
    own.connection.getresponse().read()


def keys(number):
    for which in range(2):
        store.get(call(number, which))


def query(number):
    kept.ask(f"SELECT '{call(number)}'")


def https(number):
    session.get(secret + call(number), verify=False).raise_for_status()


def fan_out(number):
    list(executor.map(lambda which: pooled.request('GET', base + call(number, which)), range(5)))


def submit(number):
    executor.submit(direct, number).result()


def submit_tls(number):
    executor.submit(https, number).result()


def completed(number):
    """As they are done; one that is waited for asks within itself, by another pool."""
    def ask(which):
        return pooled.request('GET', base + call(number, which))

    given = [executor.submit(ask, which) for which in range(4)]
    given.append(executor.submit(lambda: other.submit(ask, 4).result()))
    for one in as_completed(given):
        one.result()


def forgotten(number):
    executor.submit(direct, number)


def abandoned(number):
    def behind_it():
        time.sleep(0.02)
        direct(number)

    executor.submit(behind_it)


idle = []


def grown(number):
    """One of some items that live on does the call; who finds none that is idle gives the pool another."""
    def last(job):
        while True:
            number, done = job
            direct(number)
            mine = queue.SimpleQueue()
            idle.append(mine)
            done.set()
            job = mine.get()

    done = threading.Event()
    try:
        idle.pop().put((number, done))
    except IndexError:
        crowd.submit(last, (number, done))
    done.wait()
    # Who did it does others meanwhile.
    time.sleep(0.005)


def late(number):
    def behind_it():
        time.sleep(0.02)
        direct(number)

    threading.Thread(target=behind_it).start()


shapes = {
    'direct': direct, 'sleep': sleep, 'small-pool': small_pool, 'requests': by_requests, 'plain': plain,
    'redis': keys, 'sql': query, 'https': https, 'fan-out': fan_out, 'late': late,
    'submit': submit, 'submit-tls': submit_tls, 'completed': completed, 'forgotten': forgotten, 'abandoned': abandoned,
    'grown': grown,
}
urllib3.disable_warnings()


def serve(path):
    _, shape, number = path.split('/')
    shapes[shape](number)


class Handler(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    # One send for an answer.
    wbufsize = -1

    def do_GET(self):
        serve(self.path)
        self.send_response(200)
        self.send_header('Content-Length', '6')
        self.end_headers()
        self.wfile.write(b'front\n')

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 128


class Local(ThreadingUnixStreamServer):
    request_queue_size = 128


def application(environ, start):
    """The same for WSGI."""
    serve(environ['PATH_INFO'])
    start('200 OK', [('Content-Length', '6')])
    return [b'front\n']


if __name__ == '__main__':
    if server == 'gthread':
        from gunicorn.app.base import BaseApplication

        class Gunicorn(BaseApplication):
            def load_config(self):
                for name, value in {
                    'bind': f'127.0.0.1:{port}', 'workers': 2, 'threads': 32, 'worker_class': 'gthread',
                    'keepalive': 30, 'loglevel': 'error',
                }.items():
                    self.cfg.set(name, value)

            def load(self):
                return application

        Gunicorn().run()
    else:
        if path := os.environ.get('FRONT_SOCKET'):
            threading.Thread(target=Local(path, Handler).serve_forever, daemon=True).start()
        Server(('127.0.0.1', port), Handler).serve_forever()
