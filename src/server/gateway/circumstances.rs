//! What a statement is bound to while people decide: what its names mean and how that is defined,
//! the settings that give its text a meaning, and everything that it reaches. Asked of the target each time.

use std::collections::BTreeMap;

use super::relay::Mode;
use super::session::{End, Session};
use super::steady::Code;
use super::values::Values;
use crate::core::approval::steady::Leaning;
use crate::core::approval::{Binding, BoundRelation};
use crate::core::encoding;
use crate::core::role_sql;
use crate::core::statement::facts::{Facts, Name};

/// Settings that change what a text means or does.
const SETTINGS: &str = "'search_path', 'TimeZone', 'DateStyle', 'IntervalStyle', 'timezone_abbreviations', \
     'transform_null_equals', 'array_nulls', 'session_replication_role', 'row_security', \
     'default_text_search_config', 'xmloption', 'lc_numeric', 'lc_monetary'";

/// What every name in the statement means, and how it is defined. A relation's definition takes in
/// what changes along with it: constraints that cascade, triggers with their bodies, rules.
const RELATIONS: &str = "select 'relation', n.name, coalesce(c.oid::text, '0'), \
   pg_catalog.concat_ws(E'\\n', c.relkind::text, c.relowner::text, c.relrowsecurity::text, c.relforcerowsecurity::text, \
   (select pg_catalog.string_agg(pg_catalog.concat_ws(' ', a.attnum, a.attname, a.atttypid, a.atttypmod, a.attnotnull, \
       a.attgenerated, pg_catalog.pg_get_expr(d.adbin, d.adrelid)), ',' order by a.attnum) \
     from pg_catalog.pg_attribute a \
     left join pg_catalog.pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum \
     where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped), \
   (select pg_catalog.string_agg(pg_catalog.pg_get_constraintdef(k.oid), ',' order by k.oid) \
     from pg_catalog.pg_constraint k where k.conrelid = c.oid or k.confrelid = c.oid), \
   (select pg_catalog.string_agg(pg_catalog.concat_ws(' ', pg_catalog.pg_get_triggerdef(t.oid), t.tgenabled, p.prosrc), \
       ',' order by t.oid) \
     from pg_catalog.pg_trigger t join pg_catalog.pg_proc p on p.oid = t.tgfoid \
     where t.tgrelid = c.oid and not t.tgisinternal), \
   (select pg_catalog.string_agg(pg_catalog.pg_get_ruledef(w.oid), ',' order by w.oid) \
     from pg_catalog.pg_rewrite w where w.ev_class = c.oid), \
   (select pg_catalog.string_agg(pg_catalog.concat_ws(' ', y.polname, y.polcmd, y.polroles::text, \
       pg_catalog.pg_get_expr(y.polqual, y.polrelid), pg_catalog.pg_get_expr(y.polwithcheck, y.polrelid)), \
       ',' order by y.polname) \
     from pg_catalog.pg_policy y where y.polrelid = c.oid)), \
   (select pg_catalog.string_agg(n.name || ': ' || t.tgname, E'\\n' order by t.tgname) \
     from pg_catalog.pg_trigger t where t.tgrelid = c.oid and not t.tgisinternal), \
   pg_catalog.floor(extract(epoch from pg_catalog.now() - greatest( \
     pg_catalog.pg_stat_get_last_analyze_time(c.oid), pg_catalog.pg_stat_get_last_autoanalyze_time(c.oid))))::text \
   from pg_catalog.unnest($1::pg_catalog.text[]) n(name) \
   left join pg_catalog.pg_class c on c.oid = pg_catalog.to_regclass(n.name) order by n.name";

/// What it reaches, how that is defined, and what its code asks the session for.
const REACH: &str = include_str!("reach.sql");

/// The server would compile so long a question before it answers it, which takes longer than answering.
const PLAIN: &str = "select 'plain', pg_catalog.set_config('jit', 'off', true)";

/// What code may look at that only its session knows, as far as it says so.
const OWN: &str = r"currval\w*|lastval|setseed|pg_temp\w*|pg_my_temp_schema|pg_settings|pg_show_all_settings|pg_cursors?|pg_prepared_statements?|pg_backend_pid|pg_listening_channels";

