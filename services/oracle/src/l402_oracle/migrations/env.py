"""How Alembic reaches the attestor's database. It decides nothing."""

import sqlalchemy as sa
from alembic import context

url = context.config.get_main_option("sqlalchemy.url")
assert url is not None
engine = sa.create_engine(url)
with engine.connect() as connection:
    context.configure(connection=connection, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()
engine.dispose()
