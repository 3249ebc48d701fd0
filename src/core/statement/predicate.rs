//! Whether a WHERE clause can leave rows out. `WHERE true`, `1 = 1`, `x = x`, `true OR …`, and
//! conditions that look at no column, cannot: they count as no WHERE at all.

use super::facts::{Key, Name};
use super::tree::Tree;

/// Whether the condition can exclude rows of a relation, or of any where that is nothing: some of them by
/// what is in them, or all.
pub fn can_exclude(condition: &Tree, relation: &Tree) -> bool {
    let can_exclude = |part| can_exclude(part, relation);
    let can_by_itself = || !is_tautology(condition) && looks_at_a_column(condition, relation, true);
    match condition.kind() {
        // WHERE CURRENT OF cursor names one row.
        "CurrentOfExpr" => true,
        "" => false,
        _ if is_contradiction(condition) => true,
        "BoolExpr" => {
            let arguments = condition.get("args").items();
            match condition.get("boolop").int() {
                1 => arguments.iter().any(can_exclude),
                2 => arguments.iter().all(can_exclude),
                _ => can_by_itself(),
            }
        }
        _ => can_by_itself(),
    }
}

/// Whether every action of a MERGE that changes or deletes rows leaves some out.
pub(super) fn merge_excludes(merge: &Tree) -> bool {
    let excludes = |condition| can_exclude(condition, merge.get("relation"));
    // CmdType: 3 UPDATE, 5 DELETE.
    let clauses = merge.get("merge_when_clauses").items().iter();
    let mut changing = clauses.filter(|clause| matches!(clause.get("command_type").int(), 3 | 5));
    changing.all(|clause| {
        // MergeMatchKind: 2 is NOT MATCHED BY SOURCE, whose rows are those that the join leaves out.
        let joins = clause.get("match_kind").int() != 2;
        excludes(clause.get("condition")) || (joins && excludes(merge.get("join_condition")))
    })
}

/// Columns that an UPDATE or DELETE, of one relation by itself, wants to be equal to one value each; of a
/// SELECT only values whose type their column gives.
pub fn pinned(statement: &Tree) -> Vec<String> {
    if statement.kind() == "SelectStmt" {
        return pinned_by_select(statement);
    }
    let others = match statement.kind() {
        "UpdateStmt" => "from_clause",
        "DeleteStmt" => "using_clause",
        _ => return Vec::new(),
    };
    let is_alone = statement.get(others).items().is_empty() && statement.get("with_clause").is_nothing();
    let mut columns = Vec::new();
    if is_alone {
        pin(statement.get("where_clause"), statement.get("relation"), &is_value, &mut columns);
    }
    columns
}

fn pinned_by_select(select: &Tree) -> Vec<String> {
    let key = key(select).filter(|_| select.get("with_clause").is_nothing());
    key.map_or_else(Vec::new, |key| key.columns)
}

/// What a SELECT of one relation by itself wants columns to be equal to; nothing where it wants nothing.
pub(super) fn key(select: &Tree) -> Option<Key> {
    let [one] = select.get("from_clause").items() else { return None };
    // Columns that go by other names are others.
    if one.kind() != "RangeVar" || !one.get("alias").get("colnames").items().is_empty() {
        return None;
    }
    let (schema, name) = one.relation();
    let relation = Name::new(schema, name);
    let mut key = Key { relation, columns: Vec::new(), bound: Vec::new() };
    let condition = select.get("where_clause");
    pin(condition, one, &is_of_its_column, &mut key.columns);
    pin(condition, one, &|side| side.kind() == "ParamRef", &mut key.bound);
    (!key.columns.is_empty() || !key.bound.is_empty()).then_some(key)
}

/// A whole number or a string. Whoever binds a parameter may give it a type whose equality is another.
fn is_of_its_column(side: &Tree) -> bool {
    side.kind() == "AConst" && matches!(side.get("val").kind(), "Integer" | "String")
}

