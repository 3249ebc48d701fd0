//! Code of the database's own, by the words in it: what may write although its label says that it does not, and
//! what may run a text that is put together as it runs.
//!
//! PostgreSQL holds STABLE and IMMUTABLE functions back from writing by themselves, but lets them call
//! a VOLATILE one. So their texts are looked through for the names of what may write; a text that
//! cannot be read, or puts its calls together as it runs, may do anything.

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::Row;

/// Every function of the database's own: its name, its text with what is evaluated where an argument is left out,
/// and whether its language can be read here. Of C it is the name of what is called there, and an aggregate's are the
/// functions that it calls.
pub const CODE: &str = "select p.proname::text, concat_ws(' ', \
     p.prosrc, pg_get_function_sqlbody(p.oid), \
     pg_get_expr(p.proargdefaults, 0), a.aggtransfn, a.aggfinalfn, a.aggcombinefn, a.aggserialfn, a.aggdeserialfn, \
     a.aggmtransfn, a.aggminvtransfn, a.aggmfinalfn), l.lanname in ('sql', 'plpgsql', 'c', 'internal') \
    from pg_proc p join pg_language l on l.oid = p.prolang left join pg_aggregate a on a.aggfnoid = p.oid \
    where p.oid >= 16384";

/// What runs without a call in the text: functions of operators and casts, and conditions of domains.
pub const HIDDEN: &str = "select p.proname::text from pg_operator o join pg_proc p on p.oid = o.oprcode \
     join pg_namespace n on n.oid = o.oprnamespace where n.nspname <> 'pg_catalog' \
    union all select p.proname::text from pg_cast k join pg_proc p on p.oid = k.castfunc \
     join pg_namespace n on n.oid = p.pronamespace where n.nspname <> 'pg_catalog' \
    union all select pg_get_constraintdef(k.oid) from pg_constraint k where k.contypid <> 0";

/// Names of what may do something, and of whoever may call that.
pub struct Callers {
    names: BTreeSet<String>,
    /// In lower case, where they are words of their own.
    words: BTreeSet<String>,
    /// The others.
    odd: Vec<String>,
}

impl Callers {
    /// Of these functions, and of what says one of these words or names.
    pub fn of(functions: BTreeSet<String>, words: impl Iterator<Item = String>) -> Self {
        let mut callers = Self { names: BTreeSet::new(), words: BTreeSet::new(), odd: Vec::new() };
        functions.into_iter().for_each(|name| callers.add(name));
        words.for_each(|word| callers.note(&word));
        callers
    }

    fn add(&mut self, name: String) {
        self.note(&name);
        self.names.insert(name);
    }

    fn note(&mut self, name: &str) {
        let name = spelled(name);
        match is_word(&name) {
            true => drop(self.words.insert(name)),
            false => self.odd.push(name),
        }
    }

    /// Adds every function of [`CODE`] whose text may call one of them, and what may call that; and so of others
    /// that have a text in lower case, by their names.
    ///
    /// # Errors
    /// When a row is not as asked for.
    pub fn follow(&mut self, code: &[Row], others: Vec<(String, String)>) -> Result<(), tokio_postgres::Error> {
        let mut texts = others;
        for row in code {
            let (name, text, is_read): (String, String, bool) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            match is_read {
                true => texts.push((name, lowered(&text))),
                false => self.add(name),
            }
        }
        self.follow_texts(&texts);
        Ok(())
    }

    /// Texts in lower case, by the names of what they are of.
    fn follow_texts(&mut self, texts: &[(String, String)]) {
        // Who says a word, and who is said to write already.
        let mut said: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (at, (_, text)) in texts.iter().enumerate() {
            words(text).for_each(|word| said.entry(word).or_default().push(at));
        }
        let mut next: Vec<usize> =
            (0..texts.len()).filter(|at| texts.get(*at).is_some_and(|one| self.may_run(&one.1))).collect();
        while let Some((name, _)) = next.pop().and_then(|at| texts.get(at)) {
            if self.names.contains(name) {
                continue;
            }
            self.add(name.clone());
            let name = spelled(name);
            match is_word(&name) {
                true => next.extend(said.get(name.as_str()).into_iter().flatten()),
                false => {
                    next.extend((0..texts.len()).filter(|at| texts.get(*at).is_some_and(|one| one.1.contains(&name))))
                }
            }
        }
    }

    /// Whether a text in lower case has the name of one of them in it, or one that cannot be read.
    fn may_run(&self, text: &str) -> bool {
        words(text).any(|word| self.words.contains(word))
            || self.odd.iter().any(|name| text.contains(name))
            || text.contains("u&\"")
    }

    /// Whether any of what runs without a call may call one: rows of [`HIDDEN`].
    ///
    /// # Errors
    /// When a row is not as asked for.
    pub fn are_hidden(&self, hidden: &[Row]) -> Result<bool, tokio_postgres::Error> {
        for row in hidden {
            let text: String = row.try_get(0)?;
            if self.may_run(&lowered(&text)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The names.
    pub fn names(self) -> BTreeSet<String> {
        self.names
    }
}

/// A name as a text in lower case has it: a quote in it is doubled.
pub(super) fn spelled(name: &str) -> String {
    lowered(name).replace('"', "\"\"")
}

/// A text in lower case, each letter as it is by itself: at the end of a word, sigma has another form.
pub(super) fn lowered(text: &str) -> String {
    match text.is_ascii() {
        true => text.to_ascii_lowercase(),
        false => text.chars().flat_map(char::to_lowercase).collect(),
    }
}

/// Whether a text that says this name has it as one of its words.
pub(super) fn is_word(name: &str) -> bool {
    words(name).eq([name])
}

/// The words of a text, as far as they could be names.
pub(super) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|letter: char| !(letter.is_alphanumeric() || matches!(letter, '_' | '$')))
        .filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writing(texts: &[(&str, &str)]) -> Vec<String> {
        let volatile = BTreeSet::from(["purge".to_owned(), "Odd name".to_owned(), "q\"x".to_owned(), "Σ".to_owned()]);
        let mut writers = Callers::of(volatile, ["execute", "ledger"].into_iter().map(str::to_owned));
        let texts: Vec<_> = texts.iter().map(|(name, text)| ((*name).to_owned(), lowered(text))).collect();
        writers.follow_texts(&texts);
        let known = ["purge", "Odd name", "q\"x", "Σ"];
        writers.names().into_iter().filter(|name| !known.contains(&name.as_str())).collect()
    }

    #[test]
    fn whoever_calls_what_may_write_may_write() {
        let cases: [(&str, &[&str]); 11] = [
            ("select upper($1)", &[]),
            ("select purge($1)", &["a"]),
            ("select public.\"purge\"($1)", &["a"]),
            ("select PURGE ($1)", &["a"]),
            ("select purged, purge_at from t", &[]),
            ("select \"Odd name\"(1)", &["a"]),
            ("select u&\"\\0070urge\"(1)", &["a"]),
            ("begin execute $1; end", &["a"]),
            ("select count(*) from ledger", &["a"]),
            ("select \"q\"\"x\"(1)", &["a"]),
            ("select public.Σ(1)", &["a"]),
        ];
        for (text, expected) in cases {
            assert_eq!(writing(&[("a", text)]), expected, "{text}");
        }
        let chain = [("c", "select b(1)"), ("b", "select \"A b\"(1)"), ("A b", "select purge(1)"), ("d", "select 1")];
        assert_eq!(writing(&chain), ["A b", "b", "c"]);
        assert_eq!(writing(&[("f", "select f(1)")]), Vec::<String>::new());
    }
}
