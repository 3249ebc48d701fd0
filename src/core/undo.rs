//! Step 4, check: what a small write changed, and the statement that would change it back.
//!
//! The statement is a proposal like any other text of a client's: it is judged, counted and, where
//! policy wants that, approved. What must stay true: it changes back every row or none, and fails
//! where a row is not as the write left it, whoever runs it.

use serde::{Deserialize, Serialize};

use crate::core::mask::{identifier, literal};
use crate::core::scope::RelationName;
use crate::core::time::Moment;

/// Longest proposal: what the gateway takes as one statement, with room to spare.
const LONGEST: usize = 200 * 1024;

/// What is kept of one statement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// The recorded session, and the statement's number in its record.
    pub session: String,
    pub statement: u64,
    /// Who ran it: only they can take it back.
    pub principal: String,
    /// The program that it said it ran through.
    pub agent: Option<String>,
    pub target: String,
    pub database: String,
    pub at: Moment,
    /// Nothing is kept for longer.
    pub expires: Moment,
    pub kept: Kept,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kept {
    Change(Change),
    /// Nothing, and why.
    Nothing(String),
}

/// Rows of one relation before and after.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    pub relation: RelationName,
    pub columns: Vec<Column>,
    /// One cell a column, in the same order.
    pub before: Vec<Cells>,
    /// The same rows as the write left them; none where it deleted them.
    pub after: Option<Vec<Cells>>,
}

/// A row's values in PostgreSQL's text form.
pub type Cells = Vec<Option<String>>;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    pub name: String,
    pub type_name: String,
    /// Part of the primary key, by which rows are found again.
    pub is_key: bool,
}

impl Change {
    /// The statement that changes the rows back, or why there is none.
    ///
    /// # Errors
    /// With the reason, in words for whoever asks.
    pub fn compensation(&self) -> Result<String, String> {
        let sql = match &self.after {
            None => self.insert(),
            Some(after) => self.update(after)?,
        };
        match sql.len() > LONGEST {
            true => Err("the statement that takes it back would be too long".to_owned()),
            false => Ok(sql),
        }
    }

    /// Deleted rows come back with the keys they had. A key that was taken meanwhile fails it.
    fn insert(&self) -> String {
        let names: Vec<_> = self.columns.iter().map(|column| identifier(&column.name)).collect();
        let rows: Vec<_> = self.before.iter().map(|row| self.row(row, |_| true)).collect();
        format!(
            "insert into {} ({}) overriding system value values\n  {}",
            self.relation.quoted(),
            names.join(", "),
            rows.join(",\n  ")
        )
    }

    /// Columns that no row has changed stay as they are, whatever has become of them.
    fn update(&self, after: &[Cells]) -> Result<String, String> {
        let pairs = || self.before.iter().zip(after);
        let changed: Vec<usize> = (0..self.columns.len())
            .filter(|at| pairs().any(|(before, after)| before.get(*at) != after.get(*at)))
            .collect();
        if changed.is_empty() {
            return Err("it left every row as it was".to_owned());
        }
        let keys: Vec<usize> = (0..self.columns.len()).filter(|at| self.is_key(*at)).collect();
        if changed.iter().any(|at| self.is_key(*at)) {
            return Err("it changed the primary key, by which rows are found again".to_owned());
        }
        let named = |prefix: &str, places: &[usize]| -> Vec<String> {
            places.iter().enumerate().map(|(number, _)| format!("{prefix}{}", number + 1)).collect()
        };
        let columns = [named("k", &keys), named("was", &changed), named("now", &changed)].concat().join(", ");
        let rows: Vec<_> = pairs()
            .map(|(before, after)| {
                let cells = [
                    self.cells(before, |at| keys.contains(&at)),
                    self.cells(before, |at| changed.contains(&at)),
                    self.cells(after, |at| changed.contains(&at)),
                ];
                format!("({})", cells.concat().join(", "))
            })
            .collect();
        let column = |at: &usize| self.columns.get(*at).map(|column| identifier(&column.name)).unwrap_or_default();
        let numbered = |places: &[usize], each: &dyn Fn(usize, String) -> String| -> Vec<String> {
            places.iter().enumerate().map(|(number, at)| each(number + 1, column(at))).collect()
        };
        let same = [
            numbered(&keys, &|number, name| format!("t.{name} = kept.k{number}")),
            // As text, which every type has; both sides are written out by the same session.
            numbered(&changed, &|number, name| format!("t.{name}::text is not distinct from kept.now{number}::text")),
        ]
        .concat()
        .join(" and ");
        let set = numbered(&changed, &|number, name| format!("{name} = kept.was{number}")).join(", ");
        let (name, count) = (self.relation.quoted(), self.before.len());
        Ok(format!(
            "with kept ({columns}) as (values\n  {rows}),\n\
             same as (select count(*) as rows from {name} t join kept on {same}),\n\
             sure as materialized (select kept.* from kept where (select case when rows = {count} then 1 \
             else ('only ' || rows || ' of {count} rows are as they were left')::int4 end from same) = 1)\n\
             update {name} t set {set} from sure as kept\n\
             where {same}",
            rows = rows.join(",\n  "),
        ))
    }

