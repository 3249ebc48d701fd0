//! `dbgate policy explain` and `show-scope`: what somebody gets in a target, and by which rules.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::cli::configured::Configured;
use crate::cli::exit::{Exit, Failure};
use crate::cli::whoami::Form;
use crate::core::grant::Access;
use crate::core::identity::{Identity, Kind};
use crate::core::policy::explain::{Explanation, Seen};
use crate::core::policy::{Denial, Policy, Subject, explain};
use crate::core::role_sql::{self, Grantable};
use crate::core::scope::catalog::{Catalog, Relation, RelationKind};
use crate::core::scope::{RelationName, Scope, Untold, compile};
use crate::core::statement::grammar;
use crate::core::text::escape;
use crate::core::time::Moment;
use crate::server::catalog;
use crate::server::check::Check;
use crate::server::http::refusal::chain;

/// Who asks, and where.
#[derive(Clone, Debug, clap::Args)]
pub struct Whom {
    /// Target, as named in the configuration
    #[arg(long)]
    pub target: String,
    /// Whose rights: a user, and the groups they are in
    #[arg(long = "as", value_name = "USER[,GROUP...]")]
    pub principal: String,
    /// What kind of principal that is: human, agent or workload
    #[arg(long, default_value = "human", value_parser = kind)]
    pub kind: Kind,
    /// How far the session may go: read, write or admin
    #[arg(long, default_value = "read")]
    pub access: Access,
    /// Program that the session says it acts through
    #[arg(long)]
    pub agent: Option<String>,
    /// Reason that is given for the session
    #[arg(long)]
    pub reason: Option<String>,
    /// Ticket that is given for the session
    #[arg(long)]
    pub ticket: Option<String>,
    /// Configuration file
    #[arg(long, value_name = "FILE", default_value = "/etc/dbgate/server.toml")]
    pub config: PathBuf,
    /// File with `user=… password=…` of a superuser (mode 0600); without it, the broker asks
    #[arg(long, value_name = "FILE")]
    pub superuser_dsn_file: Option<PathBuf>,
}

#[derive(Clone, Debug, clap::Args)]
pub struct ExplainArguments {
    /// Relation or column, as schema.relation or schema.relation.column; none: every relation
    #[arg(conflicts_with = "sql")]
    pub object: Option<String>,
    /// Statements to judge; they are not run
    #[arg(short = 'c', value_name = "SQL")]
    pub sql: Option<String>,
    #[command(flatten)]
    pub whom: Whom,
}

#[derive(Clone, Debug, clap::Args)]
pub struct ShowScopeArguments {
    #[command(flatten)]
    pub whom: Whom,
    /// Print the canonical document byte for byte: its SHA-256 is the digest
    #[arg(long)]
    pub canonical: bool,
}

fn kind(text: &str) -> Result<Kind, String> {
    let kinds = [Kind::Human, Kind::Agent, Kind::Workload];
    kinds.into_iter().find(|kind| kind.word() == text).ok_or_else(|| "one of: human, agent, workload".to_owned())
}

/// Everything that an answer is read from.
struct Known {
    place: Configured,
    policy: Policy,
    identity: Identity,
    catalog: Catalog,
}

impl Known {
    async fn read(whom: &Whom) -> Result<Self, Failure> {
        let place = Configured::find(&whom.config, &whom.target)?;
        let policy = place.policy()?;
        let client = place.client(whom.superuser_dsn_file.as_deref(), "dbgate policy explain").await?;
        let catalog = catalog::read(&client, place.target.database()).await;
        let catalog = catalog.map_err(|error| Failure::new(Exit::Sql, chain(&error)))?;
        let mut names = whom.principal.split(',').map(str::to_owned);
        let user = names.next().unwrap_or_default();
        let identity = Identity {
            kind: whom.kind,
            sub: user.clone(),
            subject: user,
            issuer: place.config.sign_in().map(|section| section.rule.issuer.clone()).unwrap_or_default(),
            groups: names.collect(),
            expires: Moment::from_seconds(0),
        };
        Ok(Self { place, policy, identity, catalog })
    }

    fn subject<'a>(&'a self, whom: &'a Whom) -> Subject<'a> {
        let config = self.place.target.config();
        Subject {
            identity: &self.identity,
            target: &config.name,
            environment: &config.environment,
            database: &self.catalog.database,
            access: whom.access,
            agent: whom.agent.as_deref(),
            reason: whom.reason.as_deref(),
            ticket: whom.ticket.as_deref(),
        }
    }
}

