//! The shop: a database that a reader believes, and what makes it a target of dbgate.
//!
//! No row is anybody's: names come from word lists, addresses and numbers from ranges that are
//! reserved for examples.

use tokio_postgres::Client;

use crate::core::encoding::base64;
use crate::core::role_sql::{self, PrepareTarget};
use crate::core::secret::Secret;
use crate::core::wire::scram::Verifier;
use crate::sys::random;

/// Tables and rows, in one script that takes about two seconds.
pub const SHOP: &str = include_str!("shop.sql");
/// What is sensitive in the shop, for the policy folder.
pub const CLASSIFICATION: &str = include_str!("classification.toml");

/// The database of the shop.
pub const DATABASE: &str = "shop";
/// PostgreSQL's own number of rounds.
const SCRAM_ROUNDS: u32 = 4096;

/// Fills an empty database and prepares it as a target.
///
/// # Errors
/// What PostgreSQL says.
pub async fn load(client: &Client, broker_password: &Secret) -> Result<(), tokio_postgres::Error> {
    client.batch_execute(SHOP).await?;
    // The same SQL that `dbgate target init` prints.
    let prepare =
        PrepareTarget { broker: role_sql::BROKER, database: DATABASE, schemas: &["public".to_owned()], lend: &[] };
    client.batch_execute(&role_sql::prepare_target(&prepare).join(";\n")).await?;
    // A verifier is no password: nothing that could be used reaches the server's log.
    let verifier = Verifier::derive(broker_password, &random::bytes::<16>(), SCRAM_ROUNDS);
    client.batch_execute(&format!("alter role {} password '{verifier}'", role_sql::BROKER)).await
}

/// How many rows each table of the shop holds, largest first.
///
/// # Errors
/// What PostgreSQL says.
pub async fn counts(client: &Client) -> Result<Vec<(String, i64)>, tokio_postgres::Error> {
    let mut counts = Vec::new();
    for table in ["orders", "payments", "customers", "tickets", "employees"] {
        let row = client.query_one(&format!("select count(*) from public.{table}"), &[]).await?;
        counts.push((table.to_owned(), row.try_get(0)?));
    }
    Ok(counts)
}

/// A random password in an alphabet that needs no quoting.
pub fn password() -> Secret {
    Secret::new(base64(&random::bytes::<24>()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::postgres::{Cluster, Installation, Settings};

    #[tokio::test]
    async fn the_shop_holds_some_hundred_thousand_rows_and_nobodys_data() {
        let installation = Installation::find().expect("PostgreSQL is installed for the tests");
        let cluster = Cluster::start(&installation, "test", &Settings::default()).expect("it starts");
        let (first, connection) =
            cluster.superuser("postgres").connect(tokio_postgres::NoTls).await.expect("the superuser gets in");
        tokio::spawn(connection);
        first.batch_execute(&format!("create database {DATABASE}")).await.expect("made");
        let (client, connection) =
            cluster.superuser(DATABASE).connect(tokio_postgres::NoTls).await.expect("the superuser gets in");
        tokio::spawn(connection);
        let broker_password = password();
        load(&client, &broker_password).await.expect("it loads");
        let total: i64 = counts(&client).await.expect("counted").iter().map(|(_, rows)| rows).sum();
        assert!((100_000..200_000).contains(&total), "{total}");

        let strays = "select count(*) from customers where email !~ '@example[.](com|org|net)$' or ssn !~ '^9' \
                      or phone !~ ' 555 01[0-9][0-9]$'";
        assert_eq!(client.query_one(strays, &[]).await.expect("asked").get::<_, i64>(0), 0);
        // The walk tells a story about half the customers.
        let half = "select count(*) filter (where status = 'dormant') * 100 / count(*) from customers";
        assert!((45..55).contains(&client.query_one(half, &[]).await.expect("asked").get::<_, i64>(0)));

        let mut broker = cluster.superuser(DATABASE);
        broker.user(role_sql::BROKER).password(broker_password.expose());
        let (broker, connection) = broker.connect(tokio_postgres::NoTls).await.expect("the broker gets in");
        tokio::spawn(connection);
        let role = "select rolsuper from pg_roles where rolname = current_user";
        assert!(!broker.query_one(role, &[]).await.expect("asked").get::<_, bool>(0));
    }
}
