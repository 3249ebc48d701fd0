-- What a target needs once before dbgate may serve it, as superuser, in the target database.
-- The broker's role makes and drops roles but is no superuser, reads no row it is not granted,
-- and can pass on only what stands here. Its password is set apart from this.

create role dbgate_broker login createrole;

-- Every just-in-time login is a member, so that pg_hba.conf can name them as one.
create role dbgate_sessions nologin;
grant dbgate_sessions to dbgate_broker with admin option;

-- Owns the masking views: neither owner of a table nor above row-level security.
create role dbgate_masker nologin;
grant dbgate_masker to dbgate_broker with admin option;

-- To end sessions whose grant has ended.
grant pg_signal_backend to dbgate_broker;

do $$ begin
    execute format('grant connect, create on database %I to dbgate_broker with grant option', current_database());
    execute format('grant create on database %I to dbgate_masker', current_database());
    -- Otherwise every role may connect, and PUBLIC rights cannot be taken from a session's role.
    execute format('revoke temporary on database %I from public', current_database());
end $$;

revoke create on schema public from public;
grant usage on schema public to dbgate_broker with grant option;
grant usage on schema public to dbgate_masker;
grant select, insert, update, delete on all tables in schema public to dbgate_broker with grant option;
grant select, insert, update, delete on all tables in schema public to dbgate_masker;
grant usage on all sequences in schema public to dbgate_broker with grant option;

-- Large objects are rows of nobody's table: no grant would stop a session from writing them.
revoke execute on function lo_creat(int), lo_create(oid), lo_from_bytea(oid, bytea), lo_put(oid, bigint, bytea),
    lo_import(text), lo_import(text, oid) from public;
