//! What a session has to itself: which statements people can be asked about all the same, and what an
//! approval is bound to of it.
//!
//! What must stay true: a text is asked about, and an approval of it used, only with the meaning that it
//! has under the settings of that moment.

use std::collections::BTreeSet;

use super::people::Stopped;
use super::session::{End, Judged, Session};
use super::values::Values;
use crate::core::approval::steady::{Leaning, Standing};
use crate::core::policy::Denial;
use crate::core::statement::facts::{Facts, Name, TransactionVerb};
use crate::core::wire::frontend;

/// More settings of its own than a session needs.
const MOST_SETTINGS: usize = 200;

/// What a session has done to its own settings.
#[derive(Default)]
pub struct Era {
    /// Goes up whenever a setting may have changed: what was prepared under another number may mean
    /// something else.
    number: u64,
    /// A setting has changed in the transaction that is open, and may change back at its end.
    has_moved: bool,
    /// Settings with a dot in their names: PostgreSQL lists them only once it knows whose they are.
    dotted: BTreeSet<String>,
    /// `random()` is no longer anybody's guess.
    is_seeded: bool,
    /// Code has run that nobody has read: what it has set or seeded is not known.
    has_unread: bool,
}

impl Era {
    /// Of a session that began with these settings.
    pub fn beginning<'a>(settings: impl Iterator<Item = &'a String>) -> Self {
        let mut era = Self::default();
        settings.for_each(|name| era.note_setting(name));
        era
    }

    /// When what is prepared now is prepared.
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// A statement has run. `runs_code` where its text does not say all that it does.
    pub fn note(&mut self, facts: &Facts, runs_code: bool) {
        self.has_unread |= runs_code || facts.unread_text;
        self.is_seeded |= facts.calls().any(|name| name.name == "setseed");
        match facts.transaction {
            // What was set behind the savepoint is taken back; what was set before it stays.
            Some(TransactionVerb::RollbackTo) => self.number += u64::from(self.has_moved),
            Some(TransactionVerb::Commit | TransactionVerb::Rollback) => self.ended(),
            Some(_) | None => {}
        }
        if facts.settings.is_empty() && !runs_code && !facts.verb.starts_with("DISCARD") {
            return;
        }
        self.number += 1;
        self.has_moved = true;
        let names = facts.settings.iter().filter_map(|setting| setting.split('=').next());
        names.for_each(|name| self.note_setting(name));
    }

    fn note_setting(&mut self, name: &str) {
        self.is_seeded |= name == "seed";
        if name.contains('.') && self.dotted.len() <= MOST_SETTINGS {
            self.dotted.insert(name.to_owned());
        }
    }

    /// A transaction has ended, and SET LOCAL with it, or all.
    pub fn ended(&mut self) {
        self.number += u64::from(std::mem::take(&mut self.has_moved));
    }

    /// Whether code has run that nobody has read.
    pub const fn has_unread(&self) -> bool {
        self.has_unread
    }

    /// The settings that only this session may have.
    pub const fn dotted(&self) -> &BTreeSet<String> {
        &self.dotted
    }
}

impl Session {
    /// What a statement takes from the session, as far as it shows before the target is asked.
    pub(super) fn leaning(&self, facts: &Facts, values: Option<&Values>) -> Option<Leaning> {
        if self.people.era.is_seeded || self.people.era.dotted.len() > MOST_SETTINGS {
            return Some(Leaning::Session);
        }
        if values.is_some_and(|values| values.era != self.era()) {
            return Some(Leaning::Settings);
        }
        let (catalog, search_path) = (self.catalog.as_ref(), self.search_path.as_slice());
        Standing { catalog, search_path, temporary: &self.temporary }.leaning(facts)
    }

    /// When what is prepared now is prepared.
    pub(super) fn era(&self) -> u64 {
        self.people.era.number()
    }

