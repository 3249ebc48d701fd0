"""psycopg 3 and a write that people must approve: the driver is told at once, and runs it again.

    psycopg_approval.py CONNINFO LIMIT [prepared|transaction|nested]
"""
import contextlib
import json
import sys

import psycopg

conninfo, limit, how = sys.argv[1], int(sys.argv[2]), (sys.argv[3:] or ["plain"])[0]
in_blocks = how in ("transaction", "nested")
with psycopg.connect(conninfo, autocommit=not in_blocks) as connection:
    try:
        # Inside the driver's own transaction this one is a savepoint.
        if how == "nested":
            connection.execute("select 1")
        with connection.transaction() if how == "nested" else contextlib.nullcontext():
            done = connection.execute(
                "update orders set amount = amount + %s where amount < %s", (10000, limit), prepare=how == "prepared"
            )
        if in_blocks:
            connection.commit()
        print("done", done.rowcount)
    except psycopg.Error as refused:
        print(refused.sqlstate, json.loads(refused.diag.message_detail)["request_id"])
        connection.rollback()
    assert connection.execute("select 1 where %s", (True,)).fetchone() == (1,)
