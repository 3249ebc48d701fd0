-- What the broker remembers. Moments are microseconds since 1970, UTC.
-- No password is kept anywhere: `verifier` is what SCRAM needs to check one.
create table grants (
    id         text primary key,
    session    text not null unique,
    principal  text not null,
    target     text not null,
    credential text not null unique,
    verifier   text not null,
    expires    integer not null,
    document   text not null,
    -- live -> ending -> ended, never back. `ending`: no new connection, roles may still be there.
    state      text not null default 'live' check (state in ('live', 'ending', 'ended')),
    ended      integer,
    reason     text
) strict;

create index grants_by_state on grants (state, expires);

-- Nonces that a grant request may sign, once.
create table challenges (
    nonce     text primary key,
    principal text not null,
    expires   integer not null
) strict;

create index challenges_by_principal on challenges (principal, expires);
