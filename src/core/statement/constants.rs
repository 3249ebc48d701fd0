//! An INSERT of rows of constants: what it is but for them.
//!
//! Two texts with the same [`Constants::key`] differ in the constants of their rows alone, in as many rows of as
//! many columns: every byte before and behind the rows is the same, and so are the types that constants are cast
//! to. Unlike in [`super::literals`], which of them are equal does not matter: nothing compares them.

use super::literals::quoted;

/// The longest text that is looked at.
pub const LONGEST: usize = 1024 * 1024;
/// Stand in the key behind the rows, for a constant, and for DEFAULT.
const ROWS: u8 = 1;
const CONSTANT: u8 = 2;
const DEFAULT: u8 = 3;
/// One of each kind: no two of them mean the same to the grammar.
const KINDS: [&str; 6] = ["'plain'", "'(a+)+ \\1 %9999s 1e9999'", "4000001", "null", "-1.5e300", "true"];
/// In so few rows not every column sees every kind.
const FEW: usize = KINDS.len();

/// One value of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Item<'t> {
    Null,
    Default,
    /// With the type that it is cast to, if it is.
    Constant(Option<&'t str>),
}

impl<'t> Item<'t> {
    /// What a column holds that has both of them.
    fn and(self, other: Self) -> Option<Self> {
        match (self, other) {
            (one, other) if one == other => Some(one),
            (Self::Null, one @ Self::Constant(_)) | (one @ Self::Constant(_), Self::Null) => Some(one),
            _ => None,
        }
    }

    fn write(self, constant: &str, to: &mut String) {
        match self {
            Self::Default => to.push_str("default"),
            // A minus in front of a cast is that of what was cast, and a NULL has none.
            Self::Constant(Some(of)) => {
                let constant = if constant == "null" { "'plain'" } else { constant.trim_start_matches('-') };
                to.extend([constant, "::", of]);
            }
            Self::Constant(None) | Self::Null => to.push_str(constant),
        }
    }
}

/// A text of which nothing but constants of its rows is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Constants<'t> {
    /// Up to and with VALUES, and behind the rows.
    head: &'t str,
    tail: &'t str,
    row: Vec<Item<'t>>,
    rows: usize,
}

impl<'t> Constants<'t> {
    /// Reads a text; none where it is not plainly such an INSERT.
    pub fn of(text: &'t str) -> Option<Self> {
        if text.len() > LONGEST || !text.get(..6)?.eq_ignore_ascii_case("insert") {
            return None;
        }
        let mut reader = Reader { text, at: behind_values(text)? };
        let head = text.get(..reader.at)?;
        let (mut row, mut rows) = (Vec::new(), 0);
        loop {
            reader.row(&mut row, rows == 0)?;
            rows += 1;
            let end = reader.at;
            if !reader.skip(b',') {
                return Some(Self { head, tail: text.get(end..)?, row, rows });
            }
        }
    }

    /// What all texts of this shape have in common.
    pub fn key(&self) -> Vec<u8> {
        let mut key = [self.head.len(), self.rows].map(usize::to_le_bytes).concat();
        key.extend_from_slice(self.head.as_bytes());
        for item in &self.row {
            key.push(if *item == Item::Default { DEFAULT } else { CONSTANT });
            if let Item::Constant(Some(of)) = item {
                key.extend_from_slice(of.as_bytes());
            }
        }
        key.push(ROWS);
        key.extend_from_slice(self.tail.as_bytes());
        key
    }

    /// Texts of the same shape with constants of every kind in every column, to see whether they matter.
    pub fn probes(&self) -> impl Iterator<Item = String> + '_ {
        let shifts = if self.rows < FEW { FEW } else { 1 };
        let mixed = (0..shifts).map(|shift| self.probe(|row, column| KINDS.get((row + column + shift) % KINDS.len())));
        mixed.chain(std::iter::once(self.probe(|_, _| KINDS.first())))
    }

    fn probe(&self, constant: impl Fn(usize, usize) -> Option<&'static &'static str>) -> String {
        let mut probe = self.head.to_owned();
        for row in 0..self.rows {
            probe.push_str(if row == 0 { "(" } else { ",(" });
            for (column, item) in self.row.iter().enumerate() {
                probe.push_str(if column == 0 { "" } else { "," });
                item.write(constant(row, column).unwrap_or(&"null"), &mut probe);
            }
            probe.push(')');
        }
        probe + self.tail
    }
}

