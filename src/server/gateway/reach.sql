-- What a statement reaches, how all of that is defined, and what its code asks the session for.
--
-- $1 relations that it names, as SQL spells them   $2 functions, operators and types that it names
-- $3 its text   $4 settings of the client's with a dot in their names
-- $5 whether it is a definition, so that event triggers fire
-- $6 whether the session has run code that nobody has read
--
-- What PostgreSQL itself knows of dependencies is followed by number. A body that is plain text reaches
-- whatever its words may name, in any schema. One that makes its SQL while it runs, or that nobody can read,
-- reaches everything. Extensions count by their version; what PostgreSQL brings along does not count.
--
-- Objects are a catalog's number and their own: 1247 type, 1255 function, 1259 relation, 2603 support function,
-- 2604 default, 2605 cast, 2606 constraint, 2616 operator class, 2617 operator, 2618 rule, 2620 trigger,
-- 2615 schema, 3079 extension, 3256 policy, 3466 event trigger.
with recursive
-- Schemas whose objects are PostgreSQL's, temporary, or the gate's.
others as materialized (
    select n.oid from pg_catalog.pg_namespace n
    where n.nspname ~ '^(pg_|dbgate_)' or n.nspname = 'information_schema'),
members as materialized (
    select d.classid, d.objid from pg_catalog.pg_depend d where d.refclassid = 3079 and d.deptype = 'e'),
-- What is the database's own and has a name.
named as materialized (
    select found.class, found.id, found.name::pg_catalog.text as name from (
        select 1259::pg_catalog.oid as class, c.oid as id, c.relname as name, c.relnamespace as space
            from pg_catalog.pg_class c where c.relkind not in ('i', 'I', 't')
        union all select 1255, p.oid, p.proname, p.pronamespace from pg_catalog.pg_proc p
        union all select 2617, o.oid, o.oprname, o.oprnamespace from pg_catalog.pg_operator o
        union all select 1247, t.oid, t.typname, t.typnamespace from pg_catalog.pg_type t
            where t.typrelid = 0 and t.typelem = 0) found
    where found.id >= 16384 and found.space not in (select oid from others)
        and not exists (select from members m where m.classid = found.class and m.objid = found.id)),
-- Names that a text need not spell as a word by itself are looked for as they stand.
odd as materialized (
    select n.class, n.id, pg_catalog.lower(n.name collate "C") as name from named n
        where n.name !~ '^[a-z_][a-z0-9_]*$'),
seeds (class, id) as (
    select 1259::pg_catalog.oid, pg_catalog.to_regclass(r.name)::pg_catalog.oid
        from pg_catalog.unnest($1::pg_catalog.text[]) r(name) where pg_catalog.to_regclass(r.name) is not null
    union select n.class, n.id from named n where n.name = any ($2::pg_catalog.text[])
    union select n.class, n.id from named n
        where n.class = 1247 and pg_catalog.strpos(pg_catalog.lower($3::pg_catalog.text),
            pg_catalog.lower(n.name)) > 0
    -- Nobody writes these down where they are used.
    union select 2605, k.oid from pg_catalog.pg_cast k where k.oid >= 16384
        and not exists (select from members m where m.classid = 2605 and m.objid = k.oid)
    union select 3466, e.oid from pg_catalog.pg_event_trigger e where $5::pg_catalog.text = 'true'),