/// Explains statements, a relation, a column, or everything there is.
pub async fn run(arguments: &ExplainArguments, form: Form) -> Result<Exit, Failure> {
    let known = Known::read(&arguments.whom).await?;
    let subject = known.subject(&arguments.whom);
    let scope = compile::compile(&known.policy, &subject, &known.catalog);
    let connect = known.policy.may_connect(&subject).err();
    let mut answer = json!({
        "schema": "dbgate.policy-explain/1",
        "target": arguments.whom.target,
        "database": known.catalog.database,
        "principal": {"kind": known.identity.kind, "subject": known.identity.subject, "groups": known.identity.groups},
        "access": arguments.whom.access,
        "policy": known.policy.digest(),
        "scope": scope.digest(),
        "connect": {"verdict": if connect.is_none() { "allow" } else { "deny" }, "denial": connect},
    });
    let told = match &arguments.sql {
        Some(sql) => {
            let (value, told) = statements(&known, subject, &scope, sql)?;
            put(&mut answer, "statements", value);
            told
        }
        None => {
            let found = relations(&known, &subject, &scope, arguments.object.as_deref())?;
            let listed: Vec<Value> = found.iter().map(|(explanation, _, sql)| with_sql(explanation, sql)).collect();
            put(&mut answer, "relations", json!(listed));
            found.iter().map(|(explanation, column, sql)| as_text(explanation, column.as_deref(), sql)).collect()
        }
    };
    match form {
        Form::Json => println!("{answer:#}"),
        Form::Text => {
            if let Some(denial) = &connect {
                println!("no session: {} (rule {})", escape(&denial.message), denial.rule);
            }
            print!("{told}");
        }
    }
    Ok(Exit::Ok)
}

fn put(answer: &mut Value, name: &str, value: Value) {
    if let Some(members) = answer.as_object_mut() {
        members.insert(name.to_owned(), value);
    }
}

/// A relation's explanation, the one column that was asked for, and the SQL it comes to.
type Told = (Explanation, Option<String>, Vec<String>);

fn relations(known: &Known, subject: &Subject<'_>, scope: &Scope, object: Option<&str>) -> Result<Vec<Told>, Failure> {
    let names: Vec<(RelationName, Option<String>)> = match object {
        None => known.catalog.relations.keys().map(|name| (name.clone(), None)).collect(),
        Some(object) => {
            // A name may hold dots: every way to read it is tried.
            let fits = |name: &RelationName| {
                let full = name.to_string();
                match object.strip_prefix(&full) {
                    Some("") => Some((name.clone(), None)),
                    Some(rest) => rest.strip_prefix('.').map(|column| (name.clone(), Some(column.to_owned()))),
                    None => None,
                }
            };
            known.catalog.relations.keys().filter_map(fits).collect()
        }
    };
    let explained: Vec<Told> = names
        .into_iter()
        .filter_map(|(name, column)| {
            let explanation = explain::relation(&known.policy, subject, &known.catalog, scope, &name)?;
            let is_there = |column: &String| explanation.columns.iter().any(|one| one.name == *column);
            if column.as_ref().is_some_and(|column| !is_there(column)) {
                return None;
            }
            Some((explanation, column, sql_of(&only(scope, &name), &known.catalog).split_off(3)))
        })
        .collect();
    match (object, explained.is_empty()) {
        (Some(object), true) => {
            Err(Failure::new(Exit::Usage, format!("`{object}` is not in database `{}`", known.catalog.database))
                .hint("Write it as schema.relation or schema.relation.column"))
        }
        _ => Ok(explained),
    }
}

/// The same scope as far as one relation goes.
fn only(scope: &Scope, name: &RelationName) -> Scope {
    let (mut relations, mut withheld) = (scope.relations.clone(), scope.withheld.clone());
    relations.retain(|one, _| one == name);
    withheld.retain(|one, _| one == name);
    Scope { relations, withheld, ..scope.clone() }
}

/// What the target is told for a scope: three statements make the role, the rest is its rights.
fn sql_of(scope: &Scope, catalog: &Catalog) -> Vec<String> {
    let digest = scope.digest();
    let role = role_sql::scope_role(&digest);
    let sequences = scope.relations.values().flat_map(|relation| &relation.sequences);
    let relations: BTreeSet<u32> = scope.relations.values().map(|relation| relation.oid).collect();
    let is_stored = |relation: &&Relation| {
        matches!(relation.kind, RelationKind::Table | RelationKind::Partitioned | RelationKind::MaterializedView)
    };
    let grantable = Grantable {
        stored: catalog.relations.values().filter(is_stored).map(|relation| relation.oid).collect(),
        known: relations.clone(),
        relations,
        withheld: scope.withheld.keys().cloned().collect(),
        sequences: sequences.map(|(schema, name)| RelationName::new(schema, name)).collect(),
    };
    let mut sql = role_sql::make_scope(&digest, &scope.database, catalog.server_version);
    sql.extend(role_sql::grant_scope(&role, scope, &grantable));
    sql.extend(role_sql::make_views(&role, scope, &grantable).into_iter().map(|step| step.sql));
    sql
}

fn with_sql(explanation: &Explanation, sql: &[String]) -> Value {
    let mut value = json!(explanation);
    put(&mut value, "sql", json!(sql));
    value
}