/// Functions that run a text as SQL.
const RUNS: &str = r"query_to_xml\w*|cursor_to_xml\w*|table_to_xml\w*|schema_to_xml\w*|database_to_xml\w*|ts_stat|ts_rewrite|crosstab\w*|connectby|xpath_table|dblink\w*";

/// Settings that say how long to wait or what to tell, not what to do; and what each session is told of
/// itself.
const TELLING: &str = r"^(application_name|client_.*|.*_timeout|transaction_(isolation|read_only|deferrable)|default_transaction_.*|tcp_.*|log_.*|jit|dbgate\..*)$";

/// Settings that say who and where somebody is, also where code asks for them: they are not the same
/// in the session that runs what was asked for in another.
const WHO: &str =
    r"^(application_name|client_.*|role|session_authorization|is_superuser|transaction_.*|jit|dbgate\..*)$";

/// How code asks for a setting by its name, and how it sets one.
const ASKS: &str = r"current_setting\s*\(\s*''([^'']+)''(?:::text)?\s*[,)]";
const SETS: &str = r"set_config\s*\(\s*''([^'']+)''(?:::text)?\s*,";

/// What was found out about a statement.
pub struct Circumstances {
    pub binding: Binding,
    pub triggers: Vec<String>,
    pub locks: Vec<String>,
    /// Seconds since the oldest of its relations was analyzed.
    pub statistics_age: Option<u64>,
    /// Bound values, as people are shown them.
    pub values: Vec<Option<String>>,
    /// What it takes from the session: then nobody is asked about it, and no approval is used.
    pub leaning: Option<Leaning>,
    /// A setting that it looks at and sets itself: once it has run, the binding is not the one that it ran under.
    pub moved: Option<String>,
    /// The client wants to see notices.
    pub hears_notices: bool,
}

impl Session {
    /// Asks the target what the statement means right now. Nothing: the target refused even that,
    /// and the client has its error.
    pub(super) async fn circumstances(
        &mut self,
        text: &str,
        facts: &Facts,
        values: Option<&Values>,
        mode: Mode,
    ) -> Result<Option<Circumstances>, End> {
        let parameters = values.map(Values::bound).transpose()?.flatten();
        // What follows asks with operators as the session finds them.
        let first = self.search_path.iter().find(|schema| !schema.starts_with("pg_temp"));
        let is_bent = first.is_some_and(|schema| schema != "pg_catalog");
        let leaning = is_bent.then_some(Leaning::Path).or_else(|| self.leaning(facts, values));
        self.ask_circumstances(text, facts);
        let drained = self.asked_aside(mode).await?;
        if drained.failed {
            return Ok(None);
        }
        let mut relations = Vec::new();
        let mut triggers = Vec::new();
        let mut statistics_age = None;
        let mut rest = None;
        for row in &drained.rows {
            let cell = |index: usize| row.get(index).and_then(Option::as_deref);
            match cell(0) {
                Some("relation") => {
                    let name = cell(1).unwrap_or_default().to_owned();
                    let oid = cell(2).and_then(|oid| oid.parse().ok()).unwrap_or(0);
                    let stands = facts.touches.iter().map(|touch| &touch.relation).find(|one| quoted(one) == name);
                    let stands = stands.and_then(|one| self.stands_for(one)).unwrap_or_default();
                    let definition = Binding::digest_of(&format!("{}\n{stands}", cell(3).unwrap_or_default()));
                    statistics_age = statistics_age.max(cell(5).and_then(|seconds| seconds.parse().ok()));
                    triggers.extend(cell(4).unwrap_or_default().lines().map(str::to_owned));
                    relations.push(BoundRelation { name, oid, definition });
                }
                // And what a baseline says, which went ahead of it.
                Some("plain" | "before") => {}
                Some("circumstances") => rest = Some(row),
                Some(_) | None => return Err(End::Protocol),
            }
        }
        relations.sort();
        relations.dedup();
        let rest = rest.ok_or(End::Protocol)?;
        let cell = |index: usize| rest.get(index).and_then(Option::as_deref);
        let reached = cell(2).and_then(|json| serde_json::from_str(json).ok());
        let mut reached: BTreeMap<_, _> = reached.ok_or(End::Protocol)?;
        reached.insert("the server".to_owned(), self.catalog.cluster.clone());
        let grant = &self.grant.grant;
        let binding = Binding {
            principal: self.people.principal().to_owned(),
            agent: grant.declared.agent.clone(),
            target: grant.target.clone(),
            database: grant.database.clone(),
            access: grant.access,
            statement: text.to_owned(),
            parameters: parameters.as_deref().map(encoding::base64),
            settings: cell(1).and_then(|json| serde_json::from_str(json).ok()).ok_or(End::Protocol)?,
            relations,
            reached,
            policy: self.policy.digest().to_owned(),
        };
        let mut found = Circumstances {
            binding,
            triggers,
            statistics_age,
            locks: cell(4).unwrap_or_default().lines().map(str::to_owned).collect(),
            values: Vec::new(),
            leaning: None,
            moved: cell(10).map(str::to_owned),
            hears_notices: !matches!(cell(3), Some("warning" | "error")),
        };
        found.leaning = leaning.or_else(|| {
            let has = |index: usize, word: &str| cell(index).is_some_and(|text| text.split(' ').any(|one| one == word));
            let code = Code {
                own: cell(5).map(str::to_owned),
                asks_unnamed: has(6, "true"),
                has_relations: has(7, "relations") || !self.temporary.is_empty(),
                has_others: has(7, "others"),
                is_text: has(8, "true"),
                temporary: cell(9).map(str::to_owned),
            };
            code.leaning()
        });
        Ok(Some(found))
    }

