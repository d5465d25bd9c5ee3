import com.sun.net.httpserver.HttpServer;
import com.zaxxer.hikari.HikariConfig;
import com.zaxxer.hikari.HikariDataSource;
import jakarta.servlet.http.HttpServlet;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import java.io.IOException;
import java.io.OutputStream;
import java.net.HttpURLConnection;
import java.net.InetSocketAddress;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.Semaphore;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import java.util.stream.IntStream;
import org.apache.catalina.startup.Tomcat;
import org.apache.hc.client5.http.classic.methods.HttpGet;
import org.apache.hc.client5.http.impl.classic.HttpClients;
import org.apache.hc.client5.http.impl.io.PoolingHttpClientConnectionManagerBuilder;
import org.apache.hc.core5.http.io.entity.EntityUtils;
import org.eclipse.jetty.server.Handler;
import org.eclipse.jetty.server.Request;
import org.eclipse.jetty.server.Response;
import org.eclipse.jetty.server.Server;
import org.eclipse.jetty.server.ServerConnector;
import org.eclipse.jetty.util.Callback;
import redis.clients.jedis.ConnectionPoolConfig;
import redis.clients.jedis.JedisPooled;

/** Front SERVER PORT LEAF REDIS POSTGRES: serves every shape by one of Java's servers. */
public class Front {
    /** How many connections a small pool has, how many threads work for all, and how many serve. */
    static final int POOL = 4, WORKERS = 8, SERVERS = 48;

    /** Makes the calls of a request, in its shape. */
    interface Caller {
        void calls(String id) throws Exception;
    }

    public static void main(String[] args) throws Exception {
        // As many as there are calls at once.
        System.setProperty("http.maxConnections", "256");
        int port = Integer.parseInt(args[1]);
        var shapes = shapes("http://127.0.0.1:" + args[2] + "/leaf/", args[3], args[4]);
        switch (args[0]) {
            case "jdk" -> jdk(port, shapes, Executors.newFixedThreadPool(SERVERS));
            case "virtual" -> jdk(port, shapes, virtual());
            case "tomcat" -> tomcat(port, shapes);
            case "jetty" -> jetty(port, shapes);
            default -> throw new IllegalArgumentException(args[0]);
        }
    }

    static Map<String, Caller> shapes(String base, String redis, String postgres) {
        Caller direct = id -> ask(base + call(id, 0));
        var http = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
        var fan = Executors.newCachedThreadPool();
        var workers = Executors.newFixedThreadPool(WORKERS);
        var few = Executors.newFixedThreadPool(POOL);
        var lent = new Semaphore(POOL, true);
        var held = new Object();
        var queue = new LinkedBlockingQueue<Runnable>();
        for (int which = 0; which < 2; which++) work(queue);
        var later = Executors.newScheduledThreadPool(WORKERS);
        return Map.ofEntries(
            Map.entry("direct", direct),
            Map.entry("sleep", id -> {
                for (int which = 0; which < 2; which++) {
                    Thread.sleep(ThreadLocalRandom.current().nextInt(1, 20));
                    ask(base + call(id, which));
                }
            }),
            Map.entry("small-pool", pooled(base)),
            Map.entry("fan-out", id -> all(IntStream.range(0, 5).mapToObj(which -> fan.submit(asking(base + call(id, which)))).toArray(Future[]::new))),
            Map.entry("supply", id -> CompletableFuture.supplyAsync(() -> quietly(direct, id)).get()),
            Map.entry("worker", id -> workers.submit(asking(base + call(id, 0))).get()),
            Map.entry("invoke-all", id -> workers.invokeAll(IntStream.range(0, 5).mapToObj(which -> asking(base + call(id, which))).toList())),
            Map.entry("saturated", id -> few.submit(asking(base + call(id, 0))).get()),
            Map.entry("forgotten", id -> {
                few.submit(asking(base + call(id, 0)));
                ask(base + call(id, 1));
            }),
            Map.entry("outlived", id -> {
                // Half are answered before it is their turn.
                var asked = few.submit(asking(base + call(id, 0)));
                if (Integer.parseInt(id) % 2 == 0) asked.get();
            }),
            Map.entry("lent", id -> {
                // Requests and workers take connections from one small pool, and hand them on to who waits.
                lent.acquire();
                try {
                    ask(base + call(id, 0));
                } finally {
                    lent.release();
                }
                workers.submit(() -> {
                    lent.acquire();
                    try {
                        ask(base + call(id, 1));
                    } finally {
                        lent.release();
                    }
                    return null;
                }).get();
            }),
            Map.entry("held", id -> {
                // Others' tasks hold what this one waits for, over their calls.
                var asked = workers.submit(() -> {
                    synchronized (held) {
                        ask(base + call(id, 0));
                    }
                    return null;
                });
                synchronized (held) {
                    Thread.yield();
                }
                asked.get();
            }),
            Map.entry("queued", id -> {
                // One thread takes what all put there, and lets them go on.
                var done = new CompletableFuture<Void>();
                queue.add(() -> {
                    quietly(direct, id);
                    done.complete(null);
                });
                done.get();
            }),
            Map.entry("late", id -> later.schedule(asking(base + call(id, 0)), 20, TimeUnit.MILLISECONDS)),
            Map.entry("client", id -> check(http.send(request(base, id), HttpResponse.BodyHandlers.ofString()).statusCode())),
            Map.entry("client-async", id -> check(http.sendAsync(request(base, id), HttpResponse.BodyHandlers.ofString()).get().statusCode())),
            Map.entry("redis", keys(redis)),
            Map.entry("sql", queries(postgres)));
    }

