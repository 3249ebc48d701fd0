//! What ends in code that runs with its owner's rights, or that reads the DETAIL of errors, and what calls it
//! without looking like it: functions, operators, casts and types; and views, defaults and rules that use one of
//! those. In the DETAIL PostgreSQL quotes rows: of one that an upsert or a MERGE makes it shows every column that
//! the statement may set, and so what was there already.
//!
//! Parsed code is followed by PostgreSQL's own dependencies, code that is plain text by the words in it.
//! A text that is put together while it runs says nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use tokio_postgres::{Error, Row};

use super::code::{is_word, lowered, spelled, words};
use crate::core::scope::RelationName;
use crate::core::scope::catalog::{Lent, Relation};
use crate::core::scope::explain::Right;

/// SECURITY DEFINER functions `p` in `n` that an expression can call.
macro_rules! definer {
    () => {
        "(p.prosecdef and p.prorettype not in ('trigger'::regtype, 'event_trigger'::regtype))"
    };
}

/// Functions `p` in the language `l` that read the DETAIL of errors. PL/pgSQL has the word unquoted only; in other
/// languages it goes by other names.
macro_rules! telling {
    () => {
        "(l.lanname not in ('c', 'internal') and p.prosrc ~* \
          case when l.lanname in ('sql', 'plpgsql') then '\\mpg_exception_(detail|context)\\M' \
            else '\\m(detail|errorcode|spidata)\\M' end)"
    };
}

/// Whether there is anything to follow.
pub(super) const ANY: &str = concat!(
    "select from pg_proc p join pg_namespace n on n.oid = p.pronamespace join pg_language l on l.oid = p.prolang \
     where n.nspname not in ('pg_catalog', 'information_schema') and (",
    definer!(),
    " or ",
    telling!(),
    ") limit 1"
);

/// What can be reached: its catalog and OID, its name, its text where that is not parsed, whether it has its
/// owner's rights, and reads the DETAIL of errors, whether anybody may call it, and what stands in a text that
/// calls it: `name(` with anything between that is no code, `.name` of what may stand for a field, or a word or
/// sign. A cast to a type of PostgreSQL's own has many spellings, so there every text that casts counts. Row types
/// of tables are named for other reasons.
pub(super) const THINGS: &str = concat!(
    "select 'pg_proc'::regclass::oid, p.oid, n.nspname::text, p.proname::text, \
      case when l.lanname not in ('c', 'internal') and p.prosqlbody is null then p.prosrc end, ",
    definer!(),
    ", ",
    telling!(),
    ", has_function_privilege('public', p.oid, 'execute'), array[concat(p.proname, '(')] || \
        case when p.pronargs = 1 and (y.typtype in ('c', 'p') or y.typbasetype <> 0) then array[concat('.', p.proname)] else '{}' end \
      from pg_proc p left join pg_type y on y.oid = p.proargtypes[0] join pg_language l on l.oid = p.prolang join pg_namespace n on n.oid = p.pronamespace \
      where n.nspname not in ('pg_catalog', 'information_schema') \
    union all select 'pg_operator'::regclass, o.oid, n.nspname::text, o.oprname::text, null, false, false, true, array[o.oprname::text] \
      from pg_operator o join pg_namespace n on n.oid = o.oprnamespace where o.oid >= 16384 \
    union all select 'pg_cast'::regclass, k.oid, n.nspname::text, t.typname::text, null, false, false, true, \
      array[t.typname::text] || case when t.oid < 16384 then array['::', 'cast'] end \
      from pg_cast k join pg_type t on t.oid = k.casttarget join pg_namespace n on n.oid = t.typnamespace where k.oid >= 16384 \
    union all select 'pg_type'::regclass, t.oid, n.nspname::text, t.typname::text, null, false, false, true, \
      case when t.typtype in ('d', 'r', 'm') or c.relkind = 'c' then array[t.typname::text] else '{}' end \
      from pg_type t join pg_namespace n on n.oid = t.typnamespace left join pg_class c on c.oid = t.typrelid \
      where t.oid >= 16384 and t.typtype <> 'e'"
);

