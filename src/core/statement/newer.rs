//! Words that are syntax here and were names of functions in older servers.
//!
//! PostgreSQL 17 reads `json_query(a, b)` by a rule of its grammar; before that it is the call of whatever
//! function has that name, and people write such functions until their server has the word. What must
//! stay true: nothing that an older server takes for a call is anything else here. To a server that knows the
//! word it is a function of the server's own.

use super::tree::Tree;

/// The words, and `server_version_num` from which on they are syntax.
const WORDS: [(&str, u32); 10] = [
    ("json_array", 160_000),
    ("json_arrayagg", 160_000),
    ("json_object", 160_000),
    ("json_objectagg", 160_000),
    ("json", 170_000),
    ("json_exists", 170_000),
    ("json_query", 170_000),
    ("json_scalar", 170_000),
    ("json_serialize", 170_000),
    ("json_value", 170_000),
];

/// A word that is syntax only where no older server reads a call: below MERGE ... RETURNING.
const MERGE_ACTION: (&str, u32) = ("merge_action", 170_000);

/// What a server of this version knows by itself although its catalog lists no such function.
pub fn known_to(version: u32) -> impl Iterator<Item = &'static str> {
    WORDS.into_iter().chain([MERGE_ACTION]).filter(move |(_, since)| version >= *since).map(|(word, _)| word)
}

/// A node that is such a word becomes the argument of a call by that name.
pub(super) fn as_call(node: Tree) -> Tree {
    let words: Vec<_> = node.get("funcname").items().iter().map(|name| name.get("sval").text()).collect();
    // Its rule puts the schema in front of a call by the old syntax.
    if words == ["pg_catalog", "json_object"] {
        let fields = [("args", node.get("args").clone()), ("location", node.get("location").clone())];
        return call("json_object", fields);
    }
    let word = match node.kind() {
        "JsonArrayConstructor" | "JsonArrayQueryConstructor" => "json_array",
        "JsonArrayAgg" => "json_arrayagg",
        "JsonObjectConstructor" => "json_object",
        "JsonObjectAgg" => "json_objectagg",
        "JsonParseExpr" => "json",
        "JsonScalarExpr" => "json_scalar",
        "JsonSerializeExpr" => "json_serialize",
        // JsonExprOp of the parser's protobuf. JSON_TABLE has columns of its own, which older servers refuse.
        "JsonFuncExpr" => match node.get("op").int() {
            1 => "json_exists",
            2 => "json_query",
            _ => "json_value",
        },
        "MergeSupportFunc" => MERGE_ACTION.0,
        _ => return node,
    };
    let location = node.get("location").clone();
    call(word, [("args", Tree::List(vec![node])), ("location", location)])
}

fn call(word: &str, rest: [(&'static str, Tree); 2]) -> Tree {
    let name = Tree::Node("String", vec![("sval", Tree::Text(word.to_owned()))]);
    let mut fields = vec![("funcname", Tree::List(vec![name]))];
    fields.extend(rest);
    Tree::Node("FuncCall", fields)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::statement::grammar;

    #[test]
    fn whatever_an_older_server_calls_is_a_call() {
        let arguments = ["(a, '$')", "(a)", "()", "('a' : 1)"];
        for (word, _) in WORDS.into_iter().chain([("json_array", 0), ("lower", 0)]) {
            let texts = arguments.map(|arguments| format!("select 1 from t where {word}{arguments} is null"));
            let read: Vec<_> = texts.iter().filter_map(|text| grammar::parse(text).ok()).collect();
            assert!(!read.is_empty(), "{word}");
            for statements in read {
                let calls: Vec<_> = statements.iter().flat_map(|one| one.facts.functions.clone()).collect();
                assert!(calls.iter().any(|call| call.schema.is_none() && call.name == word), "{word}: {calls:?}");
            }
        }
    }

    #[test]
    fn what_stands_in_such_a_call_is_seen() {
        let statement =
            grammar::parse("select json_query(secret(a), '$' passing other(b) as x) from t").expect("reads");
        let calls: Vec<_> = statement.iter().flat_map(|one| &one.facts.functions).map(|call| &*call.name).collect();
        assert_eq!(calls, ["json_query", "secret", "other"]);
        let merge = "merge into t using s on t.id = s.id when matched then delete returning merge_action()";
        assert!(grammar::parse(merge).expect("reads").iter().all(|one| one.facts.functions.len() == 1));
    }

    #[test]
    fn a_server_knows_the_words_of_its_version() {
        assert_eq!(known_to(150_018).count(), 0);
        assert_eq!(
            known_to(160_004).collect::<Vec<_>>(),
            ["json_array", "json_arrayagg", "json_object", "json_objectagg"]
        );
        assert!(known_to(180_000).any(|word| word == "json_query"));
    }
}
