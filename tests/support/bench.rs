//! A database of the shared cluster, prepared for the broker, and just-in-time roles in it that are
//! asked directly, past the gateway.

use std::time::Duration;

use dbgate::core::grant::Access;
use dbgate::core::identity::{Identity, Kind};
use dbgate::core::policy::file::Source;
use dbgate::core::policy::{Policy, Subject, pack};
use dbgate::core::role_sql::{self, PrepareTarget};
use dbgate::core::scope::{Scope, compile};
use dbgate::core::secret::Secret;
use dbgate::core::time::Moment;
use dbgate::core::wire::scram::{ITERATIONS, Verifier};
use dbgate::demo::postgres::Cluster;
use dbgate::server::scopes::ScopeRole;
use dbgate::server::{catalog, roles};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use super::gate::{self, BROKER_PASSWORD, PREPARING};

/// A prepared database and the two connections that manage it.
pub struct Bench<'c> {
    pub cluster: &'c Cluster,
    pub database: String,
    pub superuser: Client,
    pub broker: Client,
    classification: String,
}

/// Connects over TCP with a password, as the gateway does.
pub async fn connect(
    cluster: &Cluster,
    user: &str,
    password: &str,
    database: &str,
) -> Result<Client, tokio_postgres::Error> {
    let mut config = tokio_postgres::Config::new();
    config.host(cluster.host()).port(cluster.port()).user(user).password(password).dbname(database);
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// Makes a database in the shared cluster and prepares it.
pub async fn bench(sql: &str, classification: &str) -> Bench<'static> {
    bench_on(gate::cluster(), sql, classification).await
}

/// The same in any cluster.
pub async fn bench_on<'c>(cluster: &'c Cluster, sql: &str, classification: &str) -> Bench<'c> {
    let database = format!("rights_{}", dbgate::core::encoding::hex(&dbgate::sys::random::bytes::<6>()));
    let _one_at_a_time = PREPARING.lock().await;
    let create = format!("create database {database}");
    superuser(cluster, "postgres").await.batch_execute(&create).await.expect("a database");
    let superuser = superuser(cluster, &database).await;
    superuser.batch_execute(sql).await.expect("a shop");
    let schemas = superuser.query(role_sql::OWN_SCHEMAS, &[]).await.expect("schemas");
    let schemas: Vec<String> = schemas.iter().map(|row| row.get(0)).collect();
    let prepare = PrepareTarget { broker: role_sql::BROKER, database: &database, schemas: &schemas, lend: &[] };
    let prepared = role_sql::prepare_target(&prepare);
    superuser.batch_execute(&prepared.join(";\n")).await.expect("prepared");
    superuser.batch_execute(&prepared.join(";\n")).await.expect("preparing again changes nothing");
    let password = format!("alter role dbgate_broker password '{BROKER_PASSWORD}'");
    superuser.batch_execute(&password).await.expect("a password");
    let broker = connect(cluster, role_sql::BROKER, BROKER_PASSWORD, &database).await.expect("broker");
    Bench { cluster, database, superuser, broker, classification: classification.to_owned() }
}

async fn superuser(cluster: &Cluster, database: &str) -> Client {
    let (client, connection) = cluster.superuser(database).connect(NoTls).await.expect("superuser connects");
    tokio::spawn(connection);
    client
}

/// A person of these groups.
pub fn somebody(subject: &str, groups: &[&str]) -> Identity {
    Identity {
        kind: Kind::Human,
        subject: subject.into(),
        sub: subject.into(),
        issuer: "https://id.acme.io".into(),
        groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        expires: Moment::from_seconds(0),
    }
}

impl Bench<'_> {
    /// The scope of one of the engineers under the pack `production` and more rules.
    pub async fn scope(&self, access: Access, extra: &str) -> Scope {
        let policy = self.policy(&[pack::rules("production").expect("pack"), vec![Source::new("extra.cedar", extra)]]);
        self.scope_of(&policy, &somebody("ana@acme.io", &["engineers"]), access).await
    }

    /// Rules with the classification of this database.
    pub fn policy(&self, rules: &[Vec<Source>]) -> Policy {
        let mut sources = rules.concat();
        sources.push(Source::new("classification.toml", &self.classification));
        Policy::parse(&sources).expect("a valid policy")
    }

    /// What a policy gives somebody.
    pub async fn scope_of(&self, policy: &Policy, identity: &Identity, access: Access) -> Scope {
        let subject = Subject {
            identity,
            target: "shop",
            environment: "production",
            database: &self.database,
            access,
            agent: None,
            reason: None,
            ticket: None,
        };
        let catalog = catalog::read(&self.broker, &self.database).await.expect("a catalog");
        assert!(policy.classification().unmatched(&catalog).is_empty());
        compile::compile(policy, &subject, &catalog)
    }

    /// Signs in past the gateway, as it does itself.
    pub async fn login(&self, scope: &ScopeRole, id: &str) -> (String, Result<Client, tokio_postgres::Error>) {
        let verifier = Verifier::derive(&Secret::new("pw"), b"sixteen bytes...", ITERATIONS).to_string();
        let until = dbgate::sys::clock::now().after(Duration::from_secs(600));
        // Roles are the cluster's: other tests, and earlier runs that failed, have theirs.
        let id = format!("{id}{}", dbgate::core::encoding::hex(&dbgate::sys::random::bytes::<4>()));
        let name = role_sql::login_name("ana@acme.io", &id);
        let purpose = roles::Purpose { name: &name, scope_role: scope, database: &self.database, valid_until: until };
        let before = roles::look(&self.broker, &name).await.expect("no role yet");
        roles::make_login(&self.broker, &purpose, &before, Some(&verifier)).await.expect("a login role");
        let client = connect(self.cluster, &name, "pw", &self.database).await;
        (name, client)
    }

    pub async fn count(&self, sql: &str) -> i64 {
        self.superuser.query_one(sql, &[]).await.expect("a count").get(0)
    }
}

/// Everything a statement answers, errors and notices' text included.
pub async fn answer(client: &Client, sql: &str) -> String {
    match client.simple_query(sql).await {
        Ok(messages) => {
            let rows = messages.iter().filter_map(|message| match message {
                SimpleQueryMessage::Row(row) => {
                    Some((0..row.len()).map(|at| row.get(at).unwrap_or("NULL")).collect::<Vec<_>>().join("|"))
                }
                _ => None,
            });
            rows.collect::<Vec<_>>().join("\n")
        }
        Err(error) => format!("{:?}", error.as_db_error().expect("PostgreSQL's own refusal")),
    }
}