reached (class, id) as (
    select class, id from seeds
    union
    select next.class, next.id from reached r cross join lateral (
        select d.refclassid as class, d.refobjid as id from pg_catalog.pg_depend d
            where d.classid = r.class and d.objid = r.id and (d.deptype = 'n' or r.class = 2603)
                and d.refclassid in (1247, 1255, 1259, 2616, 2617)
                -- A key that refers to a table runs nothing there.
                and not (r.class = 2606 and d.refclassid = 1259)
        union all select 2604, a.oid from pg_catalog.pg_attrdef a where r.class = 1259 and a.adrelid = r.id
        union all select 2606, k.oid from pg_catalog.pg_constraint k where r.class = 1259 and k.conrelid = r.id
        union all select 2606, d.objid from pg_catalog.pg_depend d
            where r.class = 1259 and d.refclassid = 1259 and d.refobjid = r.id and d.classid = 2606
        -- Keys that change the rows which refer to one that goes; TRUNCATE ... CASCADE goes by any key.
        union all select 1259, k.conrelid from pg_catalog.pg_constraint k where r.class = 2606 and k.oid = r.id
            and (k.confdeltype in ('c', 'n', 'd') or k.confupdtype in ('c', 'n', 'd') or (k.contype = 'f'
                and $5::pg_catalog.text = 'true'))
        union all select 2620, t.oid from pg_catalog.pg_trigger t where r.class = 1259 and t.tgrelid = r.id
            and (not t.tgisinternal or t.tgenabled <> 'O')
        union all select 2618, w.oid from pg_catalog.pg_rewrite w where r.class = 1259 and w.ev_class = r.id
        union all select 3256, y.oid from pg_catalog.pg_policy y where r.class = 1259 and y.polrelid = r.id
        union all select 1259, x.indexrelid from pg_catalog.pg_index x where r.class = 1259 and x.indrelid = r.id
            and (x.indisunique or x.indexprs is not null or x.indpred is not null)
        union all select 1259, h.inhrelid from pg_catalog.pg_inherits h where r.class = 1259 and h.inhparent = r.id
        union all select 1259, t.typrelid from pg_catalog.pg_type t
            where r.class = 1247 and t.oid = r.id and t.typrelid <> 0
        union all select 1247, t.typelem from pg_catalog.pg_type t
            where r.class = 1247 and t.oid = r.id and t.typelem <> 0
        union all select 2606, k.oid from pg_catalog.pg_constraint k where r.class = 1247 and k.contypid = r.id
        union all select 2616, q.oid from pg_catalog.pg_opclass q
            where r.class = 1247 and q.opcintype = r.id and q.oid >= 16384
        union all select 2603, a.oid from pg_catalog.pg_opclass q
            join pg_catalog.pg_amproc a on a.amprocfamily = q.opcfamily
            where r.class = 2616 and q.oid = r.id
        union all select word.class, word.id from pg_catalog.pg_proc p cross join lateral (
            select n.class, n.id from pg_catalog.regexp_split_to_table(pg_catalog.lower(p.prosrc collate "C"),
                '[^a-z0-9_]+') w(word)
                join named n on n.name = pg_catalog.left(w.word, 63)
            union all select o.class, o.id from odd o
                where pg_catalog.strpos(pg_catalog.replace(pg_catalog.lower(p.prosrc collate "C"), '""', '"'),
                    o.name) > 0) word
            where r.class = 1255 and p.oid = r.id and p.prosqlbody is null
        ) next
    where next.id >= 16384
        and not exists (select from members m where m.classid = next.class and m.objid = next.id)),
-- Trees name functions and views of PostgreSQL's by number.
numbers as materialized (
    select ':(funcid|relid) (' || pg_catalog.string_agg(found.id::pg_catalog.text, '|') || ')\M' as telling,
        ':funcid (' || pg_catalog.string_agg(found.id::pg_catalog.text, '|')
            filter (where found.is_runner) || ')\M' as running from (
        select p.oid as id, p.proname::pg_catalog.text ~ '^({RUNS})$' as is_runner from pg_catalog.pg_proc p
            where p.oid < 16384 and p.proname::pg_catalog.text ~ '^(current_setting|random|{OWN}|{RUNS})$'
        union all select c.oid, false from pg_catalog.pg_class c
            where c.oid < 16384 and c.relname::pg_catalog.text ~ '^({OWN})$') found),