/// The end of the word VALUES behind a relation and its columns. Only names, commas and brackets stand before it.
fn behind_values(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let (mut at, mut depth) = (0, 0_usize);
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => at = quoted(bytes, at, b'"')?,
            b'(' => (at, depth) = (at + 1, depth + 1),
            b')' => (at, depth) = (at + 1, depth.checked_sub(1)?),
            b',' | b'.' => at += 1,
            _ if byte.is_ascii_whitespace() => at += 1,
            _ => {
                let length = word(bytes.get(at..)?);
                let found = text.get(at..at + length).filter(|found| !found.is_empty())?;
                at += length;
                if depth == 0 && found.eq_ignore_ascii_case("values") {
                    return Some(at);
                }
            }
        }
    }
    None
}

/// How long the word is that a text starts with.
fn word(text: &[u8]) -> usize {
    text.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count()
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Reader<'t> {
    fn rest(&self) -> &'t [u8] {
        self.text.as_bytes().get(self.at..).unwrap_or_default()
    }

    fn skip_blanks(&mut self) {
        self.at += self.rest().iter().take_while(|byte| byte.is_ascii_whitespace()).count();
    }

    /// Passes over blanks, and then over this, if it comes next.
    fn skip(&mut self, byte: u8) -> bool {
        self.skip_blanks();
        let is_next = self.rest().first() == Some(&byte);
        self.at += usize::from(is_next);
        is_next
    }

    /// Reads one row, and adds to what is known of the columns.
    fn row(&mut self, row: &mut Vec<Item<'t>>, is_first: bool) -> Option<()> {
        self.skip(b'(').then_some(())?;
        for column in 0.. {
            let item = self.item()?;
            match row.get_mut(column) {
                Some(known) => *known = known.and(item)?,
                None if is_first => row.push(item),
                None => return None,
            }
            if !self.skip(b',') {
                return (self.skip(b')') && row.len() == column + 1).then_some(());
            }
        }
        None
    }

    fn item(&mut self) -> Option<Item<'t>> {
        self.skip_blanks();
        let rest = self.rest();
        let is_negative = rest.first() == Some(&b'-');
        let length = match rest.first()? {
            b'\'' => quoted(rest, 0, b'\'')?,
            b'-' | b'.' | b'0'..=b'9' => number(rest)?,
            _ => {
                let length = word(rest);
                let found = self.text.get(self.at..self.at + length)?;
                let is_one = |of: &&str| found.eq_ignore_ascii_case(of);
                match ["null", "default", "true", "false"].into_iter().find(is_one)? {
                    of @ ("null" | "default") => {
                        self.at += length;
                        return Some(if of == "null" { Item::Null } else { Item::Default });
                    }
                    _ => length,
                }
            }
        };
        self.at += length;
        let cast = self.cast()?;
        // The minus is an operator in front of what is cast.
        (!is_negative || cast.is_none()).then_some(Item::Constant(cast))
    }

    /// The type that what was read is cast to; nothing where that is not one plain word, or arrays of it.
    #[expect(clippy::option_option, reason = "no cast is one answer, and one that is not plain another")]
    fn cast(&mut self) -> Option<Option<&'t str>> {
        let Some(rest) = self.rest().strip_prefix(b"::") else { return Some(None) };
        let length = word(rest);
        let brackets = rest.get(length..)?.chunks_exact(2).take_while(|next| *next == b"[]").count();
        let start = self.at + 2;
        self.at = start + length + 2 * brackets;
        (length > 0).then(|| self.text.get(start..self.at).map(Some))?
    }
}

