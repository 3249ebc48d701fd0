//! Whether a statement names what only one session knows, other than by calling a function: the row of a
//! cursor, and objects by a text, which may be the session's own.

use super::tree::Tree;

/// Whether it does.
pub(super) fn on_the_session(tree: &Tree) -> bool {
    let mut leans = false;
    let mut looked_up = 0_usize;
    let mut drawn = 0_usize;
    tree.visit(&mut |node| match node.kind() {
        "CurrentOfExpr" => leans = true,
        "TypeName" => looked_up += usize::from(is_of_objects(node)),
        "FuncCall" => drawn += usize::from(draws(node)),
        _ => {}
    });
    // The texts that a sequence is drawn from by are judged with the function.
    leans || looked_up > drawn
}

/// A type whose values are objects, found by their names: `regclass` and its kin.
fn is_of_objects(name: &Tree) -> bool {
    name.get("names").items().last().is_some_and(|last| last.get("sval").text().starts_with("reg"))
}

/// `nextval('name'::regclass)`, as PostgreSQL writes it itself.
fn draws(call: &Tree) -> bool {
    let is_drawing =
        call.get("funcname").items().last().is_some_and(|last| matches!(last.get("sval").text(), "nextval" | "setval"));
    let sequence = call.get("args").items().first().filter(|_| is_drawing);
    sequence.is_some_and(|sequence| {
        sequence.kind() == "TypeCast"
            && sequence.get("arg").kind() == "AConst"
            && is_of_objects(sequence.get("type_name"))
    })
}

#[cfg(test)]
mod tests {
    use crate::core::statement::grammar::parse;

    #[test]
    fn rows_of_cursors_and_objects_by_a_text_are_the_sessions_own() {
        let leans = |sql: &str| parse(sql).expect(sql).remove(0).facts.leans;
        for sql in [
            "delete from t where current of c",
            "delete from t where id = 'x'::regclass::oid::int",
            "delete from t where id = cast('x' as pg_catalog.regproc)::oid::int",
            "delete from t using jsonb_to_record('{}') as x (a regclass[]) where a is null",
            "insert into t values (nextval('s'::regclass), 'x'::regclass::oid)",
            "insert into t values (nextval(('s' || 'x')::regclass))",
        ] {
            assert!(leans(sql), "{sql}");
        }
        for sql in ["delete from t where id = 1::int", "insert into t values (nextval('s'::regclass), 'x'::text)"] {
            assert!(!leans(sql), "{sql}");
        }
    }
}
