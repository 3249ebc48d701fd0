//! Our own roles: whether they can do what they must, and cannot do more.

use super::finding::Severity::{Hole, Weakness};
use super::finding::{Look, Severity, abbreviated};

/// Every look at the broker, the masker and what all sessions share.
pub(super) fn looks() -> Vec<Look> {
    LOOKS.iter().map(|(code, severity, why, sql)| Look::new(code, *severity, why, abbreviated(sql))).collect()
}

const LOOKS: [(&str, Severity, &str, &str); 18] = [
    (
        "default_grants",
        Weakness,
        "what this role makes in the schema from now on is covered only after `target init` is run again",
        "select format('%I in schema %I', pg_get_userbyid(o.owner), n.nspname), w.word || ' to ' || w.name, \
         array[format('ALTER DEFAULT PRIVILEGES FOR ROLE %I IN SCHEMA %I GRANT %s ON %s TO %I%s', pg_get_userbyid(o.owner), \
           n.nspname, w.rights, w.word, w.name, w.option)] \
         from (select nspowner, oid from pg_namespace union select relowner, relnamespace from pg_class) o (owner, schema) \
         join pg_namespace n on n.oid = o.schema \
         cross join (values \
           ('r', 'TABLES', <broker>, 'SELECT, INSERT, UPDATE, DELETE, REFERENCES', ' WITH GRANT OPTION'), \
           ('r', 'TABLES', 'dbgate_masker', 'SELECT, INSERT, UPDATE, DELETE', ''), \
           ('S', 'SEQUENCES', <broker>, 'USAGE, SELECT', ' WITH GRANT OPTION')) w (kind, word, name, rights, option) \
         join pg_roles r on r.rolname = w.name \
         where <own> and pg_get_userbyid(o.owner) not in (<broker>, 'dbgate_masker', 'dbgate_sessions') \
         and not exists (select from pg_default_acl d cross join aclexplode(d.defaclacl) a \
           where d.defaclrole = o.owner and d.defaclnamespace = n.oid and d.defaclobjtype::text = w.kind \
           and a.grantee = r.oid and a.privilege_type = 'SELECT' and (a.is_grantable or w.option = '')) order by 1, 2",
    ),
    (
        "not_ours",
        Weakness,
        "it is named like ours, but dbgate did not make it: it is never used, changed or dropped",
        "select format('%I', r.rolname), 'role', '{}'::text[] from pg_roles r \
         where (starts_with(r.rolname, 'dbgate_u_') or starts_with(r.rolname, 'dbgate_s_')) \
         and coalesce(shobj_description(r.oid, 'pg_authid'), '') !~ '^dbgate (login in|scope [0-9a-f]{64} in) ' \
         union all select format('%I', n.nspname), 'schema', '{}'::text[] from pg_namespace n \
         where starts_with(n.nspname, 'dbgate_m_') \
         and coalesce(obj_description(n.oid, 'pg_namespace'), '') !~ '^dbgate masks of ' order by 1",
    ),
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
           format('GRANT SELECT, INSERT, UPDATE, DELETE, REFERENCES ON ALL TABLES IN SCHEMA %I TO %I WITH GRANT OPTION', n.nspname, <broker>)] \
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
        "the place for masking views is missing, so none can be made",
        "select w.name, 'schema', array[format('CREATE SCHEMA IF NOT EXISTS %I AUTHORIZATION dbgate_masker', w.name), \
           format('COMMENT ON SCHEMA %I IS %L', w.name, w.comment)] \
         from (values ('dbgate_m_views', 'dbgate masks of every scope'), \
           ('dbgate_secret', 'dbgate salt of hashed columns')) w (name, comment) \
         where exists (select from pg_roles where rolname = 'dbgate_masker') \
         and not exists (select from pg_namespace n where n.nspname = w.name) order by 1",
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
         union all select format('%I.%I.%I', n.nspname, c.relname, t.attname), string_agg(distinct a.privilege_type, ', '), \
         array[format('REVOKE ALL (%I) ON TABLE %I.%I FROM dbgate_sessions', t.attname, n.nspname, c.relname)] \
         from pg_attribute t join pg_class c on c.oid = t.attrelid join pg_namespace n on n.oid = c.relnamespace \
         cross join aclexplode(t.attacl) a join pg_roles k on k.oid = a.grantee and k.rolname = 'dbgate_sessions' \
         group by n.nspname, c.relname, t.attname \
         union all select <routine>, 'EXECUTE', array['REVOKE EXECUTE ON ROUTINE ' || <routine> || ' FROM dbgate_sessions'] \
         from pg_proc p join pg_namespace n on n.oid = p.pronamespace cross join aclexplode(p.proacl) a \
         join pg_roles k on k.oid = a.grantee and k.rolname = 'dbgate_sessions' order by 1",
    ),
    (
        "scope_grant",
        Hole,
        "somebody else than dbgate has granted this to the role of a scope, which sessions hold until the next \
         connection sets it aside",
        "select format('%I.%I', n.nspname, c.relname), g.rolname || ' ' || string_agg(distinct a.privilege_type, ', '), \
         array[format('REVOKE ALL ON %s %I.%I FROM %I', case when c.relkind = 'S' then 'SEQUENCE' else 'TABLE' end, \
           n.nspname, c.relname, g.rolname)] \
         from pg_class c join pg_namespace n on n.oid = c.relnamespace cross join lateral (select * from aclexplode(c.relacl) \
           union all select x.* from pg_attribute t cross join aclexplode(t.attacl) x where t.attrelid = c.oid) a \
         join pg_roles g on g.oid = a.grantee where <scope_role> and pg_get_userbyid(a.grantor) not in (<broker>, 'dbgate_masker') \
         group by n.nspname, c.relname, c.relkind, g.rolname \
         union all select <routine>, g.rolname || ' EXECUTE', array['REVOKE EXECUTE ON ROUTINE ' || <routine> || format(' FROM %I', g.rolname)] \
         from pg_proc p join pg_namespace n on n.oid = p.pronamespace cross join aclexplode(p.proacl) a \
         join pg_roles g on g.oid = a.grantee where <scope_role> \
         union all select format('schema %I', n.nspname), g.rolname || ' ' || string_agg(distinct a.privilege_type, ', '), \
         array[format('REVOKE ALL ON SCHEMA %I FROM %I', n.nspname, g.rolname)] \
         from pg_namespace n cross join aclexplode(n.nspacl) a join pg_roles g on g.oid = a.grantee \
         where <scope_role> and (a.privilege_type <> 'USAGE' or pg_get_userbyid(a.grantor) not in (<broker>, 'dbgate_masker')) \
         group by n.nspname, g.rolname order by 1, 2",
    ),
    (
        "scope_membership",
        Hole,
        "a scope's role holds the rights of this role as well, whatever the policy says",
        "select format('%I', g.rolname), b.rolname::text, array[format('REVOKE %I FROM %I', b.rolname, g.rolname)] \
         from pg_auth_members m join pg_roles g on g.oid = m.member join pg_roles b on b.oid = m.roleid \
         where <scope_role> order by 1, 2",
    ),
    (
        "not_prepared",
        Weakness,
        "this role does not exist: the target is not prepared (dbgate target init NAME --apply)",
        "select w.name, '', '{}'::text[] from (values (<broker>), ('dbgate_masker'), ('dbgate_sessions')) w (name) \
         where not exists (select from pg_roles where rolname = w.name)",
    ),
];
