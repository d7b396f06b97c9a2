"""What a keyspace says of the deployment it belongs to: its keyspaces, the one that serves, what is fixed for ever.

The settings' keyspace keeps these records for all processes, so that a switch needs no restart. All calls block.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cassandra import InvalidRequest
from cassandra.cluster import Session
from cassandra.query import SimpleStatement

from shared.cassandra.session import engine_errors
from shared.errors import ConfigurationError
from shared.read_model.tables import BY_DAY, BY_OWNER, IMAGES
from shared.settings import Settings

LIVE_KEYSPACE = "live_keyspace"
"""Name of the record, in `deployment` of the settings' keyspace, of the keyspace that serves."""
DAY_SHARDS = "day_shards"
"""Name of the record of the shards of a day, which are fixed for ever."""
BUILT = "built:"
"""Begins the name of the record, in `deployment` of the settings' keyspace, of each keyspace that was built beside."""
TABLES = {IMAGES, BY_OWNER, BY_DAY, "deployment"}
"""What makes a keyspace an index."""


@dataclass(frozen=True)
class Keyspaces:
    """The indexes of a cluster: this deployment's own with their shards of a day; of the others nobody says whose."""

    own: Mapping[str, int]
    others: Sequence[str]


def live_keyspace(session: Session, settings: Settings) -> str:
    """Keyspace that serves: the settings' own, unless a rebuilt one was switched to. Raises Unavailable."""
    with engine_errors():
        value = _record(session, f"{settings.cassandra_keyspace}.deployment", LIVE_KEYSPACE)
    return value or settings.cassandra_keyspace


def switch_keyspace(session: Session, settings: Settings, keyspace: str) -> None:
    """Make another keyspace the live one; every process follows within seconds. Raises Unavailable."""
    _write(session, settings, LIVE_KEYSPACE, keyspace)


def note_keyspace(session: Session, settings: Settings, keyspace: str) -> None:
    """Record that a keyspace is this deployment's, before anything is written to it. Raises Unavailable."""
    _write(session, settings, BUILT + keyspace, keyspace)


def keyspaces(session: Session, settings: Settings) -> Keyspaces:
    """Own are the settings' keyspace, the live one, and those that were built. Raises Unavailable."""
    found: dict[str, set[str]] = {}
    with engine_errors():
        for row in session.execute("SELECT keyspace_name, table_name FROM system_schema.tables"):
            found.setdefault(row.keyspace_name, set()).add(row.table_name)
        records = session.execute(f"SELECT name, value FROM {settings.cassandra_keyspace}.deployment")
        named = {row.value for row in records if row.name == LIVE_KEYSPACE or row.name.startswith(BUILT)}
        named.add(settings.cassandra_keyspace)
        indexes = [name for name, tables in sorted(found.items()) if tables >= TABLES]
        shards = {name: _record(session, f"{name}.deployment", DAY_SHARDS) for name in indexes if name in named}
    # One without shards has no rows either: they are recorded first.
    own = {name: int(count) for name, count in shards.items() if count is not None}
    return Keyspaces(own, [name for name in indexes if name not in named])


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


def _write(session: Session, settings: Settings, name: str, value: str) -> None:
    query = f"INSERT INTO {settings.cassandra_keyspace}.deployment (name, value) VALUES (%s, %s)"
    with engine_errors():
        session.execute(query, [name, value])
