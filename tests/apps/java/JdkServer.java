import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.io.OutputStream;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.util.Arrays;
import java.util.concurrent.Executors;

/** JdkServer PORT: a server on the JDK's own HttpServer. */
public class JdkServer {
    public static void main(String[] args) throws IOException {
        var address = new InetSocketAddress(InetAddress.getLoopbackAddress(), Integer.parseInt(args[0]));
        var server = HttpServer.create(address, 0);
        server.createContext("/", JdkServer::serve);
        server.setExecutor(Executors.newFixedThreadPool(4));
        server.start();
    }

    static void serve(HttpExchange exchange) throws IOException {
        String[] parts = exchange.getRequestURI().getPath().split("/");
        long count = exchange.getRequestBody().transferTo(OutputStream.nullOutputStream());
        int number = parts.length > 3 ? Integer.parseInt(parts[2]) : 0;
        switch (parts[1]) {
            case "bytes" -> answer(exchange, 200, number);
            case "chunked" -> {
                exchange.sendResponseHeaders(200, 0);
                exchange.getResponseBody().write(fill(number));
            }
            case "upload" -> answer(exchange, 201, ("received " + count + "\n").length());
            case "item" -> answer(exchange, 204, 0);
            case "status" -> {
                if (number == 301) exchange.getResponseHeaders().set("Location", "/bytes/0/1");
                answer(exchange, number, number == 204 ? 0 : 11);
            }
            case "slow" -> {
                try {
                    Thread.sleep(number);
                } catch (InterruptedException e) {
                    Thread.currentThread().interrupt();
                }
                answer(exchange, 200, 5);
            }
            default -> answer(exchange, 404, 3);
        }
        exchange.close();
    }

    static void answer(HttpExchange exchange, int status, int size) throws IOException {
        if (exchange.getRequestMethod().equals("HEAD")) {
            exchange.getResponseHeaders().set("Content-Length", Integer.toString(size));
            exchange.sendResponseHeaders(status, -1);
            return;
        }
        exchange.sendResponseHeaders(status, size == 0 ? -1 : size);
        if (size > 0) exchange.getResponseBody().write(fill(size));
    }

    static byte[] fill(int size) {
        byte[] bytes = new byte[size];
        Arrays.fill(bytes, (byte) 'x');
        return bytes;
    }
}