    /// The primary key's columns, as SQL spells them.
    pub fn keys(&self) -> Vec<String> {
        self.columns.iter().filter(|column| column.is_key).map(|column| identifier(&column.name)).collect()
    }

    /// The primary key of a row, as SQL spells it.
    pub fn key_values(&self, row: &Cells) -> String {
        self.row(row, |at| self.is_key(at))
    }

    fn is_key(&self, at: usize) -> bool {
        self.columns.get(at).is_some_and(|column| column.is_key)
    }

    fn row(&self, row: &Cells, is_wanted: impl Fn(usize) -> bool) -> String {
        format!("({})", self.cells(row, is_wanted).join(", "))
    }

    /// Values with their types, so that no other type can be guessed for them.
    fn cells(&self, row: &Cells, is_wanted: impl Fn(usize) -> bool) -> Vec<String> {
        let typed = self.columns.iter().zip(row).enumerate().filter(|(at, _)| is_wanted(*at));
        typed
            .map(|(_, (column, value))| match value {
                Some(text) => format!("{}::{}", literal(text), column.type_name),
                None => format!("null::{}", column.type_name),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(after: Option<Vec<Cells>>) -> Change {
        let column =
            |name: &str, type_name: &str, is_key| Column { name: name.into(), type_name: type_name.into(), is_key };
        Change {
            relation: RelationName::new("public", "orders"),
            columns: vec![
                column("id", "integer", true),
                column("Note", "text", false),
                column("n", "numeric(4,2)", false),
            ],
            before: vec![
                vec![Some("1".into()), Some("it's".into()), None],
                vec![Some("2".into()), None, Some("1.50".into())],
            ],
            after,
        }
    }

    #[test]
    fn deleted_rows_are_inserted_with_their_keys_and_types() {
        let sql = change(None).compensation().expect("a statement");
        assert_eq!(
            sql,
            "insert into \"public\".\"orders\" (\"id\", \"Note\", \"n\") overriding system value values\n  \
             ('1'::integer, 'it''s'::text, null::numeric(4,2)),\n  ('2'::integer, null::text, '1.50'::numeric(4,2))"
        );
    }

    #[test]
    fn only_what_was_changed_is_changed_back_and_only_where_it_is_as_it_was_left() {
        let after = vec![
            vec![Some("1".into()), Some("x".into()), None],
            vec![Some("2".into()), Some("x".into()), Some("1.50".into())],
        ];
        let sql = change(Some(after)).compensation().expect("a statement");
        assert_eq!(
            sql,
            "with kept (k1, was1, now1) as (values\n  \
             ('1'::integer, 'it''s'::text, 'x'::text),\n  ('2'::integer, null::text, 'x'::text)),\n\
             same as (select count(*) as rows from \"public\".\"orders\" t join kept on \
             t.\"id\" = kept.k1 and t.\"Note\"::text is not distinct from kept.now1::text),\n\
             sure as materialized (select kept.* from kept where (select case when rows = 2 then 1 \
             else ('only ' || rows || ' of 2 rows are as they were left')::int4 end from same) = 1)\n\
             update \"public\".\"orders\" t set \"Note\" = kept.was1 from sure as kept\n\
             where t.\"id\" = kept.k1 and t.\"Note\"::text is not distinct from kept.now1::text"
        );
    }

    #[test]
    fn what_cannot_be_taken_back_says_why() {
        let same = change(None).before;
        assert!(change(Some(same.clone())).compensation().expect_err("no change").contains("as it was"));
        let mut moved = same;
        if let Some(first) = moved.first_mut().and_then(|row| row.first_mut()) {
            *first = Some("9".into());
        }
        assert!(change(Some(moved)).compensation().expect_err("the key").contains("primary key"));
        let mut long = change(None);
        long.before = vec![vec![Some("1".into()), Some("x".repeat(LONGEST)), None]];
        assert!(long.compensation().expect_err("too long").contains("too long"));
    }
}
