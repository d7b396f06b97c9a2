"""Sessions with Cassandra: connects with our time-outs and retries, and translates the driver's errors."""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any

from cassandra import ConsistencyLevel, DriverException, InvalidRequest, ProtocolVersion
from cassandra.auth import PlainTextAuthProvider
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile, NoHostAvailable, Session
from cassandra.connection import Connection
from cassandra.policies import (
    ConstantReconnectionPolicy,
    ConstantSpeculativeExecutionPolicy,
    DCAwareRoundRobinPolicy,
    TokenAwarePolicy,
)
from cassandra.query import named_tuple_factory

from shared.errors import ConfigurationError, Unavailable
from shared.security import cassandra_ssl_context, explain_cassandra
from shared.settings import Settings

RECONNECT_SECONDS = 1.0
"""Pause between two attempts to reach an unavailable node. The driver's own pauses double up to ten minutes. A node
that was unavailable for one minute would then stay unused for another minute, and with one node the whole service."""
HANGS_AFTER = 0.3
"""Fraction of the time-out after which a query also goes to the next node. Three nodes fit into the time-out."""
NODES_ASKED = 3
"""Most nodes that get the same query."""
ENGINE_ERRORS = (DriverException, NoHostAvailable, OSError)
"""Errors of the driver. InvalidRequest, a DriverException, means that Cassandra never accepts the request; the others
mean that Cassandra is unavailable."""


def connect(settings: Settings, keyspace: str | None = None, connections: type[Connection] | None = None) -> Session:
    """A session with consistency level LOCAL_QUORUM. Blocks. `connections` replaces the driver's class of connections.

    Raises Unavailable, and ConfigurationError if the CA file is unusable or the keyspace does not exist.
    """
    try:
        # This resolves the host names of the contact points, which may fail.
        cluster = _cluster(settings, connections)
        try:
            session = cluster.connect()
            if keyspace is not None:
                use_keyspace(session, keyspace, "apply the schema")
            return session
        except BaseException:
            cluster.shutdown()
            raise
    except ENGINE_ERRORS as error:
        raise Unavailable("cassandra", explain_cassandra(error, settings)) from error


@contextlib.contextmanager
def connected(settings: Settings, keyspace: str | None = None) -> Iterator[Session]:
    """A session that is closed at the end of the block; see `connect`."""
    session = connect(settings, keyspace)
    try:
        yield session
    finally:
        session.cluster.shutdown()


def use_keyspace(session: Session, keyspace: str, advice: str) -> None:
    """Make the session use a keyspace. Raises Unavailable; ConfigurationError with `advice` if it does not exist."""
    with engine_errors():
        try:
            session.set_keyspace(keyspace)
        except InvalidRequest as error:
            raise ConfigurationError(f"keyspace {keyspace} does not exist: {advice}") from error


def _named_rows(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[Any]:
    """Rows as named tuples. The driver's own function makes a class for each result, which takes 0.1 ms."""
    return list(map(_row_type(tuple(names))._make, rows))


@lru_cache
def _row_type(names: tuple[str, ...]) -> Any:
    [row] = named_tuple_factory(names, [[None] * len(names)])
    return type(row)


def _cluster(settings: Settings, connections: type[Connection] | None) -> Cluster:
    timeout = settings.cassandra_timeout.total_seconds()
    profile = ExecutionProfile(
        load_balancing_policy=TokenAwarePolicy(DCAwareRoundRobinPolicy(settings.cassandra_datacenter)),
        consistency_level=ConsistencyLevel.LOCAL_QUORUM,
        serial_consistency_level=ConsistencyLevel.LOCAL_SERIAL,
        request_timeout=timeout,
        row_factory=_named_rows,
        # A hanging node keeps its connections, so the driver sends queries to it for half a minute. The speculative
        # retry gets the answer from another node. That is safe: all our statements are idempotent.
        speculative_execution_policy=ConstantSpeculativeExecutionPolicy(
            HANGS_AFTER * timeout, max_attempts=NODES_ASKED - 1
        ),
    )
    password = settings.cassandra_password
    auth = (
        PlainTextAuthProvider(settings.cassandra_username, password.get_secret_value() if password else "")
        if settings.cassandra_username
        else None
    )
    return Cluster(
        list(settings.cassandra_contact_points),
        port=settings.cassandra_port,
        connection_class=connections,
        auth_provider=auth,
        ssl_context=cassandra_ssl_context(settings),
        # Cassandra 4 and 5 speak version 5. Without this setting the driver first tries two newer versions and logs a
        # warning for each.
        protocol_version=ProtocolVersion.V5,
        reconnection_policy=ConstantReconnectionPolicy(RECONNECT_SECONDS, max_attempts=None),
        execution_profiles={EXEC_PROFILE_DEFAULT: profile},
        # Preparing on all hosts would wait for a hanging node. A node prepares a statement when it first gets it.
        prepare_on_all_hosts=False,
        # The driver's defaults are 5 s and 2 s, even if CASSANDRA_TIMEOUT is longer.
        connect_timeout=timeout,
        control_connection_timeout=timeout,
    )


@contextlib.contextmanager
def engine_errors() -> Iterator[None]:
    """Translate every error that the driver raises in the block to Unavailable."""
    try:
        yield
    except ENGINE_ERRORS as error:
        raise unavailable(error) from error


def unavailable(error: Exception) -> Unavailable:
    """Translate one of ENGINE_ERRORS."""
    return Unavailable("cassandra", f"{type(error).__name__}: {error}")
