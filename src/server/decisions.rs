//! Step 4, check: texts that were judged before, so that the same text need not be judged again.
//!
//! A decision is remembered for a [`Context`]: one grant under one policy, one catalog, one search
//! path and one set of temporary relations. A change of any of them is another context. Two levels:
//! the exact text, and, where its facts do not depend on its literals, the text without them: of
//! reads, of changes of rows that columns pick, of rows of constants. That they do not is proven
//! when a shape is seen for the second time. Only what was allowed by its text alone is remembered:
//! never a denial, never a statement that means something prepared before.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::core::grant::GrantId;
use crate::core::policy::{ImpactQuestion, Policy};
use crate::core::scope::catalog::Catalog;
use crate::core::statement::constants::Constants;
use crate::core::statement::facts::{Effect, Facts, RowAction};
use crate::core::statement::grammar;
use crate::core::statement::literals::{Patch, Stripped};
use crate::server::audit::Wording;
use crate::server::check::{Hold, Planned};

/// Texts remembered in one context; when there are more, all are forgotten.
const MOST_TEXTS: usize = 512;
/// The same of hashes.
const MOST_SEEN: usize = 16 * MOST_TEXTS;
/// Longer texts are not remembered as they are.
const LONGEST_TEXT: usize = 8 * 1024;

/// A text that may run.
pub struct Decided {
    /// Each statement, and the characters of the text before it.
    pub statements: Vec<(Arc<Planned>, u32)>,
    /// What the record says of the text.
    pub wording: Arc<Wording>,
}

/// What decisions depend on besides the text.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    grant: GrantId,
    /// Addresses: the context keeps both alive, so that they name nothing else meanwhile.
    policy: usize,
    catalog: usize,
    search_path: Vec<String>,
    temporary: Vec<String>,
    has_own_views: bool,
}

/// Decisions that hold under the same conditions.
pub struct Context {
    policy: Arc<Policy>,
    catalog: Arc<Catalog>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    exact: HashMap<Box<str>, Arc<Decided>>,
    /// By the text without its literals.
    shapes: HashMap<Box<[u8]>, Shape>,
    /// Hashes of the shapes that were seen, whether or not their literals matter.
    seen: HashSet<u64>,
    hasher: RandomState,
    /// What may be set at the start of a session, as `name=value`.
    settings: HashSet<Box<str>>,
    /// What writes have done that may stand.
    impacts: HashSet<ImpactQuestion>,
    /// Keeps its buffers from text to text.
    stripped: Stripped,
}

/// What is known of all texts of one shape.
struct Shape {
    /// Without the text.
    planned: Planned,
    /// Of rows of constants each text has its own: NULL is a word of it.
    wording: Option<Arc<Wording>>,
    /// The splice, where there is one.
    patch: Option<Patch>,
}

/// The contexts that sessions are in.
#[derive(Default)]
pub struct Decisions {
    contexts: Mutex<HashMap<Key, Weak<Context>>>,
}

impl Decisions {
    /// The context of these conditions, shared by all sessions in it.
    pub fn context(
        &self,
        grant: &GrantId,
        policy: &Arc<Policy>,
        catalog: &Arc<Catalog>,
        search_path: &[String],
        temporary: &[String],
        has_own_views: bool,
    ) -> Arc<Context> {
        let key = Key {
            grant: grant.clone(),
            policy: Arc::as_ptr(policy).addr(),
            catalog: Arc::as_ptr(catalog).addr(),
            search_path: search_path.to_vec(),
            temporary: temporary.to_vec(),
            has_own_views,
        };
        let mut contexts = self.contexts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(context) = contexts.get(&key).and_then(Weak::upgrade) {
            return context;
        }
        contexts.retain(|_, context| context.strong_count() > 0);
        let known = Mutex::new(Known::default());
        let context = Arc::new(Context { policy: policy.clone(), catalog: catalog.clone(), known });
        contexts.insert(key, Arc::downgrade(&context));
        context
    }
}

impl Context {
    /// Whether a session with this policy and catalog may use it.
    pub fn is_for(&self, policy: &Arc<Policy>, catalog: &Arc<Catalog>) -> bool {
        Arc::ptr_eq(&self.policy, policy) && Arc::ptr_eq(&self.catalog, catalog)
    }

