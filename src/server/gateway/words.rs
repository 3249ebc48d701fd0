//! What errors and notices may say where columns are masked.
//!
//! A trigger sees whole rows and may say what it likes; PostgreSQL quotes the rows that it is about.
//! Where both are known to show nothing masked, an error is told as it came. Unknown is hidden.

use super::rows::Execution;
use super::session::Session;
use crate::core::scope::catalog::Against;
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
        let origin = fields.context.as_deref().map_or(Origin::Server, |context| origin(context, front));
        let is_functions = origin == Origin::Function;
        if !self.has_masks {
            Hides::Nothing
        } else if is_functions && !self.executions.front().is_some_and(is_tame) {
            Hides::Words
        } else if fields.severity != "NOTICE"
            && !fields.sqlstate.get(..2).is_some_and(|class| TELLS_NO_ROW.contains(&class))
        {
            // "Failing row contains …" and "Key (…)=(…)" would show what is masked.
            match origin {
                Origin::Parameter if fields.sqlstate.starts_with("22") => Hides::Nothing,
                Origin::Server | Origin::Parameter if self.is_about_shown_rows(fields, front) => Hides::Nothing,
                Origin::Server | Origin::Parameter | Origin::Function => Hides::Values,
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
                let of = RelationName::new(schema, table);
                self.shows_key(&of, fields)
                    || self.shows_all(&of) && written.all(|name| is_own(name) || self.is_shown(name))
            }
            (Some("22"), _, _) => front.is_some_and(|facts| {
                matches!(facts.effect, Effect::Read | Effect::Write)
                    && (facts.prepared.is_none() || facts.executes)
                    && facts.touches.iter().all(|touch| self.is_shown(&touch.relation))
            }),
            _ => false,
        }
    }

    /// Whether an error is about a key, of a unique index or a foreign key, that has nothing masked in any of the
    /// relations it stands in.
    fn shows_key(&self, of: &RelationName, fields: &ErrorFields) -> bool {
        let kind = match fields.sqlstate.as_str() {
            "23001" | "23503" => "foreign key",
            "23505" => "unique index",
            _ => return false,
        };
        let constraint = fields.constraint.as_ref().and_then(|name| {
            let name = format!("{kind} {name}");
            self.catalog.relations.get(of)?.constraints.iter().find(|one| one.name == name)
        });
        constraint.is_some_and(|constraint| {
            self.shows_columns(of, &constraint.columns)
                && match &constraint.against {
                    Against::Rows { .. } | Against::Itself => true,
                    // No key is held against these.
                    Against::Bounds | Against::Session => false,
                    Against::Relation { oid, columns } => {
                        self.catalog.by_oid(*oid).is_some_and(|relation| self.shows_columns(&relation.name, columns))
                    }
                }
        })
    }

    /// Whether these columns, by their numbers, come as they are, and in every row.
    fn shows_columns(&self, name: &RelationName, columns: &[i16]) -> bool {
        self.scope().relations.get(name).filter(|scope| scope.read && !scope.is_closed()).is_some_and(|scope| {
            let is_shown = |number: &i16| scope.columns.iter().any(|one| one.number == *number && one.mask.is_none());
            columns.iter().all(is_shown)
        })
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

/// Who speaks, by the CONTEXT of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// PostgreSQL itself, about data that came from the client or a row's place.
    Server,
    /// The same, before anything runs: it cannot read the value of a parameter.
    Parameter,
    /// A function, or nobody knows.
    Function,
}