/// What uses what. A function that PUBLIC may not call is called by aggregates alone: with their owner's right.
/// What a type's default and conditions use, and what it is made of, goes for the type; and so does a cast from it
/// or to it that nobody has to write.
pub(super) const LINKS: &str = "select d.classid, d.objid, d.refclassid, d.refobjid from (\
      select classid, objid, refclassid, refobjid from pg_depend union all \
      select 'pg_type'::regclass, k.contypid, d.refclassid, d.refobjid from pg_constraint k join pg_depend d \
        on d.classid = 'pg_constraint'::regclass and d.objid = k.oid where k.contypid <> 0 union all \
      select 'pg_type'::regclass, c.reltype, 'pg_type'::regclass, a.atttypid from pg_attribute a \
        join pg_class c on c.oid = a.attrelid where a.attnum > 0 and not a.attisdropped and c.reltype <> 0 union all \
      select 'pg_type'::regclass, unnest(array[k.castsource, k.casttarget]), 'pg_cast'::regclass, k.oid from pg_cast k \
        where k.castcontext <> 'e') d \
     left join pg_proc p on d.refclassid = 'pg_proc'::regclass and p.oid = d.refobjid \
     where d.refobjid >= 16384 and d.objid >= 16384 and case d.refclassid \
      when 'pg_cast'::regclass then d.classid = 'pg_type'::regclass \
      when 'pg_proc'::regclass then d.classid in ('pg_proc'::regclass, 'pg_operator'::regclass, 'pg_cast'::regclass, \
        'pg_type'::regclass) and (has_function_privilege('public', p.oid, 'execute') \
        or (d.classid = 'pg_proc'::regclass and d.objid in (select aggfnoid from pg_aggregate))) \
      when 'pg_operator'::regclass then d.classid in ('pg_proc'::regclass, 'pg_type'::regclass) \
      when 'pg_type'::regclass then d.classid in ('pg_proc'::regclass, 'pg_type'::regclass) else false end";

/// What relations use: views, defaults of columns and of their types, rules; the number is the column's, or says
/// what a rule is about.
pub(super) const USES: &str = "select r.ev_class, r.rulename::text, case r.ev_type when '1' then 'view' else 'rule' end, \
      r.ev_type::text::int2, d.refclassid, d.refobjid from pg_rewrite r \
      join pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid \
      where d.refobjid >= 16384 and d.refclassid in ('pg_proc'::regclass, 'pg_operator'::regclass, 'pg_type'::regclass) \
    union select e.adrelid, a.attname::text, 'default', e.adnum, d.refclassid, d.refobjid from pg_attrdef e \
      join pg_attribute a on a.attrelid = e.adrelid and a.attnum = e.adnum \
      join pg_depend d on d.classid = 'pg_attrdef'::regclass and d.objid = e.oid \
      where d.refobjid >= 16384 and d.refclassid in ('pg_proc'::regclass, 'pg_operator'::regclass) \
    union select a.attrelid, a.attname::text, 'default', a.attnum, d.refclassid, d.refobjid from pg_attribute a \
      join pg_depend d on d.classid = 'pg_class'::regclass and d.objid = a.attrelid and d.objsubid = a.attnum \
      where a.attgenerated <> '' and d.refobjid >= 16384 and d.refclassid in ('pg_proc'::regclass, 'pg_operator'::regclass) \
    union select a.attrelid, a.attname::text, 'default', a.attnum, d.refclassid, d.refobjid from pg_attribute a \
      join pg_type t on t.oid = a.atttypid and t.typdefaultbin is not null \
      join pg_depend d on d.classid = 'pg_type'::regclass and d.objid = t.oid \
      where a.attnum > 0 and not a.attisdropped and not a.atthasdef and d.refobjid >= 16384 \
       and d.refclassid in ('pg_proc'::regclass, 'pg_operator'::regclass)";

