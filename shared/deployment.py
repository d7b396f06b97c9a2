"""What a keyspace says of the deployment it belongs to: which keyspace serves, and what is fixed for ever.

The settings' keyspace keeps these records for all processes, so that a switch needs no restart. All calls block.
"""

from cassandra import InvalidRequest
from cassandra.cluster import Session
from cassandra.query import SimpleStatement

from shared.cassandra_session import engine_errors
from shared.errors import ConfigurationError
from shared.settings import Settings

LIVE_KEYSPACE = "live_keyspace"
"""Name of the record, in `deployment` of the settings' keyspace, of the keyspace that serves."""
DAY_SHARDS = "day_shards"
"""Name of the record of the shards of a day, which are fixed for ever."""


def live_keyspace(session: Session, settings: Settings) -> str:
    """Keyspace that serves: the settings' own, unless a rebuilt one was switched to. Raises Unavailable."""
    with engine_errors():
        value = _record(session, f"{settings.cassandra_keyspace}.deployment", LIVE_KEYSPACE)
    return value or settings.cassandra_keyspace


def switch_keyspace(session: Session, settings: Settings, keyspace: str) -> None:
    """Make another keyspace the live one; every process follows within seconds. Raises Unavailable."""
    query = f"INSERT INTO {settings.cassandra_keyspace}.deployment (name, value) VALUES (%s, %s)"
    with engine_errors():
        session.execute(query, [LIVE_KEYSPACE, keyspace])


def fix_day_shards(session: Session, settings: Settings) -> None:
    """Record the shards of a day in the session's keyspace, unless they are. Raises the driver's errors."""
    session.execute(
        "INSERT INTO deployment (name, value) VALUES (%s, %s) IF NOT EXISTS", [DAY_SHARDS, str(settings.day_shards)]
    )


def check_deployment(session: Session, settings: Settings) -> None:
    """Raises Unavailable; ConfigurationError without tables, or where the number of shards was another."""
    with engine_errors():
        try:
            shards = _record(session, "deployment", DAY_SHARDS)
        except InvalidRequest as error:
            without = f"keyspace {settings.cassandra_keyspace} has no tables: apply the schema"
            raise ConfigurationError(without) from error
    if shards is None or int(shards) != settings.day_shards:
        raise ConfigurationError(
            f"keyspace {settings.cassandra_keyspace} was made with DAY_SHARDS={shards or 'none'}, the "
            f"setting says {settings.day_shards}. It is fixed for ever: set it back, or rebuild into a new keyspace."
        )


def _record(session: Session, table: str, name: str) -> str | None:
    query = SimpleStatement(f"SELECT value FROM {table} WHERE name = %s", is_idempotent=True)
    row = session.execute(query, [name]).one()
    return str(row.value) if row else None
