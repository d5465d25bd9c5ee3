"""grpc_app.py server PORT: a gRPC server; grpc_app.py client PORT: one call per line read, KIND METHOD,
on one channel. Messages are bytes: no stubs are made."""
import sys
import time
from concurrent import futures

import grpc

role, port = sys.argv[1:]


def unary(request, context):
    return request * 2


def fails(request, context):
    context.abort(grpc.StatusCode.NOT_FOUND, 'no such thing')


def breaks(request, context):
    raise ValueError('a bug')


def slow(request, context):
    time.sleep(0.5)
    return request


def gather(requests, context):
    return b''.join(requests)


def scatter(request, context):
    for number in range(5):
        yield b'%d' % number


def both(requests, context):
    for request in requests:
        yield request


def fails_late(request, context):
    yield b'one'
    context.abort(grpc.StatusCode.UNAVAILABLE, 'went away')


KINDS = {
    'Unary': grpc.unary_unary_rpc_method_handler(unary),
    'Fails': grpc.unary_unary_rpc_method_handler(fails),
    'Breaks': grpc.unary_unary_rpc_method_handler(breaks),
    'Slow': grpc.unary_unary_rpc_method_handler(slow),
    'Gather': grpc.stream_unary_rpc_method_handler(gather),
    'Scatter': grpc.unary_stream_rpc_method_handler(scatter),
    'Both': grpc.stream_stream_rpc_method_handler(both),
    'FailsLate': grpc.unary_stream_rpc_method_handler(fails_late),
}


class Handlers(grpc.GenericRpcHandler):
    def service(self, details):
        return KINDS.get(details.method.rsplit('/', 1)[1].split('_')[0])


def serve():
    server = grpc.server(futures.ThreadPoolExecutor(4), handlers=[Handlers()])
    server.add_insecure_port(f'127.0.0.1:{port}')
    server.start()
    server.wait_for_termination()


def call(channel, kind, method):
    pieces = (b'piece' for _ in range(3))
    if kind == 'Gather':
        return channel.stream_unary(method)(pieces)
    if kind == 'Both':
        return list(channel.stream_stream(method)(pieces))
    if kind in ('Scatter', 'FailsLate'):
        return list(channel.unary_stream(method)(b'ask'))
    return channel.unary_unary(method)(b'ask', timeout=0.2 if kind == 'Slow' else None)


def ask():
    channel = grpc.insecure_channel(f'127.0.0.1:{port}')
    print('ready', flush=True)
    for line in sys.stdin:
        kind, method = line.split()
        try:
            call(channel, kind, method)
            print('OK', flush=True)
        except grpc.RpcError as error:
            print(error.code().name, flush=True)


serve() if role == 'server' else ask()