-- Whether nobody can say what it reaches.
opaque as materialized (
    select exists (select from pg_catalog.pg_proc p
            join pg_catalog.pg_language l on l.oid = p.prolang
            where p.oid = any (array(select id from reached where class = 1255))
                and (l.lanname not in ('sql', 'plpgsql', 'internal')
                or p.prosrc ~* '\m(execute|{RUNS})\M|u&["'']' or p.prosqlbody::pg_catalog.text ~ numbers.running))
        or exists (select from pg_catalog.pg_rewrite w
            where w.oid = any (array(select id from reached where class = 2618))
                and w.ev_action::pg_catalog.text ~ numbers.running)
        or exists (select from pg_catalog.pg_attrdef a
            where a.oid = any (array(select id from reached where class = 2604))
                and a.adbin::pg_catalog.text ~ numbers.running) as is_so
    from numbers),
-- Everything that has code.
ours as materialized (
    select c.oid from opaque, pg_catalog.pg_class c where opaque.is_so and c.oid >= 16384
        and c.relkind in ('r', 'p', 'v', 'm', 'f') and c.relnamespace not in (select oid from others)
        and not exists (select from members m where m.classid = 1259 and m.objid = c.oid)),
coded (class, id) as materialized (
    select class, id from reached
    union all select n.class, n.id from opaque, named n where opaque.is_so and n.class in (1247, 1255)
    union all select 1259, x.indexrelid from ours o join pg_catalog.pg_index x on x.indrelid = o.oid
        where x.indexprs is not null or x.indpred is not null
    union all select 1259, q.partrelid from ours o join pg_catalog.pg_partitioned_table q on q.partrelid = o.oid
    union all select 2604, a.oid from ours o join pg_catalog.pg_attrdef a on a.adrelid = o.oid
    union all select 2606, k.oid from opaque, pg_catalog.pg_constraint k
        where opaque.is_so and k.oid >= 16384 and k.conbin is not null
    union all select 2620, t.oid from ours o join pg_catalog.pg_trigger t on t.tgrelid = o.oid
        where t.tgqual is not null
    union all select 2618, w.oid from ours o join pg_catalog.pg_rewrite w on w.ev_class = o.oid
    union all select 3256, y.oid from ours o join pg_catalog.pg_policy y on y.polrelid = o.oid),
-- What runs: bodies as they stand, and of expressions those that ask for something.
code (name, body) as materialized (
    select p.proname::pg_catalog.text, p.prosrc from pg_catalog.pg_proc p
        where p.oid = any (array(select id from coded where class = 1255)) and p.prosqlbody is null
    union select p.proname::pg_catalog.text, pg_catalog.pg_get_functiondef(p.oid)
        from numbers, pg_catalog.pg_proc p
        where p.oid = any (array(select id from coded where class = 1255)) and p.prokind in ('f', 'p')
            and (p.prosqlbody::pg_catalog.text ~ telling or p.proargdefaults::pg_catalog.text ~ telling)
    union select a.adrelid::pg_catalog.regclass::pg_catalog.text, pg_catalog.pg_get_expr(a.adbin, a.adrelid)
        from numbers, pg_catalog.pg_attrdef a
        where a.oid = any (array(select id from coded where class = 2604)) and a.adbin::pg_catalog.text ~ telling
    union select k.conname::pg_catalog.text, pg_catalog.pg_get_constraintdef(k.oid)
        from numbers, pg_catalog.pg_constraint k
        where k.oid = any (array(select id from coded where class = 2606)) and k.conbin::pg_catalog.text ~ telling
    union select t.tgname::pg_catalog.text, pg_catalog.pg_get_triggerdef(t.oid)
        from numbers, pg_catalog.pg_trigger t
        where t.oid = any (array(select id from coded where class = 2620)) and t.tgqual::pg_catalog.text ~ telling
    union select w.ev_class::pg_catalog.regclass::pg_catalog.text, pg_catalog.pg_get_ruledef(w.oid)
        from numbers, pg_catalog.pg_rewrite w
        where w.oid = any (array(select id from coded where class = 2618)) and (w.ev_action::pg_catalog.text ~ telling
            or w.ev_qual::pg_catalog.text ~ telling)
    union select y.polname::pg_catalog.text, pg_catalog.concat_ws(' ',
            pg_catalog.pg_get_expr(y.polqual, y.polrelid), pg_catalog.pg_get_expr(y.polwithcheck, y.polrelid))
        from numbers, pg_catalog.pg_policy y
        where y.oid = any (array(select id from coded where class = 3256)) and (y.polqual::pg_catalog.text ~ telling
            or y.polwithcheck::pg_catalog.text ~ telling)
    union select x.indexrelid::pg_catalog.regclass::pg_catalog.text, pg_catalog.pg_get_indexdef(x.indexrelid)
        from numbers, pg_catalog.pg_index x
        where x.indexrelid = any (array(select id from coded where class = 1259))
            and (x.indexprs::pg_catalog.text ~ telling or x.indpred::pg_catalog.text ~ telling)
    union select q.partrelid::pg_catalog.regclass::pg_catalog.text, pg_catalog.pg_get_partkeydef(q.partrelid)
        from numbers, pg_catalog.pg_partitioned_table q
        where q.partrelid = any (array(select id from coded where class = 1259))
            and q.partexprs::pg_catalog.text ~ telling
    union select t.typname::pg_catalog.text, pg_catalog.pg_get_expr(t.typdefaultbin, 0)
        from numbers, pg_catalog.pg_type t
        where t.oid = any (array(select id from coded where class = 1247))
            and t.typdefaultbin::pg_catalog.text ~ telling),