/// What rules read and write with the rights of the relation's owner, as PostgreSQL asks for it: relation, rule,
/// what it is about, the other relation, its rights as a sum, and the columns that are read by their places
/// behind those of the system. For OLD and NEW in its own condition it asks nothing, so they are looked for.
pub(super) const RULES: &str = "select r.ev_class, r.rulename::text, r.ev_type::text::int2, \
      substring(part from '^[0-9]+')::oid, substring(part from ':requiredPerms ([0-9]+)')::int4, \
      array(select number::int2 - 7 from regexp_split_to_table(trim(substring(part from ':selectedCols [(]b([0-9 ]*)[)]')), ' +') number \
        where number <> '')::int2[] \
     from pg_rewrite r cross join string_to_table(concat(r.ev_qual::text, ' ', r.ev_action::text), ':relid ') part \
     where r.ev_class >= 16384 and r.ev_type <> '1' and part ~ '^[0-9]+ .*:requiredPerms [0-9]+' \
    union all select r.ev_class, r.rulename::text, r.ev_type::text::int2, r.ev_class, 2, array[m[1]::int2] from pg_rewrite r \
     cross join regexp_matches(r.ev_qual::text, ':varno [12] :varattno ([0-9]+) ', 'g') m \
     where r.ev_class >= 16384 and r.ev_type in ('2', '4')";

/// The rights of a relation that [`RULES`] adds up: INSERT is 1, SELECT 2, UPDATE 4, DELETE 8.
const WRITES: [(i32, Right); 3] = [(1, Right::Insert), (4, Right::Update), (8, Right::Delete)];

/// The OID of `pg_type`, which never changes.
const TYPES: u32 = 1247;

/// The catalog that something stands in, and its OID there.
type Id = (u32, u32);

/// One row of [`THINGS`].
struct Thing {
    name: RelationName,
    text: Option<String>,
    is_definer: bool,
    is_telling: bool,
    is_open: bool,
    words: Vec<String>,
}

/// What is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begin {
    Definers,
    Telling,
}

/// Everything that ends in such code, by its name.
#[derive(Default)]
pub(super) struct Reach {
    reached: BTreeMap<Id, RelationName>,
    /// Those that are types, by their OIDs.
    types: BTreeMap<u32, RelationName>,
}

impl Reach {
    /// Follows what [`THINGS`] and [`LINKS`] answer.
    pub(super) fn new(from: Begin, things: &[Row], links: &[Row]) -> Result<Self, Error> {
        let mut known: BTreeMap<Id, Thing> = BTreeMap::new();
        for row in things {
            let text: Option<String> = row.try_get(4)?;
            let thing = Thing {
                name: RelationName::new(row.try_get(2)?, row.try_get(3)?),
                text: text.as_deref().map(lowered),
                is_definer: row.try_get(5)?,
                is_telling: row.try_get(6)?,
                is_open: row.try_get(7)?,
                words: row.try_get(8)?,
            };
            known.insert((row.try_get(0)?, row.try_get(1)?), thing);
        }
        let mut users: BTreeMap<Id, Vec<Id>> = BTreeMap::new();
        for row in links {
            let used = (row.try_get(2)?, row.try_get(3)?);
            users.entry(used).or_default().push((row.try_get(0)?, row.try_get(1)?));
        }
        let mut found = Self::default();
        for id in follow(from, &known, &users) {
            let Some(thing) = known.remove(&id).filter(|thing| thing.is_open) else { continue };
            if id.0 == TYPES {
                found.types.insert(id.1, thing.name.clone());
            }
            found.reached.insert(id, thing.name);
        }
        Ok(found)
    }

    /// Functions, operators, and types that are cast to.
    pub(super) fn called(&self) -> BTreeSet<RelationName> {
        self.reached.iter().filter(|(id, _)| id.0 != TYPES).map(|(_, name)| name.clone()).collect()
    }

    /// Types whose values such code fills or checks.
    pub(super) fn types(&self) -> BTreeSet<RelationName> {
        self.types.values().cloned().collect()
    }

    /// Relations with a column of such a type: what is made from them has one, too.
    pub(super) fn carried(&self, relations: &BTreeMap<u32, Relation>) -> BTreeMap<u32, RelationName> {
        let carried =
            |relation: &Relation| relation.columns.iter().find_map(|one| self.types.get(&one.type_oid)).cloned();
        relations.iter().filter_map(|(oid, relation)| Some((*oid, carried(relation)?))).collect()
    }

    /// Views among what [`USES`] answers that call such code.
    pub(super) fn views(&self, uses: &[Row]) -> Result<BTreeSet<u32>, Error> {
        let mut views = BTreeSet::new();
        for row in uses {
            if row.try_get::<_, &str>(2)? == "view" && self.reached.contains_key(&(row.try_get(4)?, row.try_get(5)?)) {
                views.insert(row.try_get(0)?);
            }
        }
        Ok(views)
    }

