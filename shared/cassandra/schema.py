"""Creates the keyspace and runs its migrations: the files in `migrations`, each once, in the order of their names.

All calls block.
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog
from cassandra.cluster import Session

from shared.cassandra.deployment import check_deployment, fix_day_shards, keyspaces, live_keyspace
from shared.cassandra.session import connected, engine_errors
from shared.settings import Settings

log = structlog.get_logger()

MIGRATIONS = Path(__file__).parent / "migrations"
SCHEMA_TIMEOUT = timedelta(seconds=60)
"""Time-out of one statement of a migration. The statement returns once all nodes have the new schema."""


def apply_schema(settings: Settings) -> list[str]:
    """Create the keyspace and run the missing migrations; returns their names. Idempotent.

    The other keyspaces of the deployment get the missing migrations too: a switch or an erasure may use each of them.

    Raises Unavailable, and ConfigurationError if the keyspace was created with another DAY_SHARDS.
    """
    with connected(settings.model_copy(update={"cassandra_timeout": SCHEMA_TIMEOUT})) as session, engine_errors():
        pending = _apply(session, settings)
        live = live_keyspace(session, settings)
        others = {live: settings.day_shards} | dict(keyspaces(session, settings).own)
    others.pop(settings.cassandra_keyspace, None)
    for keyspace, shards in others.items():
        apply_schema(settings.model_copy(update={"cassandra_keyspace": keyspace, "day_shards": shards}))
    return [path.stem for path in pending]


def plan_schema(settings: Settings) -> list[str]:
    """Names of the migrations that `apply_schema` would run. Without a keyspace these are all. Raises Unavailable."""
    with connected(settings) as session, engine_errors():
        known = session.execute(
            "SELECT table_name FROM system_schema.tables WHERE keyspace_name = %s", [settings.cassandra_keyspace]
        )
        made = "schema_migrations" in {row.table_name for row in known}
        return [path.stem for path in (_pending(session, settings.cassandra_keyspace) if made else migration_files())]


def _apply(session: Session, settings: Settings) -> list[Path]:
    keyspace = settings.cassandra_keyspace
    replication = {
        "class": "NetworkTopologyStrategy",
        settings.cassandra_datacenter: settings.cassandra_replication_factor,
    }
    session.execute(f"CREATE KEYSPACE IF NOT EXISTS {keyspace} WITH replication = {replication}")
    session.set_keyspace(keyspace)
    session.execute("CREATE TABLE IF NOT EXISTS schema_migrations (name text PRIMARY KEY, applied_at timestamp)")
    session.execute("CREATE TABLE IF NOT EXISTS deployment (name text PRIMARY KEY, value text)")
    pending = _pending(session, keyspace)
    for path in pending:
        _migrate(session, path)
    fix_day_shards(session, settings)
    check_deployment(session, settings)
    return pending


def migration_files() -> list[Path]:
    """All migrations, in the order in which they run."""
    return sorted(MIGRATIONS.glob("*.cql"))


def statements(cql: str) -> list[str]:
    """The statements of a migration, without its comments."""
    lines = [line for line in cql.splitlines() if not line.lstrip().startswith("--")]
    return [statement for part in "\n".join(lines).split(";") if (statement := part.strip())]


def _pending(session: Session, keyspace: str) -> list[Path]:
    applied = {row.name for row in session.execute(f"SELECT name FROM {keyspace}.schema_migrations")}
    return [path for path in migration_files() if path.stem not in applied]


def _migrate(session: Session, path: Path) -> None:
    for statement in statements(path.read_text()):
        session.execute(statement)
    session.execute("INSERT INTO schema_migrations (name, applied_at) VALUES (%s, %s)", [path.stem, datetime.now(UTC)])
    log.info("migration_applied", migration=path.stem)
