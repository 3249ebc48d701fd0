//! What can be asked about a masked column, constraint by constraint.

use super::*;
use crate::core::scope::RelationName;
use crate::core::scope::catalog::{Column, RelationKind};

const OWN: u32 = 1;
const OTHER: u32 = 2;

fn relation(oid: u32, columns: &[&str], constraints: &[(&str, &[i16], Against)]) -> Relation {
    let column = |(name, number): (&&str, i16)| Column {
        name: (*name).to_owned(),
        number,
        type_name: "text".into(),
        type_oid: 25,
        not_null: false,
        has_default: false,
        is_generated: false,
        is_computed: false,
        generated_from: Vec::new(),
    };
    let constraint = |(name, columns, against): &(&str, &[i16], Against)| Constraint {
        name: (*name).to_owned(),
        columns: columns.to_vec(),
        against: against.clone(),
    };
    Relation {
        oid,
        name: RelationName::new("public", &format!("t{oid}")),
        kind: RelationKind::Table,
        columns: columns.iter().zip(1..).map(column).collect(),
        parents: Vec::new(),
        depends_on: Vec::new(),
        has_row_security: false,
        has_user_policies: false,
        definition: None,
        estimated_rows: 0,
        sequences: Vec::new(),
        unique_keys: Vec::new(),
        is_inert: false,
        constraints: constraints.iter().map(constraint).collect(),
    }
}

/// What can be asked where these columns are masked, as `relation right column`.
fn asked(relations: Vec<Relation>, masked: &[(u32, i16)]) -> Vec<String> {
    let relations = relations.into_iter().map(|one| (one.name.clone(), one)).collect();
    let catalog = Catalog { relations, ..Catalog::default() };
    let found = tellings(&catalog, &|oid, number| masked.contains(&(oid, number)));
    let shown = |one: &Telling| {
        format!("{} {} {}", one.on, one.right.word(), one.column.map_or("-".into(), |at| at.to_string()))
    };
    let all: BTreeSet<String> = found.iter().map(shown).collect();
    all.into_iter().collect()
}

const PLAIN: Against = Against::Rows { is_plain: true };
const WORKED_OUT: Against = Against::Rows { is_plain: false };

#[test]
fn a_unique_value_is_asked_for_by_inserting_it_and_by_changing_what_is_beside_it() {
    let table = |against| vec![relation(OWN, &["id", "tenant", "mail", "note"], &[("u", &[2, 3], against)])];
    assert_eq!(asked(table(PLAIN), &[(OWN, 3)]), ["1 INSERT 3", "1 UPDATE 2"]);
    assert_eq!(asked(table(WORKED_OUT), &[(OWN, 3)]), ["1 INSERT 2", "1 INSERT 3", "1 UPDATE 2"]);
    assert_eq!(asked(table(PLAIN), &[(OWN, 4)]), [""; 0], "it has nothing to do with the column");
    assert_eq!(asked(table(PLAIN), &[]), [""; 0]);
}

#[test]
fn what_is_computed_is_asked_about_through_what_it_is_computed_from() {
    let mut table = relation(OWN, &["login", "mail", "lower"], &[("u", &[3], PLAIN)]);
    table.columns[2].generated_from = vec![1, 2];
    // The expression itself compares the two.
    assert_eq!(asked(vec![table], &[(OWN, 2), (OWN, 3)]), ["1 INSERT 1", "1 INSERT 2", "1 UPDATE 1"]);
}

#[test]
fn a_check_asks_by_a_change_alone_and_a_whole_row_is_every_column() {
    let table = |columns| vec![relation(OWN, &["pay", "bonus", "note"], &[("c", columns, Against::Itself)])];
    assert_eq!(asked(table(&[1, 2]), &[(OWN, 1)]), ["1 UPDATE 2"]);
    assert_eq!(asked(table(&[0]), &[(OWN, 1)]), ["1 UPDATE 2", "1 UPDATE 3"]);
    assert_eq!(asked(table(&[2, 3]), &[(OWN, 1)]), [""; 0]);
}

#[test]
fn a_reference_asks_about_both_of_its_ends() {
    let to = |columns: &[i16]| Against::Relation { oid: OTHER, columns: columns.to_vec() };
    let tables = || vec![relation(OWN, &["id", "who"], &[("f", &[2], to(&[1]))]), relation(OTHER, &["key", "x"], &[])];
    assert_eq!(asked(tables(), &[(OTHER, 1)]), ["1 INSERT 2", "1 UPDATE 2"], "does the key exist?");
    assert_eq!(asked(tables(), &[(OWN, 2)]), ["2 DELETE -", "2 UPDATE 1"], "does a row refer to it?");
    assert_eq!(asked(tables(), &[(OTHER, 2)]), [""; 0]);
}

#[test]
fn it_can_be_asked_through_parents_and_children_by_the_columns_name() {
    let parent = relation(OWN, &["id", "mail"], &[]);
    let mut child = relation(OTHER, &["mail", "id"], &[("u", &[1], PLAIN)]);
    child.parents = vec![OWN];
    assert_eq!(asked(vec![parent, child], &[(OWN, 2), (OTHER, 1)]), ["1 INSERT 2", "2 INSERT 1"]);
}
