import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.HttpURLConnection;
import java.net.InetSocketAddress;
import java.net.URI;
import java.util.concurrent.Executors;

/** Front.java PORT LEAF: answers a request once a pool's thread has been answered by the leaf. */
class Front {
    public static void main(String[] words) throws IOException {
        System.setProperty("http.maxConnections", "64");
        System.setProperty("sun.net.httpserver.nodelay", "true");
        var leaf = URI.create("http://127.0.0.1:" + words[1] + "/leaf/call-1-0").toURL();
        var pool = Executors.newFixedThreadPool(16);
        var address = new InetSocketAddress("127.0.0.1", Integer.parseInt(words[0]));
        var server = HttpServer.create(address, 128);
        server.setExecutor(Executors.newFixedThreadPool(16));
        server.createContext("/", exchange -> {
            var call = pool.submit(() -> {
                var connection = (HttpURLConnection) leaf.openConnection();
                try (var body = connection.getInputStream()) {
                    return body.readAllBytes();
                }
            });
            try {
                call.get();
            } catch (Exception e) {
                throw new IOException(e);
            }
            exchange.sendResponseHeaders(200, 6);
            exchange.getResponseBody().write("front\n".getBytes());
            exchange.close();
        });
        server.start();
    }
}
