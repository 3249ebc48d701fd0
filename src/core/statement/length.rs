//! How long a text may be.
//!
//! What must stay true: of a text that is not too long, no more is looked through than [`LONGEST`]. Programs put bytes
//! and documents into literals, and those count only towards [`LONGEST_WHOLE`].

use super::texts::RUNS_TEXT;

/// The longest text that is parsed, in bytes, without what its literals hold: to look through that costs next to
/// nothing.
pub const LONGEST: usize = 256 * 1024;

/// The longest with that.
pub const LONGEST_WHOLE: usize = 16 * 1024 * 1024;

/// Whether it is longer than what is parsed.
pub fn is_too_long(sql: &str) -> bool {
    sql.len() > LONGEST_WHOLE || (sql.len() > LONGEST && outside_literals(sql) > LONGEST)
}

/// The bytes of a text that do not stand inside of plain literals. With literals of any other kind, all of them:
/// whoever took for a literal what is none would let a text through that takes long. And with functions that run
/// texts, whose literals are looked through as well.
fn outside_literals(sql: &str) -> usize {
    let mut outside = String::new();
    let mut here = 0;
    while let Some(byte) = sql.as_bytes().get(here) {
        if *byte == b'\'' {
            let is_plain = |byte: &u8| byte.is_ascii_punctuation() && !matches!(byte, b'_' | b'$' | b'&');
            let before = here.checked_sub(1).and_then(|at| sql.as_bytes().get(at));
            if before.is_some_and(|byte| !is_plain(byte) && !byte.is_ascii_whitespace()) {
                return sql.len();
            }
            outside.push_str("''");
            here = behind(sql, here + 1, "'");
            continue;
        }
        let Some((part, end)) = word(sql, here) else { return sql.len() };
        outside.push_str(part);
        if outside.len() > LONGEST {
            return sql.len();
        }
        here = end;
    }
    outside.make_ascii_lowercase();
    if RUNS_TEXT.iter().any(|name| outside.contains(name)) { sql.len() } else { outside.len() }
}

/// A comment, a quoted name, or all that no literal and none of these can begin in, and where it ends. Nothing where
/// something else may begin here that hides quotes, or letters of a name.
fn word(sql: &str, here: usize) -> Option<(&str, usize)> {
    let rest = sql.get(here..)?;
    let end = match rest.as_bytes() {
        [b'"', ..] => behind(sql, here + 1, "\""),
        [b'-', b'-', ..] => rest.find(['\n', '\r']).map_or(sql.len(), |length| here + length),
        [b'/', b'*', ..] => {
            let end = behind(sql, here + 2, "*/");
            // Comments may stand in comments.
            if sql.get(here + 2..end - 1)?.contains("/*") {
                return None;
            }
            end
        }
        [b'&', b'"', ..] => return None,
        // No parameter: a literal between dollars may begin here.
        [b'$', next, ..] if !next.is_ascii_digit() => return None,
        _ => {
            let one = rest.chars().next()?.len_utf8();
            let more = rest.get(one..)?.find(['\'', '"', '-', '/', '&', '$']);
            more.map_or(sql.len(), |length| here + one + length)
        }
    };
    Some((sql.get(here..end)?, end))
}

/// The place behind the next of these.
fn behind(sql: &str, from: usize, end: &str) -> usize {
    let length = sql.get(from..).and_then(|rest| rest.find(end));
    length.map_or(sql.len(), |length| from + length + end.len())
}

#[cfg(test)]
mod tests {
    use super::super::grammar;
    use super::*;

    #[test]
    fn what_plain_literals_hold_does_not_make_a_text_too_long() {
        let long = "x".repeat(LONGEST);
        let backslash = long.replace('x', "\\");
        for sql in [
            format!("insert into a values ('{long}')"),
            format!("insert into a values ('{backslash}'::bytea, $1, 'it''s')"),
            format!("/* it's */ select '{long}' /**/ -- it's"),
            format!("select 1 -- it's\n, '{long}''{long}'"),
            format!("select \"it's\", '{long}'"),
        ] {
            assert!(!is_too_long(&sql) && grammar::parse(&sql).is_ok(), "{}", sql.get(..40).expect("long"));
        }
        let names = "a,".repeat(LONGEST);
        for sql in [
            format!("select {names}a"),
            format!("select '', {names}a, ''"),
            format!("select '''', {names}a"),
            format!("select E'\\'', {names}a, ''"),
            format!("select $$'$$, {names}a, ''"),
            format!("select $a$'$a$, {names}a, ''"),
            format!("select U&'\\0041', '{long}'"),
            format!("select /* ' */ {names}a /* ' */"),
            format!("select /* /*/ ' */ */ {names}a, ''"),
            format!("select 1 -- '\n, {names}a -- '"),
            format!("select 1 -- '\r, {names}a -- '"),
            format!("select \"'\", {names}a, \"'\""),
            format!("select U&\"q\\0075ery_to_xml\"('{long}')"),
            format!("select Query_To_XML('{long}', true, true, '')"),
            format!("select N'{long}'"),
            format!("select é'{long}'"),
            format!("select '{}'", "x".repeat(LONGEST_WHOLE)),
            format!("select {}", "'',".repeat(LONGEST)),
        ] {
            assert!(is_too_long(&sql), "{}", sql.get(..40).expect("long"));
        }
    }
}
