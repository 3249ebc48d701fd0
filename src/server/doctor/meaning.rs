//! What changes its meaning, or stops working, behind a just-in-time role: row-level security,
//! counting, standbys.

use super::finding::Severity::{Hole, Weakness};
use super::finding::{Look, Severity, abbreviated};

/// Every look at settings and row policies.
pub(super) fn looks() -> Vec<Look> {
    LOOKS.iter().map(|(code, severity, why, sql)| Look::new(code, *severity, why, abbreviated(sql))).collect()
}

const LOOKS: [(&str, Severity, &str, &str); 7] = [
    (
        "row_security",
        Hole,
        "the row policy names roles, asks who the user is, or calls a function that may: a session is neither its owner nor itself in a masking view. \
         Write the policy without roles, or forbid the relation in the policy folder",
        "select format('%I.%I', n.nspname, c.relname), 'policy ' || quote_ident(p.polname), '{}'::text[] \
         from pg_policy p join pg_class c on c.oid = p.polrelid join pg_namespace n on n.oid = c.relnamespace \
         where c.relrowsecurity and (p.polroles <> '{0}' or concat(pg_get_expr(p.polqual, p.polrelid), ' ', \
           pg_get_expr(p.polwithcheck, p.polrelid)) ~* '\\m(current_user|session_user|current_role|user)\\M' \
           or exists (select from pg_depend d where d.classid = 'pg_policy'::regclass and d.objid = p.oid \
             and d.refclassid = 'pg_proc'::regclass)) order by 1, 2",
    ),
    (
        "track_counts",
        Hole,
        "rows are not counted, so the gateway cannot tell what a write did and refuses every write",
        "select 'track_counts', 'off', array['ALTER SYSTEM SET track_counts = on', 'SELECT pg_reload_conf()'] \
         from pg_settings where name = 'track_counts' and setting = 'off' and source not in ('database', 'user', 'database user') \
         union all \
         select coalesce('database ' || quote_ident(d.datname), 'role ' || quote_ident(r.rolname)), 'track_counts=off', \
         array[case when r.oid is null then format('ALTER DATABASE %I RESET track_counts', d.datname) \
           when d.oid is null then format('ALTER ROLE %I RESET track_counts', r.rolname) \
           else format('ALTER ROLE %I IN DATABASE %I RESET track_counts', r.rolname, d.datname) end] \
         from pg_db_role_setting s left join pg_database d on d.oid = s.setdatabase left join pg_roles r on r.oid = s.setrole \
         where (s.setdatabase = 0 or d.datname = current_database()) \
         and exists (select from unnest(s.setconfig) c where c ~* '^track_counts=(off|false|no|0)$')",
    ),
    (
        "large_object_rights",
        Hole,
        "every session may read and change every large object",
        "select 'lo_compat_privileges', 'on', array['ALTER SYSTEM SET lo_compat_privileges = off', 'SELECT pg_reload_conf()', \
           format('ALTER DATABASE %I RESET lo_compat_privileges', current_database())] \
         from pg_settings where name = 'lo_compat_privileges' and setting = 'on'",
    ),
    (
        "event_trigger",
        Weakness,
        "dbgate's own connections find names in pg_catalog alone, so what this function names without a schema stops \
         them from making scopes and masks. Give the function a path of its own",
        "select <routine>, 'event trigger ' || string_agg(quote_ident(e.evtname), ', ' order by e.evtname), \
         array['ALTER FUNCTION ' || <routine> || ' SET search_path = pg_catalog' || \
           case when n.nspname = 'pg_catalog' then '' else ', ' || quote_ident(n.nspname) end || \
           case when n.nspname = 'public' then '' else ', public' end] \
         from pg_event_trigger e join pg_proc p on p.oid = e.evtfoid join pg_namespace n on n.oid = p.pronamespace \
         join pg_language l on l.oid = p.prolang where e.evtenabled in ('O', 'A') and l.lanname not in ('c', 'internal') \
         and not exists (select from unnest(p.proconfig) c where starts_with(c, 'search_path=')) \
         group by p.oid, n.nspname, p.proname order by 1",
    ),
    (
        "standby",
        Weakness,
        "roles cannot be made on a standby: let `dsn` name the primary",
        "select format('%I', current_database()), 'in recovery', '{}'::text[] where pg_is_in_recovery()",
    ),
    (
        "password_encryption",
        Weakness,
        "passwords that people set are stored as MD5",
        "select 'password_encryption', setting, array['ALTER SYSTEM SET password_encryption = ''scram-sha-256''', \
           'SELECT pg_reload_conf()', format('ALTER DATABASE %I RESET password_encryption', current_database())] \
         from pg_settings where name = 'password_encryption' and setting <> 'scram-sha-256'",
    ),
    (
        "ssl_off",
        Weakness,
        "the server speaks no TLS, and it listens to other machines",
        "select 'ssl', 'listen_addresses = ' || l.setting, '{}'::text[] from pg_settings s, pg_settings l \
         where s.name = 'ssl' and s.setting = 'off' and l.name = 'listen_addresses' \
         and exists (select from unnest(string_to_array(replace(l.setting, ' ', ''), ',')) a \
           where a not in ('', 'localhost', '127.0.0.1', '::1'))",
    ),
];
