import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;

/** pgjdbc: HOST PORT. */
public class WithJdbc {
    public static void main(String[] words) throws Exception {
        String url = "jdbc:postgresql://" + words[0] + ":" + words[1]
            + "/shop?user=app&sslmode=disable&assumeMinServerVersion=15";
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in));
        try (Connection db = DriverManager.getConnection(url)) {
            System.out.println("ready");
            in.readLine();
            go(db);
            System.out.println("done");
            in.readLine();
        }
    }

    static void go(Connection db) throws SQLException {
        update(db, "INSERT INTO items (id, name) VALUES (?, ?)", 101, "secret");
        try (PreparedStatement select = db.prepareStatement("SELECT name FROM items WHERE id = ?")) {
            for (int number : new int[] {101, 102}) {
                select.setInt(1, number);
                select.executeQuery().close();
            }
        }
        try {
            update(db, "SELECT * FROM nowhere WHERE a = ?", 1);
        } catch (SQLException expected) {
            // The point of it.
        }
        db.setAutoCommit(false);
        update(db, "UPDATE items SET name = ? WHERE id = ?", "secret", 101);
        db.commit();
        db.setAutoCommit(true);
        try (Statement many = db.createStatement()) {
            ResultSet rows = many.executeQuery("SELECT repeat('x', 200) FROM generate_series(1, 3000)");
            while (rows.next()) {
                rows.getString(1);
            }
        }
        try (PreparedStatement batch = db.prepareStatement("UPDATE items SET name = ? WHERE id = ?")) {
            for (int number = 1; number <= 3; number++) {
                batch.setString(1, "a");
                batch.setInt(2, number);
                batch.addBatch();
            }
            batch.executeBatch();
        }
    }

    static void update(Connection db, String text, Object... values) throws SQLException {
        try (PreparedStatement statement = db.prepareStatement(text)) {
            for (int at = 0; at < values.length; at++) {
                statement.setObject(at + 1, values[at]);
            }
            statement.executeUpdate();
        }
    }
}