-- A setting whose name is put together, and names that it may be put together to.
unnamed as materialized (
    select exists (select from code c where
        (select pg_catalog.count(*) from pg_catalog.regexp_matches(c.body, '\mcurrent_setting\M', 'gi'))
        > (select pg_catalog.count(*) from pg_catalog.regexp_matches(c.body, '{ASKS}', 'gi'))) as is_so),
asked (name) as materialized (
    select pg_catalog.lower(m.found[1]) from code c, pg_catalog.regexp_matches(c.body, '{ASKS}', 'gi') m(found)
    union select pg_catalog.lower(m.found[1]) from code c, pg_catalog.regexp_matches(c.body,
        '\mshow\s+([a-z_][a-z0-9_.$]*)', 'gi') m(found)
    union select pg_catalog.lower(d.name) from pg_catalog.unnest($4::pg_catalog.text[]) d(name)
    union select pg_catalog.lower(m.found[1]) from unnamed, named n
        join pg_catalog.pg_proc p on n.class = 1255 and p.oid = n.id,
        pg_catalog.regexp_matches(p.prosrc, '\m([a-z_][a-z0-9_$]*\.[a-z_][a-z0-9_.$]*)', 'gi') m(found)
            where unnamed.is_so),
-- A setting that what runs looks at, or that gives its text a meaning, and that it sets itself: behind the
-- statement it is another than before it.
moved as materialized (
    select pg_catalog.min(looked.name) as name from (
        select a.name from asked a where a.name !~ '{WHO}'
        union select pg_catalog.lower(s.name) from pg_catalog.pg_settings s where s.name in ({SETTINGS})) looked
    where exists (
        select from (select c.body from code c union all select $3::pg_catalog.text) told (body)
        where looked.name in (
            select pg_catalog.lower(m.found[1]) from pg_catalog.regexp_matches(told.body, '{SETS}', 'gi') m(found)
            -- A statement by itself: UPDATE has a SET, too.
            union all select pg_catalog.lower(m.found[1]) from pg_catalog.regexp_matches(told.body,
                '(?:^|;|\mbegin|\mthen|\melse|\mloop)\s*set\s+(?:local\s+|session\s+)?([a-z_][a-z0-9_.$]*)\s*(?:=|\mto\M)',
                'gi') m(found))
        or (select pg_catalog.count(*) from pg_catalog.regexp_matches(told.body, '\mset_config\M', 'gi'))
            > (select pg_catalog.count(*) from pg_catalog.regexp_matches(told.body, '{SETS}', 'gi')))),
settings as (
    select s.name, s.setting from pg_catalog.pg_settings s where s.name in ({SETTINGS})
        or (s.source in ('session', 'client') and s.name !~ '{TELLING}')
    union select a.name, pg_catalog.current_setting(a.name, true) from asked a
        where a.name !~ '{WHO}' and pg_catalog.current_setting(a.name, true) is not null),
