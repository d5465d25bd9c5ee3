import java.util.Scanner;
import redis.clients.jedis.Jedis;
import redis.clients.jedis.exceptions.JedisDataException;

/** Jedis: connects to a port, does its list once a line is read. */
public class JedisClient {
    public static void main(String[] args) {
        try (Jedis client = new Jedis("127.0.0.1", Integer.parseInt(args[0]))) {
            client.ping();
            System.out.println("ready");
            Scanner lines = new Scanner(System.in);
            lines.nextLine();
            client.set("k", "v");
            client.get("k");
            client.get("none");
            client.hset("h", "field", "x".repeat(200_000));
            client.hgetAll("h");
            try {
                client.incr("k");
            } catch (JedisDataException expected) {
                // It is no number.
            }
            var pipeline = client.pipelined();
            pipeline.set("a", "1");
            pipeline.get("a");
            pipeline.del("a");
            pipeline.sync();
            var transaction = client.multi();
            transaction.set("a", "1");
            transaction.incrBy("a", 1);
            transaction.exec();
            System.out.println("done");
            lines.nextLine();
        }
    }
}
