"""Kafka of the local stack: one node, broker and controller in one (KRaft)."""

import subprocess
from pathlib import Path

from deploy.local import jvm
from deploy.local.errors import StackError
from deploy.local.parts import Part
from deploy.local.ports import LOOPBACK
from deploy.local.state import Root, State

NAME = "kafka"
PORTS = ("kafka", "kafka_controller")
HEAP_MB = 384
LOGGING = Path(__file__).with_name("kafka-log4j2.xml")

SETTINGS = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    # Topics are made with explicit settings by `imagepipe`; a misspelt name must fail, not create one.
    "auto.create.topics.enable": "false",
    "default.replication.factor": "1",
    "offsets.topic.replication.factor": "1",
    # 50 by default: a laptop gains nothing from them, and the first consumer waits until they exist.
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    # Nobody else is coming: do not let the first rebalance wait three seconds for more members.
    "group.initial.rebalance.delay.ms": "0",
    "num.network.threads": "2",
    "num.io.threads": "4",
    "log.cleaner.dedupe.buffer.size": str(16 * 1024 * 1024),
}


def bootstrap_servers(state: State) -> str:
    """Where clients reach the broker."""
    return f"{LOOPBACK}:{state.ports['kafka']}"


def part(root: Root, state: State, java: Path, jars: Path, env: dict[str, str]) -> Part:
    """The broker as a part; its storage is formatted before the first start."""
    data = root.data / NAME
    properties = data / "server.properties"
    options = [f"-Dlog4j2.configurationFile={LOGGING}"]
    servers = bootstrap_servers(state)

    def prepare() -> None:
        data.mkdir(parents=True, exist_ok=True)
        properties.write_text(render_properties(state, data / "log"))
        if not (data / "log" / "meta.properties").exists():
            main = ["kafka.tools.StorageTool", "format", "--ignore-formatted", "-t", state.kafka_cluster_id]
            _run(jvm.command(java, 128, jars, options, [*main, "-c", str(properties)]), env)

    return Part(
        name=NAME, title="Kafka", argv=jvm.command(java, HEAP_MB, jars, options, ["kafka.Kafka", str(properties)]),
        env=env, prepare=prepare, probe=lambda: probe(servers), url=servers, quiet=True,
    )  # fmt: skip


def render_properties(state: State, log_dir: Path) -> str:
    """The broker's configuration file."""
    broker = f"PLAINTEXT://{bootstrap_servers(state)}"
    controller = f"{LOOPBACK}:{state.ports['kafka_controller']}"
    values = SETTINGS | {
        "listeners": f"{broker},CONTROLLER://{controller}",
        "advertised.listeners": broker,
        "controller.quorum.voters": f"1@{controller}",
        "log.dirs": str(log_dir),
    }
    return "".join(f"{name}={value}\n" for name, value in values.items())


async def probe(servers: str) -> None:
    """Ask the broker for its cluster as an admin client. Raises while it cannot answer."""
    from aiokafka.admin import AIOKafkaAdminClient

    admin = AIOKafkaAdminClient(bootstrap_servers=servers, request_timeout_ms=3000)
    try:
        await admin.start()
        cluster = await admin.describe_cluster()
        if not cluster["brokers"]:
            raise ConnectionError("the broker has not registered yet")
    finally:
        await admin.close()


def _run(argv: tuple[str, ...], env: dict[str, str]) -> None:
    result = subprocess.run(argv, env=env, capture_output=True, text=True, check=False, timeout=120)
    if result.returncode != 0:
        tail = "\n".join((result.stdout + result.stderr).splitlines()[-10:])
        raise StackError(f"Kafka's storage cannot be formatted:\n{tail}")
