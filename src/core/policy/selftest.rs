//! A policy folder's own tests: `*.test.toml` says who asks for what, and what must come of it.
//!
//! The cases run through the same compiler and the same judge as a session, against relations that
//! the file describes, so that they need no database. A folder does not load while one fails.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

use super::file::{Problem, Source, line_of};
use super::{Denial, Impact, ImpactRefusal, Policy, Subject, Verdict};
use crate::core::grant::Access;
use crate::core::identity::{Identity, Kind};
use crate::core::scope::catalog::{Against, Catalog, Column, Constraint, Relation, RelationKind};
use crate::core::scope::explain::{self, Right};
use crate::core::scope::{RelationName, Scope, compile};
use crate::core::statement::facts::RowAction;
use crate::core::statement::grammar;
use crate::core::time::Moment;

/// How the name of a file with tests ends.
pub const ENDING: &str = ".test.toml";

/// One case and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub file: String,
    /// From 1.
    pub line: usize,
    pub name: String,
    /// Why it failed; nothing where it passed.
    pub failure: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    defaults: Who,
    /// The relations there are, for all cases of the file.
    #[serde(default)]
    relation: Vec<Described>,
    #[serde(default)]
    case: Vec<Case>,
}

/// Who asks, and where. A case says what is different from the file's `[defaults]`.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Who {
    user: Option<String>,
    groups: Option<Vec<String>>,
    kind: Option<Kind>,
    issuer: Option<String>,
    target: Option<String>,
    environment: Option<String>,
    database: Option<String>,
    access: Option<Access>,
    /// The program that the session says it acts through.
    agent: Option<String>,
    reason: Option<String>,
    ticket: Option<String>,
}

/// A relation that exists for the cases.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Described {
    /// `schema.name`.
    name: String,
    #[serde(default = "table")]
    kind: RelationKind,
    #[serde(default)]
    rows: i64,
    /// Type by name, as PostgreSQL prints types.
    columns: BTreeMap<String, String>,
    /// Columns whose values must be unique, each by itself.
    #[serde(default)]
    unique: Vec<String>,
    /// Columns that a check looks at together.
    #[serde(default)]
    check: Vec<String>,
}

fn table() -> RelationKind {
    RelationKind::Table
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: Spanned<String>,
    #[serde(default, rename = "as")]
    who: Who,
    /// Exactly one of these is asked.
    connect: Option<bool>,
    sql: Option<String>,
    impact: Option<Did>,
    /// `schema.relation.column`: how it comes back.
    column: Option<String>,
    /// `schema.relation.column`: whether it may be given a value in a new row, and another value later.
    insert: Option<String>,
    update: Option<String>,
    expect: Expected,
    /// The rule that decides.
    rule: Option<String>,
    /// The group that may lift it.
    group: Option<String>,
    /// For a column that is masked: how.
    mask: Option<String>,
}

/// What a held write did.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Did {
    relation: String,
    action: RowAction,
    rows: u64,
    /// Rows of other relations that the transaction has changed as well.
    #[serde(default)]
    beside: u64,
    of: Option<u64>,
    #[serde(default = "yes")]
    direct: bool,
}

fn yes() -> bool {
    true
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Expected {
    Allow,
    Deny,
    Approval,
    /// Of a column: seen as it is.
    Clear,
    Masked,
    /// Of a column: its relation is not granted.
    Hidden,
}

impl Expected {
    const fn word(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Approval => "approval",
            Self::Clear => "clear",
            Self::Masked => "masked",
            Self::Hidden => "hidden",
        }
    }
}

/// What came of a case: the answer, and what decided it.
struct Answered {
    expected: Expected,
    rule: Option<String>,
    group: Option<String>,
    mask: Option<String>,
    said: String,
}

impl Answered {
    fn plain(expected: Expected) -> Self {
        Self { expected, rule: None, group: None, mask: None, said: String::new() }
    }

    fn refused(expected: Expected, denial: Denial) -> Self {
        let said = format!(": {}", denial.message);
        Self { expected, rule: Some(denial.rule), group: denial.approvers, mask: None, said }
    }
}