fn pin(condition: &Tree, relation: &Tree, is_value: &dyn Fn(&Tree) -> bool, columns: &mut Vec<String>) {
    match condition.kind() {
        // BoolExprType: 1 AND.
        "BoolExpr" if condition.get("boolop").int() == 1 => {
            condition.get("args").items().iter().for_each(|argument| pin(argument, relation, is_value, columns));
        }
        // A_Expr_Kind: 1 an operator by itself, not ANY, ALL, IN and kin.
        "AExpr" if condition.get("kind").int() == 1 && operator(condition) == "=" => {
            let (left, right) = (condition.get("lexpr"), condition.get("rexpr"));
            let pair = if is_value(right) { Some(left) } else { is_value(left).then_some(right) };
            let column = pair.filter(|side| side.kind() == "ColumnRef").and_then(|side| column_of(side, relation));
            columns.extend(column.map(str::to_owned));
        }
        _ => {}
    }
}

/// The column of the relation that a reference names; one of a query around it is another's.
fn column_of<'t>(reference: &'t Tree, relation: &Tree) -> Option<&'t str> {
    let text = |part: &'t Tree| part.get("sval").text();
    let visible = visible(relation);
    match reference.get("fields").items() {
        [column] => Some(text(column)),
        [name, column] if text(name) == visible => Some(text(column)),
        [schema, name, column] if text(name) == visible && text(schema) == relation.get("schemaname").text() => {
            Some(text(column))
        }
        _ => None,
    }
}

/// A constant or a parameter, whatever it is cast to.
fn is_value(side: &Tree) -> bool {
    match side.kind() {
        "AConst" | "ParamRef" => true,
        "TypeCast" => is_value(side.get("arg")),
        _ => false,
    }
}

/// Whether the condition is true for every row that has no NULL in the columns it names.
fn is_tautology(condition: &Tree) -> bool {
    match condition.kind() {
        "AConst" => truth(condition) == Some(true),
        "TypeCast" => is_tautology(condition.get("arg")),
        "BoolExpr" => {
            let arguments = condition.get("args").items();
            // BoolExprType: 1 AND, 2 OR, 3 NOT.
            match condition.get("boolop").int() {
                1 => arguments.iter().all(is_tautology),
                2 => arguments.iter().any(is_tautology),
                3 => arguments.iter().all(is_contradiction),
                _ => false,
            }
        }
        "AExpr" => is_tautological_comparison(condition),
        // IS TRUE (1), IS NOT FALSE (4) of something that is always true.
        "BooleanTest" => is_tautology(condition.get("arg")),
        "CoalesceExpr" => condition.get("args").items().first().is_some_and(is_tautology),
        "SubLink" => is_tautological_link(condition),
        _ => false,
    }
}

fn is_contradiction(condition: &Tree) -> bool {
    match condition.kind() {
        "AConst" => truth(condition) == Some(false),
        "TypeCast" => is_contradiction(condition.get("arg")),
        "BoolExpr" => {
            let arguments = condition.get("args").items();
            match condition.get("boolop").int() {
                1 => arguments.iter().any(is_contradiction),
                2 => arguments.iter().all(is_contradiction),
                3 => arguments.iter().all(is_tautology),
                _ => false,
            }
        }
        "AExpr" => {
            let Some((left, right)) = sides(condition) else { return false };
            // A_Expr_Kind: 1 an operator by itself; IS DISTINCT FROM goes by `=`, too.
            let is_servers = condition.get("kind").int() == 1 && condition.get("name").items().len() == 1;
            let numbers = number(&left).zip(number(&right)).filter(|_| is_servers);
            match (operator(condition), numbers) {
                ("=", Some((left, right))) => left != right,
                ("<", Some((left, right))) => left >= right,
                (">", Some((left, right))) => left <= right,
                ("<>" | "!=" | "<" | ">", _) => left == right,
                _ => false,
            }
        }
        _ => false,
    }
}

