//! Whether a statement is code that reads the DETAIL or CONTEXT of errors, in which PostgreSQL quotes rows.

use super::tree::Tree;

/// A block of code, and a function that only its session has: those that stay are found in the catalog.
pub(super) fn are_read(tree: &Tree) -> bool {
    let is_code = match tree.kind() {
        "DoStmt" => true,
        "CreateFunctionStmt" => {
            tree.get("funcname").items().first().is_some_and(|name| name.get("sval").text().starts_with("pg_temp"))
        }
        _ => false,
    };
    let mut reads = false;
    if is_code {
        tree.visit(&mut |node| {
            let text = node.get("sval").text().to_ascii_lowercase();
            reads |= ["detail", "context"].iter().any(|what| text.contains(&format!("pg_exception_{what}")));
        });
    }
    reads
}

#[cfg(test)]
mod tests {
    use crate::core::statement::grammar::parse;

    #[test]
    fn code_of_the_sessions_own_is_looked_through() {
        let reads = |sql: &str| parse(sql).expect(sql).remove(0).facts.reads_details;
        let body = "$$ begin null; exception when others then get stacked diagnostics d = Pg_Exception_DETAIL; end $$";
        for sql in [
            format!("do {body}"),
            format!("create function pg_temp.f() returns text language plpgsql as {body}"),
            "do 'begin get stacked diagnostics d = pg_exception_context; end'".to_owned(),
        ] {
            assert!(reads(&sql), "{sql}");
        }
        for sql in [
            format!("create function f() returns text language plpgsql as {body}"),
            "do 'begin get stacked diagnostics d = message_text; end'".to_owned(),
            "select 'pg_exception_detail'".to_owned(),
        ] {
            assert!(!reads(&sql), "{sql}");
        }
    }
}