    fn ask_circumstances(&mut self, text: &str, facts: &Facts) {
        let names: Vec<String> = facts.touches.iter().map(|touch| quoted(&touch.relation)).collect();
        let calls: Vec<String> = facts.calls().map(|call| call.name).collect();
        let dotted: Vec<String> = self.people.era.dotted().iter().cloned().collect();
        let (names, calls, dotted) = (array(&names), array(&calls), array(&dotted));
        let word = |is_so: bool| if is_so { "true" } else { "false" };
        let (fires_events, has_unread) = (word(facts.upkeep.is_some()), word(self.people.era.has_unread()));
        self.ask_fresh("dbgate_relations", RELATIONS, &[Some(&names)]);
        self.ask_fresh("dbgate_plain", PLAIN, &[]);
        let values = [&names, &calls, text, &dotted, fires_events, has_unread].map(Some);
        self.ask_fresh("dbgate_circumstances", &reach(), &values);
    }

    /// What this session sees in place of a relation: masks and filters go by who somebody is, too.
    fn stands_for(&self, name: &Name) -> Option<String> {
        let scope = self.scope().relations.get(&self.resolve(name)?.name)?;
        let masks: Vec<_> = scope.columns.iter().map(|column| (&column.name, &column.mask)).collect();
        let rebuilt = scope.rebuilt.as_deref().map(unnumbered);
        serde_json::to_string(&(masks, &scope.filter, rebuilt)).ok()
    }
}

/// The question, whole.
fn reach() -> String {
    let parts = [
        ("{SETTINGS}", SETTINGS),
        ("{OWN}", OWN),
        ("{RUNS}", RUNS),
        ("{TELLING}", TELLING),
        ("{WHO}", WHO),
        ("{ASKS}", ASKS),
        ("{SETS}", SETS),
    ];
    parts.iter().fold(REACH.to_owned(), |text, (name, part)| text.replace(name, part))
}

/// A rebuilt view without the names of masking schemas, which change with the rest of the scope.
fn unnumbered(text: &str) -> String {
    let mut parts = text.split(role_sql::MASK_PREFIX);
    let first = parts.next().unwrap_or_default().to_owned();
    let of_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    parts.fold(first, |text, part| text + part.trim_start_matches(of_name))
}

/// A name as SQL spells it.
fn quoted(name: &Name) -> String {
    let quote = |part: &str| format!("\"{}\"", part.replace('"', "\"\""));
    match &name.schema {
        Some(schema) => format!("{}.{}", quote(schema), quote(&name.name)),
        None => quote(&name.name),
    }
}

/// The text form of an array.
fn array(texts: &[String]) -> String {
    let quote = |text: &String| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    format!("{{{}}}", texts.iter().map(quote).collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_spelled_so_that_nothing_else_can_be_meant() {
        assert_eq!(quoted(&Name::new(Some("a"), "b\"c")), "\"a\".\"b\"\"c\"");
        assert_eq!(array(&["\"a\".\"b\"".into()]), "{\"\\\"a\\\".\\\"b\\\"\"}");
        assert_eq!(array(&[]), "{}");
    }
}