    /// What writes run: defaults and rules of [`USES`] that call such code, and what [`RULES`] do as the owner.
    pub(super) fn lent(&self, uses: &[Row], rules: &[Row]) -> Result<BTreeMap<u32, Vec<Lent>>, Error> {
        let mut all: BTreeMap<(u32, String, Right), Lent> = BTreeMap::new();
        for row in uses {
            let Some(name) = self.reached.get(&(row.try_get(4)?, row.try_get(5)?)) else { continue };
            let number: i16 = row.try_get(3)?;
            let (right, column) = match row.try_get::<_, &str>(2)? {
                "default" => (Right::Insert, Some(number)),
                "rule" => (right_of(number), None),
                // A view is asked for in its own way.
                _ => continue,
            };
            let by = format!("{} {}", if column.is_some() { "default of" } else { "rule" }, row.try_get::<_, &str>(1)?);
            entry(&mut all, row.try_get(0)?, by, right, column).calls.insert(name.clone());
        }
        for row in rules {
            let (by, right) = (format!("rule {}", row.try_get::<_, &str>(1)?), right_of(row.try_get(2)?));
            let lent = entry(&mut all, row.try_get(0)?, by, right, None);
            let (relation, other): (u32, u32) = (row.try_get(0)?, row.try_get(3)?);
            let (rights, columns): (i32, Vec<i16>) = (row.try_get(4)?, row.try_get(5)?);
            lent.writes.extend(WRITES.iter().filter(|(bit, _)| rights & bit != 0).map(|(_, right)| (other, *right)));
            // OLD and NEW may be among them, without columns.
            if rights & 2 != 0 && (other != relation || !columns.is_empty()) {
                // Of what is only counted no column is read.
                lent.reads
                    .extend(columns.iter().chain(columns.is_empty().then_some(&-1)).map(|column| (other, *column)));
            }
        }
        let mut lent: BTreeMap<u32, Vec<Lent>> = BTreeMap::new();
        all.into_iter().for_each(|((relation, ..), one)| lent.entry(relation).or_default().push(one));
        Ok(lent)
    }
}

fn entry(
    all: &mut BTreeMap<(u32, String, Right), Lent>,
    relation: u32,
    by: String,
    right: Right,
    column: Option<i16>,
) -> &mut Lent {
    let (calls, reads, writes) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let lent = Lent { by: by.clone(), right, column, calls, reads, writes };
    all.entry((relation, by, right)).or_insert(lent)
}

/// What a rule is about, as `pg_rewrite.ev_type` says it.
const fn right_of(event: i16) -> Right {
    match event {
        2 => Right::Update,
        3 => Right::Insert,
        4 => Right::Delete,
        // 1, and there are no others.
        _ => Right::Select,
    }
}

/// Everything that ends in what is followed.
fn follow(from: Begin, things: &BTreeMap<Id, Thing>, users: &BTreeMap<Id, Vec<Id>>) -> BTreeSet<Id> {
    let begins = |one: &Thing| match from {
        Begin::Definers => one.is_definer,
        Begin::Telling => one.is_telling,
    };
    let mut next: Vec<Id> = things.iter().filter(|(_, one)| begins(one)).map(|(id, _)| *id).collect();
    if next.is_empty() {
        return BTreeSet::new();
    }
    let texts: Vec<(Id, &str)> = things.iter().filter_map(|(id, one)| Some((*id, one.text.as_deref()?))).collect();
    let mut said: HashMap<String, Vec<Id>> = HashMap::new();
    for (id, text) in &texts {
        spoken(text).for_each(|word| said.entry(word).or_default().push(*id));
    }
    let holding = |part: &str| texts.iter().filter(|(_, text)| text.contains(part)).map(|(id, _)| *id).collect();
    if things.values().any(|one| begins(one) && one.is_open) {
        // A name in another spelling may be that of any of them.
        let unread: Vec<Id> = holding("u&\"");
        next.extend(unread);
    }
    let mut reached = BTreeSet::new();
    while let Some(id) = next.pop() {
        if !reached.insert(id) {
            continue;
        }
        next.extend(users.get(&id).into_iter().flatten());
        for word in things.get(&id).filter(|one| one.is_open).into_iter().flat_map(|one| &one.words) {
            let word = spelled(word);
            let name = word.trim_end_matches('(').trim_start_matches('.');
            match is_word(name) {
                true => next.extend(said.get(&word).into_iter().flatten()),
                false => next.extend::<Vec<Id>>(holding(if name.is_empty() { &word } else { name })),
            }
        }
    }
    reached
}