/// `x = x`, `x >= x`, `x LIKE '%'`, `x ~ ''`: true whatever the row holds.
fn is_tautological_comparison(expression: &Tree) -> bool {
    let Some((left, right)) = sides(expression) else { return false };
    let same = left == right;
    let pattern = right.get("val").get("sval").text();
    match operator(expression) {
        "=" | "<=" | ">=" => same,
        "~~" | "~~*" => right.kind() == "AConst" && !pattern.is_empty() && pattern.bytes().all(|b| b == b'%'),
        "~" | "~*" => right.kind() == "AConst" && matches!(pattern, "" | ".*" | "^" | "$" | "^.*$" | "^.*" | ".*$"),
        _ => false,
    }
}

/// `EXISTS (SELECT …)` over nothing that can be empty, and `(SELECT true)`.
fn is_tautological_link(link: &Tree) -> bool {
    let query = link.get("subselect");
    let from_nothing = query.get("from_clause").items().is_empty() && query.get("where_clause").is_nothing();
    // SubLinkType: 1 EXISTS, 5 EXPR.
    match link.get("sub_link_type").int() {
        1 => from_nothing,
        5 => from_nothing && query.get("target_list").items().iter().all(|item| is_tautology(item.get("val"))),
        _ => false,
    }
}

fn sides(expression: &Tree) -> Option<(Tree, Tree)> {
    let side = |name| expression.get(name).clone().without_locations();
    let (left, right) = (side("lexpr"), side("rexpr"));
    (!left.is_nothing() && !right.is_nothing()).then_some((left, right))
}

fn operator(expression: &Tree) -> &str {
    expression.get("name").items().last().map_or("", |part| part.get("sval").text())
}

/// A whole number that is written out: what it is compared with by is the server's own.
fn number(side: &Tree) -> Option<i64> {
    let value = side.get("val");
    (side.kind() == "AConst" && value.kind() == "Integer").then(|| value.get("ival").int())
}

