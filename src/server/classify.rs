//! Looks at names, types and some values of every table, and says what seems to be sensitive.
//!
//! Values are read, counted and forgotten: none of them is kept, printed or written anywhere.

use std::collections::BTreeMap;

use serde::Serialize;
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::core::mask::scan::{self, Kind};
use crate::core::policy::classification::Classification;
use crate::core::policy::suggest::{self, Suspicion};
use crate::core::role_sql::identifier;
use crate::core::scope::RelationName;
use crate::core::scope::catalog::{Catalog, Column, Relation, RelationKind};

/// A table that does not answer in this time is judged by its names.
const PATIENCE: &str = "5s";
/// As much of a value as is looked at.
const LONGEST: usize = 4096;
/// From this many rows on, pages are picked at random instead of reading from the start.
const LARGE: i64 = 50_000;
/// The share of values, in percent, from which a kind counts that a single match does not prove.
const ENOUGH: usize = 20;

/// A column that looks sensitive, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Proposal {
    /// `schema.relation.column`.
    pub column: String,
    #[serde(rename = "type")]
    pub type_name: String,
    pub name_says: Option<Suspicion>,
    /// Values that were looked at, without NULL.
    pub samples: usize,
    /// In how many of them a detector found something.
    pub seen: BTreeMap<Kind, usize>,
    /// What is proposed; empty where too few values look like anything.
    pub tags: Vec<&'static str>,
    /// The entry of `classification.toml`.
    pub lines: Vec<String>,
}

impl Proposal {
    /// Why, in words.
    pub fn why(&self) -> String {
        let name = self.name_says.map(|found| format!("its name says {}", found.word()));
        let values =
            self.seen.iter().map(|(kind, count)| format!("{} in {count} of {} values", kind.word(), self.samples));
        name.into_iter().chain(values).collect::<Vec<_>>().join("; ")
    }
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Findings {
    pub proposals: Vec<Proposal>,
    /// Columns where a few values look like something, too few to propose a class for them all.
    pub traces: Vec<Proposal>,
    /// Relations whose values could not be read: `(relation, why)`.
    pub unread: Vec<(String, String)>,
}

/// How it is looked.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// Rows of each table; 0: names and types only.
    pub rows: u32,
    /// Also columns that an entry names.
    pub all: bool,
}

/// Looks at every table, partitioned table, materialized view and foreign table. Nobody else may use
/// the client meanwhile.
pub async fn look(
    client: &Client,
    catalog: &Catalog,
    classification: &Classification,
    manner: Manner,
) -> Result<Findings, tokio_postgres::Error> {
    // A row policy is code of the table's owner: such a table is read by whom it does not bind, or not at all.
    let setup = format!("set statement_timeout = '{PATIENCE}'; set row_security = off");
    client.batch_execute(&setup).await?;
    let mut findings = Findings::default();
    for relation in catalog.relations.values().filter(|relation| suggest::holds_rows(relation.kind)) {
        let columns = wanted(relation, catalog, classification, manner.all);
        if columns.is_empty() {
            continue;
        }
        let counted = match read(client, relation, &columns, manner.rows).await {
            Ok(counted) => counted,
            Err(error) if error.is_closed() => return Err(error),
            Err(error) => {
                let why = error.as_db_error().map_or_else(|| error.to_string(), |detail| detail.message().to_owned());
                findings.unread.push((relation.name.to_string(), why));
                BTreeMap::new()
            }
        };
        for column in columns {
            let (samples, seen) = counted.get(&column.number).cloned().unwrap_or_default();
            let proposal = judge(&relation.name, column, samples, seen);
            if !proposal.tags.is_empty() {
                findings.proposals.push(proposal);
            } else if !proposal.seen.is_empty() {
                findings.traces.push(proposal);
            }
        }
    }
    Ok(findings)
}

/// Columns to look at: not those that a parent has too, where an entry for the parent is enough.
fn wanted<'c>(
    relation: &'c Relation,
    catalog: &Catalog,
    classification: &Classification,
    all: bool,
) -> Vec<&'c Column> {
    let parents: Vec<&Relation> = relation.parents.iter().filter_map(|oid| catalog.by_oid(*oid)).collect();
    let inherited =
        |column: &Column| parents.iter().any(|one| one.columns.iter().any(|other| other.name == column.name));
    let named = classification.named(relation);
    let columns = relation.columns.iter().zip(named);
    columns.filter(|(column, named)| (all || !named) && !inherited(column)).map(|(column, _)| column).collect()
}

type Counted = BTreeMap<i16, (usize, BTreeMap<Kind, usize>)>;