/// The words of a text, as they are and as they stand there: `name(` of what may be called, `.name` of what may be
/// a field.
fn spoken(text: &str) -> impl Iterator<Item = String> {
    words(text).flat_map(move |word| {
        let start = word.as_ptr().addr() - text.as_ptr().addr();
        let (before, behind) = (text.get(..start).unwrap_or(""), text.get(start + word.len()..).unwrap_or(""));
        let is_field = before.trim_end_matches('"').trim_end().ends_with('.');
        let called = is_call(behind).then(|| format!("{word}("));
        std::iter::once(word.to_owned()).chain(is_field.then(|| format!(".{word}"))).chain(called)
    })
}

/// Whether a parenthesis comes next, but for blanks, comments and the end of a quoted name.
fn is_call(behind: &str) -> bool {
    let mut rest = behind.trim_start_matches('"').trim_start();
    loop {
        let comment = match rest.get(..2) {
            Some("--") => rest.split_once('\n'),
            Some("/*") => rest.split_once("*/"),
            _ => return rest.starts_with('('),
        };
        // One without an end may end in another text, and one in another is not read.
        let Some((comment, more)) = comment else { return true };
        if comment.get(2..).is_some_and(|comment| comment.contains("/*")) {
            return true;
        }
        rest = more.trim_start();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thing(name: &str, text: Option<&str>, is_definer: bool, is_open: bool) -> Thing {
        let text = text.map(lowered);
        let is_function = name.chars().all(|letter| letter.is_alphanumeric() || " _\"".contains(letter));
        let words = if is_function { vec![format!("{name}("), format!(".{name}")] } else { vec![name.to_owned()] };
        Thing { name: RelationName::new("public", name), text, is_definer, is_telling: false, is_open, words }
    }

    /// The text of function 2 next to a definer of this name, and whether it ends there.
    fn reaches(name: &str, text: &str, is_open: bool) -> bool {
        let things = BTreeMap::from([
            ((1, 1), thing(name, None, true, is_open)),
            ((1, 2), thing("caller", Some(text), false, true)),
        ]);
        follow(Begin::Definers, &things, &BTreeMap::new()).contains(&(1, 2))
    }

    #[test]
    fn a_text_that_names_what_has_its_owners_rights_ends_there() {
        for (name, text, expected) in [
            ("look", "select look(1)", true),
            ("look", "select LOOK/* */(1)", true),
            ("look", "select look -- a\n (1)", true),
            ("look", "select look /* /* */ */ (1)", true),
            ("look", "select \"look\" (1)", true),
            ("look", "select o.look from orders o", true),
            ("look", "select look from orders where 'look' = look", false),
            ("look", "select looked(1), look_at", false),
            ("look", "select u&\"l\\006fok\"(1)", true),
            ("Odd name", "select \"Odd name\"(1)", true),
            ("q\"x", "select \"q\"\"x\"(1)", true),
            ("@#@", "select @#@ 1", true),
            ("@#@", "select @ 1", false),
        ] {
            assert_eq!(reaches(name, text, true), expected, "{name}: {text}");
        }
        assert!(!reaches("look", "select look(1)", false), "nobody may call it");
    }

    #[test]
    fn what_uses_it_is_followed_from_one_to_the_next() {
        let things = BTreeMap::from([
            ((1, 1), thing("look", None, true, true)),
            ((2, 1), thing("=?=", None, false, true)),
            ((1, 2), thing("by_operator", Some("select 1 =?= 2"), false, true)),
            ((1, 3), thing("parsed", None, false, true)),
            ((1, 4), thing("other", Some("select 1"), false, true)),
        ]);
        let users = BTreeMap::from([((1, 1), vec![(2, 1)]), ((1, 2), vec![(1, 3)])]);
        assert_eq!(follow(Begin::Definers, &things, &users), BTreeSet::from([(1, 1), (1, 2), (1, 3), (2, 1)]));
    }
}