    /// PostgreSQL reads a text once, under the settings of that time. What people may be asked about is
    /// read again where one has changed since: they are told of those there are now. The era of what
    /// will be bound.
    pub(super) fn read_again(&mut self, name: &str, judged: &Judged, types: &[u8], era: u64) -> Result<u64, End> {
        self.prepare_again(name, judged, types)?;
        let now = self.era();
        let counted = judged.planned().filter(|planned| planned.hold.is_counted());
        // In a transaction that has failed nothing can be read.
        let is_old = era != now && self.status != b'E' && self.people.approvals.config().is_enabled;
        let Some(planned) = counted.filter(|_| is_old).cloned() else { return Ok(era) };
        // What was sent before may fail, and then the target skips this.
        let is_certain = self.pipeline.is_empty();
        match planned.prepares {
            Some(_) => self.ask_prepare(name, &planned.forward),
            None => self.ask_instead(name, &planned.forward, &frontend::types(types)?),
        }
        if let Some(parsed) = self.prepared.get_mut(name).filter(|_| is_certain) {
            parsed.era = now;
        }
        Ok(now)
    }

    /// Whether a statement that ran may have changed settings without a word of it in its text.
    pub(super) fn runs_code(&self, facts: &Facts) -> bool {
        matches!(facts.verb.as_str(), "DO" | "CALL")
            || facts.functions.iter().any(|name| self.catalog.own_functions.contains(&name.name))
    }
}

/// A refusal that people could lift, if the statement meant the same everywhere.
pub(super) fn unasked(denial: &Denial, leaning: &Leaning) -> Stopped {
    let mut error = super::refuse::denial_error(denial, "");
    let how = format!("nobody can be asked to approve it: {leaning}; write the values into the statement");
    error.hint = Some(error.hint.map_or(how.clone(), |hint| format!("{hint}; {how}")));
    Stopped::Tell(Box::new(error))
}

/// What shows once the target has been asked about the code that a statement runs.
pub(super) struct Code {
    /// Something that looks at what only its session knows.
    pub own: Option<String>,
    /// Names of settings are put together, and may be those of settings that nobody can list.
    pub asks_unnamed: bool,
    /// The session has temporary relations.
    pub has_relations: bool,
    /// It has functions, types or the like of its own.
    pub has_others: bool,
    /// A body runs whose names are looked for anew each time.
    pub is_text: bool,
    /// A name in the statement that means a temporary relation.
    pub temporary: Option<String>,
}

impl Code {
    pub(super) fn leaning(self) -> Option<Leaning> {
        match self {
            Self { has_others: true, .. } => Some(Leaning::Own),
            Self { temporary: Some(name), .. } => Some(Leaning::Relation(Name::new(None, &name))),
            Self { own: Some(name), .. } => Some(Leaning::Body(name)),
            Self { asks_unnamed: true, .. } => Some(Leaning::Unnamed),
            Self { has_relations: true, is_text: true, .. } => Some(Leaning::Code),
            Self { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::statement::grammar;

    #[test]
    fn an_era_ends_with_every_setting_and_again_with_its_transaction() {
        let mut era = Era::beginning(["my.start".to_owned(), "TimeZone".to_owned()].iter());
        let mut note = |sql: &str| {
            era.note(&grammar::parse(sql).expect(sql).remove(0).facts, false);
            era.number()
        };
        assert_eq!(note("select 1"), 0);
        assert_eq!(note("set local my.x = '1'"), 1);
        assert_eq!(note("select set_config('a.b', '1', true)"), 2);
        assert_eq!(note("discard all"), 3);
        era.ended();
        era.ended();
        assert_eq!(era.number(), 4, "once");
        assert_eq!(era.dotted().iter().map(String::as_str).collect::<Vec<_>>(), ["a.b", "my.start", "my.x"]);
        era.note(&grammar::parse("select (0.5).setseed").expect("one").remove(0).facts, false);
        assert!(era.is_seeded);
    }
}
