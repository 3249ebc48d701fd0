"""psycopg 3 and a write that people must approve: the driver is told at once, and runs it again."""
import json
import sys

import psycopg

with psycopg.connect(sys.argv[1], autocommit=True) as connection:
    try:
        done = connection.execute(
            "update orders set amount = amount + %s where amount < %s", (10000, int(sys.argv[2])), prepare=len(sys.argv) > 3
        )
        print("done", done.rowcount)
    except psycopg.Error as refused:
        print(refused.sqlstate, json.loads(refused.diag.message_detail)["request_id"])
    assert connection.execute("select 1 where %s", (True,)).fetchone() == (1,)
