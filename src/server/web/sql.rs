//! SQL with its words coloured: cut by the same lexer that takes secrets out of statements.

use maud::{Markup, html};

use crate::core::text::escape_keeping_lines;
use crate::core::transcript::lexer::{self, Kind};

/// Words that are worth seeing at once.
const WORDS: [&str; 54] = [
    "all",
    "alter",
    "and",
    "as",
    "between",
    "by",
    "cascade",
    "case",
    "conflict",
    "create",
    "delete",
    "distinct",
    "do",
    "drop",
    "else",
    "end",
    "exists",
    "false",
    "from",
    "group",
    "having",
    "in",
    "index",
    "inner",
    "insert",
    "into",
    "is",
    "join",
    "left",
    "like",
    "limit",
    "merge",
    "not",
    "null",
    "offset",
    "on",
    "or",
    "order",
    "outer",
    "recursive",
    "returning",
    "right",
    "select",
    "set",
    "table",
    "then",
    "true",
    "truncate",
    "union",
    "update",
    "using",
    "values",
    "when",
    "where",
];

/// The statement as markup: every piece is escaped, and all pieces together are the text, with
/// letters that nobody sees spelled out.
pub fn highlighted(text: &str) -> Markup {
    html! {
        @for token in lexer::tokens(text) {
            @let piece = token.of(text);
            @let shown = escape_keeping_lines(piece);
            @match class(token.kind, piece) {
                None => (shown),
                Some(class) => span class=(class) { (shown) },
            }
        }
    }
}

fn class(kind: Kind, piece: &str) -> Option<&'static str> {
    match kind {
        Kind::Comment => Some("com"),
        Kind::Text | Kind::DollarText => Some("str"),
        Kind::Number | Kind::Parameter => Some("num"),
        Kind::Word => {
            let word = piece.to_ascii_lowercase();
            WORDS.binary_search(&word.as_str()).is_ok().then_some("kw")
        }
        Kind::Space | Kind::QuotedName | Kind::Symbol => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_and_everything_is_escaped() {
        assert!(WORDS.is_sorted());
        let shown = highlighted("delete from t where a = '<script>' -- \"x\"").into_string();
        assert!(shown.starts_with("<span class=\"kw\">delete</span> <span class=\"kw\">from</span> t "));
        assert!(shown.contains("<span class=\"str\">'&lt;script&gt;'</span>"), "{shown}");
        assert!(shown.contains("<span class=\"com\">-- &quot;x&quot;</span>"), "{shown}");
        let shown = highlighted("select 'deli\u{200b}vered\u{202e}'\n from t").into_string();
        assert!(shown.contains("'deli\\u{200b}vered\\u{202e}'</span>\n "), "{shown}");
    }
}