-- Roles that code runs as, and what they are members of.
owners (id) as (
    select p.proowner from pg_catalog.pg_proc p
        where p.oid = any (array(select id from reached where class = 1255)) and p.prosecdef
    union select c.relowner from pg_catalog.pg_class c
        where c.oid = any (array(select id from reached where class = 1259))
    union select g.roleid from owners o join pg_catalog.pg_auth_members g on g.member = o.id),
pieces (kind, id, definition) as (
    select 'a relation', c.oid, row(n.nspname, c.relname, c.relkind, c.relowner, c.relrowsecurity,
        c.relforcerowsecurity,
            c.relpartbound::pg_catalog.text, case when c.relkind = 'v' then c.reloptions end,
            (select pg_catalog.string_agg(row(a.attnum, a.attname, a.atttypid, a.atttypmod, a.attnotnull,
                a.attidentity,
                a.attgenerated, a.attcollation, a.attfdwoptions)::pg_catalog.text, ',' order by a.attnum)
                from pg_catalog.pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped),
            (select q::pg_catalog.text from pg_catalog.pg_partitioned_table q where q.partrelid = c.oid),
            (select row(f.ftoptions, v.srvoptions, v.srvowner)::pg_catalog.text from pg_catalog.pg_foreign_table f
                join pg_catalog.pg_foreign_server v on v.oid = f.ftserver where f.ftrelid = c.oid))::pg_catalog.text
        from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
        where c.oid = any (array(select id from reached where class = 1259)) and c.relkind not in ('i', 'I')
    union all select 'an index', x.indexrelid, x::pg_catalog.text
        from pg_catalog.pg_index x
        where x.indexrelid = any (array(select id from reached where class = 1259))
    union all select 'a function', p.oid, (n.nspname || ' ' || (pg_catalog.to_jsonb(p) - 'proacl')::pg_catalog.text
            || coalesce((select g::pg_catalog.text from pg_catalog.pg_aggregate g where g.aggfnoid = p.oid), ''))
        from pg_catalog.pg_proc p
        join pg_catalog.pg_namespace n on n.oid = p.pronamespace
        where p.oid = any (array(select id from reached where class = 1255))
    union all select 'a type', t.oid, (n.nspname || ' ' || (pg_catalog.to_jsonb(t) - 'typacl')::pg_catalog.text
            || coalesce((select pg_catalog.string_agg(e.enumlabel, ',' order by e.enumsortorder)
                from pg_catalog.pg_enum e
                where e.enumtypid = t.oid), ''))
        from pg_catalog.pg_type t
        join pg_catalog.pg_namespace n on n.oid = t.typnamespace
        where t.oid = any (array(select id from reached where class = 1247))
    union all select 'an operator', o.oid, o::pg_catalog.text from pg_catalog.pg_operator o
        where o.oid = any (array(select id from reached where class = 2617))
    union all select 'an operator class', q.oid, q::pg_catalog.text || coalesce((
            select pg_catalog.string_agg(m::pg_catalog.text, ',' order by m.oid)
            from pg_catalog.pg_amop m where m.amopfamily = q.opcfamily), '')
        from pg_catalog.pg_opclass q where q.oid = any (array(select id from reached where class = 2616))
    union all select 'an operator class', a.oid, a::pg_catalog.text from pg_catalog.pg_amproc a
        where a.oid = any (array(select id from reached where class = 2603))
    union all select 'a cast', k.oid, k::pg_catalog.text from pg_catalog.pg_cast k
        where k.oid = any (array(select id from reached where class = 2605))
    union all select 'a default', a.oid, a::pg_catalog.text from pg_catalog.pg_attrdef a
        where a.oid = any (array(select id from reached where class = 2604))
    union all select 'a constraint', k.oid, k::pg_catalog.text from pg_catalog.pg_constraint k
        where k.oid = any (array(select id from reached where class = 2606))
    union all select 'a trigger', t.oid, t::pg_catalog.text from pg_catalog.pg_trigger t
        where t.oid = any (array(select id from reached where class = 2620))
    union all select 'an event trigger', e.oid, e::pg_catalog.text from pg_catalog.pg_event_trigger e
        where e.oid = any (array(select id from reached where class = 3466))
    union all select 'a view or rule', w.oid, w::pg_catalog.text from pg_catalog.pg_rewrite w
        where w.oid = any (array(select id from reached where class = 2618))
    union all select 'a row policy', y.oid, y::pg_catalog.text from pg_catalog.pg_policy y
        where y.oid = any (array(select id from reached where class = 3256))
    union all select 'a role', u.oid, row(u.rolname, u.rolsuper, u.rolinherit, u.rolbypassrls, (
            select pg_catalog.string_agg(g::pg_catalog.text, ',' order by g.roleid) from pg_catalog.pg_auth_members g
            where g.member = u.oid))::pg_catalog.text
        from owners o join pg_catalog.pg_roles u on u.oid = o.id
    -- Where it may reach everything, whatever has been defined anew since.
    union all select 'something in the database', found.id, found.made from opaque, (
        select 1::pg_catalog.oid as id,
                pg_catalog.string_agg(n.class || ' ' || n.id || ' ' || n.name, ',' order by n.class, n.id) as made from named n
        union all select 2, pg_catalog.string_agg(
                pg_catalog.md5((pg_catalog.to_jsonb(p) - 'proacl')::pg_catalog.text), ',' order by p.oid)
            from named n join pg_catalog.pg_proc p on n.class = 1255 and p.oid = n.id
        union all select 3, pg_catalog.string_agg(a.oid || ' ' || a.xmin, ',' order by a.oid)
            from pg_catalog.pg_attrdef a where a.adrelid in (select oid from ours)
        union all select 4, pg_catalog.string_agg(k.oid || ' ' || k.xmin, ',' order by k.oid)
            from pg_catalog.pg_constraint k where k.contypid <> 0 or k.conrelid in (select oid from ours)
        union all select 5, pg_catalog.string_agg(t.oid || ' ' || t.xmin, ',' order by t.oid)
            from pg_catalog.pg_trigger t where t.tgrelid in (select oid from ours)
        union all select 6, pg_catalog.string_agg(w.oid || ' ' || w.xmin, ',' order by w.oid)
            from pg_catalog.pg_rewrite w where w.ev_class in (select oid from ours)
        union all select 7, pg_catalog.string_agg(y.oid || ' ' || y.xmin, ',' order by y.oid)
            from pg_catalog.pg_policy y where y.polrelid in (select oid from ours)
        union all select 8, pg_catalog.string_agg(a.attrelid || ' ' || a.attnum || a.attname || a.atttypid, ','
            order by a.attrelid, a.attnum)
            from pg_catalog.pg_attribute a where a.attnum > 0 and a.attrelid in (select oid from ours)
        union all select 9, pg_catalog.string_agg(row(c.oid, c.relnamespace, c.relowner, c.relrowsecurity,
                c.relforcerowsecurity)::pg_catalog.text, ',' order by c.oid)
            from ours o join pg_catalog.pg_class c on c.oid = o.oid
        union all select 10, pg_catalog.string_agg(x.indexrelid::pg_catalog.text, ',' order by x.indexrelid)
            from ours o join pg_catalog.pg_index x on x.indrelid = o.oid
            where x.indisunique or x.indexprs is not null or x.indpred is not null
        union all select 11, pg_catalog.string_agg(h.inhrelid || ' ' || h.inhparent, ',' order by h.inhrelid, h.inhparent)
            from pg_catalog.pg_inherits h where h.inhparent in (select oid from ours)
        union all select 12, pg_catalog.string_agg(t.oid || ' ' || t.xmin, ',' order by t.oid)
            from named n join pg_catalog.pg_type t on n.class = 1247 and t.oid = n.id
        union all select 13, pg_catalog.string_agg(g::pg_catalog.text, ',' order by g.roleid, g.member)
            from pg_catalog.pg_auth_members g join pg_catalog.pg_roles u on u.oid = g.member where u.rolname !~ '^dbgate_'
        ) found where opaque.is_so
    union all select 'an extension', e.oid, e.extname || ' ' || e.extversion from pg_catalog.pg_extension e
    union all select 'a text search configuration', m.mapcfg, m::pg_catalog.text from pg_catalog.pg_ts_config_map m
        where m.mapcfg >= 16384
    union all select 'a text search configuration', d.oid, d::pg_catalog.text from pg_catalog.pg_ts_dict d
        where d.oid >= 16384
    union all select 'a collation', l.oid, l::pg_catalog.text from pg_catalog.pg_collation l where l.oid >= 16384)
