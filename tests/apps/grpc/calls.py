"""calls.py server PORT [CERTIFICATE KEY], or client PORT [AUTHORITY]: a gRPC server and client on grpcio.
Messages are bytes: no stubs are made. The client reads lines, KIND METHOD [COUNT AT-ONCE], and makes
these calls on one channel."""
import sys
import threading
import time
from concurrent import futures

import grpc

role, port, *files = sys.argv[1:]
address = f'127.0.0.1:{port}'
pems = [open(file, 'rb').read() for file in files]


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


def lasts(request, context):
    for _ in range(3):
        yield request
        time.sleep(0.1)


def cancels(request, context):
    gone = threading.Event()
    context.add_callback(gone.set)
    yield request
    gone.wait()


KINDS = {
    'Unary': grpc.unary_unary_rpc_method_handler(unary),
    'Fails': grpc.unary_unary_rpc_method_handler(fails),
    'Breaks': grpc.unary_unary_rpc_method_handler(breaks),
    'Slow': grpc.unary_unary_rpc_method_handler(slow),
    'Gather': grpc.stream_unary_rpc_method_handler(gather),
    'Scatter': grpc.unary_stream_rpc_method_handler(scatter),
    'Both': grpc.stream_stream_rpc_method_handler(both),
    'FailsLate': grpc.unary_stream_rpc_method_handler(fails_late),
    'Lasts': grpc.unary_stream_rpc_method_handler(lasts),
    'Cancels': grpc.unary_stream_rpc_method_handler(cancels),
}


class Handlers(grpc.GenericRpcHandler):
    def service(self, details):
        return KINDS.get(details.method.rsplit('/', 1)[1].split('_')[0])


def serve():
    server = grpc.server(futures.ThreadPoolExecutor(4), handlers=[Handlers()])
    if pems:
        certificate, key = pems
        server.add_secure_port(address, grpc.ssl_server_credentials([(key, certificate)]))
    else:
        server.add_insecure_port(address)
    server.start()
    server.wait_for_termination()


def call(channel, kind, method):
    pieces = (b'piece' for _ in range(3))
    if kind == 'Gather':
        return channel.stream_unary(method)(pieces)
    if kind == 'Both':
        return list(channel.stream_stream(method)(pieces))
    if kind in ('Scatter', 'FailsLate', 'Lasts'):
        return list(channel.unary_stream(method)(b'ask'))
    if kind == 'Cancels':
        answers = channel.unary_stream(method)(b'ask')
        next(answers)
        answers.cancel()
        return list(answers)
    return channel.unary_unary(method)(b'ask', timeout=0.2 if kind == 'Slow' else None)


def outcome(channel, kind, method):
    try:
        call(channel, kind, method)
    except grpc.RpcError as error:
        return error.code().name
    return 'OK'


def many(channel, kind, method, count, at_once):
    with futures.ThreadPoolExecutor(at_once) as pool:
        all = pool.map(lambda at: outcome(channel, kind, f'{method}_{at}'), range(count))
        return max(all, key=lambda got: got != 'OK')


def ask():
    if pems:
        channel = grpc.secure_channel(address, grpc.ssl_channel_credentials(*pems))
    else:
        channel = grpc.insecure_channel(address)
    print('ready', flush=True)
    for line in sys.stdin:
        kind, method, *numbers = line.split()
        if numbers:
            print(many(channel, kind, method, *map(int, numbers)), flush=True)
        else:
            print(outcome(channel, kind, method), flush=True)


serve() if role == 'server' else ask()