/// Reads some rows and counts what is found in each column.
async fn read(
    client: &Client,
    relation: &Relation,
    columns: &[&Column],
    rows: u32,
) -> Result<Counted, tokio_postgres::Error> {
    let readable: Vec<&&Column> = columns.iter().filter(|column| suggest::is_readable(&column.type_name)).collect();
    // What is on another server is not asked for: it would be a statement over there.
    if rows == 0 || readable.is_empty() || relation.kind == RelationKind::Foreign {
        return Ok(Counted::new());
    }
    let shown: Vec<String> =
        readable.iter().map(|column| format!("left({}::text, {LONGEST})", identifier(&column.name))).collect();
    let name = relation.name.quoted();
    let sql = format!("select {} from {name}{} limit {rows}", shown.join(", "), sample(relation, rows));
    let mut counted = Counted::new();
    // What is worked out in it can neither write nor lift that.
    client.batch_execute("begin transaction read only").await?;
    let answered = client.simple_query(&sql).await;
    client.batch_execute("rollback").await?;
    for message in answered? {
        let SimpleQueryMessage::Row(row) = message else { continue };
        for (index, column) in readable.iter().enumerate() {
            let Some(value) = row.get(index) else { continue };
            let entry = counted.entry(column.number).or_default();
            entry.0 += 1;
            let is_json = column.type_name.starts_with("json");
            let hits = if is_json { scan::scan_escaped(value.as_bytes()) } else { scan::scan(value.as_bytes()) };
            let kinds: std::collections::BTreeSet<Kind> = hits.into_iter().map(|hit| hit.kind).collect();
            kinds.into_iter().for_each(|kind| *entry.1.entry(kind).or_default() += 1);
        }
    }
    Ok(counted)
}

/// Ten times as many rows as are wanted, from pages all over a large table: some are empty.
fn sample(relation: &Relation, rows: u32) -> String {
    let is_table =
        matches!(relation.kind, RelationKind::Table | RelationKind::Partitioned | RelationKind::MaterializedView);
    if !is_table || relation.estimated_rows < LARGE {
        return String::new();
    }
    // In hundredths of a percent, so that no fraction is needed.
    let share = (i64::from(rows) * 10 * 10_000 / relation.estimated_rows).clamp(1, 10_000);
    format!(" tablesample system ({}.{:02})", share / 100, share % 100)
}

fn judge(relation: &RelationName, column: &Column, samples: usize, seen: BTreeMap<Kind, usize>) -> Proposal {
    let name_says = suggest::by_name(&column.name, &column.type_name);
    let mut tags: Vec<&'static str> = name_says.map(|found| found.tags().to_vec()).unwrap_or_default();
    let counts = seen.iter().filter(|(kind, count)| kind.is_certain() || *count * 100 >= samples * ENOUGH);
    for tag in counts.flat_map(|(kind, _)| suggest::tags_of(*kind)) {
        if !tags.contains(tag) {
            tags.push(tag);
        }
    }
    Proposal {
        column: format!("{relation}.{}", column.name),
        type_name: column.type_name.clone(),
        name_says,
        samples,
        seen,
        lines: suggest::entry(relation, &column.name, &tags),
        tags,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column() -> Column {
        Column {
            name: "note".into(),
            number: 1,
            type_name: "text".into(),
            type_oid: 25,
            not_null: false,
            has_default: false,
            is_generated: false,
            is_computed: false,
            generated_from: Vec::new(),
        }
    }

    #[test]
    fn one_certain_value_is_enough_and_a_few_that_may_be_chance_are_not() {
        let name = RelationName::new("public", "t");
        for (kind, count, tags) in [
            (Kind::Iban, 1, vec!["pii"]),
            (Kind::PrivateKey, 1, vec!["secret"]),
            (Kind::Email, 39, vec![]),
            (Kind::Email, 40, vec!["pii", "email"]),
            (Kind::Card, 10, vec![]),
        ] {
            let proposal = judge(&name, &column(), 200, BTreeMap::from([(kind, count)]));
            assert_eq!(proposal.tags, tags, "{kind:?} {count}");
        }
    }

    #[test]
    fn large_tables_are_sampled_all_over() {
        let relation = |estimated_rows| Relation {
            oid: 1,
            name: RelationName::new("public", "t"),
            kind: RelationKind::Table,
            columns: vec![],
            parents: Vec::new(),
            depends_on: Vec::new(),
            has_row_security: false,
            has_user_policies: false,
            definition: None,
            estimated_rows,
            sequences: Vec::new(),
            unique_keys: Vec::new(),
            is_inert: false,
            constraints: Vec::new(),
        };
        assert_eq!(sample(&relation(1_000), 200), "");
        assert_eq!(sample(&relation(-1), 200), "");
        assert_eq!(sample(&relation(200_000), 200), " tablesample system (1.00)");
        assert_eq!(sample(&relation(20_000_000), 200), " tablesample system (0.01)");
    }
}
