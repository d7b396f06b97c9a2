"""Kafka of the local stack: one node or three, each broker and controller in one (KRaft)."""

import subprocess
from pathlib import Path

from deploy.local.engines.java_command import java_command
from deploy.local.errors import StackError
from deploy.local.state import Root, State
from deploy.local.supervision.parts import Part
from deploy.local.topology import MIN_IN_SYNC, Member, members

NAME = "kafka"
PORTS = ("kafka", "kafka_controller")
HEAP_MB = 384
MEMORY = 300_000_000
"""Bytes that a node held after a fault run, rounded up."""
LOGGING = Path(__file__).with_name("kafka-log4j2.xml")

SETTINGS = {
    "process.roles": "broker,controller",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    # Topics are made with explicit settings by `imagepipe`; a misspelt name must fail, not create one.
    "auto.create.topics.enable": "false",
    # The default of 50 gains nothing on one machine, and the first consumer waits until all exist.
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.num.partitions": "4",
    # The group has all its members at once: the first rebalance need not wait three seconds for more of them.
    "group.initial.rebalance.delay.ms": "0",
    "num.network.threads": "2",
    "num.io.threads": "4",
    "log.cleaner.dedupe.buffer.size": str(16 * 1024 * 1024),
    # By default the controller writes an empty record twice a second while nothing happens.
    "metadata.max.idle.interval.ms": "10000",
}


SESSION = {"broker.session.timeout.ms": "6000", "broker.heartbeat.interval.ms": "1000"}
"""How long a leader may be silent. After SIGKILL of a leader the longest ack took this time, or 2 s more. The default
(9 s) is too close to the time limit of clients. With 3 s and faster elections, brokers of a busy machine lost contact
with each other."""


def bootstrap_servers(state: State) -> str:
    """The addresses of the brokers, for clients."""
    return ",".join(_address(member, state) for member in members(NAME, state.cluster))


def settings(state: State) -> dict[str, str]:
    """The services' settings for this Kafka."""
    nodes = len(members(NAME, state.cluster))
    return {
        "KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers(state),
        "TOPIC_REPLICATION_FACTOR": str(nodes),
        "TOPIC_MIN_INSYNC_REPLICAS": str(min(MIN_IN_SYNC, nodes)),
    }


def _address(member: Member, state: State) -> str:
    return f"{member.host}:{state.ports['kafka']}"


def part(root: Root, state: State, member: Member, java: Path, jars: Path, env: dict[str, str]) -> Part:
    """A broker as a part; its storage is formatted before the first start."""
    data = root.data / member.name
    properties = data / "server.properties"
    options = [f"-Dlog4j2.configurationFile={LOGGING}"]
    address = _address(member, state)

    def prepare() -> None:
        data.mkdir(parents=True, exist_ok=True)
        properties.write_text(render_properties(state, member, data / "log"))
        if not (data / "log" / "meta.properties").exists():
            main = ["kafka.tools.StorageTool", "format", "--ignore-formatted", "-t", state.kafka_cluster_id]
            _run(java_command(java, 128, jars, options, [*main, "-c", str(properties)]), env)

    return Part(
        name=member.name, title=member.titled("Kafka"),
        argv=java_command(java, HEAP_MB, jars, options, ["kafka.Kafka", str(properties)]),
        env=env, prepare=prepare, probe=lambda: probe(address, member.number), url=address, quiet=True,
    )  # fmt: skip


def render_properties(state: State, member: Member, log_dir: Path) -> str:
    """A broker's configuration file."""
    port = state.ports["kafka_controller"]
    broker = f"PLAINTEXT://{_address(member, state)}"
    voters = [f"{each.number}@{each.host}:{port}" for each in members(NAME, state.cluster)]
    values = SETTINGS | (SESSION if state.cluster else {}) | _replication(member.of)
    values |= {
        "node.id": str(member.number),
        "listeners": f"{broker},CONTROLLER://{member.host}:{port}",
        "advertised.listeners": broker,
        "controller.quorum.voters": ",".join(voters),
        "log.dirs": str(log_dir),
    }
    return "".join(f"{name}={value}\n" for name, value in values.items())


def _replication(nodes: int) -> dict[str, str]:
    """Copies of Kafka's own topics, and of topics for which no number is given."""
    replicas, in_sync = str(nodes), str(min(MIN_IN_SYNC, nodes))
    return {
        "default.replication.factor": replicas,
        "min.insync.replicas": in_sync,
        "offsets.topic.replication.factor": replicas,
        "transaction.state.log.replication.factor": replicas,
        "transaction.state.log.min.isr": in_sync,
        "share.coordinator.state.topic.replication.factor": replicas,
        "share.coordinator.state.topic.min.isr": in_sync,
    }


async def probe(address: str, number: int) -> None:
    """Ask a broker for its cluster as an admin client. Raises while it cannot answer, or is not in it."""
    from aiokafka.admin import AIOKafkaAdminClient

    admin = AIOKafkaAdminClient(bootstrap_servers=address, request_timeout_ms=3000)
    try:
        await admin.start()
        cluster = await admin.describe_cluster()
        if number not in {broker["node_id"] for broker in cluster["brokers"]}:
            raise ConnectionError("the broker has not registered yet")
    finally:
        await admin.close()


def _run(argv: tuple[str, ...], env: dict[str, str]) -> None:
    result = subprocess.run(argv, env=env, capture_output=True, text=True, check=False, timeout=120)
    if result.returncode != 0:
        tail = "\n".join((result.stdout + result.stderr).splitlines()[-10:])
        raise StackError(f"Kafka's storage cannot be formatted:\n{tail}")
