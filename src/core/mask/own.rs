//! Masks of the types that a database makes for itself: composite types field by field, domains as
//! far as their conditions let a masked value pass.

use super::shape::{RecordField, Shape};
use super::{disclose, fixed, identifier, literal, null_of, takes};

/// What a mask leaves of the fields of a composite value; nothing where it fits none of them.
pub(super) fn fields(mask: &str, value: &str, name: &str, fields: &[RecordField]) -> Option<String> {
    let shown = |field: &RecordField| {
        let place = format!("({value}).{}", identifier(&field.name));
        let inner = disclose::value(mask, &place, &field.shape)?;
        let null = null_of(name, &field.name, &field.type_name);
        // As the field's own type already: a domain is not asked about NULL again.
        let inner = format!("({inner})::{}", field.type_name);
        Some(unless_null(&place, &inner, &null, &field.shape))
    };
    let all: Vec<Option<String>> = fields.iter().map(shown).collect();
    all.iter().any(Option::is_some).then(|| row(name, fields, all))
}

/// Whether a value falls apart into fields.
pub(super) fn has_fields(shape: &Shape) -> bool {
    match shape {
        Shape::Record { .. } => true,
        Shape::Guarded { of, .. } => has_fields(of),
        // Nothing else does, whatever is in it.
        _ => false,
    }
}

/// `***` wherever a value has text, NULL elsewhere; nothing where no part of it is text.
pub(super) fn redacted(shape: &Shape) -> Option<String> {
    match shape {
        Shape::Text { .. } => Some("'***'".to_owned()),
        Shape::Guarded { stand_in: Some(text), .. } => Some(literal(text)),
        // One that asks for no more than a value.
        Shape::Guarded { of, condition, .. } if condition == "true" => redacted(of),
        Shape::Record { name, fields } => {
            let all: Vec<Option<String>> = fields.iter().map(|field| redacted(&field.shape)).collect();
            all.iter().any(Option::is_some).then(|| row(name, fields, all))
        }
        // NULL says no less of them, and every type has it.
        _ => None,
    }
}

/// A constant of the type; nothing where it cannot be told whether it is one.
pub(super) fn fixed(value: &str, shape: &Shape, type_name: &str) -> Option<String> {
    match shape {
        Shape::Guarded { of, over, .. } => Some(guarded(&fixed(value, of, over)?, shape)),
        _ => fixed::fits(value, shape, type_name).then(|| literal(value)),
    }
}

fn row(name: &str, fields: &[RecordField], shown: Vec<Option<String>>) -> String {
    let all = fields
        .iter()
        .zip(shown)
        .map(|(field, sql)| sql.unwrap_or_else(|| null_of(name, &field.name, &field.type_name)));
    format!("row({})::{name}", all.collect::<Vec<_>>().join(", "))
}

/// What a mask has left, as a value of the domain where the domain takes it, and NULL elsewhere. The
/// condition is the domain's own text, which calls the value `VALUE`.
pub(super) fn guarded(left: &str, shape: &Shape) -> String {
    let Shape::Guarded { name, over, condition, .. } = shape else { return left.to_owned() };
    let null = null(shape);
    format!(
        "(select case when d.value is distinct from null and ({condition}) is not false then d.value::{name} else {null} end \
         from (select ({left})::{over} as value) as d)"
    )
}

/// NULL beside a masked value. A branch of CASE is cast to the type of the others, which a domain may
/// refuse; an element that an array does not have is of the type already.
pub(super) fn null(shape: &Shape) -> String {
    match shape {
        Shape::Guarded { name, .. } => format!("(null::{name}[])[1]"),
        // Every other type takes it.
        _ => "null".to_owned(),
    }
}

/// What a mask leaves of a value, and `null` where there is none.
pub(super) fn unless_null(value: &str, left: &str, null: &str, shape: &Shape) -> String {
    match shape.keeps_null() {
        true => left.to_owned(),
        false => format!("case when {value} is null then {null} else {left} end"),
    }
}

/// What comes back as NULL although the mask fits, in words.
pub(super) fn lost(mask: &str, shape: &Shape) -> Vec<String> {
    let mut found = Vec::new();
    if mask == "redact" && redacted(shape).is_none() {
        found.push("NULL: only text that takes `***`, or what can stand for it, has room".to_owned());
    } else {
        find(mask, shape, "", &mut found);
    }
    found
}

fn find(mask: &str, shape: &Shape, place: &str, found: &mut Vec<String>) {
    let fits = |shape: &Shape| match mask {
        "redact" => redacted(shape).is_some(),
        _ => disclose::value(mask, "v", shape).is_some(),
    };
    match shape {
        Shape::Array(inner) => find(mask, inner, place, found),
        // What stands for it has been tried.
        Shape::Guarded { .. } if mask == "redact" => {}
        Shape::Guarded { of, name, .. } => {
            found.push(format!("{place}NULL where what the mask leaves is no `{name}`"));
            find(mask, of, place, found);
        }
        Shape::Record { fields, .. } => {
            for field in fields {
                let place = format!("{place}field `{}`: ", field.name);
                match fits(&field.shape) {
                    true => find(mask, &field.shape, &place, found),
                    false if mask == "redact" => found.push(format!("{place}NULL, since only text has room for `***`")),
                    false => found.push(format!("{place}NULL, since the mask does not fit: {}", takes(mask))),
                }
            }
        }
        // One value, and the mask fits it.
        _ => {}
    }
}
