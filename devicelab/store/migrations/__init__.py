"""Alembic migrations of the results database; applied by ``devicelab.store.migrate`` when it is opened."""
