// pgjdbc through the gate: server-side prepared statements, batches, fetch size, COPY, savepoints.
import java.io.StringReader;
import java.sql.*;
import java.util.Properties;
import org.postgresql.PGConnection;

public class Jdbc {
    public static void main(String[] arguments) throws Exception {
        Properties properties = new Properties();
        properties.setProperty("user", System.getenv("PGUSER"));
        properties.setProperty("password", System.getenv("GATE_PASSWORD"));
        properties.setProperty("sslmode", "verify-full");
        properties.setProperty("sslrootcert", System.getenv("PGSSLROOTCERT"));
        String url = "jdbc:postgresql://" + System.getenv("PGHOST") + ":" + System.getenv("PGPORT") + "/" + System.getenv("PGDATABASE");
        try (Connection connection = DriverManager.getConnection(url, properties)) {
            try (PreparedStatement one = connection.prepareStatement("select id, amount from orders where id = ?")) {
                for (int id = 1; id <= 20; id++) {
                    one.setInt(1, id);
                    ResultSet rows = one.executeQuery();
                    check(rows.next() && rows.getInt(1) == id);
                }
            }
            connection.setAutoCommit(false);
            try (PreparedStatement batch = connection.prepareStatement("insert into audit_trail (what) values (?)")) {
                for (int n = 0; n < 90; n++) {
                    batch.setString(1, "line " + n);
                    batch.addBatch();
                }
                check(batch.executeBatch().length == 90);
            }
            connection.commit();
            try (Statement many = connection.createStatement()) {
                many.setFetchSize(100);
                ResultSet rows = many.executeQuery("select id from orders order by id");
                int count = 0;
                while (rows.next()) count++;
                check(count == 3000);
            }
            Savepoint savepoint = connection.setSavepoint();
            try (Statement failing = connection.createStatement()) {
                failing.execute("select 1/0");
                check(false);
            } catch (SQLException error) {
                check(error.getSQLState().equals("22012"));
                connection.rollback(savepoint);
            }
            connection.unwrap(PGConnection.class).getCopyAPI().copyIn("copy audit_trail (what) from stdin", new StringReader("copied\n"));
            connection.commit();
            DatabaseMetaData about = connection.getMetaData();
            ResultSet keys = about.getPrimaryKeys(null, "public", "customers");
            check(keys.next() && keys.getString("COLUMN_NAME").equals("id"));
        }
        System.out.println("ok");
    }

    static void check(boolean holds) {
        if (!holds) throw new AssertionError();
    }
}
