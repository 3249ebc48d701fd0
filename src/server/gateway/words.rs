//! What errors and notices may say where columns are masked.
//!
//! A trigger sees whole rows and may say what it likes; PostgreSQL quotes the rows that it is about.
//! Where both are known to show nothing masked, an error is told as it came. Unknown is hidden.

use super::rows::Execution;
use super::session::Session;
use crate::core::scope::{RelationName, RelationScope};
use crate::core::statement::facts::{Effect, Facts, Name, RowAction};
use crate::core::wire::backend::{ErrorFields, Hides};

/// The classes of SQLSTATE in which PostgreSQL's own words quote no row (PostgreSQL, appendix A). Not among
/// them: data (22), integrity (23) and the check option of a view (44).
const TELLS_NO_ROW: [&str; 19] =
    ["00", "01", "02", "08", "0A", "25", "26", "28", "2B", "34", "3B", "3D", "3F", "40", "42", "53", "54", "55", "57"];

/// How schemas of temporary relations are called. A session writes to no other's.
const OWN: &str = "pg_temp_";

impl Session {
    /// What an error or notice may not say. A read runs no trigger, and neither does a statement about the
    /// session that nothing is counted of; no other function sees more than its caller may.
    pub(super) fn hides(&self, fields: &ErrorFields) -> Hides {
        let front = self.executions.front().map(|execution| execution.planned.cleared.facts());
        let is_tame = |execution: &Execution| {
            let planned = &execution.planned;
            !planned.hold.is_counted() && matches!(planned.cleared.facts().effect, Effect::Read | Effect::Session)
        };
        let is_functions = fields.context.as_deref().is_some_and(|context| !is_servers_own(context, front));
        if !self.has_masks {
            Hides::Nothing
        } else if is_functions && !self.executions.front().is_some_and(is_tame) {
            Hides::Words
        } else if fields.severity != "NOTICE"
            && !fields.sqlstate.get(..2).is_some_and(|class| TELLS_NO_ROW.contains(&class))
        {
            // "Failing row contains …" and "Key (…)=(…)" would show what is masked.
            match !is_functions && self.is_about_shown_rows(fields, front) {
                true => Hides::Nothing,
                false => Hides::Values,
            }
        } else {
            Hides::Nothing
        }
    }

    /// Whether all rows that the error can quote are of relations in which nothing is masked.
    fn is_about_shown_rows(&self, fields: &ErrorFields, front: Option<&Facts>) -> bool {
        match (fields.sqlstate.get(..2), &fields.schema, &fields.table) {
            // The key of a foreign key that is quoted stands in both relations: in the one named here and
            // in one that was written. Rows that were only read came with their masks.
            (Some("23"), Some(schema), Some(table)) => {
                let is_own = |name: &Name| schema.starts_with(OWN) && name.name == *table;
                let running = front.into_iter().flat_map(|facts| &facts.touches);
                let running = running.filter(|touch| touch.action != RowAction::Read).map(|touch| &touch.relation);
                let mut written = self.held.written().chain(running);
                self.shows_all(&RelationName::new(schema, table))
                    && written.all(|name| is_own(name) || self.is_shown(name))
            }
            (Some("22"), _, _) => front.is_some_and(|facts| {
                matches!(facts.effect, Effect::Read | Effect::Write)
                    && facts.prepared.is_none()
                    && facts.touches.iter().all(|touch| self.is_shown(&touch.relation))
            }),
            _ => false,
        }
    }

    fn is_shown(&self, name: &Name) -> bool {
        let (schema, name) = (name.schema.as_deref(), &name.name);
        if schema == Some("pg_temp") || (schema.is_none() && self.temporary.contains(name)) {
            return true;
        }
        let known = self.catalog.resolve(schema, name, &self.search_path);
        known.is_some_and(|relation| self.shows_all(&relation.name))
    }

    /// Temporary relations hold what the session has put there.
    fn shows_all(&self, name: &RelationName) -> bool {
        let is_open = |scope: &RelationScope| scope.read && !scope.is_replaced();
        name.schema.starts_with(OWN) || self.scope().relations.get(name).is_some_and(is_open)
    }
}

/// Whether a CONTEXT is of PostgreSQL itself, about data that came from the client or a row's place.
/// What is innermost stands first, and of a function that is the function.
fn is_servers_own(context: &str, facts: Option<&Facts>) -> bool {
    let copied = facts.filter(|facts| facts.copy.is_some()).and_then(|facts| facts.touches.first());
    let is_line_of_copy = copied.is_some_and(|touch| {
        let rest = context.strip_prefix("COPY ").and_then(|rest| rest.strip_prefix(touch.relation.name.as_str()));
        rest.and_then(|rest| rest.strip_prefix(", line "))
            .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    });
    let is_of = |start: &str, holds: &str| context.starts_with(start) && context.contains(holds);
    let is_other = is_of("JSON data, line ", ": ")
        || is_of("unnamed portal parameter $", "")
        || is_of("portal \"", "\" parameter $")
        || is_of("while ", " tuple (") && context.contains(") in relation \"");
    is_line_of_copy || (is_other && !context.contains('\n'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::statement::facts::{CopyDirection, Touch};

    #[test]
    fn the_words_of_a_function_are_told_from_postgresqls_own() {
        let touch = Touch {
            relation: Name::new(None, "outbox"),
            action: RowAction::Insert,
            offset: None,
            has_predicate: false,
        };
        let copy = Facts {
            copy: Some(CopyDirection::FromClient),
            touches: vec![touch],
            ..Facts::plain("COPY", Effect::Write)
        };
        let cases = [
            ("COPY outbox, line 1", true),
            ("COPY outbox, line 12, column topic: \"two\nlines\"", true),
            ("COPY other, line 1", false),
            ("PL/pgSQL function tell() line 1 at RAISE\nCOPY outbox, line 1", false),
            ("SQL function \"f\" statement 1", false),
            ("SQL statement \"DELETE FROM ONLY a\"", false),
            ("JSON data, line 1: {a", true),
            ("JSON data, line 1: {a\nPL/pgSQL function f() line 1 at assignment", false),
            ("unnamed portal parameter $1", true),
            ("portal \"p\" parameter $2 = 'x'", true),
            ("while updating tuple (0,1) in relation \"t\"", true),
            ("while I looked at email", false),
            ("", false),
        ];
        for (context, expected) in cases {
            assert_eq!(is_servers_own(context, Some(&copy)), expected, "{context}");
        }
        assert!(!is_servers_own("COPY outbox, line 1", None));
    }
}