/// Runs every case of the files that hold cases; a file that cannot be read is a problem.
pub fn run(policy: &Policy, sources: &[Source]) -> Result<Vec<Outcome>, Vec<Problem>> {
    let (mut outcomes, mut problems) = (Vec::new(), Vec::new());
    for source in sources.iter().filter(|source| source.name.ends_with(ENDING)) {
        match cases(policy, source) {
            Ok(found) => outcomes.extend(found),
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() { Ok(outcomes) } else { Err(problems) }
}

/// Refuses a folder while one of its cases fails.
pub(super) fn hold(policy: &Policy, sources: &[Source]) -> Result<(), Vec<Problem>> {
    let failed: Vec<Problem> = run(policy, sources)?.into_iter().filter_map(Outcome::problem).collect();
    if failed.is_empty() { Ok(()) } else { Err(failed) }
}

impl Outcome {
    /// A failed case as a problem of the folder.
    fn problem(self) -> Option<Problem> {
        let message = format!("the case `{}` fails: {}", self.name, self.failure?);
        Some(Problem { file: self.file, line: self.line, message })
    }
}

fn cases(policy: &Policy, source: &Source) -> Result<Vec<Outcome>, Problem> {
    let file: File = toml::from_str(&source.text).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start);
        Problem::at(source, offset, error.message())
    })?;
    let catalog = described(&file.relation).map_err(|message| Problem::at(source, 0, message))?;
    let outcome = |case: &Case| Outcome {
        file: source.name.clone(),
        line: line_of(&source.text, case.name.span().start),
        name: case.name.as_ref().clone(),
        failure: check(policy, &catalog, &file.defaults, case).err(),
    };
    Ok(file.case.iter().map(outcome).collect())
}

fn check(policy: &Policy, catalog: &Catalog, defaults: &Who, case: &Case) -> Result<(), String> {
    let identity = identity(defaults, &case.who);
    let pick = |own: &Option<String>, usual: &Option<String>, last: &str| {
        own.clone().or_else(|| usual.clone()).unwrap_or_else(|| last.to_owned())
    };
    let target = pick(&case.who.target, &defaults.target, "prod");
    let environment = pick(&case.who.environment, &defaults.environment, "production");
    let database = pick(&case.who.database, &defaults.database, "postgres");
    let subject = Subject {
        identity: &identity,
        target: &target,
        environment: &environment,
        database: &database,
        access: case.who.access.or(defaults.access).unwrap_or(Access::Read),
        agent: said(&case.who.agent, &defaults.agent),
        reason: said(&case.who.reason, &defaults.reason),
        ticket: said(&case.who.ticket, &defaults.ticket),
    };
    let answered = ask(policy, &subject, catalog, case)?;
    if answered.expected != case.expect {
        return Err(format!("expected {}, got {}{}", case.expect.word(), answered.expected.word(), answered.said));
    }
    for (what, wanted, found) in [
        ("rule", &case.rule, &answered.rule),
        ("group", &case.group, &answered.group),
        ("mask", &case.mask, &answered.mask),
    ] {
        if wanted.is_some() && wanted != found {
            let shown = |name: &Option<String>| name.clone().unwrap_or_else(|| "none".to_owned());
            return Err(format!("expected {what} `{}`, got `{}`{}", shown(wanted), shown(found), answered.said));
        }
    }
    Ok(())
}

/// What a case says, else what all say; an empty text takes away what all say.
fn said<'a>(own: &'a Option<String>, usual: &'a Option<String>) -> Option<&'a str> {
    own.as_deref().or(usual.as_deref()).filter(|text| !text.is_empty())
}

fn ask(policy: &Policy, subject: &Subject<'_>, catalog: &Catalog, case: &Case) -> Result<Answered, String> {
    let write = match (&case.insert, &case.update) {
        (Some(column), None) => Some((Right::Insert, column)),
        (None, Some(column)) => Some((Right::Update, column)),
        (None, None) => None,
        (Some(_), Some(_)) => return Err("a case asks of insert or of update".to_owned()),
    };
    match (case.connect, &case.sql, &case.impact, &case.column, write) {
        (Some(_), None, None, None, None) => Ok(match policy.may_connect(subject) {
            Ok(()) => Answered::plain(Expected::Allow),
            Err(denial) => Answered::refused(Expected::Deny, denial),
        }),
        (None, Some(sql), None, None, None) => statements(policy, subject, catalog, sql),
        (None, None, Some(did), None, None) => {
            let name = relation_name(&did.relation)?;
            let impact = Impact {
                schema: name.schema,
                relation: name.name,
                action: did.action,
                rows: did.rows,
                of: did.of,
                direct: did.direct,
                others: None,
            };
            let beside = Impact { relation: format!("beside {}", impact.relation), rows: did.beside, ..impact.clone() };
            Ok(match policy.judge_impact(subject, &[impact, beside], None, catalog) {
                Ok(()) => Answered::plain(Expected::Allow),
                Err(ImpactRefusal::Deny(denial)) => Answered::refused(Expected::Deny, denial),
                Err(ImpactRefusal::NeedApproval(denial)) => Answered::refused(Expected::Approval, denial),
            })
        }
        (None, None, None, Some(column), None) => seen(&compile::compile(policy, subject, catalog), column),
        (None, None, None, None, Some((right, column))) => {
            written(&compile::compile(policy, subject, catalog), right, column)
        }
        _ => Err("a case asks exactly one of: connect, sql, impact, column, insert, update".to_owned()),
    }
}

