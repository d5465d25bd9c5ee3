import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.InputStreamReader;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublisher;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.util.Arrays;
import java.util.List;

/** JdkClient BASE [1.1]: one request per line read, on the JDK's own HttpClient. */
public class JdkClient {
    public static void main(String[] args) throws Exception {
        var builder = HttpClient.newBuilder().followRedirects(HttpClient.Redirect.NEVER);
        // By default it offers HTTP/2 in its first request on a connection (Upgrade: h2c).
        if (args.length > 1) builder.version(HttpClient.Version.HTTP_1_1);
        var client = builder.build();
        var in = new BufferedReader(new InputStreamReader(System.in));
        System.out.println("ready");
        for (String line; (line = in.readLine()) != null; ) {
            try {
                System.out.println(ask(client, args[0], line.split("\t")));
            } catch (Exception error) {
                System.out.println("error " + error);
            }
        }
        System.exit(0);
    }

    static String ask(HttpClient client, String base, String[] words) throws Exception {
        List<String> rest = Arrays.asList(words).subList(3, words.length);
        BodyPublisher body = BodyPublishers.noBody();
        if (!words[2].equals("-")) {
            byte[] bytes = new byte[Integer.parseInt(words[2])];
            Arrays.fill(bytes, (byte) 'x');
            body = rest.contains("chunked")
                ? BodyPublishers.ofInputStream(() -> new ByteArrayInputStream(bytes))
                : BodyPublishers.ofByteArray(bytes);
        }
        var request = HttpRequest.newBuilder(URI.create(base + words[1])).method(words[0], body);
        for (String word : rest) {
            int at = word.indexOf(": ");
            if (at > 0) request.header(word.substring(0, at), word.substring(at + 2));
        }
        var answer = client.send(request.build(), BodyHandlers.ofByteArray());
        return answer.statusCode() + " " + answer.body().length;
    }
}