fn as_text(explanation: &Explanation, column: Option<&str>, sql: &[String]) -> String {
    let by = |rules: &[String]| if rules.is_empty() { "no rule permits it".to_owned() } else { rules.join(", ") };
    let mut text = format!("{}\n", escape(&explanation.relation));
    if let Some(reason) = &explanation.withheld {
        text += &format!("  withheld: {}\n", escape(reason));
    }
    if let Some(filter) = &explanation.filter {
        text += &format!("  rows where {}\n", escape(filter));
    }
    if column.is_none() {
        for action in &explanation.actions {
            let word = if action.granted { "granted" } else { "not granted" };
            text += &format!("  {:<8} {word:<12} {}\n", action.action, by(&action.rules));
            action.untold.iter().for_each(|one| text += &format!("    {}\n", escape(&untold(one))));
        }
    }
    for one in explanation.columns.iter().filter(|one| column.is_none_or(|column| one.name == column)) {
        let seen = match (&one.seen, &one.mask) {
            (Seen::Clear, _) => "clear".to_owned(),
            (Seen::Hidden, _) => "hidden".to_owned(),
            (Seen::Masked, mask) => format!("masked as {}", mask.as_deref().unwrap_or("null")),
        };
        let tags = if one.tags.is_empty() { String::new() } else { format!("  tags {}", one.tags.join(", ")) };
        text += &format!("  .{:<20} {seen:<18} {}{tags}\n", escape(&one.name), by(&one.rules));
        one.lost.iter().for_each(|lost| text += &format!("    {}\n", escape(lost)));
    }
    if column.is_none() {
        sql.iter().for_each(|sql| text += &format!("    {};\n", escape(sql)));
    }
    text
}

/// Why a right is kept back, in words.
fn untold(one: &Untold) -> String {
    let what = one.column.as_ref().map_or_else(|| "none".to_owned(), |column| format!("not .{column}"));
    format!("{what}: {} would tell of {}  {}", one.constraint, one.of, one.rule)
}

fn statements(known: &Known, subject: Subject<'_>, scope: &Scope, sql: &str) -> Result<(Value, String), Failure> {
    let parsed = grammar::parse(sql).map_err(|error| Failure::new(Exit::Sql, error.to_string()))?;
    let check = Check {
        policy: &known.policy,
        subject,
        scope,
        catalog: &known.catalog,
        search_path: &["public".to_owned()],
        temporary: &[],
        has_own_views: false,
        known: &crate::server::check::Known::default(),
        lift: None,
    };
    let (mut values, mut text) = (Vec::new(), String::new());
    for statement in &parsed {
        let (verdict, denial, forward): (&str, Option<Denial>, Option<String>) = match check.plan(statement) {
            Ok(planned) => ("allow", None, Some(planned.forward)),
            Err(denial) if denial.approvers.is_some() => ("approval", Some(*denial), None),
            Err(denial) => ("deny", Some(*denial), None),
        };
        text += &format!("{verdict:<9} {}\n", escape(statement.text.trim()));
        if let Some(denial) = &denial {
            text += &format!("  {} (rule {})\n", escape(&denial.message), denial.rule);
            denial.hint.iter().for_each(|hint| text += &format!("  {}\n", escape(hint)));
        }
        if let Some(forward) = forward.as_ref().filter(|forward| forward.trim() != statement.text.trim()) {
            text += &format!("  runs as: {}\n", escape(forward.trim()));
        }
        values.push(
            json!({"statement": statement.text.trim(), "verdict": verdict, "denial": denial, "runs_as": forward}),
        );
    }
    Ok((json!(values), text))
}

/// Shows the whole scope.
pub async fn show_scope(arguments: &ShowScopeArguments, form: Form) -> Result<Exit, Failure> {
    let known = Known::read(&arguments.whom).await?;
    let subject = known.subject(&arguments.whom);
    let scope = compile::compile(&known.policy, &subject, &known.catalog);
    let digest = scope.digest();
    let failed = |error: serde_json::Error| Failure::new(Exit::Failed, error.to_string());
    if arguments.canonical {
        print!("{}", serde_json::to_string(&scope).map_err(failed)?);
        return Ok(Exit::Ok);
    }
    let sql = sql_of(&scope, &known.catalog);
    match form {
        Form::Json => println!(
            "{:#}",
            json!({
                "schema": "dbgate.scope/1",
                "target": arguments.whom.target,
                "digest": digest,
                "role": role_sql::scope_role(&digest),
                "policy": known.policy.digest(),
                "scope": serde_json::to_value(&scope).map_err(failed)?,
                "sql": sql,
            })
        ),
        Form::Text => {
            println!("digest  {digest}\nrole    {}\n", role_sql::scope_role(&digest));
            sql.iter().for_each(|sql| println!("{};", escape(sql)));
            for (name, reason) in &scope.withheld {
                println!("-- withheld: {}: {}", escape(&name.to_string()), escape(reason));
            }
        }
    }
    Ok(Exit::Ok)
}