    /// What was decided about this text, or about one that differs in its literals only.
    pub fn find(&self, sql: &str) -> Option<Arc<Decided>> {
        let (text, before) = trimmed(sql);
        // It may be long, and others look here, too.
        let rows = Constants::of(text).map(|constants| constants.key());
        let mut known = self.lock();
        if let Some(decided) = known.exact.get(sql) {
            return Some(decided.clone());
        }
        let Known { shapes, stripped, .. } = &mut *known;
        if shapes.is_empty() {
            return None;
        }
        let shape = match &rows {
            Some(key) => shapes.get(key.as_slice())?,
            None => stripped.strip(text).then(|| shapes.get(stripped.key.as_slice()))??,
        };
        let forward = match &shape.patch {
            Some(patch) => patch.apply(text, &stripped.places)?,
            None => text.to_owned(),
        };
        let planned = Planned { forward, ..shape.planned.clone() };
        let wording = shape.wording.clone();
        drop(known);
        let wording = wording.unwrap_or_else(|| Arc::new(Wording::of(sql)));
        Some(Arc::new(Decided { statements: vec![(Arc::new(planned), before)], wording }))
    }

    /// Remembers what was decided by the text alone.
    pub fn remember(&self, sql: &str, decided: &Arc<Decided>) {
        // Whether DO may stand among others depends on the state of the transaction, too.
        let by_text_alone = |planned: &Planned| {
            planned.cleared.facts().prepared.is_none()
                && (planned.hold != Hold::OwnBlock || decided.statements.len() == 1)
        };
        if !decided.statements.iter().all(|(planned, _)| by_text_alone(planned)) {
            return;
        }
        if let [(planned, _)] = decided.statements.as_slice()
            && self.remember_shape(trimmed(sql).0, planned, &decided.wording)
        {
            return;
        }
        let mut known = self.lock();
        if sql.len() <= LONGEST_TEXT {
            if known.exact.len() >= MOST_TEXTS {
                known.exact.clear();
            }
            known.exact.insert(sql.into(), decided.clone());
        }
    }

    /// The same of all texts of its shape, where it is not the first one. False where its literals may matter.
    fn remember_shape(&self, text: &str, planned: &Planned, wording: &Arc<Wording>) -> bool {
        let Some(unproven) = Unproven::of(text, planned) else { return false };
        let key = unproven.key();
        if self.is_new(&key) {
            return false;
        }
        let Some(shape) = unproven.proven(text, planned, wording) else { return false };
        let mut known = self.lock();
        if known.shapes.len() >= MOST_TEXTS {
            known.shapes.clear();
        }
        known.shapes.insert(key.into_boxed_slice(), shape);
        true
    }

    /// Whether a shape is seen for the first time.
    fn is_new(&self, key: &[u8]) -> bool {
        let mut known = self.lock();
        if known.seen.len() >= MOST_SEEN {
            known.seen.clear();
        }
        let hash = known.hasher.hash_one(key);
        known.seen.insert(hash)
    }

    /// Whether this was let be set at the start of a session.
    pub fn lets_set(&self, setting: &str) -> bool {
        self.lock().settings.contains(setting)
    }

    /// Remembers what was let be set at the start of a session.
    pub fn remember_set(&self, setting: &str) {
        let mut known = self.lock();
        if known.settings.len() >= MOST_TEXTS {
            known.settings.clear();
        }
        if setting.len() <= LONGEST_TEXT {
            known.settings.insert(setting.into());
        }
    }

    /// Whether all of this was let stand.
    pub fn lets_stand(&self, asked: &[ImpactQuestion]) -> bool {
        let known = self.lock();
        asked.iter().all(|one| known.impacts.contains(one))
    }

