//! What PUBLIC may do: PostgreSQL has no DENY, so whatever everybody may do every session may do,
//! whatever the policy says. One query a hole, one row a finding: `(object, detail, fixes)`.

use super::finding::Severity::{Hole, Weakness};
use super::finding::{Look, abbreviated};

/// Every look at what is open to everybody.
pub(super) fn looks() -> Vec<Look> {
    LOOKS.iter().map(|(code, severity, why, sql)| Look::new(code, *severity, why, abbreviated(sql))).collect()
}

const LOOKS: [(&str, super::finding::Severity, &str, &str); 17] = [
    (
        "definer_function",
        Hole,
        "anybody may call it and it runs with its owner's rights, so it can show what is masked",
        "select <routine>, 'owner ' || pg_get_userbyid(p.proowner), array['REVOKE EXECUTE ON ROUTINE ' || <routine> || ' FROM PUBLIC'] \
         from pg_proc p join pg_namespace n on n.oid = p.pronamespace \
         where p.prosecdef and n.nspname not in ('pg_catalog', 'information_schema') and <public_may_call> order by 1",
    ),
    (
        "detail_function",
        Hole,
        "anybody may call it and it reads the DETAIL of errors, where PostgreSQL quotes rows, so it can show what is masked",
        "select <routine>, 'owner ' || pg_get_userbyid(p.proowner), array['REVOKE EXECUTE ON ROUTINE ' || <routine> || ' FROM PUBLIC'] \
         from pg_proc p join pg_namespace n on n.oid = p.pronamespace join pg_language l on l.oid = p.prolang \
         where n.nspname not in ('pg_catalog', 'information_schema') and <public_may_call> \
         and p.prorettype not in ('trigger'::regtype, 'event_trigger'::regtype) and l.lanname not in ('c', 'internal') \
         and p.prosrc ~* case when l.lanname in ('sql', 'plpgsql') then '\\mpg_exception_(detail|context)\\M' \
           else '\\m(detail|errorcode|spidata)\\M' end order by 1",
    ),
    (
        "public_relation",
        Hole,
        "everybody holds this privilege, so no policy can take it from a session",
        "select format('%I.%I', n.nspname, c.relname), string_agg(distinct a.privilege_type, ', '), \
         array[format('REVOKE ALL ON %s %I.%I FROM PUBLIC', case when c.relkind = 'S' then 'SEQUENCE' else 'TABLE' end, \
           n.nspname, c.relname)] \
         from pg_class c join pg_namespace n on n.oid = c.relnamespace cross join aclexplode(c.relacl) a \
         where c.relkind in ('r', 'p', 'v', 'm', 'f', 'S') and a.grantee = 0 and <own> \
         group by n.nspname, c.relname, c.relkind order by 1",
    ),
    (
        "public_column",
        Hole,
        "everybody holds this privilege on the column, so no policy can take it from a session",
        "select format('%I.%I.%I', n.nspname, c.relname, t.attname), string_agg(distinct a.privilege_type, ', '), \
         array[format('REVOKE ALL (%I) ON TABLE %I.%I FROM PUBLIC', t.attname, n.nspname, c.relname)] \
         from pg_attribute t join pg_class c on c.oid = t.attrelid join pg_namespace n on n.oid = c.relnamespace \
         cross join aclexplode(t.attacl) a where a.grantee = 0 and not t.attisdropped and <own> \
         group by n.nspname, c.relname, t.attname order by 1",
    ),
    (
        "public_schema",
        Hole,
        "any session may make objects in the schema, and other people's statements may then mean those",
        "select format('%I', n.nspname), 'CREATE', array[format('REVOKE CREATE ON SCHEMA %I FROM PUBLIC', n.nspname)] \
         from pg_namespace n cross join aclexplode(n.nspacl) a \
         where a.grantee = 0 and a.privilege_type = 'CREATE' and <own> order by 1",
    ),
    (
        "public_database",
        Weakness,
        "any session may make schemas in the database",
        "select format('%I', d.datname), 'CREATE', array[format('REVOKE CREATE ON DATABASE %I FROM PUBLIC', d.datname)] \
         from pg_database d cross join aclexplode(d.datacl) a \
         where d.datname = current_database() and a.grantee = 0 and a.privilege_type = 'CREATE'",
    ),
    (
        "public_default",
        Hole,
        "what this role makes from now on is open to everybody",
        "select format('%s of %I%s', k.word, pg_get_userbyid(d.defaclrole), coalesce(' in ' || quote_ident(n.nspname), '')), \
         string_agg(distinct a.privilege_type, ', '), \
         array[format('ALTER DEFAULT PRIVILEGES FOR ROLE %I%s REVOKE ALL ON %s FROM PUBLIC', pg_get_userbyid(d.defaclrole), \
           coalesce(' IN SCHEMA ' || quote_ident(n.nspname), ''), k.word)] \
         from pg_default_acl d left join pg_namespace n on n.oid = d.defaclnamespace \
         join (values ('r', 'TABLES'), ('S', 'SEQUENCES'), ('n', 'SCHEMAS')) k (kind, word) on k.kind = d.defaclobjtype::text \
         cross join aclexplode(d.defaclacl) a where a.grantee = 0 \
         group by k.word, d.defaclrole, n.nspname order by 1",
    ),
    (
        "database_link",
        Hole,
        "opens connections of its own from the server, which no role and no gateway sees",
        "select 'dblink', string_agg(distinct p.proname::text, ', '), \
         array_agg('REVOKE EXECUTE ON ROUTINE ' || <routine> || ' FROM PUBLIC' order by <routine>) \
         from pg_proc p join pg_namespace n on n.oid = p.pronamespace \
         where p.probin ~ '(^|/)dblink$' and <public_may_call> having count(*) > 0",
    ),
    (
        "foreign_server",
        Hole,
        "everybody may make foreign tables and connections over it",
        "select format('%I', s.srvname), 'USAGE', array[format('REVOKE USAGE ON FOREIGN SERVER %I FROM PUBLIC', s.srvname)] \
         from pg_foreign_server s cross join aclexplode(s.srvacl) a where a.grantee = 0 order by 1",
    ),
    (
        "foreign_wrapper",
        Hole,
        "everybody may make foreign servers with it",
        "select format('%I', w.fdwname), 'USAGE', \
         array[format('REVOKE USAGE ON FOREIGN DATA WRAPPER %I FROM PUBLIC', w.fdwname)] \
         from pg_foreign_data_wrapper w cross join aclexplode(w.fdwacl) a where a.grantee = 0 order by 1",
    ),
    (
        "user_mapping",
        Hole,
        "everybody signs in over there as the role of this mapping",
        "select format('PUBLIC on %I', m.srvname), '', array[format('DROP USER MAPPING FOR PUBLIC SERVER %I', m.srvname)] \
         from pg_user_mappings m where m.umuser = 0 order by 1",
    ),
    (
        "server_files",
        Hole,
        "reads or writes files of the server",
        "select <routine>, '', array['REVOKE EXECUTE ON ROUTINE ' || <routine> || ' FROM PUBLIC'] \
         from pg_proc p join pg_namespace n on n.oid = p.pronamespace \
         where p.proname in ('pg_read_file', 'pg_read_binary_file', 'pg_ls_dir', 'pg_stat_file', 'lo_import', 'lo_export', \
           'pg_file_write', 'pg_file_read', 'pg_file_rename', 'pg_file_unlink', 'pg_file_sync') and <public_may_call> order by 1",
    ),
    (
        "large_object",
        Weakness,
        "any session may store large objects: a write that no count shows, also with read access",
        "select 'large objects', string_agg(distinct p.proname::text, ', '), \
         array_agg('REVOKE EXECUTE ON ROUTINE ' || <routine> || ' FROM PUBLIC' order by <routine>) \
         from pg_proc p join pg_namespace n on n.oid = p.pronamespace where n.nspname = 'pg_catalog' \
         and p.proname in ('lo_creat', 'lo_create', 'lo_from_bytea', 'lo_put') and <public_may_call> having count(*) > 0",
    ),
    (
        "open_large_object",
        Hole,
        "everybody may read or change it",
        "select 'large object ' || m.oid, string_agg(distinct a.privilege_type, ', '), \
         array[format('REVOKE ALL ON LARGE OBJECT %s FROM PUBLIC', m.oid)] \
         from pg_largeobject_metadata m cross join aclexplode(m.lomacl) a where a.grantee = 0 group by m.oid order by m.oid",
    ),
    (
        "untrusted_function",
        Hole,
        "is written in a language that may do anything on the server, and anybody may call it",
        "select <routine>, l.lanname::text, array['REVOKE EXECUTE ON ROUTINE ' || <routine> || ' FROM PUBLIC'] \
         from pg_proc p join pg_namespace n on n.oid = p.pronamespace join pg_language l on l.oid = p.prolang \
         where not l.lanpltrusted and l.lanname not in ('internal', 'c') and <public_may_call> order by 1",
    ),
    (
        "procedural_language",
        Weakness,
        "DO blocks hide from the gateway what they run (rights hold there all the same); \
         who makes functions then needs GRANT USAGE",
        "select format('%I', l.lanname), 'USAGE', array[format('REVOKE USAGE ON LANGUAGE %I FROM PUBLIC', l.lanname)] \
         from pg_language l cross join aclexplode(coalesce(l.lanacl, acldefault('l', l.lanowner))) a \
         where l.lanispl and l.lanpltrusted and a.grantee = 0 order by 1",
    ),
    (
        "runs_text",
        Weakness,
        "runs SQL that is given as a string, which the gateway cannot judge (rights hold there all the same)",
        "select 'functions that run text', string_agg(distinct p.proname::text, ', '), \
         array_agg('REVOKE EXECUTE ON ROUTINE ' || <routine> || ' FROM PUBLIC' order by <routine>) \
         from pg_proc p join pg_namespace n on n.oid = p.pronamespace \
         where p.proname = any (<runs_text>) and not (p.proname = 'ts_rewrite' and p.pronargs = 3) and <public_may_call> having count(*) > 0",
    ),
];
