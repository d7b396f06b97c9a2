"""Cassandra 5 of the local stack: one node or three, with small heaps."""

import asyncio
import json
from pathlib import Path

from deploy.local.engines.java_command import java_command, only_jar
from deploy.local.state import Root, State
from deploy.local.supervision.parts import Part
from deploy.local.topology import Member, members

NAME = "cassandra"
PORTS = ("cassandra", "cassandra_storage")
HEAP_MB = 256
"""Cassandra ran with every heap from 96 to 768 MB; with this one it took 11,000 inserts of 1 kB a second."""
MEMORY = 500_000_000
"""Bytes that a node held after a fault run, rounded up."""

LOGGING = Path(__file__).with_name("cassandra-logback.xml")

# Cassandra uses internals of the JDK; since Java 17 each package must be opened by name. This is the list of its own
# jvm17-server.options, without the modules that a runtime (unlike a full JDK) does not have.
EXPORTS = (
    "java.base/jdk.internal.misc", "java.base/java.lang.ref", "java.sql/java.sql", "jdk.unsupported/sun.misc",
    "java.management.rmi/com.sun.jmx.remote.internal.rmi", "java.rmi/sun.rmi.registry", "java.rmi/sun.rmi.server",
    "jdk.attach/sun.tools.attach",
)  # fmt: skip
OPENS = (
    "java.base/java.io", "java.base/java.lang", "java.base/java.lang.module", "java.base/java.lang.reflect",
    "java.base/java.util", "java.base/jdk.internal.loader", "java.base/jdk.internal.math",
    "java.base/jdk.internal.module", "java.base/jdk.internal.ref", "java.base/jdk.internal.reflect",
    "java.base/jdk.internal.util.jar", "java.base/sun.nio.ch", "jdk.management/com.sun.management.internal",
)  # fmt: skip

FAST_START = (
    # The nodes are known from the configuration, so that none waits for gossip: the first query is answered after
    # 3.4 s, not 11.4 s.
    "-Dcassandra.skip_wait_for_gossip_to_settle=0",
    "-Dcassandra.ring_delay_ms=0",
)
# The clock for time-outs is set every 20 ms. Every 2 ms, the default, took 1 % of a core while nothing happened.
SLOW_CLOCK = "-Dcassandra.approximate_time_precision_ms=20"


def settings(state: State) -> dict[str, str]:
    """The services' settings for this Cassandra."""
    nodes = members(NAME, state.cluster)
    return {
        "CASSANDRA_CONTACT_POINTS": ",".join(node.host for node in nodes),
        "CASSANDRA_PORT": str(state.ports["cassandra"]),
        "CASSANDRA_REPLICATION_FACTOR": str(len(nodes)),
    }


def part(root: Root, state: State, member: Member, java: Path, jars: Path, env: dict[str, str]) -> Part:
    """A node as a part."""
    data = root.data / member.name
    config = data / "cassandra.yaml"
    port = state.ports["cassandra"]

    def prepare() -> None:
        (data / "tmp").mkdir(parents=True, exist_ok=True)
        # JSON is YAML.
        config.write_text(json.dumps(configuration(state, member, data), indent=2))

    options = [
        f"-javaagent:{only_jar(jars, 'jamm-')}",
        *(f"--add-exports={place}=ALL-UNNAMED" for place in EXPORTS),
        *(f"--add-opens={place}=ALL-UNNAMED" for place in OPENS),
        "-Djdk.attach.allowAttachSelf=true",
        "-Dio.netty.tryReflectionSetAccessible=true",
        *FAST_START,
        SLOW_CLOCK,
        f"-Dcassandra.initial_token={token(member)}",
        "-Dcassandra-foreground=yes",
        f"-Dcassandra.config=file://{config}",
        f"-Dcassandra.storagedir={data}",
        f"-Dlogback.configurationFile={LOGGING}",
        f"-Djava.io.tmpdir={data / 'tmp'}",
        "-XX:MaxDirectMemorySize=256m",
    ]
    argv = java_command(java, HEAP_MB, jars, options, ["org.apache.cassandra.service.CassandraDaemon"])
    return Part(
        name=member.name, title=member.titled("Cassandra"), argv=argv, env=env, prepare=prepare,
        probe=lambda: probe(member, port), url=f"{member.host}:{port}", quiet=True,
    )  # fmt: skip


