//! Our own roles: whether they can do what they must, and cannot do more.

use super::finding::Severity::{Hole, Weakness};
use super::finding::{Look, Severity, abbreviated};

/// Every look at the broker, the masker and what all sessions share.
pub(super) fn looks() -> Vec<Look> {
    LOOKS.iter().map(|(code, severity, why, sql)| Look::new(code, *severity, why, abbreviated(sql))).collect()
}

const LOOKS: [(&str, Severity, &str, &str); 14] = [
    (
        "broker_superuser",
        Hole,
        "the broker needs no superuser: who has its password has the whole cluster",
        "select format('%I', rolname), '', array[format('ALTER ROLE %I NOSUPERUSER CREATEROLE', rolname)] \
         from pg_roles where rolname = <broker> and rolsuper",
    ),
    (
        "broker_attributes",
        Hole,
        "goes around row-level security or reads everything through replication",
        "select format('%I', rolname), concat_ws(', ', case when rolbypassrls then 'BYPASSRLS' end, \
           case when rolreplication then 'REPLICATION' end), \
         array[format('ALTER ROLE %I NOBYPASSRLS NOREPLICATION', rolname)] \
         from pg_roles where rolname = <broker> and (rolbypassrls or rolreplication)",
    ),
    (
        "broker_membership",
        Hole,
        "a predefined role that the broker does not need",
        "select format('%I', b.rolname), g.rolname::text, array[format('REVOKE %I FROM %I', g.rolname, b.rolname)] \
         from pg_auth_members m join pg_roles b on b.oid = m.member join pg_roles g on g.oid = m.roleid \
         where b.rolname = <broker> and starts_with(g.rolname, 'pg_') and g.rolname <> 'pg_signal_backend' order by 2",
    ),
    (
        "createrole_before_16",
        Weakness,
        "before PostgreSQL 16 a role with CREATEROLE can make itself pg_execute_server_program: \
         guard the broker's password like a superuser's, or upgrade to 16",
        "select format('%I', rolname), 'PostgreSQL ' || current_setting('server_version'), '{}'::text[] \
         from pg_roles where rolname = <broker> and rolcreaterole and not rolsuper \
         and current_setting('server_version_num')::int < 160000",
    ),
    (
        "broker_rights",
        Weakness,
        "the broker lacks what it makes sessions with",
        "select format('%I', r.rolname), w.what, array[format(w.fix, r.rolname)] from pg_roles r \
         cross join (values \
           ('CREATEROLE', (select rolcreaterole or rolsuper from pg_roles where rolname = <broker>), \
             'ALTER ROLE %I CREATEROLE'), \
           ('LOGIN', (select rolcanlogin from pg_roles where rolname = <broker>), 'ALTER ROLE %I LOGIN'), \
           ('dbgate_masker', (select pg_has_role(<broker>, oid, 'MEMBER') from pg_roles where rolname = 'dbgate_masker'), \
             'GRANT dbgate_masker TO %I'), \
           ('dbgate_sessions', (select pg_has_role(<broker>, oid, 'MEMBER WITH ADMIN OPTION') from pg_roles \
             where rolname = 'dbgate_sessions'), 'GRANT dbgate_sessions TO %I WITH ADMIN OPTION'), \
           ('pg_signal_backend', pg_has_role(<broker>, 'pg_signal_backend', 'MEMBER'), 'GRANT pg_signal_backend TO %I')) \
           w (what, has, fix) \
         where r.rolname = <broker> and w.has is false order by 2",
    ),
    (
        "broker_grants",
        Weakness,
        "the broker may not hand out these relations, so no session gets them",
        "select format('schema %I', n.nspname), count(*) || ' relations, ' || format('%I', min(c.relname)) || ' first', array[ \
           format('GRANT USAGE ON SCHEMA %I TO %I WITH GRANT OPTION', n.nspname, <broker>), \
           format('GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA %I TO %I WITH GRANT OPTION', n.nspname, <broker>)] \
         from pg_class c join pg_namespace n on n.oid = c.relnamespace join pg_roles b on b.rolname = <broker> \
         where c.relkind in ('r', 'p', 'v', 'm', 'f') and c.relpersistence <> 't' and <own> \
         and not (has_table_privilege(b.oid, c.oid, 'SELECT WITH GRANT OPTION') \
           and has_schema_privilege(b.oid, n.oid, 'USAGE WITH GRANT OPTION')) group by n.nspname order by 1",
    ),
    (
        "masker_grants",
        Weakness,
        "the role that owns masking views may not read these relations, so views over them cannot be made",
        "select format('schema %I', n.nspname), count(*) || ' relations, ' || format('%I', min(c.relname)) || ' first', array[ \
           format('GRANT USAGE ON SCHEMA %I TO dbgate_masker', n.nspname), \
           format('GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA %I TO dbgate_masker', n.nspname)] \
         from pg_class c join pg_namespace n on n.oid = c.relnamespace join pg_roles m on m.rolname = 'dbgate_masker' \
         where c.relkind in ('r', 'p', 'v', 'm', 'f') and c.relpersistence <> 't' and <own> \
         and not (has_table_privilege(m.oid, c.oid, 'SELECT') and has_schema_privilege(m.oid, n.oid, 'USAGE')) \
         group by n.nspname order by 1",
    ),
    (
        "masker_schema",
        Weakness,
        "the role that owns masking views may not make schemas, so no view can be made",
        "select format('%I', current_database()), 'CREATE', \
         array[format('GRANT CREATE ON DATABASE %I TO dbgate_masker', current_database())] \
         from pg_roles where rolname = 'dbgate_masker' and not has_database_privilege(oid, current_database(), 'CREATE')",
    ),
    (
        "masker_attributes",
        Hole,
        "masking views are judged by what their owner may: this one is above row-level security or can log in",
        "select 'dbgate_masker', concat_ws(', ', case when rolsuper then 'SUPERUSER' end, \
           case when rolbypassrls then 'BYPASSRLS' end, case when rolcanlogin then 'LOGIN' end), \
         array['ALTER ROLE dbgate_masker NOSUPERUSER NOBYPASSRLS NOLOGIN'] \
         from pg_roles where rolname = 'dbgate_masker' and (rolsuper or rolbypassrls or rolcanlogin)",
    ),
    (
        "masker_membership",
        Hole,
        "masking views read with the rights of this role as well",
        "select 'dbgate_masker', g.rolname::text, array[format('REVOKE %I FROM dbgate_masker', g.rolname)] \
         from pg_auth_members m join pg_roles g on g.oid = m.roleid join pg_roles k on k.oid = m.member \
         where k.rolname = 'dbgate_masker' order by 2",
    ),
    (
        "masker_owns",
        Hole,
        "belongs to the role that owns masking views, so row-level security does not hold in them",
        "select format('%I.%I', n.nspname, c.relname), '', \
         array[format('ALTER TABLE %I.%I OWNER TO %I', n.nspname, c.relname, pg_get_userbyid(n.nspowner)), \
           format('GRANT SELECT, INSERT, UPDATE, DELETE ON TABLE %I.%I TO dbgate_masker', n.nspname, c.relname)] \
         from pg_class c join pg_namespace n on n.oid = c.relnamespace join pg_roles m on m.oid = c.relowner \
         where m.rolname = 'dbgate_masker' and c.relkind in ('r', 'p', 'm', 'f') and <own> order by 1",
    ),
    (
        "sessions_membership",
        Hole,
        "every session holds the rights of this role, whatever the policy says",
        "select 'dbgate_sessions', g.rolname::text, array[format('REVOKE %I FROM dbgate_sessions', g.rolname)] \
         from pg_auth_members m join pg_roles g on g.oid = m.roleid join pg_roles k on k.oid = m.member \
         where k.rolname = 'dbgate_sessions' order by 2",
    ),
    (
        "sessions_grant",
        Hole,
        "every session holds this right, whatever the policy says",
        "select format('%I.%I', n.nspname, c.relname), string_agg(distinct a.privilege_type, ', '), \
         array[format('REVOKE ALL ON TABLE %I.%I FROM dbgate_sessions', n.nspname, c.relname)] \
         from pg_class c join pg_namespace n on n.oid = c.relnamespace cross join aclexplode(c.relacl) a \
         join pg_roles k on k.oid = a.grantee and k.rolname = 'dbgate_sessions' where c.relkind <> 'S' \
         group by n.nspname, c.relname \
         union all select <routine>, 'EXECUTE', array['REVOKE EXECUTE ON ROUTINE ' || <routine> || ' FROM dbgate_sessions'] \
         from pg_proc p join pg_namespace n on n.oid = p.pronamespace cross join aclexplode(p.proacl) a \
         join pg_roles k on k.oid = a.grantee and k.rolname = 'dbgate_sessions' order by 1",
    ),
    (
        "not_prepared",
        Weakness,
        "this role does not exist: the target is not prepared (dbgate target init NAME --apply)",
        "select w.name, '', '{}'::text[] from (values (<broker>), ('dbgate_masker'), ('dbgate_sessions')) w (name) \
         where not exists (select from pg_roles where rolname = w.name)",
    ),
];
