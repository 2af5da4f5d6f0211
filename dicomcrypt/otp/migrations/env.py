"""Runs the migrations, on the connection of `store.migrate`, or as SQL for a database by its URL
(`alembic upgrade head --sql`)."""

from alembic import context

from dicomcrypt.otp.tables import metadata

connection = context.config.attributes.get("connection")
if connection is None:
    url = context.config.get_main_option("sqlalchemy.url")
    context.configure(url=url, target_metadata=metadata, literal_binds=True)
else:
    context.configure(connection=connection, target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
