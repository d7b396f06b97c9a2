"""Records about a deployment: which keyspaces it has, which one is live, and its fixed number of shards.

The table `deployment` in the settings' keyspace holds these records. All processes read them, so that a switch to
another keyspace needs no restart. All calls block.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from cassandra import InvalidRequest
from cassandra.cluster import Session
from cassandra.query import SimpleStatement

from shared.cassandra.session import engine_errors
from shared.errors import ConfigurationError
from shared.read_model.tables import BY_DAY, BY_OWNER, IMAGES
from shared.settings import Settings

LIVE_KEYSPACE = "live_keyspace"
"""Name of the record that holds the live keyspace, in `deployment` of the settings' keyspace."""
SWITCHING = "switching"
"""Name of the record of the two keyspaces of a switch in progress, in `deployment` of the settings' keyspace."""
DAY_SHARDS = "day_shards"
"""Name of the record that holds the number of shards of a day. It cannot be changed later."""
BUILT = "built:"
"""Prefix of the records that name rebuilt keyspaces, one record each, in `deployment` of the settings' keyspace."""
TABLES = {IMAGES, BY_OWNER, BY_DAY, "deployment"}
"""A keyspace with all of these tables is an index."""


@dataclass(frozen=True)
class Keyspaces:
    """The index keyspaces of a Cassandra cluster.

    `own` maps the keyspaces of this deployment to their shards of a day. No record says to which deployment `others`
    belong.
    """

    own: Mapping[str, int]
    others: Sequence[str]


@dataclass(frozen=True)
class InUse:
    """The live keyspace, and the names of the two keyspaces of a switch in progress, to both of which all write."""

    live: str
    switching: str = ""

    def beside(self, keyspace: str) -> str | None:
        """The other keyspace of a switch in progress, seen from this one; None without a switch."""
        return next(iter(set(self.switching.split()) - {keyspace}), None)


def live_keyspace(session: Session, settings: Settings) -> str:
    """The live keyspace: the settings' own, unless an operator switched to a rebuilt one. Raises Unavailable."""
    with engine_errors():
        return in_use(session.execute(SimpleStatement(in_use_query(settings), is_idempotent=True)), settings).live


def in_use_query(settings: Settings) -> str:
    """CQL of the records from which `in_use` makes its result."""
    return (
        f"SELECT name, value FROM {settings.cassandra_keyspace}.deployment"
        f" WHERE name IN ('{LIVE_KEYSPACE}', '{SWITCHING}')"
    )


def in_use(rows: Iterable[Any], settings: Settings) -> InUse:
    """The keyspaces in use, from the result of `in_use_query`."""
    values = {row.name: row.value for row in rows}
    return InUse(values.get(LIVE_KEYSPACE) or settings.cassandra_keyspace, values.get(SWITCHING) or "")


def switch_keyspace(session: Session, settings: Settings, keyspace: str) -> None:
    """Make another keyspace the live one. Every process uses it within seconds. Raises Unavailable."""
    _write(session, settings, LIVE_KEYSPACE, keyspace)


def begin_switch(session: Session, settings: Settings, old: str, new: str, ttl: timedelta) -> None:
    """Record that a switch is in progress. Without another call the record expires. Raises Unavailable."""
    query = f"INSERT INTO {settings.cassandra_keyspace}.deployment (name, value) VALUES (%s, %s) USING TTL %s"
    with engine_errors():
        session.execute(query, [SWITCHING, f"{old} {new}", int(ttl.total_seconds())])


def end_switch(session: Session, settings: Settings) -> None:
    """Record that no switch is in progress. Raises Unavailable."""
    with engine_errors():
        session.execute(f"DELETE FROM {settings.cassandra_keyspace}.deployment WHERE name = %s", [SWITCHING])


def record_keyspace(session: Session, settings: Settings, keyspace: str) -> None:
    """Record that a keyspace belongs to this deployment. Call it before the first write. Raises Unavailable."""
    _write(session, settings, BUILT + keyspace, keyspace)


def keyspaces(session: Session, settings: Settings) -> Keyspaces:
    """All index keyspaces. This deployment owns the settings' keyspace, the live one and each recorded one.

    Raises Unavailable.
    """
    found: dict[str, set[str]] = {}
    with engine_errors():
        for row in session.execute("SELECT keyspace_name, table_name FROM system_schema.tables"):
            found.setdefault(row.keyspace_name, set()).add(row.table_name)
        records = session.execute(f"SELECT name, value FROM {settings.cassandra_keyspace}.deployment")
        named = {row.value for row in records if row.name == LIVE_KEYSPACE or row.name.startswith(BUILT)}
        named.add(settings.cassandra_keyspace)
        indexes = [name for name, tables in sorted(found.items()) if tables >= TABLES]
        shards = {name: _record(session, f"{name}.deployment", DAY_SHARDS) for name in indexes if name in named}
    # A keyspace without a recorded number of shards has no rows: the number is recorded before the first row.
    own = {name: int(count) for name, count in shards.items() if count is not None}
    return Keyspaces(own, [name for name in indexes if name not in named])


def fix_day_shards(session: Session, settings: Settings) -> None:
    """Record the number of shards in the session's keyspace, unless one is recorded. Raises the driver's errors."""
    session.execute(
        "INSERT INTO deployment (name, value) VALUES (%s, %s) IF NOT EXISTS", [DAY_SHARDS, str(settings.day_shards)]
    )


def check_deployment(session: Session, settings: Settings) -> None:
    """Check that the session's keyspace has its tables, and was created with the same DAY_SHARDS.

    Raises ConfigurationError if it was not, and Unavailable.
    """
    with engine_errors():
        try:
            shards = _record(session, "deployment", DAY_SHARDS)
        except InvalidRequest as error:
            without = f"keyspace {settings.cassandra_keyspace} has no tables: apply the schema"
            raise ConfigurationError(without) from error
    if shards is None or int(shards) != settings.day_shards:
        raise ConfigurationError(
            f"keyspace {settings.cassandra_keyspace} was created with DAY_SHARDS={shards or 'none'}, but the setting "
            f"is {settings.day_shards}. It cannot be changed: set the old value, or rebuild into a new keyspace."
        )


def _record(session: Session, table: str, name: str) -> str | None:
    query = SimpleStatement(f"SELECT value FROM {table} WHERE name = %s", is_idempotent=True)
    row = session.execute(query, [name]).one()
    return str(row.value) if row else None


def _write(session: Session, settings: Settings, name: str, value: str) -> None:
    query = f"INSERT INTO {settings.cassandra_keyspace}.deployment (name, value) VALUES (%s, %s)"
    with engine_errors():
        session.execute(query, [name, value])