/// The first statement that is not allowed decides.
fn statements(policy: &Policy, subject: &Subject<'_>, catalog: &Catalog, sql: &str) -> Result<Answered, String> {
    let scope = compile::compile(policy, subject, catalog);
    let path = ["public".to_owned()];
    for statement in grammar::parse(sql).map_err(|error| error.to_string())? {
        match policy.judge(subject, statement.facts, &scope, catalog, &path) {
            Verdict::Allow(_) => {}
            Verdict::Deny(denial) => return Ok(Answered::refused(Expected::Deny, denial)),
            Verdict::NeedApproval(denial) => return Ok(Answered::refused(Expected::Approval, denial)),
        }
    }
    Ok(Answered::plain(Expected::Allow))
}

/// Whether a column may be written, as far as its own right to be goes.
fn written(scope: &Scope, right: Right, column: &str) -> Result<Answered, String> {
    let (relation, name) = column_name(column)?;
    let Some(granted) = scope.relations.get(&relation) else { return Ok(Answered::plain(Expected::Hidden)) };
    if !granted.columns.iter().any(|column| column.name == name) {
        return Err(format!("{relation} has no column `{name}`"));
    }
    if explain::reach(granted, right).covers(name) {
        return Ok(Answered::plain(Expected::Allow));
    }
    let kept = granted.untold.iter().find(|one| one.right == right && one.column.as_deref() == Some(name));
    Ok(Answered {
        rule: kept.map(|one| one.rule.clone()),
        said: kept.map(|one| format!(": {} would tell of {}", one.constraint, one.of)).unwrap_or_default(),
        ..Answered::plain(Expected::Deny)
    })
}

/// How a column comes back.
fn seen(scope: &Scope, column: &str) -> Result<Answered, String> {
    let (relation, name) = column_name(column)?;
    let Some(granted) = scope.relations.get(&relation).filter(|relation| relation.read) else {
        let reason = scope.withheld.get(&relation).map(|reason| format!(": {reason}")).unwrap_or_default();
        return Ok(Answered { said: reason, ..Answered::plain(Expected::Hidden) });
    };
    let found = granted.columns.iter().find(|column| column.name == name);
    let found = found.ok_or_else(|| format!("{relation} has no column `{name}`"))?;
    Ok(match &found.mask {
        None => Answered::plain(Expected::Clear),
        Some(mask) => Answered {
            rule: Some(mask.rule.clone()),
            mask: Some(mask.name.clone()),
            ..Answered::plain(Expected::Masked)
        },
    })
}

fn identity(defaults: &Who, own: &Who) -> Identity {
    let user = own.user.clone().or_else(|| defaults.user.clone()).unwrap_or_else(|| "somebody@example.com".to_owned());
    Identity {
        kind: own.kind.or(defaults.kind).unwrap_or(Kind::Human),
        sub: user.clone(),
        subject: user,
        issuer: own
            .issuer
            .clone()
            .or_else(|| defaults.issuer.clone())
            .unwrap_or_else(|| "https://idp.example.com".to_owned()),
        groups: own.groups.clone().or_else(|| defaults.groups.clone()).unwrap_or_default(),
        expires: Moment::from_seconds(0),
    }
}

/// The relations of a file as a catalog.
fn described(relations: &[Described]) -> Result<Catalog, String> {
    let mut catalog = Catalog { database: "postgres".to_owned(), ..Catalog::default() };
    for (described, oid) in relations.iter().zip(1..) {
        let name = relation_name(&described.name)?;
        let columns = described.columns.iter().zip(1..).map(|((name, type_name), number)| Column {
            name: name.clone(),
            number,
            type_name: type_name.clone(),
            type_oid: 0,
            not_null: false,
            has_default: false,
            is_generated: false,
            is_computed: false,
            generated_from: Vec::new(),
        });
        let columns: Vec<Column> = columns.collect();
        let number = |wanted: &String| {
            let found = columns.iter().find(|column| column.name == *wanted).map(|column| column.number);
            found.ok_or_else(|| format!("{name} has no column `{wanted}`"))
        };
        let unique = |wanted: &String| {
            let name = format!("unique index {}_{wanted}_key", name.name);
            Ok(Constraint { name, columns: vec![number(wanted)?], against: Against::Rows { is_plain: true } })
        };
        let mut constraints: Vec<Constraint> = described.unique.iter().map(unique).collect::<Result<_, String>>()?;
        if !described.check.is_empty() {
            let columns = described.check.iter().map(number).collect::<Result<_, _>>()?;
            let name = format!("check {}_check", name.name);
            constraints.push(Constraint { name, columns, against: Against::Itself });
        }
        let relation = Relation {
            oid,
            name: name.clone(),
            kind: described.kind,
            columns,
            parents: Vec::new(),
            depends_on: Vec::new(),
            has_row_security: false,
            has_user_policies: false,
            definition: None,
            estimated_rows: described.rows,
            sequences: Vec::new(),
            unique_keys: Vec::new(),
            is_inert: false,
            constraints,
        };
        catalog.relations.insert(name, relation);
    }
    Ok(catalog)
}