    /// Remembers what was let stand.
    pub fn remember_stands(&self, asked: Vec<ImpactQuestion>) {
        let mut known = self.lock();
        if known.impacts.len() + asked.len() > MOST_TEXTS {
            known.impacts.clear();
        }
        known.impacts.extend(asked.into_iter().take(MOST_TEXTS));
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        // A panic elsewhere leaves the maps whole.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The text without what may stand around a single statement, and the characters before it.
fn trimmed(sql: &str) -> (&str, u32) {
    let blank = |letter: char| matches!(letter, ' ' | '\t' | '\n' | '\r' | '\x0c');
    let text = sql.trim_start_matches(blank);
    let before = u32::try_from(sql.len() - text.len()).unwrap_or(u32::MAX);
    (text.trim_end_matches(|letter| blank(letter) || letter == ';'), before)
}

/// A shape of which it is not known whether its literals matter to what was decided.
enum Unproven<'t> {
    Rows(Constants<'t>),
    Text(Stripped),
}

impl<'t> Unproven<'t> {
    /// That of a text, if it has one.
    fn of(text: &'t str, planned: &Planned) -> Option<Self> {
        let facts = planned.cleared.facts();
        if facts.locks || !facts.settings.is_empty() || facts.copy.is_some() {
            return None;
        }
        if let Some(constants) = Constants::of(text).filter(|_| facts.effect == Effect::Write) {
            return Some(Self::Rows(constants));
        }
        // Where columns pick the rows, other literals pick other rows, but never all.
        let picks = |action| action == RowAction::Insert || !facts.pinned.is_empty();
        let is_plain = match facts.effect {
            Effect::Read => true,
            Effect::Write => facts.written().all(|touch| picks(touch.action)),
            _ => false,
        };
        let mut stripped = Stripped::default();
        let has_some = is_plain && stripped.strip(text) && !stripped.places.is_empty();
        has_some.then_some(Self::Text(stripped))
    }

    fn key(&self) -> Vec<u8> {
        match self {
            Self::Rows(constants) => constants.key(),
            Self::Text(stripped) => stripped.key.clone(),
        }
    }

    /// What is known of all texts of this shape, if that is so: the same text with other literals has the same facts.
    fn proven(&self, text: &str, planned: &Planned, wording: &Arc<Wording>) -> Option<Shape> {
        let probes: Vec<String> = match self {
            Self::Rows(constants) => constants.probes().collect(),
            Self::Text(stripped) => stripped.probes(text)?.into(),
        };
        let one = |text: &str| match grammar::parse(text).ok()?.as_slice() {
            [statement] => Some(placeless(&statement.facts)),
            _ => None,
        };
        let found = one(text)?;
        if !probes.iter().all(|probe| one(probe).as_ref() == Some(&found)) {
            return None;
        }
        let (wording, places) = match self {
            Self::Rows(_) => (None, [].as_slice()),
            Self::Text(stripped) => (Some(wording.clone()), stripped.places.as_slice()),
        };
        let patch = match planned.is_spliced {
            true if wording.is_some() => Some(Patch::between(text, &planned.forward, places)?),
            false if planned.forward == text => None,
            true | false => return None,
        };
        Some(Shape { planned: Planned { forward: String::new(), ..planned.clone() }, wording, patch })
    }
}

/// Facts without where in the text they were found.
fn placeless(facts: &Facts) -> Facts {
    let mut facts = Facts { start: 0, end: 0, ..facts.clone() };
    facts.touches.iter_mut().for_each(|touch| touch.offset = None);
    facts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::policy::Cleared;
    use crate::core::policy::file::Source;

    fn decided(sql: &str) -> Arc<Decided> {
        let statements = grammar::parse(sql).expect(sql);
        let planned = statements.iter().map(|statement| {
            let planned = Planned {
                cleared: Cleared::assumed(statement.facts.clone()),
                forward: statement.text.clone(),
                is_spliced: false,
                prepares: None,
                hold: Hold::Not,
                masked: Arc::default(),
            };
            (Arc::new(planned), 0)
        });
        Arc::new(Decided { statements: planned.collect(), wording: Arc::new(Wording::of(sql)) })
    }

    fn context() -> Arc<Context> {
        let rule = Source::new("all.cedar", "@id(\"all\") permit(principal, action, resource);");
        let policy = Arc::new(Policy::parse(&[rule]).expect("a rule"));
        let grant = crate::server::grants::tests::live(1).grant.id.clone();
        Decisions::default().context(&grant, &policy, &Arc::new(Catalog::default()), &[], &[], false)
    }

    fn is_known(first: &str, then: &str) -> bool {
        let context = context();
        // A shape that is seen once may never come again.
        context.remember(first, &decided(first));
        assert!(first == then || context.find(then).is_none(), "{first}");
        context.remember(first, &decided(first));
        let found = context.find(then);
        if let Some(found) = &found {
            let (planned, _) = found.statements.first().expect("one");
            assert_eq!(planned.forward, trimmed(then).0);
        }
        found.is_some()
    }

    #[test]
    fn reads_are_known_by_their_shape_and_their_words_are_the_same() {
        assert!(is_known("select a from t where id = 1", "select a from t where id = 2;"));
        assert!(is_known("select a from t where n = 'x' limit 5", "  select a from t where n = 'yy' limit 9"));
        for (one, other) in [("select 1, 'a', $1", "select 22, 'b''c', $1"), ("select -1", "select -12")] {
            assert_eq!(Wording::of(one), Wording::of(other));
        }
    }

    #[test]
    fn changes_of_rows_that_columns_pick_are_known_by_their_shape() {
        for (one, other) in [
            ("update t set a = 1 where id = 2", "update t set a = 33 where id = 4"),
            ("delete from t where id = 1 and n like 'x%'", "delete from t where id = 2 and n like 'zz'"),
            ("insert into t select a, 7 from u where id = 1", "insert into t select a, 2 from u where id = 3"),
            ("insert into t (a) values (1)", "insert into t (a) values (null)"),
            (
                "insert into t values (1, 'a'), (1, 'b') on conflict (a) do update set b = excluded.b",
                "insert into t values (-1.5, true), (2, 'it''s') on conflict (a) do update set b = excluded.b;",
            ),
        ] {
            assert!(is_known(one, other), "{one}");
        }
        for (one, other) in [
            ("update t set a = 1 where id > 1", "update t set a = 1 where id > 2"),
            ("delete from t where 'false'", "delete from t where 'true'"),
            ("delete from t where id = 1 or 'false'", "delete from t where id = 1 or 'true'"),
            ("delete from t where n like 'x%'", "delete from t where n like '%'"),
            ("insert into t values (1), (2)", "insert into t values (1)"),
            ("insert into t values (f(1))", "insert into t values (g(1))"),
        ] {
            assert!(!is_known(one, other), "{one}");
        }
    }

    #[test]
    fn rows_have_words_of_their_own() {
        let context = context();
        let (one, other) = ("insert into t values (1)", "insert into t values (null)");
        context.remember(one, &decided(one));
        context.remember(one, &decided(one));
        assert_eq!(*context.find(other).expect("known").wording, Wording::of(other));
        assert_ne!(Wording::of(one), Wording::of(other));
    }

    #[test]
    fn what_depends_on_its_literals_is_known_by_its_text_only() {
        for (one, other) in [
            ("select set_config('a.b', 'x', true)", "select set_config('role', 'x', true)"),
            ("select a from t where id = 1 for update", "select a from t where id = 2 for update"),
            ("select a ~ 'x' from t where id = 1", "select a ~ '(a+)+' from t where id = 1"),
            ("select nextval('s') from generate_series(1, 5)", "select nextval('s') from generate_series(1, 20000)"),
            ("select query_to_xml('a', true, true, '')", "select query_to_xml('select f()', true, true, '')"),
            ("select format('%s', a) from t", "select format('%900000000s', a) from t"),
            ("set a.b = 'x'", "set a.b = 'y'"),
        ] {
            assert!(!is_known(one, other), "{one}");
            assert!(is_known(one, one), "{one}");
        }
    }

    #[test]
    fn what_may_be_set_is_known_by_name_and_value() {
        let context = context();
        context.remember_set("application_name=psql");
        assert!(context.lets_set("application_name=psql"));
        assert!(!context.lets_set("application_name=other") && !context.lets_set("application_name"));
    }

    #[test]
    fn what_names_something_prepared_is_not_remembered() {
        assert!(!is_known("execute p", "execute p"));
        assert!(!is_known("prepare p as select 1", "prepare p as select 1"));
    }
}
