"""Sessions with Cassandra: their time-outs and retries, and what their failures are called here."""

import contextlib
from collections.abc import Iterator

from cassandra import ConsistencyLevel, DriverException, InvalidRequest, ProtocolVersion
from cassandra.auth import PlainTextAuthProvider
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile, NoHostAvailable, Session
from cassandra.policies import (
    ConstantReconnectionPolicy,
    ConstantSpeculativeExecutionPolicy,
    DCAwareRoundRobinPolicy,
    TokenAwarePolicy,
)

from shared.errors import ConfigurationError, Unavailable
from shared.security import cassandra_ssl_context, explain_cassandra
from shared.settings import Settings

RECONNECT_SECONDS = 1.0
"""Between two tries to reach a node that is away. The driver's own pauses double up to ten minutes: after one minute
away, a node, and where it is the only one the whole service, would be left alone for another."""
HANGS_AFTER = 0.3
"""Share of the time-out after which a node that has not answered is taken to hang: three can be asked."""
NODES_ASKED = 3
"""The same, one after the other, until one answers."""
ENGINE_ERRORS = (DriverException, NoHostAvailable, OSError)
"""What the driver raises: for engines that do not serve, and, as InvalidRequest, for what they will never do."""


def connect(settings: Settings, keyspace: str | None = None) -> Session:
    """A session at LOCAL_QUORUM; blocks.

    Raises Unavailable, and ConfigurationError for a useless CA file or where there is no such keyspace.
    """
    try:
        # Looks the contact points' names up.
        cluster = _cluster(settings)
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
    """A session for the length of the block; see `connect`."""
    session = connect(settings, keyspace)
    try:
        yield session
    finally:
        session.cluster.shutdown()


def use_keyspace(session: Session, keyspace: str, otherwise: str) -> None:
    """Raises Unavailable; ConfigurationError, which says what to do `otherwise`, where there is no such keyspace."""
    with engine_errors():
        try:
            session.set_keyspace(keyspace)
        except InvalidRequest as error:
            raise ConfigurationError(f"keyspace {keyspace} does not exist: {otherwise}") from error


def _cluster(settings: Settings) -> Cluster:
    timeout = settings.cassandra_timeout.total_seconds()
    profile = ExecutionProfile(
        load_balancing_policy=TokenAwarePolicy(DCAwareRoundRobinPolicy(settings.cassandra_datacenter)),
        consistency_level=ConsistencyLevel.LOCAL_QUORUM,
        serial_consistency_level=ConsistencyLevel.LOCAL_SERIAL,
        request_timeout=timeout,
        # A node that hangs keeps its connections, and is asked for half a minute more; another answers meanwhile. All
        # our statements may be executed twice.
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
        auth_provider=auth,
        ssl_context=cassandra_ssl_context(settings),
        # What Cassandra 4 and 5 speak; unset, the driver tries two newer ones first, with a warning for each.
        protocol_version=ProtocolVersion.V5,
        reconnection_policy=ConstantReconnectionPolicy(RECONNECT_SECONDS, max_attempts=None),
        execution_profiles={EXEC_PROFILE_DEFAULT: profile},
        # Nodes learn a statement when they are first asked for it: preparing everywhere waits for one that hangs.
        prepare_on_all_hosts=False,
        # The driver's own are 5 s and 2 s, whatever a query may take.
        connect_timeout=timeout,
        control_connection_timeout=timeout,
    )


@contextlib.contextmanager
def engine_errors() -> Iterator[None]:
    """Raises Unavailable for whatever the driver raises inside."""
    try:
        yield
    except ENGINE_ERRORS as error:
        raise unavailable(error) from error


def unavailable(error: Exception) -> Unavailable:
    """What one of ENGINE_ERRORS is called here."""
    return Unavailable("cassandra", f"{type(error).__name__}: {error}")
