import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.Grpc;
import io.grpc.HandlerRegistry;
import io.grpc.InsecureChannelCredentials;
import io.grpc.InsecureServerCredentials;
import io.grpc.MethodDescriptor;
import io.grpc.MethodDescriptor.MethodType;
import io.grpc.ServerMethodDefinition;
import io.grpc.Status;
import io.grpc.TlsChannelCredentials;
import io.grpc.TlsServerCredentials;
import io.grpc.stub.ClientCallStreamObserver;
import io.grpc.stub.ClientCalls;
import io.grpc.stub.ClientResponseObserver;
import io.grpc.stub.ServerCallStreamObserver;
import io.grpc.stub.ServerCalls;
import io.grpc.stub.StreamObserver;
import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.File;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.UncheckedIOException;
import java.net.InetSocketAddress;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;
import java.util.stream.IntStream;

/**
 * Calls server PORT [CERTIFICATE KEY], or client PORT [AUTHORITY]: a gRPC server and client on grpc-java.
 * Messages are bytes: no stubs are made. The client reads lines, KIND METHOD [COUNT AT-ONCE], and makes
 * these calls on one channel.
 */
public class Calls {
    public static void main(String[] args) throws Exception {
        int port = Integer.parseInt(args[1]);
        if (args[0].equals("server")) serve(port, args);
        else ask(port, args);
    }

    static final MethodDescriptor.Marshaller<byte[]> BYTES = new MethodDescriptor.Marshaller<>() {
        @Override
        public InputStream stream(byte[] message) {
            return new ByteArrayInputStream(message);
        }

        @Override
        public byte[] parse(InputStream stream) {
            try {
                return stream.readAllBytes();
            } catch (IOException error) {
                throw new UncheckedIOException(error);
            }
        }
    };

    static MethodDescriptor<byte[], byte[]> method(String name, MethodType type) {
        return MethodDescriptor.newBuilder(BYTES, BYTES).setFullMethodName(name).setType(type).build();
    }

    static String kind(String method) {
        return method.substring(method.indexOf('/') + 1).split("_")[0];
    }

    static void serve(int port, String[] args) throws Exception {
        var security = args.length > 3
            ? TlsServerCredentials.create(new File(args[2]), new File(args[3]))
            : InsecureServerCredentials.create();
        var any = new HandlerRegistry() {
            @Override
            public ServerMethodDefinition<?, ?> lookupMethod(String name, String authority) {
                var handler = ServerCalls.asyncBidiStreamingCall((StreamObserver<byte[]> out) ->
                    new Answer(kind(name), (ServerCallStreamObserver<byte[]>) out));
                return ServerMethodDefinition.create(method(name, MethodType.BIDI_STREAMING), handler);
            }
        };
        io.grpc.netty.shaded.io.grpc.netty.NettyServerBuilder
            .forAddress(new InetSocketAddress("127.0.0.1", port), security)
            .fallbackHandlerRegistry(any).build().start().awaitTermination();
    }

    /** Takes all of a call's messages, then answers; Both answers each as it comes. */
    static class Answer implements StreamObserver<byte[]> {
        final String kind;
        final ServerCallStreamObserver<byte[]> out;
        final ByteArrayOutputStream all = new ByteArrayOutputStream();

        Answer(String kind, ServerCallStreamObserver<byte[]> out) {
            this.kind = kind;
            this.out = out;
            // Without it, answering one who has gone throws.
            out.setOnCancelHandler(() -> {});
        }

        @Override
        public void onNext(byte[] message) {
            all.writeBytes(message);
            if (kind.equals("Both")) out.onNext(message);
        }

        @Override
        public void onError(Throwable error) {}

