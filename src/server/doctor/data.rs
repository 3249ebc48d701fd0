//! Where classified values get to by ways that the classification does not follow: triggers, stored
//! copies, other servers; and columns that look sensitive and are in no entry.

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::Client;

use super::finding::{Finding, Severity};
use crate::core::policy::classification::Classification;
use crate::core::policy::guess::{self, Guessable};
use crate::core::policy::{Policy, suggest};
use crate::core::scope::RelationName;
use crate::core::scope::catalog::{Against, Catalog, Constraint, Relation, RelationKind};
use crate::server::targets::TargetConfig;

/// What may follow a write's verb in a function body.
const WRITES: [&str; 3] = ["insert into", "update", "merge into"];

/// A trigger and the body of its function.
struct Trigger {
    table: u32,
    name: String,
    function: String,
    language: String,
    body: String,
}

const TRIGGERS: &str = "select t.tgrelid, t.tgname::text, \
    format('%I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)), l.lanname::text, p.prosrc \
    from pg_trigger t join pg_proc p on p.oid = t.tgfoid join pg_namespace n on n.oid = p.pronamespace \
    join pg_language l on l.oid = p.prolang where not t.tgisinternal and t.tgenabled <> 'D' \
    and t.tgparentid = 0 and n.nspname <> 'pg_catalog' order by 3, 2";

/// Reads triggers, and looks at them and at every relation.
pub(super) async fn look(
    client: &Client,
    target: &TargetConfig,
    policy: &Policy,
    catalog: &Catalog,
) -> Result<Vec<Finding>, tokio_postgres::Error> {
    let classification = policy.classification();
    let rows = client.query(TRIGGERS, &[]).await?;
    let trigger = |row: &tokio_postgres::Row| -> Result<Trigger, tokio_postgres::Error> {
        Ok(Trigger {
            table: row.try_get(0)?,
            name: row.try_get(1)?,
            function: row.try_get(2)?,
            language: row.try_get(3)?,
            body: row.try_get(4)?,
        })
    };
    let triggers: Vec<Trigger> = rows.iter().map(trigger).collect::<Result<_, _>>()?;
    let sensitive = sensitive(classification, catalog);
    let mut findings = Vec::new();
    for trigger in &triggers {
        if let Some(table) = sensitive.get(&trigger.table) {
            findings.extend(talks(trigger, table, classification, catalog));
        }
    }
    findings.extend(copies(classification, catalog, &sensitive));
    findings.extend(policies(classification, &sensitive));
    findings.extend(unclassified(classification, catalog));
    let is_classified = |oid: u32| sensitive.contains_key(&oid);
    let found = guess::guessable(policy, &target.name, &target.environment, catalog, &is_classified);
    findings.extend(found.iter().map(guessed));
    Ok(findings)
}

/// No statement closes it; a rule that keeps back the rights to write that would tell does.
fn guessed(found: &Guessable) -> Finding {
    let Guessable { relation, column, by } = found;
    Finding {
        code: "unique_guess",
        severity: Severity::Weakness,
        object: format!("{relation}.{column}"),
        detail: by.iter().cloned().collect::<Vec<_>>().join(", "),
        why: "it is masked for somebody who may write what PostgreSQL holds against it, and whether the write goes \
              through tells something of it: values that can be guessed can be found out. A rule closes it, with \
              `unless` for those who may know"
            .to_owned(),
        sql: Vec::new(),
        lines: vec![
            format!("@id({:?})", format!("no-guessing-{relation}.{column}")),
            "forbid (principal, action == Action::\"guess\", resource)".to_owned(),
            format!(
                "when {{ resource.schema == {:?} && resource.relation == {:?} && resource.name == {column:?} }};",
                relation.schema, relation.name
            ),
        ],
    }
}

/// Relations with a tag of their own or on a column.
fn sensitive<'c>(classification: &Classification, catalog: &'c Catalog) -> BTreeMap<u32, &'c Relation> {
    let is_tagged = |relation: &Relation| {
        !classification.relation_tags(&relation.name).is_empty()
            || classification.column_tags(relation).iter().any(|tags| !tags.is_empty())
    };
    catalog.relations.values().filter(|relation| is_tagged(relation)).map(|relation| (relation.oid, relation)).collect()
}

