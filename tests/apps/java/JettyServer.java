import java.io.OutputStream;
import java.nio.ByteBuffer;
import java.util.Arrays;
import org.eclipse.jetty.http.HttpHeader;
import org.eclipse.jetty.io.Content;
import org.eclipse.jetty.server.Handler;
import org.eclipse.jetty.server.Request;
import org.eclipse.jetty.server.Response;
import org.eclipse.jetty.server.Server;
import org.eclipse.jetty.server.ServerConnector;
import org.eclipse.jetty.util.Callback;

/** JettyServer PORT: a server on embedded Jetty. */
public class JettyServer {
    public static void main(String[] args) throws Exception {
        var server = new Server();
        var connector = new ServerConnector(server);
        connector.setHost("127.0.0.1");
        connector.setPort(Integer.parseInt(args[0]));
        server.addConnector(connector);
        server.setHandler(new Handler.Abstract() {
            @Override
            public boolean handle(Request request, Response response, Callback callback) throws Exception {
                serve(request, response);
                callback.succeeded();
                return true;
            }
        });
        server.start();
        server.join();
    }

    static void serve(Request request, Response response) throws Exception {
        String[] parts = request.getHttpURI().getPath().split("/");
        long count = Content.Source.asInputStream(request).transferTo(OutputStream.nullOutputStream());
        int number = parts.length > 3 ? Integer.parseInt(parts[2]) : 0;
        switch (parts[1]) {
            case "bytes" -> answer(request, response, 200, number);
            case "chunked" -> {
                Content.Sink.write(response, false, ByteBuffer.wrap(fill(number / 2)));
                Content.Sink.write(response, false, ByteBuffer.wrap(fill(number - number / 2)));
            }
            case "upload" -> answer(request, response, 201, ("received " + count + "\n").length());
            case "item" -> response.setStatus(204);
            case "status" -> {
                if (number == 301) response.getHeaders().put(HttpHeader.LOCATION, "/bytes/0/1");
                answer(request, response, number, number == 204 ? 0 : 11);
            }
            case "slow" -> {
                Thread.sleep(number);
                answer(request, response, 200, 5);
            }
            default -> answer(request, response, 404, 3);
        }
    }

    static void answer(Request request, Response response, int status, int size) throws Exception {
        response.setStatus(status);
        if (status == 204) return;
        response.getHeaders().put(HttpHeader.CONTENT_LENGTH, size);
        if (!request.getMethod().equals("HEAD")) {
            Content.Sink.write(response, true, ByteBuffer.wrap(fill(size)));
        }
    }

    static byte[] fill(int size) {
        byte[] bytes = new byte[size];
        Arrays.fill(bytes, (byte) 'x');
        return bytes;
    }
}
