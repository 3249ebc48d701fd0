//! The way from the gate to the target: TLS with verified chain and name, or none at all.

use dbgate::core::grant::Access;
use dbgate::core::secret::Secret;
use dbgate::demo::postgres::{Cluster, Installation, Settings};
use dbgate::sys::dial::{Connection, Dial, DialError, Tls};
use dbgate::sys::tls;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio_postgres::NoTls;

use crate::support::dbgate::{Program, feed, said};
use crate::support::gate::{Gate, Place, SHOP, cluster, column, prepared, superuser};

/// An authority: its certificate, and what a server needs that it has signed for.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn make() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("signed");
        Self { pem: certificate.pem(), issuer: Issuer::new(params, key) }
    }

    /// Certificate and key for a name.
    fn sign(&self, name: &str) -> (String, String) {
        let params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        let key = KeyPair::generate().expect("a key");
        (params.signed_by(&key, &self.issuer).expect("signed").pem(), key.serialize_pem())
    }
}

/// A PostgreSQL that shows this certificate.
fn server(certificate: String, key: String) -> Cluster {
    let installation = Installation::find().expect("PostgreSQL server programs");
    let files = vec![("server.crt".to_owned(), Secret::new(certificate)), ("server.key".to_owned(), Secret::new(key))];
    let parameter = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let parameters = vec![
        parameter("ssl", "on"),
        parameter("ssl_cert_file", "../server.crt"),
        parameter("ssl_key_file", "../server.key"),
    ];
    Cluster::start(&installation, "tls", &Settings { parameters, files, ..Settings::default() }).expect("a cluster")
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_target_that_proves_its_name_is_spoken_to() {
    let (ours, other) = (Authority::make(), Authority::make());
    let (certificate, key) = ours.sign("localhost");
    let target = server(certificate, key);
    let (client, connection) = target.superuser("postgres").connect(NoTls).await.expect("the superuser gets in");
    tokio::spawn(connection);
    client.batch_execute("create database shop").await.expect("database");
    let place = Place {
        cluster: &target,
        database: "shop".into(),
        sql: SHOP,
        target: "demo",
        policy: &[("classification.toml", "")],
    };
    let folder = prepared(&place, "http://127.0.0.1:1", "").await;
    let (right, wrong) = (folder.join("ours.pem"), folder.join("other.pem"));
    std::fs::write(&right, &ours.pem).expect("written");
    std::fs::write(&wrong, &other.pem).expect("written");
    let file = folder.join("server.toml");
    let plain = std::fs::read_to_string(&file).expect("server.toml");
    let (host, mode) = ("host=127.0.0.1", "sslmode=disable");

    // The right authority and name: the broker's connections and the session's are encrypted.
    let verified = |host_as: &str, root: &std::path::Path| {
        plain.replace(host, host_as).replace(mode, &format!("sslmode=verify-full sslrootcert={}", root.display()))
    };
    std::fs::write(&file, verified("host=localhost", &right)).expect("server.toml");
    let gate = Gate::of(folder.clone(), &place).await;
    let session = gate.connect(&gate.grant(Access::Read).await).await;
    assert_eq!(column(&session, "select count(*) from orders").await.expect("reads"), ["3000"]);
    let sql =
        "select usename::text, ssl from pg_stat_ssl join pg_stat_activity using (pid) where usename like 'dbgate%'";
    let backends = client.query(sql, &[]).await.expect("backends");
    assert!(backends.iter().any(|row| row.get::<_, String>(0).starts_with("dbgate_u_")), "{backends:?}");
    assert!(backends.iter().all(|row| row.get::<_, bool>(1)), "{backends:?}");
    drop(session);
    gate.running.stop().await;

    // Another authority, then a name that the certificate does not have.
    for text in [verified("host=localhost", &wrong), verified(host, &right)] {
        std::fs::write(&file, text).expect("server.toml");
        let gate = Gate::of(folder.clone(), &place).await;
        let refused = gate.ask("ana@example.com", Access::Read, 600).await.expect_err("no grant");
        assert_eq!(refused.to_string(), "the broker is up, but target `demo` cannot be used as it is set up");
        gate.running.stop().await;
        // Whoever sets the target up is told why.
        let (file, dsn) = (file.display().to_string(), folder.join("superuser").display().to_string());
        let arguments = ["target", "init", "demo", "--config", &file, "--apply", "--superuser-dsn-file", &dsn];
        let output = feed(Program::new().command(&arguments), "").await;
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        assert!(said(&output).contains("certificate") && said(&output).contains("target `demo`"), "{}", said(&output));
    }

    // The session's own connection is refused alike.
    let password = target.password().clone();
    let dial = |host: &'static str, port: u16, root: &str| {
        let (tls, password) = (Tls::Verified(tls::client(Some(root)).expect("a root")), password.clone());
        async move {
            let deadline = std::time::Duration::from_secs(10);
            let (database, user) = ("postgres", "postgres");
            let dial = Dial { host, port, database, user, password: &password, tls, parameters: &[], deadline };
            Connection::open(&dial).await.map(drop)
        }
    };
    dial("localhost", target.port(), &ours.pem).await.expect("ours");
    assert!(matches!(dial("localhost", target.port(), &other.pem).await, Err(DialError::Tls(_))));
    assert!(matches!(dial("127.0.0.1", target.port(), &ours.pem).await, Err(DialError::Tls(_))));
    // A server without TLS is not spoken to in clear text instead.
    superuser("postgres").await;
    assert!(matches!(dial("localhost", cluster().port(), &ours.pem).await, Err(DialError::NoTls)));
    std::fs::remove_dir_all(&folder).expect("folder");
}
