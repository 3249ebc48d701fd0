//! Masks for JSON: some places of a document are hidden, the rest stays.
//!
//! A place is named as `address.street` or `items[].price`. Doubt closes: where a document has
//! another shape than a path expects (a text where an object should be), all of it is hidden there.

use std::collections::BTreeMap;

use super::literal;

/// What stands for a hidden value.
const HIDDEN: &str = "'\"***\"'::jsonb";

/// Longest list of paths: the expression grows with it.
const MOST_STEPS: usize = 64;

/// Places to hide, as a tree, so that every document is taken apart once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Paths {
    /// The value itself is hidden.
    hidden: bool,
    keys: BTreeMap<String, Paths>,
    elements: Option<Box<Paths>>,
}

impl Paths {
    /// Reads `a.b,c[].d`; nothing where a path is empty or not closed. A `$.` in front is allowed.
    pub fn parse(text: &str) -> Option<Self> {
        let mut root = Self::default();
        let mut steps = 0_usize;
        for path in text.split(',') {
            let path = path.trim();
            let mut at = &mut root;
            for part in path.strip_prefix("$.").unwrap_or(path).split('.') {
                let mut name = part;
                let mut depth = 0_usize;
                while let Some(rest) = name.strip_suffix("[]") {
                    (name, depth) = (rest, depth.saturating_add(1));
                }
                if name.is_empty() || name.contains(['[', ']', '\0']) {
                    return None;
                }
                steps = steps.saturating_add(1).saturating_add(depth);
                at = at.keys.entry(name.to_owned()).or_default();
                for _ in 0..depth {
                    at = at.elements.get_or_insert_default();
                }
            }
            at.hidden = true;
        }
        (steps <= MOST_STEPS).then_some(root)
    }
}

/// The document without what is hidden, as `jsonb`.
pub(super) fn hide(paths: &Paths, document: &str) -> String {
    inside(paths, document, 0)
}

/// The same for `json`: a text that `jsonb` would refuse is hidden whole, since the error would
/// quote it. NUL and half surrogates are refused, and numbers with long exponents.
pub(super) fn hide_text(paths: &Paths, document: &str) -> String {
    let refused = literal(r"\\u(0000|[dD][89a-fA-F])|[0-9][eE][-+]?[0-9]{4,}");
    let hidden = hide(paths, &format!("{document}::jsonb"));
    format!("case when {document}::text ~ {refused} then '\"***\"'::json else ({hidden})::json end")
}

fn inside(paths: &Paths, value: &str, depth: usize) -> String {
    if paths.hidden {
        return HIDDEN.to_owned();
    }
    let mut branches = vec![format!("when jsonb_typeof({value}) = 'null' then {value}")];
    if !paths.keys.is_empty() {
        let mut object = value.to_owned();
        for (key, below) in &paths.keys {
            let key = literal(key);
            let new = inside(below, &format!("({value} -> {key})"), depth);
            // Without the key nothing is set, and a NULL would make all of it NULL.
            object = format!("jsonb_set({object}, array[{key}], coalesce({new}, 'null'), false)");
        }
        branches.push(format!("when jsonb_typeof({value}) = 'object' then {object}"));
    }
    if let Some(below) = &paths.elements {
        let (row, next) = (format!("j{depth}"), depth.saturating_add(1));
        let element = inside(below, &format!("{row}.v"), next);
        branches.push(format!(
            "when jsonb_typeof({value}) = 'array' then coalesce((select jsonb_agg({element} order by {row}.n) \
             from jsonb_array_elements({value}) with ordinality as {row}(v, n)), '[]')"
        ));
    }
    format!("case {} else {HIDDEN} end", branches.join(" "))
}