/// What is innermost stands first, and of a function that is the function. Outermost is what may quote the client's
/// own data, over as many lines as those have; every other line must be known.
fn origin(context: &str, facts: Option<&Facts>) -> Origin {
    let copied = facts.filter(|facts| facts.copy.is_some()).and_then(|facts| facts.touches.first());
    let is_line_of_copy = |text: &str| {
        let rest = copied.and_then(|touch| text.strip_prefix("COPY ")?.strip_prefix(touch.relation.name.as_str()));
        let rest = rest.and_then(|rest| behind_number(rest.strip_prefix(", line ")?));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(": ") || rest.starts_with(", column "))
    };
    let mut rest = context;
    loop {
        if is_line_of_copy(rest) {
            return Origin::Server;
        }
        if is_parameter(rest) {
            return Origin::Parameter;
        }
        match rest.split_once('\n') {
            Some((line, more)) if is_known(line) => rest = more,
            None if is_known(rest) => return Origin::Server,
            Some(_) | None => return Origin::Function,
        }
    }
}

/// A line that quotes a text which was to be read as JSON, or says where PostgreSQL was.
fn is_known(line: &str) -> bool {
    let json = line.strip_prefix("JSON data, line ").and_then(behind_number);
    json.is_some_and(|rest| rest.starts_with(": "))
        || line.starts_with("while ") && line.contains(" tuple (") && line.contains(") in relation \"")
        || line == "parallel worker"
}

/// `unnamed portal parameter $1 = 'value'`, or that of a portal with a name: in the value every quote is doubled.
fn is_parameter(text: &str) -> bool {
    let of_named = || {
        let (name, rest) = text.strip_prefix("portal \"")?.split_once('"')?;
        (!name.contains('\n')).then_some(rest)
    };
    let rest = text.strip_prefix("unnamed portal").or_else(of_named);
    let Some(rest) = rest.and_then(|rest| behind_number(rest.strip_prefix(" parameter $")?)) else { return false };
    let value = || rest.strip_prefix(" = '")?.strip_suffix('\'');
    rest.is_empty() || value().is_some_and(|value| !value.replace("''", "").contains('\''))
}

/// What stands behind the number that a text begins with.
fn behind_number(text: &str) -> Option<&str> {
    let rest = text.trim_start_matches(|letter: char| letter.is_ascii_digit());
    (rest.len() < text.len()).then_some(rest)
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
        use Origin::{Function, Parameter, Server};
        let cases = [
            ("COPY outbox, line 1", Server),
            ("COPY outbox, line 12, column topic: \"two\nlines\"", Server),
            ("COPY other, line 1", Function),
            ("COPY outbox, line 1\nPL/pgSQL function tell() line 1 at SQL statement", Function),
            ("PL/pgSQL function tell() line 1 at RAISE\nCOPY outbox, line 1", Function),
            ("SQL function \"f\" statement 1", Function),
            ("SQL statement \"DELETE FROM ONLY a\"", Function),
            ("JSON data, line 1: {a", Server),
            ("JSON data, line 1: {a\nCOPY outbox, line 1, column payload: \"{a\"", Server),
            ("JSON data, line 1: {a\nparallel worker", Server),
            ("JSON data, line 1: {a\nunnamed portal parameter $1 = '{a\nb''c'", Parameter),
            ("JSON data, line 1: {a\nunnamed portal parameter $1 = 'a'\nPL/pgSQL function f() line 1", Function),
            ("JSON data, line 1: {a\nunnamed portal parameter $1 = 'a'\nPL/pgSQL function f('')", Function),
            ("JSON data, line 1: {a\nPL/pgSQL function f() line 1 at assignment", Function),
            ("JSON data, line 1: {a\nPL/pgSQL function f() line 1\nunnamed portal parameter $1 = '{a'", Function),
            ("JSON data, line one: {a", Function),
            ("unnamed portal parameter $1", Parameter),
            ("unnamed portal parameter $1 = 'it's'", Function),
            ("portal \"p\" parameter $2 = 'x'", Parameter),
            ("portal \"p\nq\" parameter $2 = 'x'", Function),
            ("while updating tuple (0,1) in relation \"t\"", Server),
            ("while I looked at email", Function),
            ("", Function),
        ];
        for (context, expected) in cases {
            assert_eq!(origin(context, Some(&copy)), expected, "{context}");
        }
        assert_eq!(origin("COPY outbox, line 1", None), Function);
    }
}
