"""Bring a database's schema to the newest revision, once, however many processes open it at the same time."""

from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, text

from devicelab.errors import StoreError
from devicelab.store import schema
from devicelab.store.engine import writer

# Any fixed number: the key of PostgreSQL's advisory lock for migrations.
_LOCK = 0x6465_7669_6365


def migrate(engine: Engine, where: str) -> None:
    """Create or upgrade the tables.

    Raises:
        StoreError: the schema is newer than this devicelab, or the tables are somebody else's.
    """
    with engine.connect() as connection:
        if _revision(connection) == schema.HEAD:
            return
    with writer(engine).begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        # Looked at once more under the lock: whoever held it before may have migrated already.
        revision = _revision(connection)
        if revision != schema.HEAD:
            _upgrade(connection, revision, where)


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def _upgrade(connection: Connection, revision: str | None, where: str) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    if revision is None and set(inspect(connection).get_table_names()) & schema.metadata.tables.keys():
        raise StoreError(f"{where} holds tables that devicelab did not make", hint="name another database with --store")
    config = Config()
    folder = str(Path(__file__).resolve().parent / "migrations")
    config.set_main_option("script_location", folder.replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if revision is not None and revision not in known:
        raise StoreError(
            f"{where} was written by a newer devicelab (schema {revision}, this one knows up to {schema.HEAD})",
            hint="install the newer devicelab here too, from where that one came",
        )
    command.upgrade(config, "head")