    /** A thread of the program's own that does what others put into a queue. */
    static void work(LinkedBlockingQueue<Runnable> queue) {
        var worker = new Thread(() -> {
            while (true) {
                try {
                    queue.take().run();
                } catch (InterruptedException over) {
                    return;
                }
            }
        });
        worker.setDaemon(true);
        worker.start();
    }

    /** How a call says for which request it is made. */
    static String call(String id, int which) {
        return "call-" + id + "-" + which;
    }

    static Callable<Void> asking(String url) {
        return () -> {
            ask(url);
            return null;
        };
    }

    static void all(Future<?>[] calls) throws Exception {
        for (var one : calls) one.get();
    }

    static Void quietly(Caller made, String id) {
        try {
            made.calls(id);
            return null;
        } catch (Exception error) {
            throw new RuntimeException(error);
        }
    }

    static void ask(String url) throws IOException {
        var connection = (HttpURLConnection) URI.create(url).toURL().openConnection();
        check(connection.getResponseCode());
        try (var body = connection.getInputStream()) {
            body.transferTo(OutputStream.nullOutputStream());
        }
    }

    static void check(int status) {
        if (status != 200) throw new IllegalStateException("status " + status);
    }

    static HttpRequest request(String base, String id) {
        return HttpRequest.newBuilder(URI.create(base + call(id, 0))).build();
    }

    /** One call, by Apache's client, for whose connections requests wait. */
    static Caller pooled(String base) {
        var connections = PoolingHttpClientConnectionManagerBuilder.create().setMaxConnTotal(POOL).setMaxConnPerRoute(POOL).build();
        var client = HttpClients.custom().setConnectionManager(connections).build();
        return id -> check(client.execute(new HttpGet(base + call(id, 0)), answer -> {
            EntityUtils.consume(answer.getEntity());
            return answer.getCode();
        }));
    }

    /** Asks Redis twice, one after the other. */
    static Caller keys(String port) {
        if (port.equals("0")) return id -> {};
        var config = new ConnectionPoolConfig();
        config.setMaxTotal(POOL);
        var redis = new JedisPooled(config, "127.0.0.1", Integer.parseInt(port));
        return id -> {
            for (int which = 0; which < 2; which++) redis.get(call(id, which));
        };
    }

    /** Asks PostgreSQL once. */
    static Caller queries(String port) {
        if (port.equals("0")) return id -> {};
        var config = new HikariConfig();
        config.setJdbcUrl("jdbc:postgresql://127.0.0.1:" + port + "/shop?user=app&sslmode=disable");
        config.setMaximumPoolSize(POOL);
        var database = new HikariDataSource(config);
        return id -> {
            try (var connection = database.getConnection(); var statement = connection.createStatement()) {
                statement.executeQuery("SELECT '" + call(id, 0) + "'").next();
            }
        };
    }

    /** Calls for a request of this path; gives the answer's status. */
    static int serve(Map<String, Caller> shapes, String path) {
        var parts = path.split("/");
        try {
            shapes.get(parts[1]).calls(parts[2]);
            return 200;
        } catch (Exception error) {
            error.printStackTrace();
            return 502;
        }
    }

    static final byte[] ANSWER = "front\n".getBytes();

    static void jdk(int port, Map<String, Caller> shapes, ExecutorService threads) throws IOException {
        var server = HttpServer.create(new InetSocketAddress("127.0.0.1", port), 256);
        server.setExecutor(threads);
        server.createContext("/", exchange -> {
            int status = serve(shapes, exchange.getRequestURI().getPath());
            exchange.sendResponseHeaders(status, ANSWER.length);
            exchange.getResponseBody().write(ANSWER);
            exchange.close();
        });
        server.start();
    }

    /** A thread for each request that is none of the kernel's, since Java 21. */
    static ExecutorService virtual() throws ReflectiveOperationException {
        return (ExecutorService) Executors.class.getMethod("newVirtualThreadPerTaskExecutor").invoke(null);
    }

    static void tomcat(int port, Map<String, Caller> shapes) throws Exception {
        var tomcat = new Tomcat();
        tomcat.setBaseDir(Files.createTempDirectory("tomcat").toString());
        tomcat.setPort(port);
        tomcat.getConnector().setProperty("address", "127.0.0.1");
        tomcat.getConnector().setProperty("maxThreads", String.valueOf(SERVERS));
        var context = tomcat.addContext("", null);
        Tomcat.addServlet(context, "front", new HttpServlet() {
            @Override
            protected void doGet(HttpServletRequest request, HttpServletResponse response) throws IOException {
                response.setStatus(serve(shapes, request.getRequestURI()));
                response.setContentLength(ANSWER.length);
                response.getOutputStream().write(ANSWER);
            }
        });
        context.addServletMappingDecoded("/*", "front");
        tomcat.start();
        tomcat.getServer().await();
    }

    static void jetty(int port, Map<String, Caller> shapes) throws Exception {
        var server = new Server();
        var connector = new ServerConnector(server);
        connector.setHost("127.0.0.1");
        connector.setPort(port);
        server.addConnector(connector);
        server.setHandler(new Handler.Abstract() {
            @Override
            public boolean handle(Request request, Response response, Callback callback) {
                response.setStatus(serve(shapes, Request.getPathInContext(request)));
                response.write(true, ByteBuffer.wrap(ANSWER), callback);
                return true;
            }
        });
        server.start();
        server.join();
    }
}