def token(member: Member) -> int:
    """The first token of a node: the ring's 2**64 signed tokens are divided into equal parts, from 0."""
    unsigned: int = (member.number - 1) * 2**64 // member.of
    return unsigned - 2**64 if unsigned >= 2**63 else unsigned


def configuration(state: State, member: Member, data: Path) -> dict[str, object]:
    """Content of `cassandra.yaml`.

    A write is in the commit log on disk before its ack (`batch`). With `periodic`, the default, a node lost rows that
    it had acknowledged when it was ended with SIGKILL: replay stops at the last sync marker, and Cassandra writes
    that once per period.

    All nodes are seeds and none bootstraps, so that all start at the same time, each with its part of the ring. With
    one seed every second start of three nodes failed, because the others could not gossip with the seed yet.
    """
    seeds = ",".join(f"{each.host}:{state.ports['cassandra_storage']}" for each in members(NAME, state.cluster))
    return {
        "cluster_name": f"imagepipe-{state.stack_id[:8]}",
        "num_tokens": 1,
        "partitioner": "org.apache.cassandra.dht.Murmur3Partitioner",
        "endpoint_snitch": "SimpleSnitch",
        "seed_provider": [
            {
                "class_name": "org.apache.cassandra.locator.SimpleSeedProvider",
                "parameters": [{"seeds": seeds}],
            }
        ],
        "auto_bootstrap": False,
        "listen_address": member.host,
        "rpc_address": member.host,
        "storage_port": state.ports["cassandra_storage"],
        "native_transport_port": state.ports["cassandra"],
        "data_file_directories": [str(data / "data")],
        "commitlog_directory": str(data / "commitlog"),
        "hints_directory": str(data / "hints"),
        "saved_caches_directory": str(data / "saved_caches"),
        "cdc_raw_directory": str(data / "cdc_raw"),
        "commitlog_sync": "batch",
        "commitlog_segment_size": "16MiB",
        "commitlog_total_space": "256MiB",
        "memtable_heap_space": "64MiB",
        "memtable_offheap_space": "64MiB",
        "file_cache_size": "32MiB",
        "key_cache_size": "8MiB",
        "concurrent_reads": 16,
        # Each write waits for the disk (see above), and one sync serves all writes that wait.
        "concurrent_writes": 64,
        # A write that is late on the disk of a busy machine is not lost; a client may have a shorter timeout.
        "write_request_timeout": "10s",
        "read_request_timeout": "10s",
        # A dropped keyspace of a test leaves no snapshot on disk.
        "auto_snapshot": False,
    }


async def probe(member: Member, port: int) -> None:
    """Run a query as a client. Raises while the node cannot answer, or sees too few others for a quorum."""
    # Connecting the driver costs half a second of CPU; look for the open port first.
    _, writer = await asyncio.open_connection(member.host, port)
    writer.close()
    await asyncio.to_thread(_query, member, port)


def _query(member: Member, port: int) -> None:
    from cassandra import ConsistencyLevel
    from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile
    from cassandra.policies import WhiteListRoundRobinPolicy

    profile = ExecutionProfile(
        load_balancing_policy=WhiteListRoundRobinPolicy([member.host]), request_timeout=5,
        # Cassandra keeps this table three times, however many nodes there are.
        consistency_level=ConsistencyLevel.QUORUM if member.of > 1 else ConsistencyLevel.ONE,
    )  # fmt: skip
    cluster = Cluster(
        [member.host], port=port, connect_timeout=5, schema_metadata_enabled=False, token_metadata_enabled=False,
        execution_profiles={EXEC_PROFILE_DEFAULT: profile},
    )  # fmt: skip
    try:
        cluster.connect().execute("SELECT view_name FROM system_distributed.view_build_status LIMIT 1")
    finally:
        cluster.shutdown()