select 'circumstances',
    (select pg_catalog.json_object_agg(s.name, s.setting order by s.name)::pg_catalog.text from settings s),
    (select pg_catalog.json_object_agg(k.kind, k.digest order by k.kind)::pg_catalog.text from (
        select p.kind, pg_catalog.encode(pg_catalog.sha256(pg_catalog.string_agg(
            pg_catalog.sha256(pg_catalog.convert_to(p.id::pg_catalog.text || ' ' || p.definition,
                pg_catalog.getdatabaseencoding())),
            ''::pg_catalog.bytea order by p.id, p.definition)), 'hex') as digest
        from pieces p group by p.kind) k),
    pg_catalog.current_setting('client_min_messages'),
    (select pg_catalog.string_agg(distinct l.mode || ' ' || n.nspname || '.' || c.relname, E'\n')
        from pg_catalog.pg_locks l join pg_catalog.pg_class c on c.oid = l.relation
        join pg_catalog.pg_namespace n on n.oid = c.relnamespace
        where l.pid = pg_catalog.pg_backend_pid() and l.mode <> 'AccessShareLock' and c.relkind in ('r', 'p')
            and c.oid >= 16384),
    -- Code that looks at what only its session knows.
    (select pg_catalog.min(c.name) from code c where c.body ~* '\m({OWN})\M' or c.body ~* '\mshow\s+all\M'
        or (c.body ~* '\mrandom\M' and ($6::pg_catalog.text = 'true' or exists (
            select from named n join pg_catalog.pg_proc p on n.class = 1255 and p.oid = n.id
                where p.prosrc ~* '\m(seed|setseed)\M')))),
    -- Settings that nobody can list: asked for, and set, under names that are put together.
    (select (u.is_so and ($6::pg_catalog.text = 'true' or exists (
        select from named n join pg_catalog.pg_proc p on n.class = 1255 and p.oid = n.id where
            (select pg_catalog.count(*) from pg_catalog.regexp_matches(p.prosrc, '\mset_config\M', 'gi'))
            > (select pg_catalog.count(*) from pg_catalog.regexp_matches(p.prosrc, '{SETS}',
                'gi')))))::pg_catalog.text from unnamed u),
    -- What the session has in its own schema: relations, anything else.
    (select pg_catalog.concat_ws(' ', case when pg_catalog.bool_or(d.classid = 1259) then 'relations' end,
            case when pg_catalog.bool_or(d.classid <> 1259) then 'others' end)
        from pg_catalog.pg_depend d where d.refclassid = 2615 and d.refobjid = pg_catalog.pg_my_temp_schema()
            and d.refobjid <> 0),
    -- Whether a body runs whose names are looked for anew each time.
    (exists (select from reached r join pg_catalog.pg_proc p on r.class = 1255 and p.oid = r.id
        join pg_catalog.pg_language l on l.oid = p.prolang
        where p.prosqlbody is null and l.lanname not in ('internal', 'c')))::pg_catalog.text,
    -- A name that means something of the session's own.
    (select pg_catalog.min(r.name) from pg_catalog.unnest($1::pg_catalog.text[]) r(name)
        join pg_catalog.pg_class c on c.oid = pg_catalog.to_regclass(r.name)
        where c.relnamespace = pg_catalog.pg_my_temp_schema()),
    (select name from moved)
