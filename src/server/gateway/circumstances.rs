//! What a statement is bound to while people decide: what its names mean and how that is defined,
//! the settings that give its text a meaning, the functions it calls. Asked of the target each time.

use super::relay::Mode;
use super::session::{End, Session};
use super::values::Values;
use crate::core::approval::steady::Leaning;
use crate::core::approval::{Binding, BoundRelation};
use crate::core::encoding;
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

/// What code may look at that only its session knows, as far as it says so.
const SESSIONS_OWN: &str = r"\m(currval|lastval|setseed|pg_temp\w*|pg_my_temp_schema|pg_settings|pg_cursors?|pg_prepared_statements?|pg_backend_pid)\M";

/// Settings that say how long to wait or what to tell, not what to do; and what each session is told of
/// itself.
const TELLING: &str = r"^(application_name|client_.*|.*_timeout|transaction_(isolation|read_only|deferrable)|default_transaction_.*|tcp_.*|log_.*|dbgate\..*)$";

/// How the database's own code asks for a setting.
const ASKS: &str = r"current_setting\s*\(\s*''([^'']+)''";

/// Settings, bodies of functions and of what operators call, what the client wants to hear, the locks of this
/// transaction, and code that looks at what only its session knows. The settings are those that give a
/// text its meaning, all that the client has set, and all that code of the database's own asks for.
const CIRCUMSTANCES: &str = "with own as materialized ( \
     select p.oid, p.proname, case when p.prokind in ('f', 'p') then pg_catalog.pg_get_functiondef(p.oid) else p.prosrc end \
       as body from pg_catalog.pg_proc p \
     where (p.proname = any ($1::pg_catalog.text[]) or p.oid in ( \
       select o.oprcode from pg_catalog.pg_operator o where o.oprname = any ($2::pg_catalog.text[]))) and p.oid >= 16384), \
   asked as materialized ( \
     select m.found[1] as name from pg_catalog.pg_proc p, \
       pg_catalog.regexp_matches(p.prosrc, 'ASKS', 'gi') m(found) where p.oid >= 16384 \
     union select m.found[1] from pg_catalog.pg_policy y, pg_catalog.regexp_matches(pg_catalog.concat( \
       pg_catalog.pg_get_expr(y.polqual, y.polrelid), ' ', pg_catalog.pg_get_expr(y.polwithcheck, y.polrelid)), \
       'ASKS', 'gi') m(found) \
     union select d.name from pg_catalog.unnest($3::pg_catalog.text[]) d(name)), \
   settings as ( \
     select s.name, s.setting from pg_catalog.pg_settings s where s.name in (SETTINGS) \
       or (s.source in ('session', 'client') and s.name !~ 'TELLING') \
     union select pg_catalog.lower(a.name), pg_catalog.current_setting(a.name, true) from asked a \
       where pg_catalog.strpos(a.name, '.') > 0 and a.name !~ 'TELLING' \
         and pg_catalog.current_setting(a.name, true) is not null) \
 select 'circumstances', \
   (select pg_catalog.json_object_agg(s.name, s.setting order by s.name)::text from settings s), \
   (select pg_catalog.string_agg(own.oid::text || ' ' || own.body, E'\\n' order by own.oid) from own), \
   pg_catalog.current_setting('client_min_messages'), \
   (select pg_catalog.string_agg(distinct l.mode || ' ' || n.nspname || '.' || c.relname, E'\\n') \
     from pg_catalog.pg_locks l join pg_catalog.pg_class c on c.oid = l.relation \
     join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
     where l.pid = pg_catalog.pg_backend_pid() and l.mode <> 'AccessShareLock' and c.relkind in ('r', 'p') \
       and c.oid >= 16384), \
   coalesce((select pg_catalog.min(own.proname::text) from own where own.body ~* 'SESSIONS_OWN'), \
     (select pg_catalog.min(p.proname::text) from pg_catalog.pg_trigger t join pg_catalog.pg_proc p on p.oid = t.tgfoid \
       where t.tgrelid = any (select pg_catalog.to_regclass(n.name)::pg_catalog.oid \
           from pg_catalog.unnest($4::pg_catalog.text[]) n(name)) \
         and not t.tgisinternal and p.prosrc ~* 'SESSIONS_OWN'))";

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
        let names: Vec<String> = facts.touches.iter().map(|touch| quoted(&touch.relation)).collect();
        let functions: Vec<String> = facts.calls().map(|call| call.name).collect();
        let operators: Vec<String> = facts.operators.iter().map(|name| name.name.clone()).collect();
        let dotted: Vec<String> = self.people.era.dotted().iter().cloned().collect();
        let leaning = self.leaning(facts, values);
        self.ask_fresh("dbgate_relations", RELATIONS, &[Some(&array(&names))]);
        let circumstances = CIRCUMSTANCES.replace("SETTINGS", SETTINGS).replace("SESSIONS_OWN", SESSIONS_OWN);
        let circumstances = circumstances.replace("TELLING", TELLING).replace("ASKS", ASKS);
        let lists = [&functions, &operators, &dotted, &names].map(|list| array(list));
        let lists: Vec<_> = lists.iter().map(|list| Some(list.as_str())).collect();
        self.ask_fresh("dbgate_circumstances", &circumstances, &lists);
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
                    let definition = Binding::digest_of(cell(3).unwrap_or_default());
                    statistics_age = statistics_age.max(cell(5).and_then(|seconds| seconds.parse().ok()));
                    triggers.extend(cell(4).unwrap_or_default().lines().map(str::to_owned));
                    relations.push(BoundRelation { name, oid, definition });
                }
                Some("circumstances") => rest = Some(row),
                Some(_) | None => return Err(End::Protocol),
            }
        }
        relations.sort();
        relations.dedup();
        let rest = rest.ok_or(End::Protocol)?;
        let cell = |index: usize| rest.get(index).and_then(Option::as_deref);
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
            functions: cell(2).map(Binding::digest_of).unwrap_or_default(),
            policy: self.policy.digest().to_owned(),
        };
        let mut found = Circumstances {
            binding,
            triggers,
            statistics_age,
            locks: cell(4).unwrap_or_default().lines().map(str::to_owned).collect(),
            values: Vec::new(),
            leaning: None,
            hears_notices: !matches!(cell(3), Some("warning" | "error")),
        };
        found.leaning = leaning.or_else(|| found.leaning_of(cell(5), !self.temporary.is_empty()));
        Ok(Some(found))
    }
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
