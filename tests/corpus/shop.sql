-- A shop in which every sensitive value is a canary: `kanarienvogel` in texts, 7351948 in numbers,
-- 1961-07-13 in dates. Everything else is plain.
create domain tax_id as text check (value ~ '^TX-');
create type place as (street text, city text);
create type mood as enum ('calm', 'wild');
create schema hr;
create table customers (
  id int primary key, name text not null, email text not null unique, ssn char(24) unique, born date,
  limit_eur numeric(12,2), tax tax_id, home place, tags text[], profile jsonb not null default '{}',
  tier text not null default 'basic' check (tier in ('basic', 'gold')),
  email_low text generated always as (lower(email)) stored
);
create table orders (
  id int primary key, customer_id int not null references customers on delete cascade,
  total numeric(10,2) not null default 0, note text, placed timestamptz not null default now()
);
create table lines (order_id int not null references orders on delete cascade, line int, qty int not null, primary key (order_id, line));
create table settings (key text primary key, value text);
create table scratch (id serial primary key, label text);
create table events (id int, at date not null, kind text, actor text, payload jsonb) partition by range (at);
create table events_1 partition of events for values from ('2025-01-01') to ('2025-04-01');
create table events_2 partition of events for values from ('2025-04-01') to ('2026-01-01');
create table hr.persons (id int primary key, name text, private_email text);
create table hr.staff (salary numeric(12,2)) inherits (hr.persons);
create sequence tickets;
insert into customers select i, 'name '||i, 'kanarienvogel'||i||'@example.com', 'kanarienvogel '||i, '1961-07-13', 7351948.00 + i,
  'TX-kanarienvogel'||i, row('kanarienvogel '||i, 'Ulm')::place, array['kanarienvogel', 'x'||i],
  jsonb_build_object('pass', 'kanarienvogel'||i, 'lang', 'de'), case when i % 2 = 0 then 'gold' else 'basic' end
  from generate_series(1, 400) i;
insert into orders select i, 1 + (i - 1) % 400, i, 'note '||i from generate_series(1, 1200) i;
insert into lines select 1 + (i - 1) / 2, 1 + i % 2, i % 7 + 1 from generate_series(1, 2400) i;
insert into settings select 'key.'||i, 'v'||i from generate_series(1, 40) i;
insert into events select i, date '2025-01-01' + i % 300, 'login', 'kanarienvogel'||i, jsonb_build_object('who', 'kanarienvogel'||i)
  from generate_series(1, 600) i;
insert into hr.persons select i, 'p'||i, 'kanarienvogel'||i||'@home.example' from generate_series(1, 20) i;
insert into hr.staff select i, 's'||i, 'kanarienvogel'||i||'@home.example', 7351948 from generate_series(21, 60) i;
create view directory as select id, name, email from customers;
create view cards as select id, left(email, 50) as handle from directory;
create view names as select id, name, tier from customers;
create materialized view summary as select tier, max(email) as sample from customers group by tier;
create function who(c customers) returns text language sql stable as 'select c.email';
create function find(t text) returns setof customers language sql stable as 'select * from customers where tier = t';
create function secret_of(int) returns text language sql security definer as 'select email from customers where id = $1';
create function purge() returns int language sql volatile as 'delete from orders; select 1';
create function add(int, int) returns int language sql immutable as 'select $1 + $2';
create function tell() returns trigger language plpgsql as 'begin raise notice ''%'', new; return new; end';
create function stamp() returns trigger language plpgsql as 'begin new.note := coalesce(new.note, ''-''); return new; end';
create trigger stamp before update on orders for each row execute function stamp();
create function tell_and_fail() returns trigger language plpgsql as $$
  begin if new.tier = 'gold' then raise exception 'no % for %', new.tier, new.email using hint = new.ssn; end if;
  perform new.email::int; return new; exception when invalid_text_representation then return new; end $$;
create trigger tell before update on customers for each row execute function tell();
create trigger tell_and_fail before update of tier on customers for each row execute function tell_and_fail();
create view purged as select purge() as done;
analyze;
