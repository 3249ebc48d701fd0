-- What people do with psql, run straight and through the gate: what is printed must be the same.
-- `== NAME` begins a part; commands that a version does not know are errors both ways.
\pset pager off
create temp table t (id int primary key, name text, v numeric);
insert into t select g, 'n' || g, g * 1.5 from generate_series(1, 7) g;
\echo == copy
\copy t to stdout
\copy (select id, name from t order by id limit 2) to stdout with (format csv, header)
\copy t (id, name) from stdin
100	a
101	b\tc
\.
select count(*), max(name) from t;
\copy t from stdin with (format csv)
200,"x,y",1
201,zz,notanumber
\.
\copy t to program 'sort -r'
\copy t from program 'echo 300,p,1' with csv
\echo == gexec
select format('select %s as n', g) from generate_series(1,3) g \gexec
select 'select 1/0' union all select 'select 2' \gexec
\echo == gdesc gset gx
select id, name, v from t \gdesc
select 1 as a, 'x' as b \gset p_
\echo :p_a :p_b
select * from t where id = :p_a \gx
\echo == watch
create temp sequence n;
select 1/(3 - nextval('n')) as w \watch 0.1
\echo == crosstab
select * from (values (1,'a',10),(1,'b',20),(2,'a',30)) v(r,c,x) \crosstabview
\echo == timing
\timing on
select 1;
\timing off
\echo == rollback
\set ON_ERROR_ROLLBACK on
begin;
insert into t values (400, 'q', 1);
select 1/0;
insert into t values (1, 'dup', 1);
select count(*) from t where id = 400;
rollback;
select count(*) from t where id = 400;
\set ON_ERROR_ROLLBACK off
\echo == fetch_count
\set FETCH_COUNT 2
select id, name from t order by id limit 5;
select 10/(4-id) from t order by id;
select nope;
select id into temp u from t;
begin;
select id from t order by id limit 3;
commit;
\set FETCH_COUNT 0
\echo == autocommit
\set AUTOCOMMIT off
select 1;
insert into t values (500, 'r', 1);
\echo :ROW_COUNT :SQLSTATE :ERROR
rollback;
select count(*) from t where id = 500;
commit;
\set AUTOCOMMIT on
\echo == errors
select 1/0;
\errverbose
\set VERBOSITY verbose
select nope from t;
select * from nosuch;
selec 1;
\set VERBOSITY sqlstate
select 1/0;
\set VERBOSITY terse
select nope from t;
\set VERBOSITY default
\echo :LAST_ERROR_MESSAGE :LAST_ERROR_SQLSTATE
\set SHOW_CONTEXT always
\echo == several
select 1\; select 2\; select 3;
select 1\; select 1/0\; select 3;
begin\; select 2\; commit;
\echo == prepared
prepare p(int) as select * from t where id = $1;
execute p(3);
deallocate p;
\if :{?SERVER_VERSION_NUM}
\echo has
\endif
select $1::int + $2::int as s \bind 1 2 \g
select $1 as t \bind 'x' \g
\bind_named nosuch \g
select $1::text as z \parse st
\bind_named st 'hello' \g
\close_prepared st
\startpipeline
select $1::int \bind 1 \sendpipeline
select $1::int / 0 \bind 2 \sendpipeline
select 3 \bind \sendpipeline
\syncpipeline
select 4 \bind \sendpipeline
\flushrequest
\getresults
\endpipeline
\echo == misc
\encoding
show client_encoding;
\d t
\dconfig work_mem
\lo_list
\set x 5
\if true
select :x as x, :'x' as q, :"x" from (select 1 as "5") z;
\endif
\pset format csv
select * from t where id < 3;
\pset format html
select * from t where id < 3;
\pset format aligned
\pset null NULL
\x
select null as a, id from t where id = 2;
\x
table t limit 1;
values (1), (2);
discard temp;
\d t
