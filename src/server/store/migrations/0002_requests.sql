-- Requests that wait for people. `document` is the whole request; the columns are for finding it.
-- A change of state is an update of exactly one version: of two that race, one finds nothing.
create table requests (
    id        text primary key,
    version   integer not null default 0,
    principal text not null,
    target    text not null,
    -- Digest of everything the approval is bound to.
    binding   text not null,
    -- SHA-256 of the statement alone.
    statement text not null,
    state     text not null check (state in ('pending', 'approved', 'rejected', 'expired', 'withdrawn', 'executed')),
    created   integer not null,
    expires   integer not null,
    document  text not null
) strict;

create index requests_by_state on requests (state, expires);
create index requests_by_principal on requests (principal, created);
-- One statement is asked for once at a time, however often it is sent.
create unique index requests_open on requests (binding) where state in ('pending', 'approved');
