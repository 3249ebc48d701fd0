"""asyncpg through the gate: prepared statements, cursors, binary COPY, cancelling by timeout."""
import asyncio
import os
import ssl

import asyncpg


async def main():
    context = ssl.create_default_context(cafile=os.environ["PGSSLROOTCERT"])
    connection = await asyncpg.connect(ssl=context)
    assert await connection.fetchval("select $1::int * 2", 21) == 42
    statement = await connection.prepare("select id, amount from orders where id = any($1::int[]) order by id")
    assert [row["id"] for row in await statement.fetch([1, 2, 3])] == [1, 2, 3]
    async with connection.transaction():
        count = 0
        async for _ in connection.cursor("select id from orders", prefetch=250):
            count += 1
        assert count == 3000
    await connection.executemany("insert into audit_trail (what) values ($1)", [(f"n {n}",) for n in range(90)])
    assert await connection.fetchval("select count(*) from audit_trail") == 90
    await connection.copy_records_to_table("audit_trail", records=[(f"c {n}",) for n in range(10)], columns=["what"])
    assert await connection.fetchval("select count(*) from audit_trail") == 100
    try:
        async with connection.transaction():
            await connection.execute("update orders set amount = 5 where id = 2")
            await connection.execute("select 1/0")
    except asyncpg.DivisionByZeroError:
        pass
    assert await connection.fetchval("select amount::int from orders where id = 2") == 2
    try:
        await connection.fetchval("select pg_sleep(30)", timeout=0.3)
        raise AssertionError("not cancelled")
    except TimeoutError:
        pass
    assert await connection.fetchval("select 1") == 1
    await connection.close()


asyncio.run(main())
print("ok")
