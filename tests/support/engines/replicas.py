"""Whether all replicas of all topics are in sync, and every row can be read through every Cassandra node."""

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from cassandra import ConsistencyLevel, DriverException
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile, NoHostAvailable
from cassandra.policies import WhiteListRoundRobinPolicy

from shared.kafka.topics import topic_specs
from shared.settings import Settings
from tests.support.isolation import in_own_loop
from tests.support.waiting import wait_for

PATIENCE = 180.0


def wait_whole(settings: Settings, timeout: float = PATIENCE) -> None:
    """Wait until a fault of any one engine node would leave a majority. NotInTimeError names what is missing."""
    wait_for(lambda: _missing_replicas(settings) == [], timeout, "all replicas of all topics in sync")
    wait_for(lambda: _unseen(settings) == [], timeout, "all Cassandra nodes seen by all")


def _missing_replicas(settings: Settings) -> list[str]:
    """Partitions that lack an in-sync replica; also one entry if no broker answers."""
    return list(in_own_loop(lambda: _lagging(settings)))


async def _lagging(settings: Settings) -> list[str]:
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap_servers, request_timeout_ms=5000)
    names = [spec.name for spec in topic_specs(settings)]
    try:
        await admin.start()
        topics = await admin.describe_topics([*names, "__consumer_offsets"])
    except (KafkaError, TimeoutError, OSError) as error:
        return [repr(error)]
    finally:
        await admin.close()
    return [
        f"{topic['topic']}-{partition['partition']}"
        for topic in topics
        for partition in topic["partitions"]
        if set(partition["isr"]) != set(partition["replicas"])
    ]


def _unseen(settings: Settings) -> list[str]:
    """Nodes through which not all copies of a row can be read."""
    return [host for host in settings.cassandra_contact_points if not _reads_all(settings, host)]


def _reads_all(settings: Settings, host: str) -> bool:
    profile = ExecutionProfile(
        WhiteListRoundRobinPolicy([host]), consistency_level=ConsistencyLevel.ALL, request_timeout=5
    )
    cluster = Cluster(
        [host],
        port=settings.cassandra_port,
        execution_profiles={EXEC_PROFILE_DEFAULT: profile},
        connect_timeout=5,
        schema_metadata_enabled=False,
        token_metadata_enabled=False,
    )
    try:
        cluster.connect().execute(f"SELECT value FROM {settings.cassandra_keyspace}.deployment WHERE name = 'any'")
    except (DriverException, NoHostAvailable, OSError):
        return False
    finally:
        cluster.shutdown()
    return True
