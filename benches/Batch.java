// One batch of rows for every line of standard input; says how many nanoseconds it took.
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.sql.*;

public class Batch {
    public static void main(String[] arguments) throws Exception {
        int rows = Integer.parseInt(arguments[3]);
        try (Connection connection = DriverManager.getConnection(arguments[0], arguments[1], arguments[2])) {
            connection.createStatement().execute(arguments[4]);
            connection.setAutoCommit(false);
            System.out.println("ready");
            BufferedReader turns = new BufferedReader(new InputStreamReader(System.in));
            while (turns.readLine() != null) {
                long began = System.nanoTime();
                try (PreparedStatement batch = connection.prepareStatement(arguments[5])) {
                    for (int n = 0; n < rows; n++) {
                        batch.setInt(1, n);
                        batch.setString(2, "value " + n);
                        batch.addBatch();
                    }
                    batch.executeBatch();
                }
                connection.commit();
                System.out.println(System.nanoTime() - began);
            }
        }
    }
}
