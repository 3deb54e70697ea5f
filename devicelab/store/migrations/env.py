"""Run by Alembic inside the transaction that ``devicelab.store.migrate`` opened."""

from alembic import context

from devicelab.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