/// What a trigger on a classified table does with the row besides keeping it. Its body is read as
/// text: what cannot be followed is told as such.
fn talks(trigger: &Trigger, table: &Relation, classification: &Classification, catalog: &Catalog) -> Vec<Finding> {
    let object = format!("{} on {}", trigger.name, table.name);
    let finding = |code, why: &str, lines: Vec<String>| Finding {
        code,
        severity: Severity::Hole,
        object: object.clone(),
        detail: trigger.function.clone(),
        why: why.to_owned(),
        sql: Vec::new(),
        lines,
    };
    if !matches!(trigger.language.as_str(), "plpgsql" | "sql") {
        let why = "its function cannot be read here, and it sees every classified value of the row";
        return vec![finding("trigger_unread", why, Vec::new())];
    }
    let body = plain(&trigger.body);
    let mut findings = Vec::new();
    let levels = ["notice", "info", "warning", "log", "debug"];
    let is_said = |level: &&str| body.contains(&format!("raise {level}"));
    if levels.iter().any(is_said) || body.contains("raise exception") && body.contains('%') {
        let why = "RAISE can show values of the row to whoever changes it: leave the values out of its text";
        findings.push(finding("trigger_says", why, Vec::new()));
    }
    if body.contains("pg_notify") || body.split([';', ' ']).any(|word| word == "notify") {
        let why = "LISTEN needs no right, so anybody connected hears what it sends: send keys, no values";
        findings.push(finding("trigger_notifies", why, Vec::new()));
    }
    if body.split([';', ' ']).any(|word| word == "execute") {
        let why = "it runs SQL that is put together as it runs, so where the values go cannot be followed";
        findings.push(finding("trigger_unread", why, Vec::new()));
    }
    for target in written(&body) {
        let path = [table.name.schema.clone(), "public".to_owned()];
        let known = catalog.resolve(target.0.as_deref(), &target.1, &path);
        match known {
            Some(relation) if relation.oid == table.oid || classification.covers(relation) => {}
            Some(relation) => {
                let why = format!("it writes into {}, where the classification does not follow", relation.name);
                findings.push(finding("trigger_writes", &why, entry(&relation.name, &["pii"])));
            }
            // A variable of the function, `on conflict do update set`, or a relation that is not there.
            None => {}
        }
    }
    findings
}

