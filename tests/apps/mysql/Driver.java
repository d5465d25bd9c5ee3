// JDBC, told a URL.

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.sql.DriverManager;
import java.sql.ResultSet;
import java.sql.SQLException;

public class Driver {
    public static void main(String[] args) throws Exception {
        var input = new BufferedReader(new InputStreamReader(System.in));
        try (var link = DriverManager.getConnection(args[0], "app", "secret");
                var plain = link.createStatement()) {
            System.out.println("ready");
            input.readLine();
            all(plain.executeQuery("SELECT id, name FROM items WHERE id < 100"));
            try (var statement = link.prepareStatement("SELECT name FROM items WHERE id = ?")) {
                for (int id = 1; id <= 2; id++) {
                    statement.setInt(1, id);
                    all(statement.executeQuery());
                }
            }
            try (var statement = link.prepareStatement("INSERT INTO items(name) VALUES (?)")) {
                for (var name : new String[] {"a", "b", "c"}) {
                    statement.setString(1, name);
                    statement.addBatch();
                }
                statement.executeBatch();
            }
            try {
                plain.executeQuery("SELECT * FROM missing WHERE id = 4711");
                throw new IllegalStateException("found");
            } catch (SQLException error) {
                if (error.getErrorCode() != 1146) {
                    throw error;
                }
            }
            all(plain.executeQuery("SELECT seq, REPEAT('x', 20) FROM seq_1_to_1000"));
            link.isValid(5);
            link.setCatalog("other");
            all(plain.executeQuery("SELECT 'text' AS a"));
            System.out.println("done");
            input.readLine();
        }
    }

    private static void all(ResultSet rows) throws SQLException {
        while (rows.next()) {}
        rows.close();
    }
}