/// The truth value of a constant: `true`, `'t'`, `'yes'`, `1`.
fn truth(constant: &Tree) -> Option<bool> {
    let value = constant.get("val");
    match value.kind() {
        "Boolean" => Some(value.get("boolval").flag()),
        "Integer" => Some(value.get("ival").int() != 0),
        "String" => match value.get("sval").text().to_ascii_lowercase().as_str() {
            "t" | "tr" | "tru" | "true" | "y" | "ye" | "yes" | "on" | "1" => Some(true),
            "f" | "fa" | "fal" | "fals" | "false" | "n" | "no" | "of" | "off" | "0" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

/// A condition that names no column of the relation decides for all its rows alike. A name that says no
/// relation may be one of its columns, but not where a sub-select says what it answers with.
fn looks_at_a_column(part: &Tree, relation: &Tree, may_be_its: bool) -> bool {
    match part {
        Tree::Node("ColumnRef", _) => match part.get("fields").items() {
            [_] => may_be_its,
            [.., name, _] => relation.is_nothing() || name.get("sval").text() == visible(relation),
            [] => false,
        },
        Tree::Node(kind, fields) => fields.iter().any(|(name, field)| {
            let is_answer = (*kind, *name) == ("SelectStmt", "target_list");
            looks_at_a_column(field, relation, may_be_its && !is_answer)
        }),
        Tree::List(items) => items.iter().any(|item| looks_at_a_column(item, relation, may_be_its)),
        Tree::Text(_) | Tree::Int(_) | Tree::Bool(_) | Tree::Nothing => false,
    }
}

/// The name that a relation goes by in its statement.
fn visible(relation: &Tree) -> &str {
    match relation.get("alias").get("aliasname").text() {
        "" => relation.get("relname").text(),
        alias => alias,
    }
}

#[cfg(test)]
mod tests {
    use crate::core::statement::grammar;

    #[test]
    fn conditions_that_cannot_leave_rows_out_count_as_none() {
        let none = [
            "delete from t",
            "delete from t where true",
            "delete from t where 1=1",
            "delete from t where id = id",
            "delete from t where id = 5 or true",
            "delete from t where not false",
            "delete from t where not (id <> id)",
            "delete from t where (select true)",
            "delete from t where exists (select 1)",
            "delete from t where 't'::bool",
            "delete from t where id::text ~ ''",
            "delete from t where name like '%'",
            "delete from t where now() > '2000-01-01'",
            "delete from t where true and 2 > 1 and id >= id",
            "delete from t where id = 5 or 2 <> 1",
            "delete from t where 1 is distinct from 0",
            "delete from t where 1 operator(s.=) 0",
            "update t set a = 1 from u where u.id = 1",
            "update s.t as x set a = 1 from u t where t.id = 1",
            "delete from t using u where u.id = 5 and u.a like 'x%'",
            "delete from t where exists (select id from u)",
            "delete from t where (select max(id) from u) > 0",
            "merge into t using u on true when matched then delete",
            "merge into t using u on u.id = 5 when not matched by source then update set a = 1",
            "merge into t using u on false when not matched by source then delete",
            "merge into t using u on t.id = u.id when not matched by source then delete",
            "merge into t using u on t.id = 5 when matched then delete when not matched by source then update set a = 1",
            "merge into t using u on true when matched and u.a = 1 then delete when not matched then do nothing",
        ];
        for sql in none {
            assert!(!predicate_of(sql), "{sql}");
        }
    }

    #[test]
    fn conditions_on_a_column_count() {
        let some = [
            "delete from t where id = 1",
            "delete from t where id = $1",
            "update t set a = 1 where id in (select 1)",
            "delete from t where id = 5 and true",
            "delete from t where name like 'a%'",
            "delete from t where current of c",
            "delete from t where 1 = 0",
            "update t set a = 1 where false",
            "delete from t where 1 = 0 or id = 5",
            "delete from t where 2 < 1 and true",
            "update t set a = 1 from u where u.id = t.id",
            "update s.t as x set a = 1 from u where x.id = u.id",
            "update s.t set a = 1 where s.t.id = 5",
            "delete from t using u where u.id = id",
            "delete from t where exists (select 1 from u where u.id = t.id)",
            "delete from t where exists (select 1 from u where u.id = a)",
            "delete from t where id in (select id from u)",
            "delete from t where (select count(*) from u where u.id = t.id) > 0",
            "merge into t using u on t.id = u.id when matched then delete when not matched then insert values (1)",
            "merge into t using u on true when matched and t.a = 1 then delete",
            "merge into t using u on true when not matched then insert values (1)",
        ];
        for sql in some {
            assert!(predicate_of(sql), "{sql}");
        }
    }

    #[test]
    fn columns_that_must_equal_one_value_are_named_and_no_others() {
        let cases: [(&str, &[&str]); 18] = [
            ("delete from t where id = 1", &["id"]),
            ("update t set a = 2 where t.id = $1::int8 and 'x' = \"B\" and c > 3", &["id", "B"]),
            ("update t set a = 2 where id = 1 or b = 2", &[]),
            ("update t set a = 2 where not (id = 1)", &[]),
            ("update t set a = 2 where id in (1, 2)", &[]),
            ("update t set a = 2 where id = any ('{1,2}')", &[]),
            ("update t set a = 2 where id = b", &[]),
            ("update t set a = 2 where id = (select 1)", &[]),
            ("update t set a = 2 where id + 0 = 1", &[]),
            ("update t set a = 2 where id >= 1", &[]),
            ("update t set a = 2 from u where id = 1", &[]),
            ("delete from t using u where id = 1", &[]),
            ("with u as (select 1) delete from t where id = 1", &[]),
            ("select 1 from t where id = $1", &[]),
            ("select 1 from t where id = 1::numeric", &[]),
            ("select 1 from t, u where id = 1", &[]),
            ("select 1 from t where id = 1 and b ~ 'x'", &["id"]),
            ("select 1 from t where id = 1.5 or id = 2", &[]),
        ];
        for (sql, columns) in cases {
            let statements = grammar::parse(sql).expect(sql);
            assert_eq!(statements.first().expect("one").facts.pinned, columns, "{sql}");
        }
    }

    fn predicate_of(sql: &str) -> bool {
        let statements = grammar::parse(sql).expect(sql);
        let touches = &statements.first().expect("one").facts.touches;
        touches.iter().filter(|touch| touch.relation.name == "t").all(|touch| touch.has_predicate)
    }
}