/// Lower case, comments and line ends gone, one space between words.
fn plain(body: &str) -> String {
    let without_blocks = body.split("/*").enumerate().map(|(index, part)| match (index, part.split_once("*/")) {
        (0, _) => part,
        (_, Some((_, after))) => after,
        (_, None) => "",
    });
    let text: String = without_blocks.collect::<Vec<_>>().join(" ");
    let lines = text.lines().map(|line| line.split("--").next().unwrap_or(line));
    let text = lines.collect::<Vec<_>>().join(" ").to_lowercase();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Names of relations that a body writes into, `(schema, name)`.
fn written(body: &str) -> BTreeSet<(Option<String>, String)> {
    let mut found = BTreeSet::new();
    for verb in WRITES {
        for (at, _) in body.match_indices(verb) {
            let after = body.get(at + verb.len()..).unwrap_or("").trim_start().trim_start_matches("only ");
            let is_name = |letter: char| letter.is_alphanumeric() || matches!(letter, '_' | '.' | '"' | '$');
            let name = after.split(|letter| !is_name(letter)).next().unwrap_or("").replace('"', "");
            match name.split_once('.') {
                Some((schema, name)) => found.insert((Some(schema.to_owned()), name.to_owned())),
                None if name.is_empty() => false,
                None => found.insert((None, name)),
            };
        }
    }
    found
}

/// Rows that are kept elsewhere: materialized views over classified tables, and foreign tables.
fn copies(classification: &Classification, catalog: &Catalog, sensitive: &BTreeMap<u32, &Relation>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for relation in catalog.relations.values().filter(|relation| !classification.covers(relation)) {
        let (code, severity, why) = match relation.kind {
            RelationKind::MaterializedView if shows(relation, catalog, sensitive, &mut BTreeSet::new()) => (
                "materialized_view",
                Severity::Weakness,
                "it keeps rows of classified tables: columns that show them are NULL, and where it cannot be told which \
                 those are nobody is granted it; classify its own columns",
            ),
            RelationKind::Foreign => (
                "foreign_table",
                Severity::Hole,
                "its rows come from another server, where the classification does not reach: classify its columns",
            ),
            RelationKind::Table
            | RelationKind::Partitioned
            | RelationKind::View
            | RelationKind::MaterializedView
            | RelationKind::Sequence => continue,
        };
        findings.push(Finding {
            code,
            severity,
            object: relation.name.to_string(),
            detail: String::new(),
            why: why.to_owned(),
            sql: Vec::new(),
            lines: entry(&relation.name, &[]),
        });
    }
    findings
}

/// Row policies that hold a classified column against something which a session chooses.
fn policies(classification: &Classification, sensitive: &BTreeMap<u32, &Relation>) -> Vec<Finding> {
    let finding = |relation: &Relation, constraint: &Constraint| {
        Finding {
        code: "policy_tells",
        severity: Severity::Hole,
        object: relation.name.to_string(),
        detail: constraint.name.clone(),
        why: "it compares a classified column with a setting, another relation or something else that a session chooses, \
              so how many rows there are tells the value: where the column is masked nobody is granted the table. Compare \
              with constants, or with columns that are not classified"
            .to_owned(),
        sql: Vec::new(),
        lines: Vec::new(),
    }
    };
    let guarded = sensitive.values().filter(|relation| relation.has_row_security);
    let found = guarded.flat_map(|relation| {
        let compared = relation.constraints.iter().filter(|one| one.against == Against::Session);
        compared.filter(|one| looks_at_classified(classification, relation, one)).map(|one| finding(relation, one))
    });
    found.collect()
}

/// Whether one of the columns that PostgreSQL looks at has tags.
fn looks_at_classified(classification: &Classification, relation: &Relation, constraint: &Constraint) -> bool {
    let tags = classification.column_tags(relation);
    let is_whole = !classification.relation_tags(&relation.name).is_empty();
    let mut looked_at = relation
        .columns
        .iter()
        .zip(&tags)
        .filter(|(column, _)| [0, column.number].iter().any(|at| constraint.columns.contains(at)));
    looked_at.any(|(_, tags)| is_whole || !tags.is_empty())
}

/// Whether a view leads to a classified relation, through other views too.
fn shows(view: &Relation, catalog: &Catalog, sensitive: &BTreeMap<u32, &Relation>, seen: &mut BTreeSet<u32>) -> bool {
    seen.insert(view.oid);
    view.depends_on.iter().any(|(oid, _)| {
        // What cannot be followed may lead anywhere.
        *oid == 0
            || sensitive.contains_key(oid)
            || (!seen.contains(oid)
                && catalog.by_oid(*oid).is_some_and(|behind| shows(behind, catalog, sensitive, seen)))
    })
}

/// Columns that no entry names and whose names say that they should be.
fn unclassified(classification: &Classification, catalog: &Catalog) -> Vec<Finding> {
    let mut findings = Vec::new();
    for relation in catalog.relations.values().filter(|relation| suggest::holds_rows(relation.kind)) {
        let named = classification.named(relation);
        for (column, _) in relation.columns.iter().zip(named).filter(|(_, named)| !named) {
            let Some(reason) = suggest::by_name(&column.name, &column.type_name) else { continue };
            findings.push(Finding {
                code: "unclassified",
                severity: Severity::Weakness,
                object: format!("{}.{}", relation.name, column.name),
                detail: column.type_name.clone(),
                why: format!(
                    "its name says {}, and no entry names it: add one (with no tags where it is harmless)",
                    reason.word()
                ),
                sql: Vec::new(),
                lines: suggest::entry(&relation.name, &column.name, reason.tags()),
            });
        }
    }
    findings
}

/// An entry for every column of a relation.
fn entry(name: &RelationName, tags: &[&str]) -> Vec<String> {
    suggest::entry(name, "*", tags)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_case_hide_nothing_and_show_nothing() {
        let body = "BEGIN -- insert into a\n /* update b */ INSERT\n INTO \"Log\".Trail VALUES (new.email); END";
        let body = plain(body);
        assert_eq!(body, "begin insert into \"log\".trail values (new.email); end");
        assert_eq!(written(&body), BTreeSet::from([(Some("log".to_owned()), "trail".to_owned())]));
    }
}
