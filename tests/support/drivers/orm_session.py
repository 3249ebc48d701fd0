"""SQLAlchemy reflects the tables, Django inspects them: both see what the target shows."""
import os

import sqlalchemy as sa

url = sa.URL.create("postgresql+psycopg", username=os.environ["PGUSER"], host=os.environ["PGHOST"],
                    port=int(os.environ["PGPORT"]), database=os.environ["PGDATABASE"],
                    query={"sslmode": "verify-full", "sslrootcert": os.environ["PGSSLROOTCERT"]})
engine = sa.create_engine(url)
inspector = sa.inspect(engine)
assert {"customers", "orders"} <= set(inspector.get_table_names())
assert [c["name"] for c in inspector.get_columns("orders")] == ["id", "customer_id", "amount"]
assert inspector.get_pk_constraint("customers")["constrained_columns"] == ["id"]
assert inspector.get_foreign_keys("orders")[0]["referred_table"] == "customers"
orders = sa.Table("orders", sa.MetaData(), autoload_with=engine)
with engine.begin() as connection:
    row = connection.execute(sa.select(orders).where(orders.c.id == 9)).one()
    assert row.customer_id == 9
    connection.execute(sa.insert(orders), [{"id": 10_000 + n, "customer_id": 1, "amount": n} for n in range(50)])
    assert connection.execute(sa.delete(orders).where(orders.c.id >= 10_000)).rowcount == 50

import django
from django.conf import settings

settings.configure(DATABASES={"default": {
    "ENGINE": "django.db.backends.postgresql", "NAME": os.environ["PGDATABASE"], "USER": os.environ["PGUSER"],
    "HOST": os.environ["PGHOST"], "PORT": os.environ["PGPORT"],
    "OPTIONS": {"sslmode": "verify-full", "sslrootcert": os.environ["PGSSLROOTCERT"]},
}})
django.setup()
from django.db import connection, transaction

with connection.cursor() as cursor:
    introspection = connection.introspection
    assert "orders" in introspection.table_names(cursor)
    assert [field.name for field in introspection.get_table_description(cursor, "orders")] == ["id", "customer_id", "amount"]
    assert introspection.get_relations(cursor, "orders") == {"customer_id": ("id", "customers")}
    assert introspection.get_primary_key_column(cursor, "customers") == "id"
with transaction.atomic():
    with connection.cursor() as cursor:
        cursor.execute("update orders set amount = 3 where id = %s", [3])
        assert cursor.rowcount == 1
print("ok")