/// How long the number is that a text starts with; a minus belongs to it.
fn number(text: &[u8]) -> Option<usize> {
    let digits =
        |from: usize| text.get(from..).map_or(0, |rest| rest.iter().take_while(|b| b.is_ascii_digit()).count());
    let sign = usize::from(text.first() == Some(&b'-'));
    let whole = digits(sign);
    let mut end = sign + whole;
    let mut fraction = 0;
    if text.get(end) == Some(&b'.') {
        fraction = digits(end + 1);
        end += 1 + fraction;
    }
    if matches!(text.get(end), Some(b'e' | b'E')) {
        let signed = end + 1 + usize::from(matches!(text.get(end + 1), Some(b'-' | b'+')));
        let exponent = digits(signed);
        end = if exponent == 0 { return None } else { signed + exponent };
    }
    // What goes on as a word is something else.
    let goes_on = text.get(end).is_some_and(|byte| word(&[*byte]) == 1 || *byte == b'.' || *byte >= 0x80);
    (whole + fraction > 0 && !goes_on).then_some(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::statement::grammar;

    fn alike(one: &str, other: &str) -> bool {
        let key = |text| Constants::of(text).map(|found| found.key()).unwrap_or_else(|| panic!("{text}"));
        key(one) == key(other)
    }

    #[test]
    fn texts_that_differ_in_their_constants_only_are_alike() {
        for (one, other) in [
            ("insert into t values (1)", "insert into t values ('it''s, (more)')"),
            ("insert into t values (1, 1)", "insert into t values (1, 2)"),
            ("insert into t values (null, 1)", "insert into t values (-2.5e-3, true)"),
            (
                "INSERT INTO s.\"T t\" (a, b) VALUES (1, 'a'), (2, 'b')",
                "INSERT INTO s.\"T t\" (a, b) VALUES (3,'c'),(4,4)",
            ),
            (
                "insert into t values ('2026-01-01'::date, '{1}'::int[]), (null, '{}'::int[]) returning id",
                "insert into t values (null, null), ('2'::date, '{2,3}'::int[]) returning id",
            ),
        ] {
            assert!(alike(one, other), "{one} / {other}");
        }
    }

    #[test]
    fn everything_else_is_a_difference() {
        for (one, other) in [
            ("insert into t values (1)", "insert into u values (1)"),
            ("insert into t values (1)", "insert into t values (1), (2)"),
            ("insert into t values (1)", "insert into t values (1, 2)"),
            ("insert into t values (1)", "insert into t values (default)"),
            ("insert into t values (1)", "insert into t values (1::oid)"),
            ("insert into t values ('a'::a)", "insert into t values ('a'::b)"),
            ("insert into t values (1)", "insert into t values (1) returning a"),
            ("insert into t values (1) returning 1", "insert into t values (1) returning 2"),
            ("insert into t (a) values (1)", "insert into t (b) values (1)"),
        ] {
            assert!(!alike(one, other), "{one} / {other}");
        }
    }

    #[test]
    fn what_is_more_than_constants_has_no_key() {
        for text in [
            "insert into t values (f())",
            "insert into t values (1 + 1)",
            "insert into t values (+1)",
            "insert into t values (--1\n2)",
            "insert into t values (1 /* one */)",
            "insert into t values (E'a')",
            "insert into t values ('a' 'b')",
            "insert into t values ('a'\n'b')",
            "insert into t values ('a' collate x)",
            "insert into t values (-1::int)",
            "insert into t values (1::numeric(3))",
            "insert into t values (1::pg_catalog.int4)",
            "insert into t values ('{}'::int[3])",
            "insert into t values ('{}'::[])",
            "insert into t values ($1)",
            "insert into t values ($$a$$)",
            "insert into t values (0x1f)",
            "insert into t values (1_000)",
            "insert into t values (1.2.3)",
            "insert into t values (.)",
            "insert into t values (1e)",
            "insert into t values ((1))",
            "insert into t values (1), (2, 3)",
            "insert into t values (1, 2), (3)",
            "insert into t values (default), (1)",
            "insert into t values ('a'::a), ('b'::b)",
            "insert into t values (1",
            "insert into t values ('open)",
            "insert into t values ()",
            "insert into t values (1),",
            "insert into t select 1",
            "insert into t values",
            "insert into t /* x */ values (1)",
            "insert into t (select * from (values (1)) v)",
            "with x as (select 1) insert into t values (1)",
            "select 1",
            "",
        ] {
            assert_eq!(Constants::of(text), None, "{text}");
        }
    }

    #[test]
    fn probes_are_of_the_same_shape_and_have_every_kind_in_every_column() {
        for text in [
            "insert into t (a, b) values (1, 'x'::date) on conflict do nothing",
            "insert into t values (1, default), (2, default), (3, default), (4, default), (5, default), (6, default)",
        ] {
            let found = Constants::of(text).expect(text);
            let probes: Vec<String> = found.probes().collect();
            for probe in &probes {
                assert_eq!(Constants::of(probe).map(|probe| probe.key()), Some(found.key()), "{probe}");
                assert_eq!(grammar::parse(probe).expect(probe).len(), 1);
            }
            assert!(
                KINDS.iter().all(|kind| probes.iter().any(|probe| probe.contains(&format!("({kind}")))),
                "{probes:?}"
            );
        }
    }
}
