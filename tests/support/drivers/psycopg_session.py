"""psycopg 3 through the gate: everything an application does with a connection."""
import threading

import psycopg

with psycopg.connect("") as connection:
    assert connection.execute("select %s::int + 1, %s", (41, "text")).fetchone() == (42, "text")
    assert connection.execute("select id, amount from orders where id = %s", (7,), prepare=True).fetchone()[0] == 7
    with connection.cursor(binary=True) as cursor:
        assert cursor.execute("select 5::int8, true, null, '\\x00ff'::bytea").fetchone() == (5, True, None, b"\x00\xff")
    connection.commit()

    with connection.cursor() as cursor:
        cursor.executemany("insert into audit_trail (what) values (%s)", [(f"line {n}",) for n in range(90)])
        assert cursor.rowcount == 90
    connection.rollback()
    assert connection.execute("select count(*) from audit_trail").fetchone() == (0,)
    connection.commit()

    with connection.pipeline() as pipeline:
        cursors = [connection.execute("select %s::int", (n,)) for n in range(200)]
        pipeline.sync()
        assert [cursor.fetchone()[0] for cursor in cursors] == list(range(200))
    connection.commit()

    with connection.cursor() as cursor:
        with cursor.copy("copy audit_trail (what) from stdin") as copy:
            for n in range(50):
                copy.write_row((f"copied {n}",))
    connection.commit()
    with connection.cursor() as cursor:
        with cursor.copy("copy (select what from audit_trail order by what) to stdout") as copy:
            rows = list(copy.rows())
    assert len(rows) == 50 and rows[0] == ("copied 0",), rows[:1]
    connection.commit()

    with connection.cursor(name="many") as cursor:
        cursor.itersize = 100
        assert sum(1 for _ in cursor.execute("select id from orders order by id")) == 3000
    connection.commit()

    try:
        connection.execute("select 1/0")
        raise AssertionError("no error")
    except psycopg.errors.DivisionByZero:
        connection.rollback()
    try:
        connection.execute("drop table orders")
        raise AssertionError("no error")
    except psycopg.errors.InsufficientPrivilege as refused:
        assert "admin access" in str(refused), refused
        connection.rollback()

    with connection.transaction():
        connection.execute("update orders set amount = 1 where id = 1")
        try:
            with connection.transaction():
                connection.execute("update orders set amount = 2 where id = 1")
                raise psycopg.Rollback
        except psycopg.Rollback:
            pass
    assert connection.execute("select amount::int from orders where id = 1").fetchone() == (1,)
    connection.commit()

    threading.Timer(0.3, connection.cancel_safe).start()
    try:
        connection.execute("select pg_sleep(30)")
        raise AssertionError("not cancelled")
    except psycopg.errors.QueryCanceled:
        connection.rollback()
    assert connection.execute("select 1").fetchone() == (1,)
print("ok")