        @Override
        public void onCompleted() {
            switch (kind) {
                case "Both" -> {}
                case "Fails" -> {
                    out.onError(Status.NOT_FOUND.withDescription("no such thing").asException());
                    return;
                }
                case "Breaks" -> throw new IllegalStateException("a bug");
                case "Slow" -> {
                    sleep(500);
                    out.onNext(all.toByteArray());
                }
                case "Scatter" -> {
                    for (int at = 0; at < 5; at++) out.onNext(all.toByteArray());
                }
                case "Lasts" -> {
                    for (int at = 0; at < 3; at++) {
                        out.onNext(all.toByteArray());
                        sleep(100);
                    }
                }
                case "FailsLate" -> {
                    out.onNext(all.toByteArray());
                    out.onError(Status.UNAVAILABLE.withDescription("went away").asException());
                    return;
                }
                case "Cancels" -> {
                    // Never ended by this side.
                    out.onNext(all.toByteArray());
                    return;
                }
                default -> out.onNext(all.toByteArray());
            }
            out.onCompleted();
        }
    }

    static void sleep(long time) {
        try {
            Thread.sleep(time);
        } catch (InterruptedException error) {
            throw new IllegalStateException(error);
        }
    }

    static void ask(int port, String[] args) throws Exception {
        var security = args.length > 2
            ? TlsChannelCredentials.newBuilder().trustManager(new File(args[2])).build()
            : InsecureChannelCredentials.create();
        var channel = Grpc.newChannelBuilderForAddress("127.0.0.1", port, security).build();
        var in = new BufferedReader(new InputStreamReader(System.in));
        System.out.println("ready");
        for (String line; (line = in.readLine()) != null; ) {
            String[] words = line.split(" ");
            String name = words[1].substring(1);
            System.out.println(words.length > 2
                ? many(channel, words[0], name, Integer.parseInt(words[2]), Integer.parseInt(words[3]))
                : outcome(channel, words[0], name));
        }
        System.exit(0);
    }

    static String many(Channel channel, String kind, String name, int count, int atOnce) throws Exception {
        var pool = Executors.newFixedThreadPool(atOnce);
        var ends = IntStream.range(0, count)
            .mapToObj(at -> pool.submit(() -> outcome(channel, kind, name + "_" + at))).toList();
        String worst = "OK";
        for (var end : ends) if (!end.get().equals("OK")) worst = end.get();
        pool.shutdown();
        return worst;
    }

    /** A call's answers, until it ends. */
    static class Waits implements ClientResponseObserver<byte[], byte[]> {
        final CompletableFuture<String> end = new CompletableFuture<>();
        final boolean cancels;
        ClientCallStreamObserver<byte[]> call;

        Waits(boolean cancels) {
            this.cancels = cancels;
        }

        @Override
        public void beforeStart(ClientCallStreamObserver<byte[]> call) {
            this.call = call;
        }

        @Override
        public void onNext(byte[] message) {
            if (cancels) call.cancel("enough", null);
        }

        @Override
        public void onError(Throwable error) {
            end.complete(Status.fromThrowable(error).getCode().name());
        }

        @Override
        public void onCompleted() {
            end.complete("OK");
        }
    }

    static String outcome(Channel channel, String kind, String name) throws Exception {
        var options = kind.equals("Slow")
            ? CallOptions.DEFAULT.withDeadlineAfter(200, TimeUnit.MILLISECONDS)
            : CallOptions.DEFAULT;
        var type = switch (kind) {
            case "Gather" -> MethodType.CLIENT_STREAMING;
            case "Both" -> MethodType.BIDI_STREAMING;
            case "Scatter", "FailsLate", "Lasts", "Cancels" -> MethodType.SERVER_STREAMING;
            default -> MethodType.UNARY;
        };
        var call = channel.newCall(method(name, type), options);
        var waits = new Waits(kind.equals("Cancels"));
        byte[] piece = "piece".getBytes();
        switch (type) {
            case UNARY -> ClientCalls.asyncUnaryCall(call, piece, waits);
            case SERVER_STREAMING -> ClientCalls.asyncServerStreamingCall(call, piece, waits);
            default -> {
                var out = type == MethodType.CLIENT_STREAMING
                    ? ClientCalls.asyncClientStreamingCall(call, waits)
                    : ClientCalls.asyncBidiStreamingCall(call, waits);
                for (int at = 0; at < 3; at++) out.onNext(piece);
                out.onCompleted();
            }
        }
        return waits.end.get();
    }
}