/// `schema.relation.column`
fn column_name(text: &str) -> Result<(RelationName, &str), String> {
    let wrong = || format!("`{text}` is not of the form schema.relation.column");
    let (relation, name) = text.rsplit_once('.').ok_or_else(wrong)?;
    Ok((relation_name(relation)?, name))
}

fn relation_name(text: &str) -> Result<RelationName, String> {
    let (schema, name) = text.split_once('.').ok_or_else(|| format!("`{text}` is not of the form schema.relation"))?;
    Ok(RelationName::new(schema, name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::policy::pack;

    fn outcomes(cases: &str) -> Vec<Outcome> {
        let policy = Policy::pack("production").expect("pack");
        let relation = "[[relation]]\nname = \"public.t\"\ncolumns = { id = \"integer\", email = \"text\" }\n";
        run(&policy, &[Source::new("a.test.toml", &format!("{relation}{cases}"))]).expect("readable")
    }

    #[test]
    fn a_case_that_does_not_come_true_says_what_came_instead() {
        let cases = [
            ("sql = \"select 1\"\nexpect = \"allow\"", None),
            (
                "sql = \"delete from t\"\nas = { groups = [\"engineers\"], access = \"write\" }\nexpect = \"allow\"",
                Some("got deny: DELETE on public.t: no WHERE"),
            ),
            (
                "column = \"public.t.email\"\nas = { groups = [\"engineers\"] }\nexpect = \"masked\"\nmask = \"null\"",
                Some("expected mask `null`, got `email`"),
            ),
            ("column = \"public.t.email\"\nexpect = \"clear\"", Some("expected clear, got hidden")),
            ("connect = true\nsql = \"select 1\"\nexpect = \"allow\"", Some("exactly one")),
            ("sql = \"selec\"\nexpect = \"deny\"", Some("syntax error")),
        ];
        for (case, expected) in cases {
            let found = outcomes(&format!("[[case]]\nname = \"x\"\n{case}\n"));
            let failure = found[0].failure.as_deref();
            assert_eq!(failure.is_some(), expected.is_some(), "{case}: {failure:?}");
            assert!(failure.unwrap_or("").contains(expected.unwrap_or("")), "{case}: {failure:?}");
            assert_eq!(found[0].line, 5, "{case}");
        }
    }

    #[test]
    fn every_pack_carries_tests_and_passes_them() {
        for name in pack::NAMES {
            let (policy, sources) = (Policy::pack(name).expect("pack"), pack::sources(name).expect("pack"));
            let outcomes = run(&policy, &sources).expect("readable");
            assert!(outcomes.len() > 20, "{name}: {}", outcomes.len());
            let failed: Vec<_> = outcomes.iter().filter(|outcome| outcome.failure.is_some()).collect();
            assert!(failed.is_empty(), "{failed:#?}");
        }
    }

    #[test]
    fn every_rule_of_a_pack_decides_some_case() {
        for name in pack::NAMES {
            let policy = Policy::pack(name).expect("pack");
            let sources = pack::sources(name).expect("pack");
            let tests: String = sources
                .iter()
                .filter(|source| source.name.ends_with(ENDING))
                .map(|source| source.text.as_str())
                .collect();
            // Permits decide together and limits refuse nothing: neither is named by a verdict.
            let named = policy.rules().filter(|rule| !policy.is_permit(&rule.id) && rule.limit.is_none());
            let missing: Vec<&str> =
                named.map(|rule| rule.id.as_str()).filter(|id| !tests.contains(&format!("rule = \"{id}\""))).collect();
            assert!(missing.is_empty(), "{name}: no case names {missing:?}");
        }
    }
}
